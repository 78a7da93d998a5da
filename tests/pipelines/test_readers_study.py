"""The study's data sets: small trees named as their publishers name them, and what is read off them."""

import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines.ingest import Ingest
from pipelines.readers import reader_of, readers
from pipelines.readers.hicervix import CLASSES as HICERVIX_CLASSES
from pipelines.readers.isic2019 import CLASSES as ISIC_CLASSES
from pipelines.readers.iuxray import LABELS as CHEXPERT_LABELS
from pipelines.sources import DataSet, Source
from store.schema import IMAGES, CounterstainError

STUDY = (
    "brainmr",
    "sarscov2ct",
    "pneumoniamnist",
    "breastus",
    "breakhis",
    "hicervix",
    "deepdrid",
    "isic2019",
    "iuxray",
)


def touch(root: Path, *names: str) -> Path:
    """Write files that stand for images, each with content of its own."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def table(path: Path, header: str, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")


def found(reader: str, root: Path, label: str | None = None) -> dict[str, Source]:
    dataset = DataSet("d", reader, root, label)
    listed = list(reader_of(dataset).read(dataset))
    assert len({source.uri for source in listed}) == len(listed)
    return {source.uri: source for source in listed}


def labels(sources: dict[str, Source]) -> dict[str, Any]:
    return {uri: source.given["label"] for uri, source in sources.items()}


def fingerprint(reader: str, root: Path) -> str:
    dataset = DataSet("d", reader, root)
    return reader_of(dataset).fingerprint(dataset)


# --- what holds for all of them


def test_every_data_set_of_the_study_is_known() -> None:
    known = {name: reader.about for name, reader in readers().items() if reader.about is not None}
    assert set(STUDY) <= set(known)
    for about in known.values():
        if not isinstance(about.classes, int):
            assert sum(about.classes.values()) == about.images
        assert all((about.title, about.root, about.modality, about.licence, about.citation, about.obtain))
        assert about.confounders
        assert not isinstance(about.confounders, str)
        assert not isinstance(about.groups, str)


def test_sizes_are_those_of_the_study() -> None:
    sizes = {name: readers()[name].about.images for name in STUDY if name != "iuxray"}  # type: ignore[union-attr]
    assert sizes == {
        "brainmr": 2870, "sarscov2ct": 2481, "pneumoniamnist": 4708, "breastus": 780, "breakhis": 7909,
        "hicervix": 28160, "deepdrid": 1200, "isic2019": 25331,
    }  # fmt: skip


FILE_SETS = [name for name in STUDY if name != "pneumoniamnist"]


def test_the_usual_label_is_known_by_its_name(tmp_path: Path, busi: Path) -> None:
    iuxray_tree(tmp_path / "iuxray")
    for name in ("hicervix", "isic2019", "deepdrid"):
        one_image(name, tmp_path / name, "1_l1")
    breakhis_tree(tmp_path / "breakhis")
    touch(tmp_path / "brainmr", "Training/no_tumor/1.jpg")
    touch(tmp_path / "sarscov2ct", "COVID/Covid (1).png")
    busi.joinpath("Dataset_BUSI_with_GT").rename(tmp_path / "breastus")
    for name in FILE_SETS:
        about = readers()[name].about
        assert about is not None
        usual = found(name, tmp_path / name)
        named = found(name, tmp_path / name, about.label)
        assert labels(usual) == labels(named)
        said = {key for source in usual.values() for key in source.attributes}
        assert f"label:{about.label}" not in said
        assert {key for source in named.values() for key in source.attributes} == said


@pytest.mark.parametrize("name", FILE_SETS)
def test_a_wrong_root_is_one_clear_error(name: str, tmp_path: Path) -> None:
    about = readers()[name].about
    assert about is not None
    for listing in (found, fingerprint):
        with pytest.raises(CounterstainError, match=r"absent is not a folder\. Expected: ") as error:
            listing(name, tmp_path / "absent")
        assert about.root in str(error.value)
        with pytest.raises(CounterstainError, match=r"data set 'd': .* Expected: ") as error:
            listing(name, tmp_path)
        assert about.root in str(error.value)


# --- a folder per class


def test_brainmr_is_the_training_folder(tmp_path: Path) -> None:
    touch(
        tmp_path, "Training/glioma_tumor/gg (1).jpg", "Training/no_tumor/image(12).jpg", "Training/no_tumor/1.jpg",
        "Training/pituitary_tumor/p (3).jpg", "Training/meningioma_tumor/m (7).jpg", "Testing/glioma_tumor/image.jpg",
        "Training/notes/readme.jpg",
    )  # fmt: skip
    expected = {
        "glioma_tumor/gg (1).jpg": "glioma_tumor",
        "meningioma_tumor/m (7).jpg": "meningioma_tumor",
        "no_tumor/1.jpg": "no_tumor",
        "no_tumor/image(12).jpg": "no_tumor",
        "pituitary_tumor/p (3).jpg": "pituitary_tumor",
    }
    assert labels(found("brainmr", tmp_path)) == expected
    assert labels(found("brainmr", tmp_path / "Training")) == expected
    assert found("brainmr", tmp_path)["no_tumor/1.jpg"].load() == b"Training/no_tumor/1.jpg"


def test_sarscov2ct(tmp_path: Path) -> None:
    touch(tmp_path, "COVID/Covid (1).png", "COVID/Covid (10).png", "non-COVID/Non-Covid (1).png")
    assert labels(found("sarscov2ct", tmp_path)) == {
        "COVID/Covid (1).png": "COVID",
        "COVID/Covid (10).png": "COVID",
        "non-COVID/Non-Covid (1).png": "non-COVID",
    }


@pytest.fixture
def busi(tmp_path: Path, pixels: Callable[..., Any]) -> Path:
    """BUSI's tree: a lesion, two lesions in one image, and a normal image with its empty mask."""
    root = tmp_path / "Dataset_BUSI_with_GT"

    def write(name: str, *boxes: tuple[int, int, int, int], picture: int | None = None) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((30, 40), np.uint8)
        for x0, y0, x1, y1 in boxes:
            mask[y0:y1, x0:x1] = 255
        Image.fromarray(mask if picture is None else pixels(picture)).save(path)

    write("benign/benign (1).png", picture=1)
    write("benign/benign (1)_mask.png", (5, 6, 20, 21))
    write("benign/benign (100).png", picture=2)
    write("benign/benign (100)_mask.png", (2, 10, 8, 14))
    write("benign/benign (100)_mask_1.png", (30, 3, 33, 12))
    write("malignant/malignant (1).png", picture=3)
    write("normal/normal (1).png", picture=4)
    write("normal/normal (1)_mask.png")
    return tmp_path


