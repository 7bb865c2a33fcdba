"""Identification of labelled embeddings, and the template protocols: several images, of several media, as one vector.

Source: Whitelam et al., "IARPA Janus Benchmark-B", CVPR Workshops 2017, for the templates; the two means are those of
InsightFace's IJB evaluation, with the detector's scores as weights where the set has them, as there; of unit vectors
here: without their norms.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.data.template_sets import Templates, TemplateSet
from facewright.errors import DataError, UsageError
from facewright.evaluation.verification import TarAtFar, tar_at_far_of
from facewright.metrics.identification import (
    NONMATED,
    OpenSetPoint,
    cmc,
    open_set_at,
    open_set_split,
    search_embeddings,
)
from facewright.metrics.intervals import Rate
from facewright.metrics.streaming import summarise_scores
from facewright.metrics.verification import resolvable
from facewright.records import Record

FPIRS = (0.3, 0.1, 0.01, 0.001)
RANKS = 20
TEMPLATE_FPIRS = (0.1, 0.01, 0.001)
_BLOCK = 65_536  # pairs scored at a time


class IdentificationResult(Record):
    """Identification rates, closed-set and open-set, for one number of identities in the gallery."""

    task: Literal["identification"] = "identification"
    identities: int  # N in the gallery; the FPIR grows with it
    gallery: int  # images enrolled
    mates: int  # mated probes: of enrolled people
    strangers: int  # non-mated probes: of unknown people
    seed: int  # of the split
    cmc: tuple[Rate, ...]  # at rank 1, 2, …; over the mated probes, Clopper-Pearson
    open_set: tuple[OpenSetPoint, ...]  # at the FPIRs that the non-mated probes resolve


def identify(
    embeddings: ArrayLike,
    identities: ArrayLike,
    seed: int = 0,
    nonmated: float = NONMATED,
    enrolled: int = 1,
    fpirs: tuple[float, ...] = FPIRS,
) -> IdentificationResult:
    """Measure identification on labelled images: split them, enrol, search.

    Args:
        embeddings: (N, D) unit vectors. identities: (N,) names or numbers.
        seed, nonmated, enrolled: as `open_set_split`. fpirs: targets; those that cannot be resolved are omitted.
    Raises:
        Undefined: fewer than two people, or no image is left for a mated probe. UsageError: shapes that do not fit.
        DataError: an embedding that is not finite.
    Source: docs/protocols.md, "Identification".
    """
    vectors, names = np.asarray(embeddings, dtype=np.float32), np.asarray(identities)
    if vectors.ndim != 2 or names.shape != (len(vectors),):
        raise UsageError(f"expected embeddings (N, D) and identities (N,), got {vectors.shape} and {names.shape}")
    split = open_set_split(names, seed, nonmated, enrolled)
    probes = np.concatenate([split.mated, split.nonmated])
    found = search_embeddings(vectors[probes], names[probes], vectors[split.gallery], names[split.gallery])
    return IdentificationResult(
        identities=found.identities,
        gallery=split.gallery.size,
        mates=split.mated.size,
        strangers=split.nonmated.size,
        seed=seed,
        cmc=cmc(found, RANKS),
        open_set=tuple(open_set_at(found, fpir) for fpir in resolvable(fpirs, split.nonmated.size)),
    )


class GallerySearch(Record):
    """The probes searched in one gallery. The true-positive identification rate (TPIR) is 1 - FNIR, at rank 1."""

    gallery: str
    identities: int  # N; the FPIR grows with it
    mated: int  # probes of enrolled people
    nonmated: int
    rank1: Rate | None  # None: no mated probe
    rank5: Rate | None
    open_set: tuple[OpenSetPoint, ...]  # at the FPIRs that the non-mated probes resolve


class TemplateResult(Record):
    """One model on one set of templates."""

    frame_rows: ClassVar[str | None] = "tar_at_far"
    templates: int
    without_image: int  # templates without one usable image: their vector is zero, so they match nothing
    pairs: int
    genuine: int
    impostors: int
    auc: float | None
    eer: float | None
    tar_at_far: tuple[TarAtFar, ...]  # at the rates that the impostor pairs resolve
    searches: tuple[GallerySearch, ...]  # a row a gallery


def template_vectors(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], templates: TemplateSet
) -> NDArray[np.float32]:
    """Average the images of each media, then the media of each template, and normalize.

    Args:
        vectors: (N, D) unit vectors of images. rows: (F,) which of them belongs to each of `templates.paths`; -1: none.
    Returns:
        (T, D) unit vectors; zero for a template without an image.
    """
    row = rows[templates.image]
    usable = row >= 0
    count = int(templates.media.max(initial=0)) + 1
    both, group = np.unique(templates.template[usable] * count + templates.media[usable], return_inverse=True)
    weights = np.ones(len(rows)) if templates.weights is None else templates.weights
    of_media = _means(vectors[row[usable]] * weights[templates.image[usable], None], group, both.size)
    result = _means(of_media, both // count, templates.ids.size)
    lengths = np.linalg.norm(result, axis=1, keepdims=True)
    return np.asarray(np.divide(result, lengths, out=np.zeros_like(result), where=lengths > 0), np.float32)


def _means(vectors: NDArray[np.floating], group: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
    order = np.argsort(group, kind="stable")
    present, starts = np.unique(group[order], return_index=True)
    sums = np.zeros((groups, vectors.shape[1]))
    if present.size:
        sums[present] = np.add.reduceat(vectors[order].astype(np.float64), starts, axis=0)
    return sums / np.maximum(np.bincount(group, minlength=groups), 1)[:, None]


def evaluate_templates(vectors: NDArray[np.float32], templates: TemplateSet) -> TemplateResult:
    """Measure every pair of the list, streamed, and every gallery.

    Args:
        vectors: (T, D) of `template_vectors`.
    Raises:
        DataError: the list of pairs is damaged, or has one kind of pair only.
    """
    genuine, impostor = _scores(vectors, templates)
    if templates.pairs is not None and not (genuine.size and impostor.size):
        lack = "of one person" if impostor.size else "of two people"
        raise DataError(f"{templates.pairs}: expected pairs of both kinds, got none {lack}")
    curve = summarise_scores(genuine, impostor) if templates.pairs is not None else None
    return TemplateResult(
        templates=templates.ids.size,
        without_image=int((~vectors.any(axis=1)).sum()),
        pairs=genuine.size + impostor.size,
        genuine=genuine.size,
        impostors=impostor.size,
        auc=None if curve is None else curve.auc,
        eer=None if curve is None else curve.eer.value,
        tar_at_far=() if curve is None else tuple(tar_at_far_of(point, None) for point in curve.points),
        searches=tuple(_searched(vectors, gallery, templates.probes) for gallery in templates.galleries),
    )


def _scores(vectors: NDArray[np.float32], templates: TemplateSet) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The cosines of the genuine and of the impostor pairs, 4 bytes each."""
    sides: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    for a, b, same in templates.read_pairs():
        scores = np.empty(a.size, np.float32)
        for start in range(0, a.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            scores[part] = np.einsum("nd,nd->n", vectors[a[part]], vectors[b[part]])
        sides[0].append(scores[same])
        sides[1].append(scores[~same])
    genuine, impostor = (np.concatenate([np.zeros(0, np.float32), *side]) for side in sides)
    return genuine, impostor


def _searched(vectors: NDArray[np.float32], gallery: Templates, probes: Templates | None) -> GallerySearch:
    assert probes is not None
    found = search_embeddings(vectors[probes.rows], probes.subjects, vectors[gallery.rows], gallery.subjects)
    mated = int(found.mated.sum())
    nonmated = found.mated.size - mated
    ranks = cmc(found, 5) if mated else ()
    fpirs = resolvable(TEMPLATE_FPIRS, nonmated) if mated and nonmated else ()
    return GallerySearch(
        gallery=gallery.name,
        identities=found.identities,
        mated=mated,
        nonmated=nonmated,
        rank1=ranks[0] if ranks else None,
        rank5=ranks[-1] if ranks else None,
        open_set=tuple(open_set_at(found, fpir) for fpir in fpirs),
    )
