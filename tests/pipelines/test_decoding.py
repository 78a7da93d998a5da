"""Decoding: the right pixels, or `UnreadableImageError` with a reason; nothing else, whatever the bytes are."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from pipelines import decoding
from pipelines.decoding import THUMBNAIL_SIDE_PX, content_hash, open_image, thumbnail, to_rgb
from pipelines.sources import UnreadableImageError

# Pillow warns of damaged metadata and goes on; what matters here is what comes out.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def decode(payload: Any) -> Any:
    image = to_rgb(open_image(payload))
    assert image.mode == "RGB"
    return np.asarray(image)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(*shape: int, dtype: Any = np.uint8) -> Any:
    """Return random values over the whole range of an integer type."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def stretched(values: Any) -> Any:
    """Return greyscale as it should be stored: minimum at 0, maximum at 255, in three equal channels."""
    values = values.astype(np.float64)
    grey = np.rint((values - values.min()) / (values.max() - values.min()) * 255)
    return np.repeat(grey[..., None], 3, axis=2)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of given chunks, with right lengths and checksums."""
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def png_header(width: int, height: int, bits: int = 8, colour: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)


RGB = Image.fromarray(noise(24, 20, 3))
GREY = Image.fromarray(noise(24, 20))

# --- the right pixels


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_colour_is_kept(kind: str) -> None:
    np.testing.assert_array_equal(decode(saved(RGB, kind)), np.asarray(RGB))


def test_lossless_webp_is_kept() -> None:
    np.testing.assert_array_equal(decode(saved(RGB, "WEBP", lossless=True)), np.asarray(RGB))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff_is_kept(compression: str | None) -> None:
    np.testing.assert_array_equal(decode(saved(RGB, "TIFF", compression=compression)), np.asarray(RGB))


def test_jpeg_is_as_pillow_decodes_it(pixels: Callable[..., Any]) -> None:
    photo = pixels(width=64, height=48)
    found = decode(saved(Image.fromarray(photo), "JPEG", quality=95))
    assert np.abs(found.astype(int) - photo).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_greyscale_becomes_three_equal_channels(kind: str) -> None:
    np.testing.assert_array_equal(decode(saved(GREY, kind)), np.repeat(np.asarray(GREY)[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_becomes_black_and_white(kind: str) -> None:
    bits = noise(24, 20) > 127
    expected = np.repeat(bits[..., None] * np.uint8(255), 3, axis=2)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(bits), kind)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_greyscale_is_stretched(kind: str) -> None:
    values = noise(24, 20, dtype=np.uint16) // 16 + 1000
    np.testing.assert_array_equal(decode(saved(Image.fromarray(values), kind)), stretched(values))


def test_big_endian_and_wide_integers_are_stretched() -> None:
    values = noise(24, 20, dtype=np.uint16)
    big = Image.frombytes("I;16B", (20, 24), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(decode(saved(big, "TIFF")), stretched(values))
    wide = noise(24, 20, dtype=np.int32) - 2**30
    np.testing.assert_array_equal(decode(saved(Image.fromarray(wide), "TIFF")), stretched(wide))


def test_a_constant_sixteen_bit_image_is_black() -> None:
    assert not decode(saved(Image.fromarray(np.full((4, 4), 9000, np.uint16)), "PNG")).any()


def test_sixteen_bit_colour_keeps_its_upper_bits() -> None:
    values = noise(3, 4, 3, dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    file = png(png_header(4, 3, 16, 2), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    np.testing.assert_array_equal(decode(file), values >> 8)


def test_floats_are_stretched_and_refused_where_not_finite() -> None:
    values = np.random.default_rng(0).normal(0, 1e6, (24, 20)).astype(np.float32)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(values), "TIFF")), stretched(values))
    for fault in (np.nan, np.inf, -np.inf):
        values[3, 3] = fault
        with pytest.raises(UnreadableImageError, match="not finite"):
            decode(saved(Image.fromarray(values), "TIFF"))


def test_transparency_is_laid_over_black() -> None:
    layer = np.dstack([noise(24, 20, 3), np.tile(np.array([0, 128, 255, 64], np.uint8), (24, 5))])
    expected = layer[..., :3].astype(float) * layer[..., 3:] / 255
    for kind in ("PNG", "TIFF"):
        assert np.abs(decode(saved(Image.fromarray(layer), kind)) - expected).max() <= 1
    grey = layer[..., 2:]
    found = decode(saved(Image.fromarray(grey), "PNG"))
    assert np.abs(found - grey[..., :1].astype(float) * grey[..., 1:] / 255).max() <= 1
    assert (found == found[..., :1]).all()


def test_a_palette_is_looked_up_and_its_transparent_colour_is_black() -> None:
    codes = np.arange(16, dtype=np.uint8).reshape(4, 4) % 3
    image = Image.fromarray(codes, "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        np.testing.assert_array_equal(decode(saved(image, kind)), colours[codes])
    colours[1] = 0
    for kind, transparency in (("PNG", 1), ("GIF", 1), ("PNG", b"\xff\x00\xff")):
        np.testing.assert_array_equal(decode(saved(image, kind, transparency=transparency)), colours[codes])


def test_a_transparent_colour_of_an_image_without_alpha_is_black() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    np.testing.assert_array_equal(decode(saved(image, "PNG", transparency=(4, 5, 6))), [[[1, 2, 3], [0, 0, 0]]])


def test_cmyk_is_converted() -> None:
    found = decode(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(found.astype(int) - [255, 0, 0]).max() < 8
    np.testing.assert_array_equal(decode(saved(Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "TIFF")), 0)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_taken(kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    found = decode(saved(first, kind, save_all=True, append_images=[second]))
    assert found.shape == (8, 8, 3)
    assert np.abs(found.astype(int) - [255, 0, 0]).max() < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = noise(6, 9, 3)
    # How EXIF says the stored rows lie, undone: what has to be stored so that the upright image comes out.
    store: dict[int, Callable[[Any], Any]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[::-1],
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[:, ::-1],
    }
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(store[orientation](upright)))
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode(saved(stored, kind, exif=exif, **options)), upright)


def test_orientation_of_a_jpeg_is_applied_though_its_other_tags_are_damaged() -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    exif[0x10E] = "a description"
    file = saved(RGB, "JPEG", exif=exif)
    assert decode(file).shape == (20, 24, 3)
    # The description's type becomes RATIONAL, which its bytes are not.
    tag = file.index(b"\x01\x0e\x00\x02")
    damaged = file[: tag + 3] + b"\x05" + file[tag + 4 :]
    assert decode(damaged).shape == (20, 24, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\xff\xff", b"", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_is_passed_over_or_refused(kind: str, exif: bytes) -> None:
    try:
        found = decode(saved(RGB, kind, exif=exif))
    except UnreadableImageError as error:
        assert "EXIF" in str(error)  # noqa: PT017  # any other error must come through
    else:
        assert found.shape == (24, 20, 3)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4000, 1), (1, 4000), (300, 200)])
def test_thumbnail_keeps_shape_and_limit(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), (9, 90, 200))
    small = Image.open(io.BytesIO(thumbnail(image)))
    assert (small.format, small.mode) == ("JPEG", "RGB")
    assert max(small.size) == min(THUMBNAIL_SIDE_PX, max(width, height))
    assert min(small.size) >= 1
    assert image.size == (width, height)


# --- pixels instead of files


def test_pixels_are_taken_as_they_are() -> None:
    grey, colour = noise(5, 7), noise(5, 7, 3)
    np.testing.assert_array_equal(decode(colour), colour)
    np.testing.assert_array_equal(decode(grey), np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(decode(colour[:, ::-1]), colour[:, ::-1])


@pytest.mark.parametrize(
    "payload",
    [
        np.zeros((0, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((4, 4), np.int64),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_pixels_of_another_shape_or_type_are_refused(payload: Any) -> None:
    with pytest.raises(UnreadableImageError, match=r"pixels of shape \(.*uint8$"):
        open_image(payload)


def test_content_hash_tells_bytes_shapes_and_pixels_apart() -> None:
    row = np.arange(12, dtype=np.uint8)
    hashes = [content_hash(p) for p in (row.reshape(3, 4), row.reshape(4, 3), row.reshape(2, 2, 3), row.tobytes())]
    assert len(set(hashes)) == 4
    assert all(len(digest) == 64 for digest in hashes)
    assert content_hash(row.reshape(3, 4)) == content_hash(np.asfortranarray(row.reshape(3, 4)))
    assert content_hash(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


# --- hostile files

HOSTILE = {
    "empty": b"",
    "random bytes": noise(4000).tobytes(),
    "text": b"patient,label\n1,benign\n",
    "zeros": bytes(1000),
    "only a signature": b"\x89PNG\r\n\x1a\n",
    "truncated PNG": saved(RGB, "PNG")[:-60],
    "PNG without pixels": png(png_header(4, 4), (b"IEND", b"")),
    "PNG of no width": png(png_header(0, 4), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")),
    "PNG whose checksum is wrong": saved(RGB, "PNG").replace(b"IDAT", b"IDAT\xff", 1),
    "truncated JPEG": saved(RGB, "JPEG")[:-60],
    "truncated TIFF": saved(RGB, "TIFF")[:60],
    "truncated WEBP": saved(RGB, "WEBP")[:-60],
    "truncated GIF": saved(GREY, "GIF")[:-60],
    "truncated BMP": saved(RGB, "BMP")[:-60],
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "HTML": b"<!doctype html><img src=x onerror=alert(1)>",
    "DICOM": bytes(128) + b"DICM",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_whole_image_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(UnreadableImageError) as refusal:
        decode(HOSTILE[name])
    assert len(str(refusal.value)) > 5


@pytest.mark.parametrize("field_type", range(1, 14))
@pytest.mark.parametrize("tag", [0x100, 0x101, 0x102, 0x106, 0x111, 0x115, 0x116, 0x117])
def test_a_tiff_tag_of_another_type_is_refused_or_read(tag: int, field_type: int) -> None:
    file = bytearray(saved(RGB, "TIFF"))
    place = next(p for kind in (3, 4) if (p := file.find(struct.pack("<HH", tag, kind))) > 0)
    struct.pack_into("<H", file, place + 2, field_type)
    try:
        assert decode(bytes(file)).ndim == 3
    except UnreadableImageError as error:
        assert str(error)  # noqa: PT017  # any other error must come through


@pytest.mark.parametrize("name", ["EPS", "SVG", "PDF", "text", "random bytes"])
def test_other_formats_are_refused_by_naming_those_known(name: str) -> None:
    with pytest.raises(UnreadableImageError, match=r"not an image of a known format \(PNG, JPEG"):
        open_image(HOSTILE[name])


@pytest.mark.parametrize(("width", "height"), [(50_000, 40_000), (10_000, 10_000), (1, 2**31 - 1)])
@pytest.mark.parametrize("warned", ["error", "ignore"])
def test_a_pixel_bomb_is_refused_undecoded(
    width: int, height: int, warned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    bomb = png(png_header(width, height), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    with warnings.catch_warnings():
        warnings.simplefilter(warned, Image.DecompressionBombWarning)
        with pytest.raises(UnreadableImageError, match=r"pixels|exceeds limit"):
            open_image(bomb)


def test_a_small_file_of_many_true_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(Image.new("1", (3000, 3000)), "PNG", optimize=True)
    assert len(file) < 5000
    monkeypatch.setattr(decoding, "MAX_PIXELS", 3000 * 3000)
    assert decode(file).shape == (3000, 3000, 3)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 3000 * 3000 - 1)
    with pytest.raises(UnreadableImageError, match="3000 × 3000 pixels, above the limit of 8,999,999"):
        open_image(file)


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 * 2**20), 9)),
        (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(200 * 2**20), 9)),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(200 * 2**20), 9)),
    ],
    ids=["zTXt", "iTXt", "iCCP"],
)
def test_a_text_bomb_is_not_inflated(chunk: tuple[bytes, bytes]) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = zlib.compress(b"\0\1" * 1)
    try:
        decode(png(png_header(1, 1), chunk, (b"IDAT", rows), (b"IEND", b"")))
    except UnreadableImageError as error:
        assert "too large" in str(error) or "memory" in str(error)  # noqa: PT017  # others must come through
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 100 * 1024


def _samples() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x112] = 6
    exif[0x10E] = "a description"
    wide, real = Image.fromarray(noise(24, 20, dtype=np.uint16)), Image.fromarray(noise(24, 20).astype(np.float32))
    return {
        "png": saved(RGB, "PNG", exif=exif),
        "png palette": saved(RGB.quantize(16), "PNG", transparency=3),
        "png 16": saved(wide, "PNG"),
        "jpeg": saved(RGB, "JPEG", exif=exif),
        "jpeg progressive cmyk": saved(RGB.convert("CMYK"), "JPEG", progressive=True),
        "tiff": saved(RGB, "TIFF", exif=exif),
        "tiff lzw": saved(RGB, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": saved(RGB, "TIFF", compression="jpeg"),
        "tiff float": saved(real, "TIFF"),
        "tiff palette": saved(RGB.quantize(16), "TIFF"),
        "webp": saved(RGB, "WEBP", exif=exif),
        "webp alpha": saved(RGB.convert("RGBA"), "WEBP", lossless=True),
        "gif": saved(RGB, "GIF", save_all=True, append_images=[GREY]),
        "bmp": saved(RGB, "BMP"),
        "bmp palette": saved(RGB.quantize(16), "BMP"),
        "ppm": saved(wide, "PPM"),
    }


SAMPLES = _samples()


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    # Half of the damage is done near the ends, where headers and directories lie.
    flips=st.lists(
        st.tuples(st.one_of(st.integers(0, 100), st.integers(-260, -1), st.integers(0, 5000)), st.integers(0, 255)),
        max_size=8,
    ),
    cut=st.one_of(st.none(), st.integers(0, 5000)),
)
@example(name="png", flips=[], cut=0)
def test_damaged_files_give_pixels_or_are_refused(name: str, flips: list[tuple[int, int]], cut: int | None) -> None:
    damaged = bytearray(SAMPLES[name])
    for place, value in flips:
        damaged[place % len(damaged)] = value
    try:
        image = to_rgb(open_image(bytes(damaged[:cut])))
    except UnreadableImageError as error:
        assert str(error)  # noqa: PT017  # any other error must come through
    else:
        assert image.mode == "RGB"
        assert thumbnail(image)
