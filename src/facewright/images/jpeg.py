"""JPEG before it is decoded: how much work it is, whether it is complete, at which size to decode it.

Source: ITU-T T.81, B.1 (markers), B.2.2 (frame header), B.2.3 (scan header), G.1.1 (progressive scans).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from facewright.errors import BadImage

# A progressive JPEG may repeat scans over the whole image at ten bytes each. Photos have about ten scans, so up to
# USUAL_SCANS only the limit of pixels counts; a decoder goes over MOST_SCANNED pixels in about half a second.
USUAL_SCANS, MOST_SCANS = 12, 100
MOST_SCANNED = 100_000_000
MOST_SEGMENTS = 100_000
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END = b"\xff\xd9"


@dataclass
class Scans:
    """The scans of a JPEG, as their headers announce them."""

    count: int = 0
    height: int = 0
    width: int = 0
    components: frozenset[int] = frozenset()
    missing_bits: dict[tuple[int, int], int] = field(default_factory=dict)  # (component, coefficient) -> bits to come
    ended: bool = False  # the end marker is there

    @property
    def complete(self) -> bool:
        """True where every bit of every coefficient of every component has its scan."""
        sent = len(self.missing_bits) == 64 * len(self.components) > 0
        return sent and not any(self.missing_bits.values())


def check(data: bytes) -> Scans:
    """Walk over the segments of a JPEG. Raises BadImage: its scans or segments would keep the decoder busy for long."""
    scans, position, segments = Scans(), 2, 0
    while marker := _MARKER.search(data, position):
        segments += 1
        code, body = data[marker.start() + 1], data[marker.end() : marker.end() + 2 + 64]
        if code == 0xD9:  # the end of the image; what follows (a thumbnail, a film) is not decoded
            scans.ended = True
            break
        if code in _FRAMES and len(body) >= 8:
            scans.height, scans.width = int.from_bytes(body[3:5], "big"), int.from_bytes(body[5:7], "big")
            scans.components = frozenset(body[8 : 8 + 3 * body[7] : 3])
        elif code == 0xDA:
            scans.count += 1
            _add_scan(scans, body)
        _check_work(scans, segments)
        position = marker.end() + int.from_bytes(body[:2], "big")
    return scans


def _check_work(scans: Scans, segments: int) -> None:
    if scans.count > MOST_SCANS:
        raise BadImage("", f"is a JPEG of more than {MOST_SCANS} scans; photos have about ten")
    if segments > MOST_SEGMENTS:
        raise BadImage("", f"is a JPEG of more than {MOST_SEGMENTS:,} segments; photos have dozens")
    if scans.count > USUAL_SCANS and scans.count * scans.height * scans.width > MOST_SCANNED:
        raise BadImage(
            "",
            f"is a JPEG of {scans.width} x {scans.height} pixels in {scans.count} scans or more; photos have about ten",
        )


def _add_scan(scans: Scans, body: bytes) -> None:
    """Note which bits a scan header announces."""
    count = body[2] if len(body) > 2 else 0
    if len(body) < 6 + 2 * count:
        return
    first, last, low = body[3 + 2 * count], body[4 + 2 * count], body[5 + 2 * count] & 15
    for number in range(count):
        for coefficient in range(first, min(last, 63) + 1):
            scans.missing_bits[body[3 + 2 * number], coefficient] = low


def with_paddings(data: bytes) -> tuple[bytes, ...]:
    """Return the file completed by an end marker: right away, and after bytes that would decode to something else."""
    data = data.removesuffix(b"\xff")
    return tuple(data + padding * 64 + _END for padding in (b"", b"\x55\xa3\x1c\x7e", b"\xaa\x5c\xe3\x81"))


def reduction(width: int, height: int, at_least: int | None, pixels: int) -> int:
    """Choose the divisor (1, 2, 4 or 8) of the size at which a JPEG is decoded.

    Args:
        width, height: in the file.
        at_least: pixels that the shorter side keeps; None asks for the full size.
        pixels: the limit for the decoded image, which comes first.
    """
    chosen = 1
    for divisor in (2, 4, 8):
        small = at_least is not None and min(width, height) // divisor >= at_least
        if small or width * height > pixels * chosen**2:
            chosen = divisor
    return chosen