@pytest.mark.parametrize("inner", [".", "Dataset_BUSI_with_GT"])
def test_breastus_masks_are_no_images_and_give_the_lesions_box(busi: Path, inner: str) -> None:
    run = Ingest(DataSet("d", "breastus", busi / inner))
    rows = pa.Table.from_batches(run.batches(), IMAGES.schema).to_pylist()
    assert run.rejects == []
    assert {row["uri"]: (row["label"], row["lesion_box"]) for row in rows} == {
        "benign/benign (1).png": ("benign", [5, 6, 20, 21]),
        "benign/benign (100).png": ("benign", [2, 3, 33, 14]),
        "malignant/malignant (1).png": ("malignant", None),
        "normal/normal (1).png": ("normal", None),
    }


def test_breastus_notices_a_mask_that_changed(busi: Path) -> None:
    before = fingerprint("breastus", busi)
    mask = busi / "Dataset_BUSI_with_GT/benign/benign (1)_mask.png"
    status = mask.stat()
    os.utime(mask, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint("breastus", busi) != before


def test_a_mask_that_cannot_be_read_is_a_reject(busi: Path) -> None:
    (busi / "Dataset_BUSI_with_GT/benign/benign (1)_mask.png").write_bytes(b"no image")
    run = Ingest(DataSet("d", "breastus", busi))
    assert sum(batch.num_rows for batch in run.batches()) == 3
    assert [reject["uri"] for reject in run.rejects] == ["benign/benign (1).png"]


# --- BreakHis


def breakhis_tree(root: Path) -> Path:
    base = "BreaKHis_v1/histology_slides/breast"
    return touch(
        root,
        f"{base}/malignant/SOB/ductal_carcinoma/SOB_M_DC_14-2523/400X/SOB_M_DC-14-2523-400-001.png",
        f"{base}/malignant/SOB/ductal_carcinoma/SOB_M_DC_14-13412/40X/SOB_M_DC-14-13412-40-002.png",
        f"{base}/malignant/SOB/lobular_carcinoma/SOB_M_LC_14-13412/40X/SOB_M_LC-14-13412-40-001.png",
        f"{base}/benign/SOB/adenosis/SOB_B_A_14-22549AB/100X/SOB_B_A-14-22549AB-100-001.png",
        f"{base}/benign/SOB/adenosis/SOB_B_A_14-22549CD/200X/SOB_B_A-14-22549CD-200-010.png",
        f"{base}/benign/SOB/adenosis/SOB_B_A_14-22549CD/200X/thumbnail.png",
        f"{base}/README.txt",
    )


def test_breakhis_reads_everything_off_the_name(tmp_path: Path) -> None:
    sources = found("breakhis", breakhis_tree(tmp_path))
    assert labels(sources) == {
        "SOB_B_A-14-22549AB-100-001.png": "benign",
        "SOB_B_A-14-22549CD-200-010.png": "benign",
        "SOB_M_DC-14-13412-40-002.png": "malignant",
        "SOB_M_DC-14-2523-400-001.png": "malignant",
        "SOB_M_LC-14-13412-40-001.png": "malignant",
    }
    ductal = sources["SOB_M_DC-14-2523-400-001.png"]
    assert ductal.given == {"label": "malignant", "patient": "14-2523", "slide": "14-2523"}
    assert ductal.attributes == {"magnification": "400X", "label:subtype": "ductal carcinoma"}
    # Slides AB and CD are of one case; case 13412 is filed under two subtypes.
    cases = {uri: (source.given["patient"], source.given["slide"]) for uri, source in sources.items()}
    assert cases["SOB_B_A-14-22549AB-100-001.png"] == ("14-22549", "14-22549AB")
    assert cases["SOB_B_A-14-22549CD-200-010.png"] == ("14-22549", "14-22549CD")
    assert cases["SOB_M_LC-14-13412-40-001.png"] == cases["SOB_M_DC-14-13412-40-002.png"]


def test_another_labelling_is_chosen_by_name(tmp_path: Path) -> None:
    breakhis_tree(tmp_path)
    subtype = found("breakhis", tmp_path, "subtype")["SOB_M_LC-14-13412-40-001.png"]
    assert subtype.given["label"] == "lobular carcinoma"
    assert subtype.attributes == {"magnification": "40X", "label:tumour": "malignant"}
    zoom = found("breakhis", tmp_path, "magnification")["SOB_M_LC-14-13412-40-001.png"]
    assert zoom.given["label"] == "40X"
    assert zoom.attributes == {"label:tumour": "malignant", "label:subtype": "lobular carcinoma"}
    slide = found("breakhis", tmp_path, "slide")["SOB_M_LC-14-13412-40-001.png"]
    assert slide.given["label"] == slide.given["slide"] == "14-13412"
    with pytest.raises(CounterstainError, match="no label 'grade'; there are magnification, patient, slide, subtype"):
        found("breakhis", tmp_path, "grade")


def test_an_image_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/SOB_M_DC-14-2523-400-001.png", "b/SOB_M_DC-14-2523-400-001.png")
    with pytest.raises(CounterstainError, match=r"holds 'SOB_M_DC-14-2523-400-001\.png' more than once"):
        found("breakhis", tmp_path)


def test_fingerprint_notices_images_and_nothing_else(tmp_path: Path) -> None:
    breakhis_tree(tmp_path)
    states = [fingerprint("breakhis", tmp_path)]
    touch(tmp_path, "BreaKHis_v1/notes.txt", "BreaKHis_v1/picture.png")
    assert fingerprint("breakhis", tmp_path) == states[0]
    extra = tmp_path / "SOB_B_F-14-9133-40-001.png"
    extra.write_bytes(b"x")
    states.append(fingerprint("breakhis", tmp_path))
    extra.write_bytes(b"xy")
    states.append(fingerprint("breakhis", tmp_path))
    extra.rename(tmp_path / "SOB_M_PC-14-9133-40-001.png")
    states.append(fingerprint("breakhis", tmp_path))
    assert len(set(states)) == 4


# --- HiCervix

HICERVIX_HEADER = "image_name,class_name,class_id,level_1,level_2,level_3"


def test_hicervix_has_three_levels(tmp_path: Path) -> None:
    table(
        tmp_path / "train.csv", HICERVIX_HEADER,
        "65dfc2fb.jpg,HSV,24,microbe,HSV,", "0a1b.jpg,ADC-EMC,20,AGC,ADC,ADC-EMC", "77aa.jpg,AGC,13,AGC,,",
    )  # fmt: skip
    table(tmp_path / "val.csv", HICERVIX_HEADER, "ffff.jpg,HSV,24,microbe,HSV,")
    touch(tmp_path, "train/65dfc2fb.jpg", "train/deep/0a1b.jpg", "val/ffff.jpg")
    sources = found("hicervix", tmp_path)
    assert labels(sources) == {"65dfc2fb.jpg": "HSV", "0a1b.jpg": "ADC-EMC", "77aa.jpg": "AGC"}
    assert sources["0a1b.jpg"].attributes == {
        "label:level_1": "AGC", "label:level_2": "ADC", "label:level_3": "ADC-EMC",
    }  # fmt: skip
    assert sources["77aa.jpg"].attributes == {"label:level_1": "AGC"}
    assert sources["0a1b.jpg"].load() == b"train/deep/0a1b.jpg"
    assert labels(found("hicervix", tmp_path, "level_2")) == {
        "65dfc2fb.jpg": "HSV", "0a1b.jpg": "ADC", "77aa.jpg": None,
    }  # fmt: skip
    assert len(HICERVIX_CLASSES) == 26
    run = Ingest(DataSet("d", "hicervix", tmp_path))
    list(run.batches())
    assert "77aa.jpg" in {reject["uri"] for reject in run.rejects}


# --- DeepDRiD

DEEPDRID = "regular_fundus_images/regular-fundus-training"


def deepdrid_tree(root: Path, *, sources: bool = True) -> Path:
    place = root / DEEPDRID
    table(
        place / "regular-fundus-training.csv",
        "patient_id,image_id,image_path,Overall quality,left_eye_DR_Level,right_eye_DR_Level,patient_DR_Level,"
        "Clarity,Field definition,Artifact",
        r"4,4_l1,\regular-fundus-training\4\4_l1.jpg,0,3,,4,6,6,8",
        r"4,4_r2,\regular-fundus-training\4\4_r2.jpg,1,,4,4,4,8,0",
        # The publisher's table fills the left column for an image named r3.
        r"56,56_r3,\regular-fundus-training\56\56_r3.jpg,0,1,,1,10,8,1",
    )
    if sources:
        table(
            place / "regular-fundus-source-training.csv",
            "patient_id,image_id,image_path,Source",
            r"4,4_l1,\regular-fundus-training\4\4_l1.jpg,Nicheng",
            r"4,4_r2,\regular-fundus-training\4\4_r2.jpg,Shanghai",
        )
    return touch(root, *(f"{DEEPDRID}/Images/{name}.jpg" for name in ("4/4_l1", "4/4_r2", "56/56_r3")))


@pytest.mark.parametrize("inner", [".", "regular_fundus_images", DEEPDRID])
def test_deepdrid_has_patient_eye_and_quality(tmp_path: Path, inner: str) -> None:
    sources = found("deepdrid", deepdrid_tree(tmp_path) / inner)
    assert labels(sources) == {"4_l1.jpg": "3", "4_r2.jpg": "4", "56_r3.jpg": "1"}
    left = sources["4_l1.jpg"]
    assert left.given == {"label": "3", "patient": "4"}
    assert left.attributes == {
        "eye": "left", "shot": "1", "quality": "poor", "artifact": "8", "clarity": "6", "field definition": "6",
        "source": "Nicheng", "label:patient grade": "4",
    }  # fmt: skip
    assert sources["4_r2.jpg"].attributes["quality"] == "good"
    assert [source.attributes["eye"] for source in sources.values()] == ["left", "right", "left"]
    assert sources["56_r3.jpg"].load() == f"{DEEPDRID}/Images/56/56_r3.jpg".encode()
    assert labels(found("deepdrid", tmp_path, "patient grade"))["4_l1.jpg"] == "4"


def test_deepdrid_does_without_the_table_of_sources(tmp_path: Path) -> None:
    assert "source" not in found("deepdrid", deepdrid_tree(tmp_path, sources=False))["4_l1.jpg"].attributes


def test_deepdrid_with_both_grades_takes_that_of_the_named_eye(tmp_path: Path) -> None:
    header = "patient_id,image_id,Overall quality,left_eye_DR_Level,right_eye_DR_Level,patient_DR_Level"
    table(tmp_path / "regular-fundus-training.csv", header, "1,1_r1,0,3,4,4", "1,1_l1,0,3,4,4", "1,1_l2,0,,,4")
    sources = found("deepdrid", tmp_path)
    assert labels(sources) == {"1_r1.jpg": "4", "1_l1.jpg": "3", "1_l2.jpg": None}
    assert [source.attributes["eye"] for source in sources.values()] == ["right", "left", "left"]


# --- ISIC 2019


def test_isic2019_has_lesion_and_source(tmp_path: Path) -> None:
    header = "image," + ",".join([*ISIC_CLASSES, "UNK"])

    def one_hot(name: str, diagnosis: str) -> str:
        return ",".join([name, *("1.0" if c == diagnosis else "0.0" for c in [*ISIC_CLASSES, "UNK"])])

    table(
        tmp_path / "ISIC_2019_Training_GroundTruth.csv", header, one_hot("ISIC_0000000", "NV"),
        one_hot("ISIC_0000002_downsampled", "MEL"), one_hot("ISIC_0024306", "SCC"), one_hot("ISIC_0053453", "AK"),
    )  # fmt: skip
    table(
        tmp_path / "ISIC_2019_Training_Metadata.csv", "image,age_approx,anatom_site_general,lesion_id,sex",
        "ISIC_0000000,55.0,anterior torso,,female", "ISIC_0000002_downsampled,30.0,upper extremity,MSK4_0011197,female",
        "ISIC_0024306,45.0,,HAM_0000550,male", "ISIC_0053453,,head/neck,BCN_0003884,",
    )  # fmt: skip
    touch(
        tmp_path, "ISIC_2019_Training_Input/ISIC_2019_Training_Input/ISIC_0000000.jpg",
        "ISIC_2019_Training_Input/ISIC_0024306.jpg",
    )  # fmt: skip
    sources = found("isic2019", tmp_path)
    assert labels(sources) == {
        "ISIC_0000000.jpg": "NV", "ISIC_0000002_downsampled.jpg": "MEL", "ISIC_0024306.jpg": "SCC",
        "ISIC_0053453.jpg": "AK",
    }  # fmt: skip
    assert sources["ISIC_0024306.jpg"].attributes == {
        "lesion": "HAM_0000550", "source": "HAM10000", "age": "45.0", "sex": "male",
    }  # fmt: skip
    assert [source.attributes["source"] for source in sources.values()] == ["MSK", "MSK", "HAM10000", "BCN20000"]
    assert "lesion" not in sources["ISIC_0000000.jpg"].attributes
    assert sources["ISIC_0000000.jpg"].load().endswith(b"ISIC_0000000.jpg")  # type: ignore[union-attr]


# --- IU X-ray


def iuxray_tree(root: Path, present: dict[str, Iterable[str]] | None = None) -> Path:
    reports = [
        ["1", "normal", "normal", "Xray Chest", "", "None.", "The cardiac silhouette is normal.", "Clear."],
        ["2", "Cardiomegaly/borderline", "Cardiomegaly;Pulmonary Artery", "Chest", "", "", "", 'Big, "XXXX".'],
        ["7", "Opacity", "Opacity", "", "", "", "", ""],
    ]  # fmt: skip
    root.mkdir(exist_ok=True)
    with (root / "indiana_reports.csv").open("w", newline="") as file:
        header = ["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"]
        csv.writer(file).writerows([header, *reports])
    names = {"1_IM-0001-4001.dcm.png": ("1", "Frontal"), "1_IM-0001-3001.dcm.png": ("1", "Lateral"),
             "2_IM-0652-1001.dcm.png": ("2", "Frontal"), "7_IM-2263-1001.dcm.png": ("7", "Frontal")}  # fmt: skip
    rows = [f"{uid},{name},{projection}" for name, (uid, projection) in names.items()]
    table(root / "indiana_projections.csv", "uid,filename,projection", *rows)
    if present is not None:
        lines = [",".join([uid, *("1.0" if n in yes else "-1.0" if n == "Edema" else "" for n in CHEXPERT_LABELS)])
                 for uid, yes in present.items()]  # fmt: skip
        table(root / "chexpert_labels.csv", "uid," + ",".join(CHEXPERT_LABELS), *lines)
    return touch(root, *(f"images/images_normalized/{name}" for name in names))


def test_iuxray_frontal_images_have_their_studys_report(tmp_path: Path) -> None:
    sources = found("iuxray", iuxray_tree(tmp_path))
    assert labels(sources) == {
        "1_IM-0001-4001.dcm.png": "none", "2_IM-0652-1001.dcm.png": "some", "7_IM-2263-1001.dcm.png": "some",
    }  # fmt: skip
    first = sources["1_IM-0001-4001.dcm.png"]
    assert first.given["caption"] == "The cardiac silhouette is normal. Clear."
    assert first.given["view"] == "frontal"
    assert first.attributes == {
        "study": "1", "label:problems": "normal", "text:findings": "The cardiac silhouette is normal.",
        "text:impression": "Clear.",
    }  # fmt: skip
    assert sources["2_IM-0652-1001.dcm.png"].given["caption"] == 'Big, "XXXX".'
    assert sources["7_IM-2263-1001.dcm.png"].given["caption"] is None
    assert first.load() == b"images/images_normalized/1_IM-0001-4001.dcm.png"


def test_iuxray_divides_studies_as_its_study_does(tmp_path: Path) -> None:
    rows = [f"{uid},{uid}_{i}.png,Frontal" for uid in range(200) for i in range(1 + uid % 2)]
    table(tmp_path / "indiana_projections.csv", "uid,filename,projection", *rows)
    table(tmp_path / "indiana_reports.csv", "uid,Problems,findings,impression", "1,normal,,")
    touch(tmp_path, *(f"images/images_normalized/{row.split(',')[1]}" for row in rows))
    parts: dict[str, set[str]] = {}
    for source in found("iuxray", tmp_path).values():
        parts.setdefault(str(source.given["split"]), set()).add(source.attributes["study"])
    assert {name: len(uids) for name, uids in parts.items()} == {"train": 140, "val": 30, "test": 30}
    assert len(set.union(*parts.values())) == 200
    again = {name: source.given["split"] for name, source in found("iuxray", tmp_path).items()}
    assert again["0_0.png"] == next(name for name, uids in parts.items() if "0" in uids)


def test_iuxray_takes_the_14_labels_of_a_labellers_table(tmp_path: Path) -> None:
    iuxray_tree(tmp_path, {"1": [], "2": ["Cardiomegaly", "Support Devices"]})
    sources = found("iuxray", tmp_path)
    second = sources["2_IM-0652-1001.dcm.png"]
    assert second.given["label"] == "some"
    assert second.attributes["label:all"] == "Cardiomegaly;Support Devices"
    assert second.attributes["label:Edema"] == "absent"  # doubt is no presence
    assert sources["1_IM-0001-4001.dcm.png"].attributes["label:all"] == "No Finding"
    assert len([name for name in second.attributes if name.startswith("label:")]) == 14 + 2
    # Study 7 is not in the labeller's table: what its report says of itself is left.
    assert sources["7_IM-2263-1001.dcm.png"].attributes == {"study": "7", "label:problems": "Opacity"}
    assert list(labels(found("iuxray", tmp_path, "Cardiomegaly")).values()) == ["absent", "present", None]
    (tmp_path / "chexpert_labels.csv").unlink()
    with pytest.raises(CounterstainError, match="no label 'Cardiomegaly'"):
        found("iuxray", tmp_path, "Cardiomegaly")


@pytest.mark.parametrize(
    ("problems", "label"),
    [
        ("normal", "none"),
        ("No Indexing", None),
        ("Technical Quality of Image Unsatisfactory ", None),
        ("No Indexing;Technical Quality of Image Unsatisfactory", None),
        ("Opacity;Technical Quality of Image Unsatisfactory ", "some"),
        ("normal;Technical Quality of Image Unsatisfactory", "none"),
        ("", None),
    ],
)
def test_iuxray_takes_what_was_not_indexed_as_unknown(tmp_path: Path, problems: str, label: str | None) -> None:
    one_image("iuxray", tmp_path, "x")
    table(tmp_path / "indiana_reports.csv", "uid,Problems,findings,impression", f"1,{problems},,")
    assert labels(found("iuxray", tmp_path)) == {"x.jpg": label}


# --- tables that are not as they should be


@pytest.mark.parametrize(
    ("reader", "name", "text", "message"),
    [
        ("hicervix", "train.csv", "image,class\na.jpg,x\n", "has no column 'image_name'"),
        ("hicervix", "train.csv", f"{HICERVIX_HEADER}\n,HSV,24,microbe,HSV,\n", "1 rows without 'image_name'"),
        ("hicervix", "train.csv", f"{HICERVIX_HEADER}\na.jpg,x,1,2,3\na.jpg,x,1,2,3,4,5,6\n", "cannot read the table"),
        ("isic2019", "ISIC_2019_Training_GroundTruth.csv", "image,MEL\na,1.0\n", "has no column 'NV'"),
        ("iuxray", "indiana_projections.csv", "uid,filename\n1,a.png\n", "has no column 'projection'"),
        ("deepdrid", "regular-fundus-training.csv", "patient_id\n1\n", "has no column 'image_id'"),
    ],
)
def test_a_table_of_another_kind_is_refused(tmp_path: Path, reader: str, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CounterstainError, match=message):
        found(reader, tmp_path)


@pytest.mark.parametrize("name", ["/etc/hostname", "a\0.jpg", "<b>.jpg", "'; --.jpg"])
def test_names_in_a_table_are_only_names(tmp_path: Path, name: str) -> None:
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HICERVIX_HEADER.split(","), [name, "HSV", "24", "microbe", "HSV", ""]])
    run = Ingest(DataSet("d", "hicervix", tmp_path))
    assert list(run.batches()) == []
    assert [reject["uri"] for reject in run.rejects] == [name]
    fingerprint("hicervix", tmp_path)


