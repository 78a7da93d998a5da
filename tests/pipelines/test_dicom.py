"""DICOM: pixels against pydicom's own, what may leave a header, and files that are damaged or made to harm."""

import io
import re
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)  # fmt: skip

from pipelines import dicom
from pipelines.dicom import dicom_pixels, read_facts
from pipelines.ingest import Ingest
from pipelines.pseudonyms import pseudonym_key
from pipelines.readers import reader_of
from pipelines.sources import DataSet, Source, UnreadableImageError
from store.schema import IMAGES, CounterstainError

KEY = b"a secret"


@pytest.fixture(autouse=True)
def _as_in_use() -> Iterator[None]:
    """Reading changes pydicom's settings; every test begins and ends with its own."""
    mode = pydicom.config.settings.reading_validation_mode
    yield
    pydicom.config.settings.reading_validation_mode = mode


def make(pixels: Any, **header: Any) -> Dataset:
    """Return a DICOM image of the given pixels, ``(h, w)`` or ``(h, w, 3)``."""
    pixels = np.asarray(pixels)
    image = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid(entropy_srcs=["test"])
    image.Rows, image.Columns = pixels.shape[:2]
    image.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    image.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        image.PlanarConfiguration = 0
    image.BitsAllocated = image.BitsStored = pixels.dtype.itemsize * 8
    image.HighBit = image.BitsStored - 1
    image.PixelRepresentation = int(pixels.dtype.kind == "i")
    image.PixelData = pixels.tobytes()
    for name, value in header.items():
        setattr(image, name, value)
    return image


def as_bytes(image: Dataset) -> bytes:
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def shown(pixels: Any, **header: Any) -> Any:
    return dicom_pixels(as_bytes(make(pixels, **header)))


RAMP = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)


# --- pixels


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -1024)])
def test_the_window_is_pydicoms(function: str, slope: float, intercept: float) -> None:
    header = {
        "WindowCenter": [600, 40], "WindowWidth": [900, 400], "VOILUTFunction": function, "RescaleSlope": slope,
        "RescaleIntercept": intercept, "BitsStored": 12, "HighBit": 11,
    }  # fmt: skip
    image = make(RAMP, **header)
    rescaled = pydicom.pixels.apply_modality_lut(RAMP, image)
    official = pydicom.pixels.apply_windowing(rescaled, image)
    low, high = (min(0, intercept), 4095 * slope + intercept) if (slope, intercept) != (1, 0) else (0, 4095)
    expected = (official - low) / (high - low) * 255
    np.testing.assert_allclose(shown(RAMP, **header).astype(float), expected, atol=0.51)
    assert shown(RAMP, **header).std() > 20


def test_a_window_of_no_width_is_a_threshold() -> None:
    found = shown(RAMP, WindowCenter=2000, WindowWidth=1)
    np.testing.assert_array_equal(found, np.where(RAMP > 1999.5, 255, 0))


