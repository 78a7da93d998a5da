"""How large a compressed DICOM frame becomes, told before it is decoded: the header around it may say another size.

Sources: DICOM PS3.5 annex G (RLE); ITU-T T.81 B.2.2 (JPEG), T.87 C.2.2 (JPEG-LS), T.800 A.5.1 (JPEG 2000).
"""

import struct
from collections.abc import Iterator

_J2K_START = b"\xff\x4f\xff\x51"
# Start of frame, of JPEG and of JPEG-LS; among the numbers are three other markers.
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_SCAN = 0xDA
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def jpeg_sizes(frame: bytes) -> list[tuple[int, int]]:
    """Return rows and columns as each frame header before the first scan of a JPEG or JPEG-LS stream says them."""
    return [
        struct.unpack(">HH", frame[place + 3 : place + 7])
        for marker, place in _segments(frame)
        if marker in _FRAMES and place + 7 <= len(frame)
    ]


def _segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker with the place of the length behind it, up to the scan."""
    place = 0
    while 0 <= (place := frame.find(b"\xff", place)) < len(frame) - 3:
        marker = frame[place + 1]
        if marker == _SCAN:
            return
        place += 1
        if marker in (0x00, 0xFF):  # no marker, or filling before one
            continue
        place += 1
        if marker not in _ALONE:
            yield marker, place
            place += int.from_bytes(frame[place : place + 2])


def jpeg2000_sizes(frame: bytes) -> list[tuple[int, int]]:
    """Return rows and columns as the SIZ marker of a JPEG 2000 stream says them; within boxes, as each one does."""
    sizes = []
    place = -1
    while (place := frame.find(_J2K_START, place + 1)) >= 0 and place + 24 <= len(frame):
        right, bottom, left, top = struct.unpack(">4I", frame[place + 8 : place + 24])
        sizes.append((bottom - top, right - left))
        if place == 0:
            break
    return sizes


def rle_exceeds(frame: bytes, segment_bytes: int) -> bool:
    """Return whether a segment of an RLE frame expands to more than it should, and a filling byte or a run beyond it.

    Parameters
    ----------
    frame
        The frame with its header of 64 bytes.
    segment_bytes
        Bytes that a segment should become: one for each pixel.
    """
    count = int.from_bytes(frame[:4], "little")
    starts = [int.from_bytes(frame[4 * i + 4 : 4 * i + 8], "little") for i in range(min(count, 15))]
    ends = [*starts[1:], len(frame)]
    longest = segment_bytes + _RUN
    return any(
        _expanded(frame[start:end], longest) > longest for start, end in zip(starts, ends[: len(starts)], strict=True)
    )


_RUN = 128


def _expanded(segment: bytes, enough: int) -> int:
    """Return how many bytes a segment expands to; counting ends once they are more than enough."""
    length = place = 0
    while place < len(segment) and length <= enough:
        head = segment[place]
        if head < 128:  # so many bytes as they are, and one
            length += head + 1
            place += head + 2
        elif head > 128:  # one byte so many times
            length += 257 - head
            place += 2
        else:
            place += 1
    return length
