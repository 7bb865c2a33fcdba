"""Quality of a face: against loops and hand-computed values, and along a scale of degradations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from facewright.data.portrait import scene
from facewright.faces.alignment import ARCFACE, DLIB
from facewright.faces.quality import quality_of, relative_sharpness, typical_norm
from facewright.faces.selection import Face

NOISE = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
CENTRES = np.array([[100.0, 100.0], [170.0, 100.0], [135.0, 140.0], [105.0, 180.0], [165.0, 180.0]])


def face(
    points: NDArray[np.float64] = CENTRES, layout: str | None = "centres", chip: NDArray[np.uint8] = NOISE
) -> Face:
    return Face((0.0, 0.0, 100.0, 100.0), 0.9, points, chip, layout=layout)  # type: ignore[arg-type]


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, 0.0), (0.6, 0.0), (1.0, 0.5), (1.2, 0.75), (9.0, 1.0)])
def test_the_norm_is_a_component_where_it_is_given(ratio: float, expected: float) -> None:
    plain, with_norm = quality_of(face()), quality_of(face(), ratio)
    assert plain.norm is None and "norm" not in plain.describe()
    assert with_norm.norm == pytest.approx(expected) and with_norm.value == min(plain.value, with_norm.norm or 0)


def test_a_typical_norm_is_measured_where_it_follows_the_scores() -> None:
    draws = np.random.default_rng(0)
    norms, rows = draws.uniform(3, 6, 150), draws.permutation(150).reshape(75, 2)
    scores = norms[rows].min(axis=1) + draws.normal(0, 0.5, 75)
    found = typical_norm(norms, rows, scores, "dev", "yunet")
    assert found is not None and found.median == np.median(norms) and (found.images, found.genuine) == (150, 75)
    assert found.correlation == pytest.approx(spearmanr(norms[rows].min(axis=1), scores).statistic)
    for others in (
        (norms, rows, draws.random(75)),
        (norms, rows, -scores),
        (norms, rows[:49], scores[:49]),
        (np.full(150, np.nan), rows, scores),
        (np.ones(150), rows, scores),
    ):
        assert typical_norm(*others, "dev", "yunet") is None


def test_sharpness_is_the_laplacian_over_the_luminance() -> None:
    grey = np.asarray(Image.fromarray(NOISE).convert("L"), float)
    inner = range(22, 90)  # of 112 px the middle without 20 % on each side
    laplacian = [
        4 * grey[y, x] - grey[y - 1, x] - grey[y + 1, x] - grey[y, x - 1] - grey[y, x + 1] for y in inner for x in inner
    ]
    expected = np.std(laplacian) / (np.std([grey[y, x] for y in inner for x in inner]) + 1)
    assert relative_sharpness(NOISE) == pytest.approx(expected)
    assert relative_sharpness(np.full((112, 112, 3), 90, np.uint8)) == 0
    assert relative_sharpness(NOISE[:1, :1]) == 0


def test_sharpness_does_not_depend_on_contrast_and_falls_with_blur() -> None:
    photo, _ = scene(seed=1, index=0, width=224, height=224, faces=1)
    image = Image.fromarray(photo)
    blurred = [relative_sharpness(np.asarray(image.filter(ImageFilter.GaussianBlur(r)))) for r in (0, 1, 2, 4, 8)]
    assert blurred == sorted(blurred, reverse=True) and blurred[0] > 2 * blurred[-1]
    pale = np.asarray((photo / 2 + 60).round(), np.uint8)
    assert relative_sharpness(pale) == pytest.approx(relative_sharpness(photo), rel=0.1)
    small = np.asarray(image.resize((40, 40)).resize((224, 224), Image.Resampling.BICUBIC))
    assert relative_sharpness(small) < relative_sharpness(photo)


@pytest.mark.parametrize(
    ("scale", "shift", "size", "pose"),
    [  # 70 px between the eyes; the nose moved by a share of that
        (1.0, 0.0, 1.0, 1.0),
        (0.25, 0.0, 0.5, 1.0),
        (1.0, 0.35, 1.0, 0.5),
        (1.0, -0.35, 1.0, 0.5),
        (0.1, 0.9, 0.2, 0.0),
    ],
)
@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_size_and_pose_come_from_the_points(scale: float, shift: float, size: float, pose: float, turn: float) -> None:
    points = CENTRES.copy()
    points[2, 0] += shift * 70
    cosine, sine = np.cos(turn), np.sin(turn)
    turned = scale * points @ np.array([[cosine, sine], [-sine, cosine]])
    corners = np.stack([turned[1] + [3, 1], turned[1] - [3, 1], turned[0] - [3, 1], turned[0] + [3, 1], turned[2]])
    for one in (face(turned), face(corners, "corners")):
        quality = quality_of(one)
        assert (quality.size, quality.pose) == pytest.approx((size, pose))
        assert quality.value == min(quality.size or 0, quality.pose or 0, quality.sharpness)


def test_templates_are_frontal_faces() -> None:
    for template, layout in ((ARCFACE, "centres"), (DLIB, "corners")):
        quality = quality_of(face(np.array(template.points) * 112, layout))
        assert quality.pose == pytest.approx(1, abs=0.05) and quality.size == pytest.approx(1, abs=0.2)


def test_without_points_only_sharpness_counts() -> None:
    quality = quality_of(face(np.zeros((0, 2)), None))
    assert quality.size is None and quality.pose is None and quality.value == quality.sharpness == 1
    assert quality_of(face(np.zeros((5, 2)))).value == 0  # points that fall together
    assert quality_of(replace(face(), score=None)).score is None
