"""Quality of a face image: how well it can be recognised, from the face alone, before anything is embedded.

Source: ISO/IEC 29794-5:2025 for the components (inter-eye distance, sharpness, pose); Pech-Pacheco et al. 2000 (doi:
10.1109/ICPR.2000.903548) for the Laplacian. The worst component decides. Limits were chosen on one half of LFW's
people, see `benchmarks/quality.py`. The norm of the embedding is a component where `typical_norm` has found that it
follows the scores of a network (docs/benchmarks.md, "Quality and the norm of the embedding").
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from facewright.faces.selection import Face
from facewright.images import Pixels
from facewright.records import Record

EYE_DISTANCE = 35.0  # px between the eyes; that of ArcFace's crop, below which it is enlarged
SHARP = 0.6  # relative Laplacian of the sharpest 2 % of LFW's faces
TURNED = 0.7  # shift of the nose, in eye distances, at which the pose component is 0
LOW = 0.2  # value below which a face is called poor: of LFW's faces 1 %, blurred or enlarged ones often
_SIDE = 112  # px to which larger crops are reduced, so that crops of all templates compare
_MARGIN = 0.2  # of each side of the crop that is left out: background and hair


NORM_RANGE = (0.6, 1.4)  # of the typical norm: where the norm's component is 0 and 1
CORRELATED = 0.3  # rank correlation of norms and genuine scores from which on the norm is a component
FEWEST_PAIRS = 50  # genuine, for that correlation


class TypicalNorm(Record):
    """The norm of a network's embeddings before they are scaled to length one."""

    median: float = Field(gt=0, allow_inf_nan=False)
    images: int
    genuine: int  # pairs of the correlation
    correlation: float  # Spearman's, of their scores and lower norms
    data: str
    detector: str


class Quality(Record):
    """The quality of one face, its components in [0, 1]; higher is better."""

    value: float  # the lowest component
    size: float | None  # None: no points
    sharpness: float
    pose: float | None  # None: no points
    score: float | None  # the detector's, on its own scale
    norm: float | None = None  # of the embedding; None: it says nothing, or is not known

    def describe(self) -> str:
        """Return the value and the components in words: "0.30 (size 1.00, sharpness 0.30)"."""
        parts = {"size": self.size, "sharpness": self.sharpness, "pose": self.pose, "norm": self.norm}
        shown = ", ".join(f"{name} {value:.2f}" for name, value in parts.items() if value is not None)
        return f"{self.value:.2f} ({shown})"


def quality_of(face: Face, norm: float | None = None) -> Quality:
    """Measure the quality of a face with points; `norm`: of its embedding, over the typical norm of the network."""
    low, high = NORM_RANGE
    length = None if norm is None else min(1.0, max(0.0, (norm - low) / (high - low)))
    size, pose = _size_and_pose(face) if face.layout is not None else (None, None)
    sharpness = min(1.0, relative_sharpness(face.chip) / SHARP)
    value = min(part for part in (size, sharpness, pose, length) if part is not None)
    return Quality(value=value, size=size, sharpness=sharpness, pose=pose, score=face.score, norm=length)


def typical_norm(
    norms: NDArray[np.float64], rows: NDArray[np.int64], scores: NDArray[np.float64], data: str, detector: str
) -> TypicalNorm | None:
    """Measure the typical norm of a network; None where norms say nothing about genuine scores.

    Args:
        norms: (N,) of images. rows: (P, 2) genuine pairs of them. scores: (P,) theirs.
        data, detector: what was measured, in words.
    """
    if len(rows) < FEWEST_PAIRS or not np.isfinite(norms).all() or np.ptp(norms) == 0:
        return None
    lower = norms[rows].min(axis=1)
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (lower, scores)]
    correlation = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    if correlation < CORRELATED:
        return None
    facts = {"images": len(norms), "genuine": len(rows), "correlation": correlation, "data": data}
    return TypicalNorm(median=float(np.median(norms)), detector=detector, **facts)


def relative_sharpness(crop: Pixels) -> float:
    """Compute the standard deviation of the Laplacian over that of the luminance, in the middle of a crop.

    The ratio does not change with contrast (but for the 1 that is added); it is 0 for a crop of one colour.

    Args:
        crop: (H, W, 3) uint8; reduced to 112 px where larger.
    """
    image = Image.fromarray(crop).convert("L")
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=None)
    grey = np.asarray(image, np.float64)
    inner = tuple(slice(round(_MARGIN * side), side - round(_MARGIN * side)) for side in grey.shape)
    padded = np.pad(grey, 1, mode="edge")
    laplacian = 4 * grey - padded[:-2, 1:-1] - padded[2:, 1:-1] - padded[1:-1, :-2] - padded[1:-1, 2:]
    return float(laplacian[inner].std() / (grey[inner].std() + 1))


def _size_and_pose(face: Face) -> tuple[float, float]:
    left, right, nose = eyes_and_nose(face)
    across = right - left
    distance = math.hypot(*across)
    if distance == 0:
        return 0.0, 0.0
    shift = abs(float((nose - (left + right) / 2) @ across)) / distance**2
    return min(1.0, distance / EYE_DISTANCE), max(0.0, 1 - shift / TURNED)


def eyes_and_nose(face: Face) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the middles of the eyes and the tip or base of the nose, px (2,) of the photo, of a face with points."""
    points = face.points
    if face.layout == "corners":
        return (points[0] + points[1]) / 2, (points[2] + points[3]) / 2, points[4]
    return points[0], points[1], points[2]
