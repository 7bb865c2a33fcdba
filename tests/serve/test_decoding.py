"""Images that decode to far more than they weigh (fault 34): what they take is known before, and shared out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facewright import images
from facewright.errors import BadImage
from facewright.serve.engine import Budget, bytes_to_decode, decode, read_header
from facewright.serve.forms import Upload
from facewright.serve.responses import ApiError
from facewright.serve.settings import Limits
from fixtures.large_images import large, peaks
from fixtures.photos import jpeg

LIMITS = Limits()
OVERHEAD = 6 * 2**20  # bytes that Python and Pillow load with the first image of a kind
CASES: list[tuple[str, str, dict[str, Any], int | None]] = [
    ("WEBP", "RGB", {"lossless": True}, None),
    ("WEBP", "RGBA", {"lossless": True}, None),
    ("PNG", "RGB", {}, None),
    ("PNG", "RGBA", {}, None),
    ("PNG", "LA", {}, None),
    ("PNG", "P", {"transparency": 0}, None),
    ("PNG", "1", {}, None),
    ("PNG", "I;16", {}, None),
    ("GIF", "P", {}, None),
    ("TIFF", "RGBA", {"compression": "tiff_deflate"}, None),
    ("BMP", "RGB", {}, None),
    ("JPEG", "L", {}, None),
    ("JPEG", "CMYK", {}, None),
    ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, None),
    ("JPEG", "CMYK", {"progressive": True}, 200),
    ("AVIF", "RGB", {"speed": 10}, None),
    ("AVIF", "RGBA", {"speed": 10}, None),
]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_decoding_takes_no_more_than_was_computed_before(tmp_path: Path) -> None:
    measured: list[tuple[str, int | None]] = []
    computed: list[int] = []
    for number, (kind, mode, options, at_least) in enumerate(CASES):
        content = large(kind, mode, **options)
        (tmp_path / str(number)).write_bytes(content)
        measured.append((str(tmp_path / str(number)), at_least))
        computed.append(bytes_to_decode(Upload("a", content), at_least, LIMITS))
    rows = list(zip(CASES, peaks(measured), computed, strict=True))
    assert [(case, peak, limit) for case, peak, limit in rows if peak > limit + OVERHEAD] == []
    assert all(limit >= 2_000 * 2_000 * 3 for *_, limit in rows if _[0][3] is None)


# a damaged or hostile header -> nothing is reserved, and decoding refuses it
@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"RIFF\x00\x00\x00\x00WEBP", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", jpeg(0)[:100]],
)
def test_what_cannot_be_read_takes_nothing_and_is_refused(content: bytes) -> None:
    upload = Upload("a.jpg", content)
    assert bytes_to_decode(upload, None, LIMITS) == 0
    with pytest.raises(BadImage, match=r"a\.jpg"):
        decode(upload, None, LIMITS)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_too_many_pixels_are_refused_before_decoding(kind: str) -> None:
    few = Limits(pixels=1_000_000)
    with pytest.raises(BadImage, match="1,000,000"):
        bytes_to_decode(Upload("a", large(kind, "P" if kind == "GIF" else "RGB")), None, few)


# pixels that are kept -> the side of an image of 1,000 px
@pytest.mark.parametrize(
    ("kept", "side"), [(1_000_000, 1000), (999_999, 500), (250_000, 500), (120_000, 334), (60_000, 200)]
)
def test_an_image_of_many_pixels_is_reduced(kept: int, side: int) -> None:
    limits = Limits(kept_pixels=kept)
    assert decode(Upload("a", large("PNG", side=1_000)), None, limits).shape[:2] == (side, side)
    reduced = decode(Upload("a", large("JPEG", side=1_000)), None, limits)
    assert reduced.shape[0] * reduced.shape[1] <= kept


@pytest.mark.parametrize("at_least", [None, 100, 500, 1_000])
def test_an_image_of_few_pixels_is_decoded_as_from_a_file(at_least: int | None) -> None:
    content = jpeg(0, 1_000)
    expected = images.read(content, at_least=at_least)
    np.testing.assert_array_equal(decode(Upload("a", content), at_least, LIMITS), expected)
    header = read_header(Upload("a", content))
    assert header is not None and 1_000 // header.reduction(at_least, LIMITS.kept_pixels) == expected.shape[0]


def test_the_budget_is_given_in_turn_and_never_exceeded() -> None:
    async def use() -> tuple[int, list[int]]:
        budget, held, most, order = Budget(100), 0, 0, list[int]()

        async def one(number: int, size: int) -> None:
            nonlocal held, most
            await budget.take(size)
            held, most = held + size, max(most, held + size)
            order.append(number)
            await asyncio.sleep(0)
            held -= size
            budget.give(size)

        await asyncio.gather(*(one(number, 1 + 37 * number % 100) for number in range(300)))
        assert held == 0
        return most, order

    most, order = asyncio.run(use())
    assert 60 <= most <= 100 and order == list(range(300))


def test_requests_that_are_given_up_while_bytes_come_back_leave_the_queue() -> None:
    async def scenario() -> list[object]:
        budget = Budget(100)
        await budget.take(100)
        waiting = [asyncio.create_task(budget.take(60)) for _ in range(2)]
        await asyncio.sleep(0)  # both stand in the queue
        for task in waiting:
            task.cancel()
        budget.give(100)  # before either has noticed
        found = await asyncio.gather(*waiting, return_exceptions=True)
        await budget.take(100)  # everything is free again
        return list(found)

    assert [type(one) for one in asyncio.run(scenario())] == [asyncio.CancelledError] * 2


def test_what_never_fits_is_refused_and_who_leaves_the_queue_frees_it() -> None:
    async def use() -> None:
        budget = Budget(100)
        with pytest.raises(ApiError, match="101"):
            await budget.take(101)
        await budget.take(80)
        large_one, small_one = (asyncio.ensure_future(budget.take(size)) for size in (100, 20))
        await asyncio.sleep(0)
        assert not small_one.done()  # in turn, so that the large one is never passed over for ever
        large_one.cancel()
        await small_one
        granted = asyncio.ensure_future(budget.take(80))
        await asyncio.sleep(0)
        budget.give(80)
        granted.cancel()  # in the moment in which it is granted
        with pytest.raises(asyncio.CancelledError):
            await granted
        budget.give(20)
        await budget.take(100)

    asyncio.run(use())
