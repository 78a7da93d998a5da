"""What is burned into images: planted words and marks are found, plain images have none; what may identify is told."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from pipelines.decoding import content_hash
from pipelines.overlays import detect, words
from pipelines.overlays.attributes import dark_corners, describe, frame_share, has_ruler, jpeg_quality
from pipelines.overlays.crosses import crossness
from pipelines.overlays.detectors import colour, detectors, detectors_fingerprint, find_items
from pipelines.overlays.identifying import may_identify
from pipelines.overlays.interventions import plant_patch, plant_words, remove_elsewhere, remove_text
from pipelines.overlays.item import MARKS, Item, Pixels
from pipelines.overlays.marks import Point, callipers, find_marks
from pipelines.overlays.spacing import with_blanks
from pipelines.overlays.terms import Terms, read_terms
from pipelines.phantoms import Modality, PhantomSpec, draw_phantom
from pipelines.sources import Source
from pipelines.wanted import Wanted
from store.schema import CounterstainError

TERMS = read_terms()
# Together about 20 CPU-seconds; benchmarks/overlays.py measures recovery on hundreds.
IMAGES = 24


def words_of(items: list[Item]) -> str:
    return " ".join(item.text or "" for item in items if item.kind == "word")


def marks_of(items: list[Item]) -> set[str]:
    return {item.kind for item in items if item.kind in MARKS}


@pytest.mark.parametrize("modality", ["ultrasound", "radiograph"])
def test_what_is_planted_is_found(modality: Modality) -> None:
    spec = PhantomSpec(modality=modality, n_images=IMAGES, strength=1.0, seed=5)
    for index in range(IMAGES):
        phantom = draw_phantom(spec, index)
        items = find_items(phantom.pixels, TERMS)
        assert words_of(items) == (phantom.overlay_text or "")
        assert marks_of(items) == set(phantom.annotation_kinds)
        boxes = [item.box for item in items if item.kind == "word"]
        for (x0, y0, x1, y1), box in zip(phantom.overlay_boxes, boxes, strict=True):
            # The centre of what was planted lies in what was found.
            assert box[0] <= (x0 + x1) / 2 <= box[2]
            assert box[1] <= (y0 + y1) / 2 <= box[3]


@pytest.mark.parametrize("modality", ["ultrasound", "radiograph", "tissue"])
def test_nothing_is_found_where_nothing_is(modality: Modality) -> None:
    spec = PhantomSpec(modality=modality, n_images=12, strength=0.0, seed=6)
    for index in range(12):
        assert find_items(draw_phantom(spec, index).pixels, TERMS) == []


@pytest.mark.parametrize("shape", [(28, 28), (64, 200), (1, 1), (700, 40)])
@pytest.mark.parametrize("grey", [0, 255])
def test_images_of_any_shape_are_looked_at(shape: tuple[int, int], grey: int) -> None:
    assert find_items(np.full((*shape, 3), grey, np.uint8), TERMS) == []


def shape(draw_on: Callable[[ImageDraw.ImageDraw], None]) -> Pixels:
    """Draw something in white, without steps at its edges, on a dark ground of 128²."""
    sheet = Image.new("L", (512, 512), 40)
    draw_on(ImageDraw.Draw(sheet))
    return np.repeat(np.asarray(sheet.reduce(4))[:, :, None], 3, axis=2)


def arrow_at(degrees: float) -> Callable[[ImageDraw.ImageDraw], None]:
    ahead = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    aside = np.array([-ahead[1], ahead[0]])
    tip, neck, tail = (np.array([256, 256]) + ahead * along for along in (60, 15, -60))

    def draw(sheet: ImageDraw.ImageDraw) -> None:
        sheet.polygon([tuple(tip), tuple(neck + 20 * aside), tuple(neck - 20 * aside)], fill=250)
        sheet.line([tuple(neck), tuple(tail)], fill=250, width=10)

    return draw


@pytest.mark.parametrize("degrees", range(0, 360, 15))
def test_arrows_point_anywhere(degrees: int) -> None:
    (item,) = find_marks(shape(arrow_at(degrees)))
    x0, y0, x1, y1 = item.box
    assert item.kind == "arrow"
    assert x0 < 64 < x1
    assert y0 < 64 < y1
    assert 26 <= np.hypot(x1 - x0, y1 - y0) <= 42


@pytest.mark.parametrize(
    "draw",
    [
        lambda sheet: sheet.line([(200, 256), (320, 256)], fill=250, width=12),
        lambda sheet: sheet.polygon([(200, 256), (300, 200), (300, 312)], fill=250),
        lambda sheet: sheet.rectangle([200, 240, 300, 270], fill=250),
        lambda sheet: sheet.ellipse([200, 220, 320, 280], fill=250),
        lambda sheet: sheet.polygon([(200, 256), (300, 200), (280, 256), (300, 312)], fill=250),
        # A head that is not on its shaft's line.
        lambda sheet: (sheet.polygon([(200, 256), (260, 226), (260, 286)], fill=250),
                       sheet.line([(260, 282), (330, 282)], fill=250, width=10)),
    ],
    ids=["bar", "triangle", "rectangle", "ellipse", "dart", "bent"],
)  # fmt: skip
def test_what_only_resembles_an_arrow_is_none(draw: Callable[[ImageDraw.ImageDraw], None]) -> None:
    assert find_marks(shape(draw)) == []


def test_a_dot_between_two_crosses_is_none() -> None:
    ends, dot, other = [Point(10, 50, 0.99), Point(90, 54, 0.95)], Point(50, 52, 0.8), Point(50, 20, 0.9)
    score, found = callipers([*ends, dot, other], np.zeros((60, 60), np.float32))
    assert found == [other, *ends]
    assert score == pytest.approx((0.99 * 0.95) ** 0.5)


def test_a_cross_is_told_from_a_line_and_a_corner() -> None:
    image = np.full((60, 60), 50, np.uint8)
    image[30, 22:39] = image[22:39, 30] = 200
    assert divmod(int(crossness(image).argmax()), 60) == (30, 30)
    assert crossness(image).max() == 1
    # By as many grey levels as it stands out.
    assert crossness(np.where(image == 200, 75, 50).astype(np.uint8)).max() == 0.5
    image[30, 22:30] = 50
    assert crossness(image).max() == 0
    image[30, :] = 200
    image[22:39, 30] = 50
    assert crossness(image).max() == 0


def canvas(*places: tuple[int, int, str]) -> Pixels:
    """Draw white text on a dark ground of 256²."""
    image = Image.new("RGB", (256, 256), (25, 25, 25))
    for x, y, text in places:
        ImageDraw.Draw(image).text((x, y), text, fill=(235, 235, 235), font=ImageFont.load_default(14))
    return np.asarray(image)


def test_logos_and_scales_are_no_words() -> None:
    items = find_items(
        canvas((4, 2, "LOGIQ"), (230, 60, "10"), (230, 110, "20"), (230, 160, "30"), (90, 200, "LT AXILLA")), TERMS
    )
    assert {(item.kind, item.text) for item in items if item.kind != "scale"} == {
        ("logo", "LOGIQ"),
        ("word", "LT AXILLA"),
    }
    assert {item.text for item in items if item.kind == "scale"} == {"10", "20", "30"}
    (word,) = (item for item in items if item.kind == "word")
    assert word.term == "LEFT AXILLA"
    assert word.confidence > 0.8


def test_a_side_marker_that_line_detection_passes_by_is_read() -> None:
    phantom = draw_phantom(PhantomSpec(modality="radiograph", n_images=60, strength=1.0, seed=1), 55)
    assert words.read_lines(phantom.pixels) == []
    (item,) = (item for item in find_items(phantom.pixels, TERMS) if item.kind == "word")
    assert (item.text, item.term) == (phantom.overlay_text, "LEFT") == ("L", "LEFT")
    # A letter that is no term of the field is tissue, for all that is known.
    none = Terms((), "none")
    assert not any(item.kind == "word" for item in find_items(phantom.pixels, none))


def test_what_may_identify_is_flagged_on_the_image() -> None:
    items = find_items(canvas((20, 30, "SMITH, JANE"), (20, 80, "12/03/2019"), (20, 130, "RIGHT BREAST")), TERMS)
    assert {item.text: item.possible_identifying for item in items} == {
        "SMITH, JANE": True,
        "12/03/2019": True,
        "RIGHT BREAST": False,
    }


def test_a_logo_or_a_number_of_a_scale_may_identify_too() -> None:
    items = find_items(canvas((30, 40, "GE SMITH, JANE"), (150, 140, "20190312"), (150, 180, "20190415")), TERMS)
    assert {(item.text, item.possible_identifying) for item in items} == {
        ("GE SMITH, JANE", True),
        ("20190312", True),
        ("20190415", True),
    }
    assert {item.kind for item in items} == {"logo", "scale"}


@pytest.mark.parametrize(
    "text",
    [
        "SMITH",
        "Jane Smith",
        "DOE^JOHN",
        "DR. X RAY",
        "2019-03-12",
        "12.3.19",
        "3 MAR 2019",
        "ID 1234567",
        "MRN: A77",
        "14:05:33",
        "SMITH A",
        "JANE SMITH 12",
        "GARCIA T",
        "MUELLER PORT",
        "LARA",
        "BILL",
        "KIM",
        "王小明",
        "王",
        "12/03",
        "12-03",
        "GE SMITH",
        "20190312",
    ],
)
def test_names_dates_and_records_may_identify(text: str) -> None:
    assert may_identify(text, TERMS)


@pytest.mark.parametrize(
    "text",
    [
        "LEFT BREAST",
        "RT 12 C",
        "LT 3-4",
        "RTLO",
        "5 CM FN",
        "Ltc",
        "SATELITE",
        "PORTABLE",
        "L",
        "L BREAST",
        "RT-AXILLA",
        "LBREAST",
        "-10",
        "0.5 cm/s",
    ],
)
def test_words_of_the_field_do_not(text: str) -> None:
    assert not may_identify(text, TERMS)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("LT3", "LEFT|CLOCK 3"),
        ("RTLO", "RIGHT|LOWER OUTER"),
        ("rt uoq", "RIGHT|UPPER OUTER QUADRANT"),
        ("RT12C", "RIGHT|CLOCK 12|DEPTH C"),
        ("LT 3-4", "LEFT|CLOCK 3-4"),
        ("3.5cm", "DEPTH 3.5 CM"),
        ("Siemens", "SIEMENS"),
        ("LEFTOVER", ""),
        ("13", ""),
    ],
)
def test_terms(text: str, terms: str) -> None:
    assert "|".join(term.name for term in TERMS.of_line(text)) == terms


@pytest.mark.parametrize(
    ("read", "words"),
    [
        ("Itc", [["lt", "c"]]),
        ("RTUOO", [["RT", "UOQ"]]),
        ("LOGIU", [["LOGIQ"]]),
        ("TC", [["TC"]]),
        ("13", [["13"]]),
        ("RT AXILLA", [["RT"], ["AXILLA"]]),
    ],
)
def test_misread_letters_are_put_right(read: str, words: list[list[str]]) -> None:
    assert TERMS.words_of(read) == words


def test_a_table_of_ones_own(tmp_path: Any) -> None:
    (tmp_path / "t.csv").write_text("written,term,kind\nGAUCHE|G,LEFT,side\n")
    terms = read_terms(tmp_path / "t.csv")
    assert [term.name for term in terms.of_line("gauche")] == ["LEFT"]
    assert may_identify("BREAST", terms)
    assert terms.version != TERMS.version
    assert detectors_fingerprint(terms) != detectors_fingerprint(TERMS)


@pytest.mark.parametrize("row", ["(,X,side", "A,\\2,side", "A,,side", "A,B"])
def test_a_table_that_cannot_be_read_says_where(tmp_path: Any, row: str) -> None:
    (tmp_path / "t.csv").write_text(f"written,term,kind\nL,LEFT,side\n{row}\n")
    with pytest.raises(CounterstainError, match="line 3"):
        read_terms(tmp_path / "t.csv")
    with pytest.raises(CounterstainError, match="cannot be read"):
        read_terms(tmp_path / "nowhere.csv")


def test_blanks_are_seen_in_the_gaps() -> None:
    def crop(gap: int) -> Any:
        strip = np.full((16, 60), 20, np.uint8)
        for x in (4, 10, 16 + gap):
            strip[2:14, x : x + 4] = 230
        return strip

    assert with_blanks(["LT", "5"], crop(6)) == "LT 5"
    assert with_blanks(["LT", "5"], crop(0)) == "LT5"
    assert with_blanks(["L", "OQ"], crop(6)) == "LOQ"
    assert with_blanks(["LTX", "5"], crop(6)) == "LTX5"  # three letters seen, four read


def grey_noise(side: int = 256) -> Pixels:
    grey = np.random.default_rng(0).integers(20, 120, (side, side, 1), np.uint8)
    return np.repeat(grey, 3, axis=2)


def test_coloured_marks() -> None:
    pixels = grey_noise()
    assert colour.find(pixels, TERMS, []) == []
    framed = pixels.copy()
    framed[60:180, [50, 51, 200, 201]] = framed[[60, 61, 178, 179], 50:202] = (190, 190, 60)
    (frame,) = colour.find(framed, TERMS, [])
    assert frame.kind == "box"
    assert np.abs(np.array(frame.box) - (50, 60, 202, 180)).max() <= 1
    framed[90:110, 100:130] = (220, 40, 40)
    assert {item.kind: item.box for item in colour.find(framed, TERMS, [])}["colour"] == (100, 90, 130, 110)
    assert colour.find(np.full((256, 256, 3), (180, 60, 120), np.uint8), TERMS, []) == []


def test_borders_and_artefacts() -> None:
    grey = grey_noise(200)[..., 0]
    assert (dark_corners(grey), frame_share(grey), has_ruler(grey)) == (0, 0, False)
    vignette = grey.copy()
    vignette[:20, :20] = vignette[-20:, -20:] = 3
    assert dark_corners(vignette) == 2
    framed = np.zeros((200, 200), np.uint8)
    framed[20:180, 40:160] = grey[20:180, 40:160]
    assert frame_share(framed) == pytest.approx(1 - 160 * 120 / 200**2)
    ruled = np.zeros((200, 200), np.uint8)
    ruled[:, 20:180] = grey[:, 20:180]
    assert not has_ruler(ruled)
    ruled[10:190:15, 190:196] = 220
    assert has_ruler(ruled)


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95])
def test_jpeg_quality_is_that_it_was_saved_with(pixels: Callable[..., Any], quality: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, "JPEG", quality=quality)
    image = Image.open(buffer)
    assert jpeg_quality(image) == quality
    assert describe(image, np.asarray(image)).jpeg_quality == quality
    assert jpeg_quality(Image.fromarray(pixels())) is None


def test_detectors_run_in_order() -> None:
    assert list(detectors()) == ["colour", "lettering", "marks"]


def test_a_long_strip_is_shrunk_before_it_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    class Reader:
        boxes = None

        def __call__(self, pixels: Pixels, *, use_det: bool) -> "Reader":
            assert use_det
            seen.append(pixels.shape)
            return self

    def shapes(grey: Pixels, *_: object) -> list[object]:
        seen.append(grey.shape)
        return []

    monkeypatch.setattr(words, "_reader", Reader)
    monkeypatch.setattr(words, "shapes_that_stand_out", shapes)
    assert words.find_words(np.zeros((20, 200_000, 3), np.uint8), TERMS) == []
    assert words.find_words(np.zeros((200_000, 20, 3), np.uint8), TERMS) == []
    assert len(seen) == 4
    assert max(max(shape) for shape in seen) <= words.MAX_SIDE_PX


def looked_at(tmp_path: Path, pictures: int = 3) -> tuple[list[Source], dict[str, Wanted]]:
    paths = [tmp_path / f"{i}.png" for i in range(pictures)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((40 + i, 50, 3), 30, np.uint8)).save(path)
    sources = [Source(path.name, path.read_bytes) for path in paths]
    return sources, {source.uri: Wanted(source.uri, content_hash(source.load())) for source in sources}


def test_an_image_that_a_detector_fails_on_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, wanted = looked_at(tmp_path)
    monkeypatch.setattr(detect, "find_items", failing_on(41, MemoryError("too large")))
    failed = {found.image_id: found.failed for found in detect.detect(sources, wanted, TERMS)}
    assert failed == {"0.png": None, "1.png": "MemoryError: too large", "2.png": None}
    monkeypatch.setattr(detect, "find_items", failing_on(41, TypeError("a defect")))
    with pytest.raises(TypeError, match="a defect"):
        list(detect.detect(sources, wanted, TERMS))


def failing_on(height: int, error: Exception) -> Callable[..., list[Item]]:
    def find(pixels: Pixels, terms: Any) -> list[Item]:
        if len(pixels) == height:
            raise error
        return []

    return find


def test_threads_together_fill_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, wanted = looked_at(tmp_path)
    threads: list[int] = []
    monkeypatch.setattr(detect, "find_items", lambda pixels, terms: threads.append(torch.get_num_threads()) or [])
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        list(detect.detect(sources, wanted, TERMS, workers=2))
        assert (set(threads), torch.get_num_threads()) == ({2}, 4)
    finally:
        torch.set_num_threads(before)


def test_placebos_touch_as_much_and_no_word() -> None:
    pixels, boxes = grey_noise(), [(20, 200, 90, 216)]
    changed = remove_elsewhere(pixels, boxes, np.random.default_rng(0)) != pixels
    removed = remove_text(pixels, boxes, np.random.default_rng(0)) != pixels
    assert not (changed & removed)[200:216, 20:90].any()
    assert changed.sum() == pytest.approx(removed.sum(), rel=0.1)
    written, patched = (plant("BREAST")(pixels, [], np.random.default_rng(0)) for plant in (plant_words, plant_patch))
    ink, patch = ((planted != pixels).any(axis=2) for planted in (written, patched))
    assert (ink <= patch | (written == pixels).all(axis=2)).all()
    # As much light, spread evenly.
    assert patched.mean() == pytest.approx(written.mean(), abs=0.05)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    inside = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    assert np.ptp((patched.astype(int) - pixels)[inside]) <= 1
