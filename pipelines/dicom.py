"""DICOM: pixels as a viewer first shows them, and what of the header may be kept.

Only what is named here leaves a header. Patient and study are kept as pseudonyms; names, ids, dates and institutions
are not kept at all.

Source: DICOM PS3.3 C.7.6.3 (pixels), C.11.1 (modality LUT), C.11.2 (windows); https://pydicom.github.io.
"""

import io
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.decoding import MAX_PIXELS
from pipelines.frame_sizes import jpeg2000_sizes, jpeg_sizes, rle_exceeds
from pipelines.pseudonyms import pseudonym
from pipelines.sources import UnreadableImageError, check_file
from store.schema import CounterstainError

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom")
_DEFLATED = "1.2.840.10008.1.2.1.99"
# Decoders of compressed pixels, in order of preference. Not gdcm: a damaged file makes it end the process.
_PLUGINS = ("pillow", "pyjpegls", "pydicom", "pylibjpeg")
# What pydicom and the decoders behind it raise for files that are cut off, damaged or made to harm.
_ERRORS = (
    OSError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError, RuntimeError,
    OverflowError, AssertionError, struct.error, MemoryError, Image.DecompressionBombError,
)  # fmt: skip

# Attributes that say nothing of who the patient is, by the names they are kept under.
_ATTRIBUTES = {
    "body part": ("BodyPartExamined",),
    "laterality": ("ImageLaterality", "Laterality"),
    "manufacturer": ("Manufacturer",),
    "device": ("ManufacturerModelName",),
}
_FLAGS = {"YES": True, "NO": False}
# What may also stand in the names of folders.
_IDENTIFYING = (
    "PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "AccessionNumber", "StudyInstanceUID",
    "SeriesInstanceUID", "SOPInstanceUID",
)  # fmt: skip
_READ = ("Modality", "ViewPosition", "BurnedInAnnotation", *_IDENTIFYING)
_MAX_CHARACTERS = 64


@dataclass(frozen=True)
class Facts:
    """What is kept of a header.

    Attributes
    ----------
    given
        Columns of ``images``: modality, view, the pseudonym of the patient, and whether text is burned in.
    attributes
        Body part, laterality, manufacturer, device, and the pseudonym of the study.
    secrets
        What of the header identifies the patient, and the pseudonym to put for it: never stored.
    """

    given: Mapping[str, object]
    attributes: Mapping[str, str]
    secrets: Mapping[str, str]