def test_a_voi_lut_comes_before_a_window() -> None:
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.add_new("LUTData", "OW", ((255 - np.arange(4096) // 16) * 257).astype("<u2").tobytes())
    found = shown(RAMP, VOILUTSequence=Sequence([table]), WindowCenter=1, WindowWidth=2, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(found, 255 - RAMP // 16)


def test_without_a_window_it_is_stretched_and_padding_left_out() -> None:
    values = np.array([[-2000, 0], [100, 200]], np.int16)
    np.testing.assert_array_equal(shown(values), [[0, 232], [243, 255]])
    found = shown(values, PixelPaddingValue=np.int16(-2000).item())
    np.testing.assert_array_equal(found, [[0, 0], [128, 255]])
    assert shown(np.full((3, 3), 7, np.uint16)).max() == 0


def test_monochrome1_is_inverted() -> None:
    header = {"WindowCenter": 2048, "WindowWidth": 4096}
    plain = shown(RAMP, **header)
    np.testing.assert_array_equal(shown(RAMP, **header, PhotometricInterpretation="MONOCHROME1"), 255 - plain)


def test_colour_keeps_its_upper_bits() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(shown(colours), colours)
    np.testing.assert_array_equal(shown(colours.astype(np.uint16) * 256 + 17), colours)
    stored = colours.astype(np.uint16) * 16 + 3
    np.testing.assert_array_equal(shown(stored, BitsStored=12, HighBit=11), colours)


def test_the_first_frame_is_taken() -> None:
    frames = np.stack([np.full((4, 4), 10, np.uint8), np.full((4, 4), 200, np.uint8)])
    image = make(frames[0], NumberOfFrames=2, PixelData=frames.tobytes(), WindowCenter=128, WindowWidth=256)
    assert set(dicom_pixels(as_bytes(image)).ravel()) == {10}


# Files of pydicom's own collection, each of another compression or colour.
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("MR_small.dcm", (64, 64)),
        ("MR_small_bigendian.dcm", (64, 64)),
        ("MR_small_implicit.dcm", (64, 64)),
        ("MR_small_RLE.dcm", (64, 64)),
        ("MR_small_jp2klossless.dcm", (64, 64)),
        ("MR_small_jpeg_ls_lossless.dcm", (64, 64)),
        ("MR_small_padded.dcm", (64, 64)),
        ("CT_small.dcm", (128, 128)),
        ("JPEG2000.dcm", (1024, 256)),
        ("SC_rgb_jls_lossy_line.dcm", (100, 100, 3)),
        ("SC_rgb_jpeg_dcmtk.dcm", (100, 100, 3)),
        ("SC_ybr_full_422_uncompressed.dcm", (100, 100, 3)),
        ("SC_rgb_rle_16bit.dcm", (100, 100, 3)),
        ("examples_palette.dcm", (350, 800, 3)),
        ("examples_ybr_color.dcm", (240, 320, 3)),
        ("rtdose_1frame.dcm", (10, 10)),
    ],
)
def test_real_files_of_every_kind_are_read(name: str, shape: tuple[int, ...]) -> None:
    pixels = dicom_pixels(Path(str(get_testdata_file(name, download=False))).read_bytes())
    assert (pixels.shape, pixels.dtype) == (shape, np.uint8)
    assert pixels.std() > 1


def test_the_same_image_is_the_same_however_it_is_packed() -> None:
    packed = ("RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded")
    plain = dicom_pixels(Path(str(get_testdata_file("MR_small.dcm"))).read_bytes())
    for name in packed:
        found = dicom_pixels(Path(str(get_testdata_file(f"MR_small_{name}.dcm", download=False))).read_bytes())
        np.testing.assert_array_equal(found, plain, err_msg=name)


# --- what is refused


def test_files_made_to_harm_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    image = make(np.zeros((4, 4), np.uint8))
    with pytest.raises(UnreadableImageError, match="above the limit"):
        dicom_pixels(as_bytes(make(np.zeros((4, 4), np.uint8), Rows=60000, Columns=60000)))
    monkeypatch.setattr(dicom, "MAX_PIXELS", 15)
    with pytest.raises(UnreadableImageError, match="4 × 4 pixels, above the limit of 15"):
        dicom_pixels(as_bytes(image))
    with pytest.raises(UnreadableImageError, match="'DICM' prefix"):
        dicom_pixels(b"no dicom at all" * 100)
    report = make(np.zeros((4, 4), np.uint8), Modality="SR")
    del report.Rows, report.Columns, report.PixelData
    with pytest.raises(UnreadableImageError, match=r"without an image \(SR\)"):
        dicom_pixels(as_bytes(report))


def test_a_compression_nothing_reads_says_what_to_install() -> None:
    lossless = Path(str(get_testdata_file("SC_rgb_jpeg_gdcm.dcm", download=False))).read_bytes()
    with pytest.raises(UnreadableImageError, match=r"decodes JPEG Lossless.*'counterstain\[dicom\]' \(pylibjpeg"):
        dicom_pixels(lossless)


def test_deflated_files_are_refused_before_they_are_inflated(tmp_path: Path) -> None:
    image = make(np.zeros((4, 4), np.uint8))
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = as_bytes(image)
    bomb = zlib.compressobj(wbits=-15)
    start = 132 + 12 + int.from_bytes(data[140:144], "little")  # after the file meta group, which is not deflated
    packed = b"".join(bomb.compress(bytes(2**20)) for _ in range(200)) + bomb.flush()
    # Inflated, it would be 200 MB to parse element by element: minutes, not moments.
    began = time.process_time()
    for content in (data, data[:start] + packed):
        with pytest.raises(UnreadableImageError, match="deflated DICOM is not read"):
            dicom_pixels(content)
        (tmp_path / "x.dcm").write_bytes(content)
        with pytest.raises(UnreadableImageError, match="deflated DICOM is not read"):
            read_facts(tmp_path / "x.dcm", KEY)
    assert time.process_time() - began < 5


def compressed(frame: bytes, syntax: str, *, side: int = 4) -> bytes:
    """Return a DICOM file that says it has side × side pixels, around a compressed frame."""
    image = make(np.zeros((side, side), np.uint8), PixelData=encapsulate([frame]))
    image.file_meta.TransferSyntaxUID = syntax
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    return as_bytes(image)


def as_frame(kind: str, width: int, height: int) -> bytes:
    """Return a grey image compressed as JPEG, JPEG2000 or JPEG-LS."""
    if kind == "JPEG-LS":
        return bytes(pytest.importorskip("jpeg_ls").encode_array(np.zeros((height, width), np.uint8)))
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, kind, **({"no_jp2": True} if kind == "JPEG2000" else {}))
    return buffer.getvalue()


@pytest.fixture
def _no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UnreadableImageError("it was decoded")

    monkeypatch.setattr(dicom, "_plugin", fail)


@pytest.mark.usefixtures("_no_decoding")
@pytest.mark.parametrize(
    ("kind", "syntax"), [("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless), ("JPEG-LS", JPEGLSLossless)]
)
def test_a_frame_larger_than_the_header_says_is_refused_before_it_is_decoded(kind: str, syntax: str) -> None:
    with pytest.raises(UnreadableImageError, match="its frame has 2000 × 3000 pixels, its header says 4 × 4"):
        dicom_pixels(compressed(as_frame(kind, 3000, 2000), syntax))
    with pytest.raises(UnreadableImageError, match="it was decoded"):
        dicom_pixels(compressed(as_frame(kind, 4, 4), syntax))
    with pytest.raises(UnreadableImageError, match="does not say how large it is"):
        dicom_pixels(compressed(b"\xff\xd8 nothing of the kind \xff", syntax))


@pytest.mark.usefixtures("_no_decoding")
def test_a_second_frame_header_hides_nothing() -> None:
    small, large = as_frame("JPEG", 4, 4), as_frame("JPEG", 3000, 2000)
    place = large.index(b"\xff\xc0")
    header = large[place : place + 2 + int.from_bytes(large[place + 2 : place + 4])]
    scan = small.index(b"\xff\xda")
    with pytest.raises(UnreadableImageError, match="its frame has 2000 × 3000"):
        dicom_pixels(compressed(small[:scan] + header + small[scan:], JPEGBaseline8Bit))


def rle(segment: bytes) -> bytes:
    return (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + segment


def test_rle_that_expands_beyond_its_image_is_refused_before_it_is_decoded() -> None:
    np.testing.assert_array_equal(dicom_pixels(compressed(rle(b"\xf1\x07\x80"), RLELossless)), np.zeros((4, 4)))
    # 2 MB that would become 128 MB.
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableImageError, match="RLE expands to more than the 4 × 4 pixels"):
            dicom_pixels(compressed(rle(b"\x81\x00" * 2**20), RLELossless))
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_greyscale_takes_few_bytes_a_pixel() -> None:
    pixels = np.arange(10**6, dtype=np.uint16).reshape(1000, 1000)
    image = make(pixels, WindowCenter=20000, WindowWidth=30000)
    tracemalloc.start()
    try:
        dicom._grey(pydicom, image, pixels)
        assert tracemalloc.get_traced_memory()[1] < 20 * pixels.size  # four float32 at once; of float64 it is 32
    finally:
        tracemalloc.stop()


def test_samples_count_and_lack_of_memory_is_a_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(UnreadableImageError, match="no pixels"):
        dicom_pixels(as_bytes(make(colours, Rows=0)))

    def lack(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(dicom, "_colour", lack)
        with pytest.raises(UnreadableImageError, match="MemoryError"):
            shown(colours)
    monkeypatch.setattr(dicom, "MAX_PIXELS", 47)
    with pytest.raises(UnreadableImageError, match="4 × 4 pixels of 3 samples, above the limit of 47"):
        shown(colours)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
    ],
)
def test_damaged_files_are_rejects_and_nothing_else(name: str, tmp_path: Path) -> None:
    whole = Path(str(get_testdata_file(name, download=False))).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(40):
        damaged = bytearray(whole)
        for place in rng.integers(128, min(len(whole), 3000), 12):
            damaged[place] = rng.integers(0, 256)
        content = bytes(damaged)[: len(whole) if i % 3 else int(rng.integers(0, len(whole)))]
        (tmp_path / "x.dcm").write_bytes(content)
        for reading in (partial(dicom_pixels, content), partial(read_facts, tmp_path / "x.dcm", KEY)):
            try:
                reading()
            except UnreadableImageError as error:
                assert str(error)  # noqa: PT017  # any other error must come through
                refused += 1
    assert refused > 5


# --- the header

IDENTITY = {
    "PatientID": "MRN-00812345", "PatientName": "Nightingale^Florence^Q", "PatientBirthDate": "18200512",
    "AccessionNumber": "ACC77123", "StudyInstanceUID": "1.2.826.0.1.3680043.9.1", "InstitutionName": "Scutari General",
    "ReferringPhysicianName": "Sutherland^John", "PatientAddress": "10 South Street", "StudyDate": "18541104",
    "OperatorsName": "Roberts^Mary",
}  # fmt: skip
KEPT = {
    "Modality": "DX", "ViewPosition": "PA", "BodyPartExamined": "CHEST", "Laterality": "L", "Manufacturer": "Acme",
    "ManufacturerModelName": "Ray 3", "BurnedInAnnotation": "YES",
}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Write a DICOM file of a patient at a place below the root, and return the root."""

    def write(place: str, value: int = 1, **header: Any) -> Path:
        path = tmp_path / "root" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((6, 5), value, np.uint8)
        path.write_bytes(
            as_bytes(make(pixels, **{**IDENTITY, **KEPT, "WindowCenter": 128, "WindowWidth": 256, **header}))
        )
        return tmp_path / "root"

    return write


def sources(root: Path, label: str | None = None) -> list[Source]:
    dataset = DataSet("d", "dicom", root, label)
    return list(reader_of(dataset).read(dataset))


def test_the_header_gives_what_may_be_known(study: Callable[..., Path]) -> None:
    (source,) = sources(study("a/1.dcm"))
    patient = source.given["patient"]
    assert source.given == {"modality": "DX", "view": "PA", "patient": patient, "text_overlay": True}
    assert isinstance(patient, str)
    assert len(patient) == 16
    study_id = source.attributes["study"]
    assert source.attributes == {
        "body part": "CHEST", "laterality": "L", "manufacturer": "Acme", "device": "Ray 3", "study": study_id,
    }  # fmt: skip
    assert set(source.load().ravel()) == {1}  # type: ignore[union-attr]


@pytest.mark.parametrize(("flag", "known"), [("YES", True), ("NO", False), ("", None), ("MAYBE", None)])
def test_burned_in_annotation_is_the_flag_of_text(study: Callable[..., Path], flag: str, known: bool | None) -> None:
    (row,) = rows_of(study("1.dcm", BurnedInAnnotation=flag))
    assert row["text_overlay"] is known
    assert row["text_overlay_source"] == (None if known is None else "given")


def fingerprint(root: Path) -> str:
    dataset = DataSet("d", "dicom", root)
    return reader_of(dataset).fingerprint(dataset)


def rows_of(root: Path) -> list[dict[str, Any]]:
    return pa.Table.from_batches(Ingest(DataSet("d", "dicom", root)).batches(), IMAGES.schema).to_pylist()


def test_nothing_that_identifies_is_stored(study: Callable[..., Path], tmp_path: Path) -> None:
    places = ("MRN-00812345/Nightingale Florence/18200512_acc77123.dcm", "MRN_00812345/nightingale/2.dcm",
              "42/1.2.826.0.1.3680043.9.1/1.dcm", "IM.00812345")  # fmt: skip
    for i, place in enumerate(places):
        root = study(place, i)
    (root / "Nightingale_Florence").mkdir()
    (root / "Nightingale_Florence/t.dcm").write_bytes(b"torn")
    table = tmp_path / "root" / "t.csv"
    table.write_text("path\n" + "\n".join([*places, "Nightingale_Florence/t.dcm", "Nightingale_Florence/gone.dcm"]))
    for where, refused in ((root, 1), (table, 2)):
        run = Ingest(DataSet("d", "dicom", where))
        rows = pa.Table.from_batches(run.batches(), IMAGES.schema).to_pylist()
        assert (len(rows), len(run.rejects)) == (4, refused)
        _assert_nothing_identifies([*rows, *run.rejects])


def _assert_nothing_identifies(rows: list[dict[str, Any]]) -> None:
    assert len({row["uri"] for row in rows}) == len(rows)
    for row in rows:
        assert re.fullmatch(r"[0-9a-f]{16}(\.dcm)?", row["uri"])
        said = repr({name: value for name, value in row.items() if name != "thumbnail"}).lower()
        for name, value in IDENTITY.items():
            for part in value.lower().replace("mrn-", "").split("^"):
                assert len(part) < 3 or part not in said, (name, part)


def test_a_folder_taken_as_label_loses_what_identifies(study: Callable[..., Path]) -> None:
    study("MRN_00812345 benign/1.dcm")
    root = study("1.2.826.0.1.3680043.9.1/2.dcm", 2)
    patient = sources(root)[0].given["patient"]
    assert {str(source.given["label"]) for source in sources(root, "folder")} == {patient, f"MRN_{patient} benign"}


def test_pseudonyms_tie_images_together_and_lead_nowhere(study: Callable[..., Path]) -> None:
    study("1.dcm")
    study("2.dcm", 2)
    root = study("3.dcm", 3, PatientID="MRN-9", StudyInstanceUID="1.2.3")

    def patients(name: str = "d") -> list[object]:
        found = reader_of(DataSet(name, "dicom", root)).read(DataSet(name, "dicom", root))
        return [source.given["patient"] for source in found if "patient" in source.given]

    first, second, third = patients()
    assert first == second != third
    # A file that sorts earlier, however empty, changes nothing.
    (root / "0.dcm").write_bytes(b"")
    assert patients() == [first, second, third]
    (root / "0.dcm").unlink()
    assert not {first, third} & set(patients("another"))
    study("1.dcm", PatientID="", PatientName="")
    assert sources(root)[0].given["patient"] is None


def test_the_secret_is_made_once_and_for_its_owner(
    study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = study("1.dcm")
    monkeypatch.delenv("COUNTERSTAIN_PSEUDONYM_KEY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    first = sources(root)[0]
    (path,) = (tmp_path / "data" / "counterstain").iterdir()
    assert (path.name, path.stat().st_mode & 0o777, len(path.read_bytes())) == ("pseudonyms.key", 0o600, 32)
    assert sources(root)[0].given == first.given
    before = fingerprint(root)
    monkeypatch.setenv("COUNTERSTAIN_PSEUDONYM_KEY", str(tmp_path / "other.key"))
    assert (sources(root)[0].given["patient"], sources(root)[0].uri) != (first.given["patient"], first.uri)
    assert fingerprint(root) != before  # rows with the old pseudonyms are stale
    (tmp_path / "other.key").write_bytes(b"")
    with pytest.raises(CounterstainError, match="is no key of pseudonyms: it has 0 bytes"):
        sources(root)
    monkeypatch.setenv("COUNTERSTAIN_PSEUDONYM_KEY", str(root / "1.dcm" / "x"))
    with pytest.raises(CounterstainError, match="name another file in COUNTERSTAIN_PSEUDONYM_KEY"):
        sources(root)


def test_of_two_that_make_the_secret_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.key"
    monkeypatch.setenv("COUNTERSTAIN_PSEUDONYM_KEY", str(path))
    path.write_bytes(bytes(32))
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert pseudonym_key("d") == pseudonym_key("d")
    assert path.read_bytes() == bytes(32)
    assert list(tmp_path.iterdir()) == [path]


def test_files_are_found_by_name_or_content(study: Callable[..., Path]) -> None:
    root = study("a/IM000001")
    study("b/2.DCM", 2)
    (root / "DICOMDIR").write_bytes((root / "a/IM000001").read_bytes())
    (root / ".hidden.dcm").write_bytes(b"x")
    (root / "notes.txt").write_text("no image")
    (root / "torn.dcm").write_bytes(b"torn")
    assert [source.uri[16:] for source in sources(root)] == ["", ".dcm", ".dcm"]
    run = Ingest(DataSet("d", "dicom", root))
    assert sum(batch.num_rows for batch in run.batches()) == 2
    assert ["DICM" in reject["reason"] for reject in run.rejects] == [True]


def test_a_label_is_taken_from_the_folder_or_the_header_only_when_asked(study: Callable[..., Path]) -> None:
    root = study("normal/x/1.dcm")
    study("Nightingale/2.dcm", 2)
    assert all("label" not in source.given for source in sources(root))
    patient = sources(root)[0].given["patient"]
    assert [source.given["label"] for source in sources(root, "folder")] == [patient, "normal"]
    assert [source.given["label"] for source in sources(root, "body part")] == ["CHEST", "CHEST"]
    assert "body part" not in sources(root, "body part")[0].attributes
    with pytest.raises(CounterstainError, match="no label 'grade'; there are body part, device, folder"):
        sources(root, "grade")


def test_a_table_names_files_and_has_the_first_word(study: Callable[..., Path]) -> None:
    root = study("1.dcm")
    study("2.dcm", 2)
    (root / "t.csv").write_text("path,label,patient,view,site\n1.dcm,sick,p1,,A\n2.dcm,well,,AP,B\nno.dcm,well,,,\n")
    first, second, absent = sources(root / "t.csv")
    assert (first.given["label"], first.given["patient"], first.given["view"]) == ("sick", "p1", "PA")
    assert (second.given["label"], second.given["view"]) == ("well", "AP")
    assert len(str(second.given["patient"])) == 16
    assert (first.attributes["site"], first.attributes["device"]) == ("A", "Ray 3")
    with pytest.raises(UnreadableImageError, match="No such file"):
        absent.load()


def test_fingerprint_notices_files(study: Callable[..., Path]) -> None:
    root = study("1.dcm")
    dataset = DataSet("d", "dicom", root)
    states = [reader_of(dataset).fingerprint(dataset)]
    (root / "notes.txt").write_text("x")
    assert reader_of(dataset).fingerprint(dataset) == states[0]
    study("2.dcm", 2)
    states.append(reader_of(dataset).fingerprint(dataset))
    (root / "2.dcm").rename(root / "3.dcm")
    states.append(reader_of(dataset).fingerprint(dataset))
    assert len(set(states)) == 3


def test_a_folder_without_dicom_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    with pytest.raises(CounterstainError, match="holds no DICOM file"):
        sources(tmp_path)


def test_without_pydicom_the_extra_is_named(study: Callable[..., Path]) -> None:
    root = study("1.dcm")
    code = (
        "import sys; sys.modules['pydicom'] = None\n"
        "from pathlib import Path\nfrom pipelines.readers import reader_of\nfrom pipelines.sources import DataSet\n"
        f"dataset = DataSet('d', 'dicom', Path({str(root)!r}))\n"
        "list(reader_of(dataset).read(dataset))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'counterstain[dicom]'" in done.stderr.splitlines()[-1]
