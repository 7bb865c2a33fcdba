"""Overlays and the page of heat maps: the photo stays where nothing is hot, and no name becomes markup."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from facewright.errors import UsageError
from facewright.explanation.class_maps import Explained, ExplainedPhoto
from facewright.explanation.occlusion import ExplainedPair, Occlusion
from facewright.provenance import Origin
from facewright.report.explanations import (
    GAP,
    SHOWN,
    explanations_page,
    overlay,
    side_by_side,
)

EVIL = "<script>alert(1)</script>"
PHOTO = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
HEAT = np.linspace(0, 1, 24, dtype=np.float32).reshape(6, 4)
SEEN = ExplainedPhoto("a/x.jpg", "ann", 0.92, "ann", HEAT, PHOTO)
FOUND = Explained(
    "runs/a",
    "grad-cam",
    "layer4.1",
    (4, 4),
    (60, 40),
    (
        SEEN,
        ExplainedPhoto(f"a/{EVIL}.jpg", EVIL, 0.1, "ann", np.zeros((6, 4), np.float32), PHOTO),
        ExplainedPhoto("a/broken.jpg", error="truncated"),
    ),
)
PAIR = ExplainedPair("m", ("p/1.jpg", "p/2.jpg"), Occlusion(0.61, HEAT, HEAT / 2, 0.2), (PHOTO, PHOTO), 0.4)
ORIGIN = Origin("1 May 2026", f"facewright explain {EVIL}", {"facewright": "1"})


def test_cold_is_the_photo_in_grey_and_heat_is_colour() -> None:
    cold = overlay(PHOTO, np.zeros((3, 3), np.float32))
    assert cold.shape == PHOTO.shape and cold.dtype == np.uint8
    assert (cold[..., 0] == cold[..., 1]).all() and (cold[..., 1] == cold[..., 2]).all()
    np.testing.assert_allclose(cold[..., 0], PHOTO @ [0.2126, 0.7152, 0.0722], atol=0.51)
    hot = overlay(PHOTO, np.ones((1, 1), np.float32))
    assert (hot[..., 0] > hot[..., 2]).all() and (hot[..., 1] > hot[..., 2]).all()  # yellow


def test_hotter_is_lighter_on_an_even_photo() -> None:
    grey = np.full((1, 64, 3), 60, np.uint8)
    row = overlay(grey, np.linspace(0, 1, 64, dtype=np.float32)[None])[0] @ [0.2126, 0.7152, 0.0722]
    assert row[-1] > row[32] > row[0]


def test_the_heat_is_enlarged_to_the_photo() -> None:
    heat = np.zeros((2, 2), np.float32)
    heat[0, 0] = 1
    drawn = overlay(np.full((40, 40, 3), 128, np.uint8), heat).astype(int)
    assert np.ptp(drawn[2, 2]) > 100 and np.ptp(drawn[37, 37]) == 0


@pytest.mark.parametrize("heat", [np.zeros((2, 2, 1)), np.zeros((0, 3)), np.array([[1.5]]), np.array([[np.nan]])])
def test_what_is_no_heat_map_is_refused(heat: np.ndarray) -> None:
    with pytest.raises(UsageError, match="expected a heat map"):
        overlay(PHOTO, heat.astype(np.float32))


def test_the_original_stands_beside_it() -> None:
    drawn = np.asarray(Image.open(io.BytesIO(side_by_side(PHOTO, HEAT))))
    assert drawn.shape == (30, 20 + GAP + 20, 3)
    np.testing.assert_array_equal(drawn[:, :20], PHOTO)
    np.testing.assert_array_equal(drawn[:, -20:], overlay(PHOTO, HEAT))


def test_the_page_of_photos() -> None:
    page = explanations_page(FOUND, ORIGIN)
    assert page.count("<img ") == 1 + 2 * 2  # the scale, and two photos
    for words in ("Grad-CAM", "layer4.1", "4 × 4 points", "finer than 15 px", "92.0 %", "the model says ann"):
        assert words in page
    assert "no region speaks for this class" in page
    assert "a/broken.jpg: truncated" in page and "2 photos" in page


def test_the_page_of_a_transformer_promises_less() -> None:
    page = explanations_page(replace(FOUND, method="rollout", photos=(SEEN,)), ORIGIN)
    assert "Attention rollout" in page and "not for which class" in page and "least attention" in page


def test_a_long_list_is_cut_and_counted() -> None:
    page = explanations_page(replace(FOUND, photos=(SEEN,) * (SHOWN + 3)), ORIGIN)
    assert page.count("<img ") == 1 + 2 * SHOWN
    assert f"{SHOWN + 3} photos" in page and "and 3 more" in page


@pytest.mark.parametrize(("threshold", "answer"), [(0.4, "the same person"), (0.7, "two people"), (None, "")])
def test_the_page_of_a_pair(threshold: float | None, answer: str) -> None:
    page = explanations_page(replace(PAIR, threshold=threshold), ORIGIN)
    assert page.count("<img ") == 1 + 2 * 2
    assert "falls by 0.2" in page and "falls by 0.1" in page and "0.61" in page
    assert answer in page and ("threshold" in page) == (threshold is not None)


@pytest.mark.parametrize("found", [FOUND, PAIR])
def test_it_loads_nothing_and_no_name_becomes_markup(found: Explained | ExplainedPair) -> None:
    page = explanations_page(found, ORIGIN)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