def is_dicom(path: Path) -> bool:
    """Return whether a file is named as DICOM or begins as DICOM does."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        check_file(path)
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, ValueError, UnreadableImageError):
        return False


def read_facts(path: Path, key: bytes) -> Facts:
    """Return what is kept of a file's header.

    Parameters
    ----------
    path
        The file.
    key
        Secret that turns ids into pseudonyms: the same id and key give the same pseudonym.

    Raises
    ------
    UnreadableImageError
        If it is no DICOM file, or is damaged.
    """
    pydicom = _pydicom()
    check_file(path)
    tags = [*_READ, *(name for names in _ATTRIBUTES.values() for name in names)]
    try:
        _refuse_deflated(pydicom.filereader.read_file_meta_info(path))
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        texts = {name: _text(header, name) for name in tags}
    except (*_ERRORS, pydicom.errors.InvalidDicomError, RecursionError) as error:
        raise UnreadableImageError(_reason(error)) from error
    patient = _pseudonym(key, texts["PatientID"] or texts["PatientName"])
    given = {
        "modality": texts["Modality"],
        "view": texts["ViewPosition"],
        "patient": patient,
        "text_overlay": _FLAGS.get(texts["BurnedInAnnotation"] or ""),
    }
    found = {kept: next(filter(None, map(texts.get, names)), None) for kept, names in _ATTRIBUTES.items()}
    found["study"] = _pseudonym(key, texts["StudyInstanceUID"])
    secrets = {part: patient or "patient" for name in _IDENTIFYING for part in _parts(name, texts[name] or "")}
    return Facts(given, {name: value for name, value in found.items() if value}, secrets)


def _parts(name: str, text: str) -> list[str]:
    """Return a text and what of it says who the patient is: each part of a name, and parts of an id with digits."""
    parts = [part for part in re.split(r"[\W_]+", text) if name == "PatientName" or any(map(str.isdigit, part))]
    # Of a UID the parts are small numbers that many share.
    return [part for part in [text, *([] if name.endswith("UID") else parts)] if len(part) > 2]


def dicom_pixels(data: bytes) -> NDArray[np.uint8]:
    """Return the first frame as a viewer first shows it: ``(h, w)`` or ``(h, w, 3)`` uint8.

    Greyscale goes through the modality LUT or rescaling and then through the file's first window or VOI LUT; without
    either it is stretched from its own minimum and maximum, padding left out. MONOCHROME1 is inverted, YBR converted,
    a palette looked up; of colour with more than 8 bits the upper 8 are kept.

    Raises
    ------
    UnreadableImageError
        If it is no DICOM image, is damaged, has more pixels than the limit or a compression that nothing installed
        reads. What is always read: none, RLE, 8-bit JPEG and JPEG 2000; with the extra ``dicom``, JPEG-LS.
    """
    pydicom = _pydicom()
    try:
        image = pydicom.dcmread(_checked(pydicom, data))
        if "Rows" not in image or "Columns" not in image:
            raise UnreadableImageError(f"a DICOM file without an image ({_text(image, 'Modality') or 'no modality'})")
        _refuse_oversize(pydicom, image)
        pixels = pydicom.pixels.pixel_array(image, index=0, decoding_plugin=_plugin(pydicom, image))
        shown = _colour(pydicom, image, pixels) if _is_colour(image) else _grey(pydicom, image, pixels)
    except (*_ERRORS, pydicom.errors.InvalidDicomError, RecursionError) as error:
        raise UnreadableImageError(_reason(error)) from error
    return shown


def _checked(pydicom: ModuleType, data: bytes) -> io.BytesIO:
    """Return a file to read from, unless it is deflated; of that nothing but the meta group is looked at."""
    file = io.BytesIO(data)
    pydicom.filereader.read_preamble(file, force=False)
    meta = pydicom.filereader.read_dataset(
        file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group > 2
    )
    _refuse_deflated(meta)
    file.seek(0)
    return file


def _refuse_deflated(meta: "Dataset") -> None:
    # It is inflated whole before anything can be asked of it, however large it becomes.
    if str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:
        raise UnreadableImageError("deflated DICOM is not read: its size is not known before it is inflated")


def _refuse_oversize(pydicom: ModuleType, image: "Dataset") -> None:
    """Raise `UnreadableImageError` unless the image is within the limit, and its frame holds what the header says."""
    size = int(image.Rows), int(image.Columns)
    samples = int(image.get("SamplesPerPixel", 1))
    if min(*size, samples) < 1:
        raise UnreadableImageError("a DICOM file whose image has no pixels")
    if size[0] * size[1] * samples > MAX_PIXELS:
        each = f" of {samples} samples" if samples > 1 else ""
        raise UnreadableImageError(f"{size[0]} × {size[1]} pixels{each}, above the limit of {MAX_PIXELS:,}")
    syntax = image.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    offsets = (image.get("ExtendedOffsetTable"), image.get("ExtendedOffsetTableLengths"))
    frame = pydicom.encaps.get_frame(
        image.PixelData,
        0,
        number_of_frames=int(image.get("NumberOfFrames") or 1),
        extended_offsets=offsets if all(offsets) else None,
    )
    if syntax == pydicom.uid.RLELossless:
        if rle_exceeds(frame, size[0] * size[1]):
            raise UnreadableImageError(f"its RLE expands to more than the {size[0]} × {size[1]} pixels of its header")
        return
    uids = pydicom.uid
    is_jpeg2000 = syntax in (*uids.JPEG2000TransferSyntaxes, uids.HTJ2KLossless, uids.HTJ2KLosslessRPCL, uids.HTJ2K)
    held = (jpeg2000_sizes if is_jpeg2000 else jpeg_sizes)(frame)
    if other := [found for found in held if found != size]:
        raise UnreadableImageError(
            f"its frame has {other[0][0]} × {other[0][1]} pixels, its header says {size[0]} × {size[1]}"
        )
    if not held:
        raise UnreadableImageError("its frame does not say how large it is")


def _plugin(pydicom: ModuleType, image: "Dataset") -> str:
    """Return the decoder for a file's compression; none is needed where pixels are not compressed."""
    syntax = image.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return ""
    decoder = pydicom.pixels.get_decoder(syntax)
    for plugin in _PLUGINS:
        if plugin in decoder.available_plugins:
            return plugin
    needs = "; ".join(need for need in decoder.missing_dependencies if not need.startswith("gdcm"))
    raise UnreadableImageError(
        f"nothing installed decodes {syntax.name}: pip install 'counterstain[dicom]' ({needs}), or decompress the file"
    )