def one_image(reader: str, root: Path, name: str) -> None:
    """Write the tables of a data set that names one image file, or slide, without its suffix."""
    if reader == "hicervix":
        table(root / "train.csv", HICERVIX_HEADER, f"{name}.jpg,HSV,24,microbe,HSV,")
    elif reader == "isic2019":
        table(root / "ISIC_2019_Training_GroundTruth.csv", f"image,{','.join(ISIC_CLASSES)},UNK", name + ",1" * 9)
        header = "image,age_approx,anatom_site_general,lesion_id,sex"
        table(root / "ISIC_2019_Training_Metadata.csv", header, f"{name},55,,,")
    elif reader == "iuxray":
        table(root / "indiana_projections.csv", "uid,filename,projection", f"1,{name}.jpg,Frontal")
        table(root / "indiana_reports.csv", "uid,Problems,findings,impression", "1,normal,,")
    elif reader == "deepdrid":
        header = "patient_id,image_id,Overall quality,left_eye_DR_Level,right_eye_DR_Level,patient_DR_Level"
        table(root / "regular-fundus-training.csv", header, f"1,{name},0,3,,4")
    else:
        table(root / "tiles.csv", "slide,x,y", f"{name}.jpg,0,0")


@pytest.mark.parametrize("reader", ["hicervix", "isic2019", "iuxray", "deepdrid", "tiles"])
def test_a_file_outside_the_root_is_not_read(tmp_path: Path, reader: str, encoded: Callable[..., bytes]) -> None:
    root = tmp_path / "a" / "root"
    for place in ("train", "ISIC_2019_Training_Input", "images/images_normalized", "Images"):
        (root / place).mkdir(parents=True)
    dataset = DataSet("d", reader, root / "tiles.csv" if reader == "tiles" else root)
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(encoded())
    # From wherever a reader counts, one of them reaches it; DeepDRiD puts the part before "_" in front.
    for name in ("../outside", "../../outside", "../../../outside", "../../../../outside"):
        one_image(reader, root, name)
        with pytest.raises(CounterstainError, match=r"data set 'd': the table names .*only files below it are read"):
            list(reader_of(dataset).read(dataset))
        with pytest.raises(CounterstainError, match="only files below it are read"):
            reader_of(dataset).fingerprint(dataset)
    one_image(reader, root, str(outside.with_suffix("")))
    try:
        run = Ingest(dataset)
        assert list(run.batches()) == []  # taken as a place below the root, where nothing is
    except CounterstainError as error:
        assert "only files below it are read" in str(error)  # noqa: PT017


@pytest.mark.parametrize("reader", ["hicervix", "isic2019", "iuxray"])
def test_a_name_that_two_files_have_is_refused(tmp_path: Path, reader: str) -> None:
    one_image(reader, tmp_path, "x")
    touch(tmp_path, "a/x.jpg", "a/y.jpg", "b/y.jpg")
    (source,) = found(reader, tmp_path).values()
    assert source.load() == b"a/x.jpg"  # of what the table does not name there may be any number
    touch(tmp_path, "b/x.jpg")
    for listing in (found, fingerprint):
        with pytest.raises(CounterstainError, match=r"holds 'x(\.jpg)?' more than once: .*a/x\.jpg and .*b/x\.jpg"):
            listing(reader, tmp_path)


# --- parts of an archive


def test_known_archives_read_the_parts_of_the_study(tmp_path: Path) -> None:
    content = {
        f"{split}_{what}": np.full((2, 28, 28) if what == "images" else (2, 1), i, np.uint8)
        for i, split in enumerate(("train", "val", "test"))
        for what in ("images", "labels")
    }
    np.savez(tmp_path / "x.npz", **content)
    assert labels(found("pneumoniamnist", tmp_path / "x.npz")) == {"train/0": "normal", "train/1": "normal"}
    assert labels(found("retinamnist", tmp_path / "x.npz")) == {
        "train/0": "0", "train/1": "0", "val/0": "1", "val/1": "1",
    }  # fmt: skip
    assert list(found("medmnist_train", tmp_path / "x.npz")) == ["train/0", "train/1"]
    assert len(found("medmnist", tmp_path / "x.npz")) == 6


@pytest.mark.real
@pytest.mark.parametrize(
    ("reader", "place"),
    [
        ("brainmr", "brainmr"),
        ("breastus", "breastus"),
        ("pneumoniamnist", "pneumoniamnist.npz"),
        ("retinamnist", "retinamnist.npz"),
    ],
)
def test_real_sets_have_the_published_counts(real_data: Path, reader: str, place: str) -> None:
    about = readers()[reader].about
    assert about is not None
    found_labels = list(labels(found(reader, real_data / place)).values())
    assert {label: found_labels.count(label) for label in set(found_labels)} == about.classes
