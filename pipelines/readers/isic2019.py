"""ISIC 2019: dermoscopy of skin lesions; the challenge's training part, with its table of metadata."""

from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from pipelines.file_sets import ImageFile, file_set_reader
from pipelines.sources import About
from pipelines.tables import is_one, read_text_table
from pipelines.trees import NamedFiles

CLASSES = {"MEL": 4522, "NV": 12875, "BCC": 3323, "AK": 867, "BKL": 2624, "DF": 239, "VASC": 253, "SCC": 628}
_COLUMNS = (*CLASSES, "UNK")  # UNK has no image in the training part
# A lesion's id begins with the collection it is of; images without one are of MSK too.
_SOURCES = {"BCN": "BCN20000", "HAM": "HAM10000", "MSK": "MSK"}


def files(root: Path) -> Iterator[ImageFile]:
    """Yield the images of the ground truth, with what the metadata tells of them."""
    truth = read_text_table(root / "ISIC_2019_Training_GroundTruth.csv", ("image", *_COLUMNS), key="image")
    metadata = _metadata(root / "ISIC_2019_Training_Metadata.csv")
    images = NamedFiles(root, attrgetter("stem"))
    for row in truth.iter_rows(named=True):
        name = row["image"]
        label = next((column for column in _COLUMNS if is_one(row[column])), None)
        lesion, site, age, sex = metadata.get(name, (None, None, None, None))
        attributes = {
            "lesion": lesion,
            "source": _SOURCES.get(lesion[:3]) if lesion else "MSK",
            "site": site,
            "age": age,
            "sex": sex,
        }
        path = images.find(name, f"ISIC_2019_Training_Input/{name}.jpg")
        yield ImageFile(f"{name}.jpg", path, {"diagnosis": label}, {}, attributes)


def _metadata(path: Path) -> dict[str, tuple[str | None, ...]]:
    columns = ("image", "lesion_id", "anatom_site_general", "age_approx", "sex")
    return {row[0]: row[1:] for row in read_text_table(path, columns).select(columns).iter_rows()}


READER = file_set_reader(
    "isic2019",
    files,
    About(
        title="Dermoscopy of skin lesions, eight diagnoses, training part",
        root="the folder with the images and ISIC_2019_Training_{GroundTruth,Metadata}.csv",
        images=25331,
        classes=CLASSES,
        modality="dermoscopy",
        groups=("lesion",),
        confounders=("ruler", "ink", "hair", "dark corners", "source collection"),
        licence="CC BY-NC 4.0",
        citation="Tschandl et al., Sci. Data 2018; Codella et al., ISBI 2018; Hernández-Pérez et al. (BCN20000) 2024",
        obtain="https://challenge.isic-archive.com/data/#2019",
        label="diagnosis",
        published="isic2019",
    ),
)