def _is_colour(image: "Dataset") -> bool:
    return int(image.get("SamplesPerPixel", 1)) > 1 or image.get("PhotometricInterpretation") == "PALETTE COLOR"


def _colour(pydicom: ModuleType, image: "Dataset", pixels: NDArray[Any]) -> NDArray[np.uint8]:
    bits = int(image.BitsStored)
    if image.PhotometricInterpretation == "PALETTE COLOR":
        pixels = pydicom.pixels.apply_color_lut(pixels, image)
        bits = pixels.dtype.itemsize * 8
    shown: NDArray[np.uint8] = (pixels >> (bits - 8) if bits > 8 else pixels).astype(np.uint8)
    return shown


def _grey(pydicom: ModuleType, image: "Dataset", pixels: NDArray[Any]) -> NDArray[np.uint8]:
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        values = pydicom.pixels.apply_modality_lut(pixels, image).astype(np.float32)
    if "VOILUTSequence" in image:
        looked_up = pydicom.pixels.apply_voi(pydicom.pixels.apply_modality_lut(pixels, image), image)
        bits = int(image.VOILUTSequence[0].LUTDescriptor[2])
        shares = looked_up.astype(np.float32) / np.float32(2.0**bits - 1)
    elif _first(image, "WindowWidth") is not None and _first(image, "WindowCenter") is not None:
        shares = _window(values, image)
    else:
        kept = values[~_is_padding(image, pixels)]
        low, high = (kept.min(), kept.max()) if kept.size else (0.0, 0.0)
        shares = (values - low) / (high - low) if high > low else np.zeros_like(values)
    if not np.isfinite(shares).all():
        raise UnreadableImageError("it has pixels that are not finite")
    if image.get("PhotometricInterpretation") == "MONOCHROME1":
        shares = 1 - shares
    shown: NDArray[np.uint8] = (np.clip(shares, 0, 1) * 255).round().astype(np.uint8)
    return shown


def _window(values: NDArray[np.float32], image: "Dataset") -> NDArray[np.float32]:
    """Return each value's place in the first window, 0 to 1 within it (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    centre, width = float(_first(image, "WindowCenter")), float(_first(image, "WindowWidth"))
    function = image.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        sigmoid: NDArray[np.float32] = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -80, 80)))
        return sigmoid
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width <= 0:
        return (values > centre).astype(np.float32)
    return (values - centre) / width + 0.5


def _is_padding(image: "Dataset", pixels: NDArray[Any]) -> NDArray[np.bool_]:
    first = image.get("PixelPaddingValue")
    if first is None:
        return np.zeros(pixels.shape, np.bool_)
    low, high = sorted((int(first), int(image.get("PixelPaddingRangeLimit", first))))
    padding: NDArray[np.bool_] = (pixels >= low) & (pixels <= high)
    return padding


def _first(image: "Dataset", name: str) -> Any:
    value = image.get(name)
    return value[0] if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else value


def _text(header: "Dataset", name: str) -> str | None:
    text = " ".join(str(header.get(name, "")).split())
    return text[:_MAX_CHARACTERS] or None


def _pseudonym(key: bytes, value: str | None) -> str | None:
    return pseudonym(key, value) if value else None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _pydicom() -> ModuleType:
    try:
        import pydicom
        import pydicom.encaps
        import pydicom.filereader
        import pydicom.pixels
        import pydicom.uid
    except ModuleNotFoundError as error:
        raise CounterstainError("reading DICOM needs pydicom: pip install 'counterstain[dicom]'.") from error
    # Headers in the wild hold values that break the rules of their type; the few that are read here are text.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom
