"""Import of an ONNX face recognizer as a model file; unknown input settings are chosen by labelled pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright import bundle as bundles
from facewright import images
from facewright.bundle import Bundle
from facewright.data.pairs import Pairs, pairs_among, read_pairs
from facewright.data.sources import open_dataset
from facewright.embedding import NORM, Embedder, imported, similarities
from facewright.errors import BadImage, BundleError, DataError, Undefined, UsageError
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.faces.alignment import parse_template
from facewright.faces.onnx_detectors import detector_family
from facewright.faces.quality import TypicalNorm, typical_norm
from facewright.graphs import MOST_BYTES
from facewright.input_spec import ColourOrder, InputSpec
from facewright.recognition import Recognizer
from facewright.records import Record

MOST_IMAGES = 200  # that preprocessings are tried on
SURE = 0.95  # the share of resampled pairs on which the best must beat every other that differs
RESAMPLES = 500
ALIKE = 0.01  # mean difference of two preprocessings' scores up to which they are one
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
PREPROCESSINGS = {
    "(x - 127.5) / 127.5": ((127.5,) * 3, (127.5,) * 3),
    "(x - 127.5) / 128": ((127.5,) * 3, (128.0,) * 3),
    "x / 255": ((0.0,) * 3, (255.0,) * 3),
    "(x - ImageNet's mean) / std": IMAGENET,
}
Numbers = tuple[float, float, float]


class Trial(Record):
    """A preprocessing that was tried."""

    colour: ColourOrder
    scaling: str
    flip: bool
    auc: float  # of the pairs, in [0, 1]
    separation: float  # between the means of both kinds of pairs, in pooled standard deviations
    chosen: bool = False


class ImportedModel(Record):
    """A model file made of an ONNX file."""

    path: str
    fingerprint: str
    width: int  # numbers of an embedding
    input: dict[str, object]
    template: str
    licence: str | None
    images: int  # that preprocessings were tried on; 0: the preprocessing was given
    trials: tuple[Trial, ...]  # the furthest apart first
    norm: TypicalNorm | None = None  # of the embeddings, where it says something about the scores of these pairs


def import_model(
    file: str | Path,
    out: str | Path,
    *,
    template: str = "arcface",
    size: int = 112,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    colour: ColourOrder | None = None,
    flip: bool | None = None,
    output: str | None = None,
    licence: str | None = None,
    pairs: str | Path | None = None,
    photos: str | Path | None = None,
    detector: str = "dlib",
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> ImportedModel:
    """Convert an ONNX face recognizer to a model file.

    Args:
        file: the ONNX file.
        out: the model file, NAME.onnx.
        template: of its aligned crops: arcface, ffhq, mtcnn, dlib, "box:MARGIN", or five points x1,y1,...,x5,y5 in px.
        size: px, side of its input.
        mean: subtracted from pixels of 0..255, red green blue.
        std: divided by, likewise.
        colour: the order it is fed.
        flip: whether the mirror image's vector is added; None: no, or tried where pairs are given.
        output: the name of the embedding, where there are several.
        licence: of the weights, as their source says.
        pairs: a list of pairs, or a folder with a folder a person, where mean, std and colour are not known: usual ones
            are tried on at most 200 photos.
        photos: the folder of the list's photos.
        detector: finds their faces.
        device: what embeds them, as for `devices.choose`.
    Raises:
        BundleError: the file cannot be read, or is no plain recognizer graph. UsageError: an option does not fit.
        Undefined: no preprocessing is clearly the best.
    """
    target = Path(out)
    if target.suffix.lower() != ".onnx":
        raise UsageError(f"{target}: an imported model is an .onnx file; name it {target.name}.onnx")
    content = _content(Path(file))
    if (family := detector_family(Path(file))) is not None:
        raise UsageError(f"{file} is a face detector ({family}): give it to --detector")
    found = parse_template(template, size)
    origin = {"file": Path(file).name, "sha256": sha256(content).hexdigest(), "licence": licence}

    def made(spec: InputSpec) -> Bundle:
        try:
            return imported(content, spec, found, origin, output)
        except (BundleError, UsageError) as error:
            raise type(error)(f"{file}: {error}") from None

    def embedder_of(spec: InputSpec) -> Embedder:
        return Embedder(made(spec), device=device)

    trials: Sequence[Trial] = ()
    photographed = norm = None
    if mean is not None and std is not None and colour is not None:
        spec = _spec(size, mean, std, colour, bool(flip))
    elif pairs is not None:
        listed, folder = _listed(pairs, photos)
        embedder = embedder_of(_spec(size, (127.5,) * 3, (127.5,) * 3, "rgb", False))
        recognizer = Recognizer(embedder, detector=detector, device=device)
        photographed = _PairCrops(embedder_of, recognizer, listed, folder, on_event)
        trials, spec = photographed.best(["rgb", "bgr"] if colour is None else [colour], size, flip)
    else:
        raise UsageError("say --mean, --std and --colour; or --pairs (and --images), to find them out")
    bundle = made(spec)
    if photographed is not None and (norm := photographed.norm(Embedder(bundle, device=device))) is not None:
        bundle = replace(bundle, provenance={**bundle.provenance, NORM: norm.to_dict()})
    bundles.save(target, bundle)
    return ImportedModel(
        path=str(target),
        fingerprint=Embedder(bundle).fingerprint,
        width=Embedder(bundle).width,
        input=spec.to_dict(),
        template=found.name,
        licence=licence,
        images=0 if photographed is None else len(photographed.crops),
        trials=tuple(trials),
        norm=norm,
    )


def _spec(size: int, mean: Numbers, std: Numbers, colour: ColourOrder, flip: bool) -> InputSpec:
    """The order of `InputSpec`'s mean and std is red, green, blue."""
    shares = [tuple(value / 255 for value in values) for values in (mean, std)]
    return InputSpec(size, size, shares[0], shares[1], colour, "stretch", flip=flip)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class _Tried:
    trial: Trial
    spec: InputSpec
    scores: NDArray[np.float64]  # of the pairs


def _listed(pairs: str | Path, photos: str | Path | None) -> tuple[Pairs, Path]:
    """Return the pairs, and the folder of their photos."""
    folder = Path(pairs) if Path(pairs).is_dir() else Path(photos or Path(pairs).parent)
    if folder != Path(pairs):
        return read_pairs(pairs, folder), folder
    if photos is not None:
        raise UsageError(f"{pairs}: a folder of people has its images in it; leave out --images")
    return pairs_among(open_dataset(pairs), MOST_IMAGES), folder


class _PairCrops:
    """Aligned crops of photos with labelled pairs, of both kinds in turn."""

    def __init__(
        self,
        embedder_of: Callable[[InputSpec], Embedder],
        recognizer: Recognizer,
        listed: Pairs,
        folder: Path,
        on_event: EventHandler,
    ) -> None:
        self.embedder_of, self.recognizer, self.data, self._on_event = embedder_of, recognizer, listed.name, on_event
        kinds = (np.flatnonzero(listed.same == kind) for kind in (True, False))
        self.crops: list[NDArray[np.uint8]] = []
        rows, same, places = list[tuple[int, int]](), list[bool](), dict[str, int | None]()
        for index in (index for both in zip(*kinds, strict=False) for index in both):
            names = (listed.a[index], listed.b[index])
            if len(places) + sum(name not in places for name in names) > MOST_IMAGES:
                break
            for name in names:
                if name not in places:
                    places[name] = self._crop(folder / name)
                    on_event(Progress("finding faces", len(places), MOST_IMAGES))
            first, second = (places[name] for name in names)
            if first is not None and second is not None:
                rows.append((first, second))
                same.append(bool(listed.same[index]))
        if min(same.count(True), same.count(False)) < 10:
            raise DataError("expected at least 10 pairs of each kind with a face on both photos")
        self.rows, self.same = np.array(rows), np.array(same)

    def _crop(self, path: Path) -> int | None:
        try:
            face = self.recognizer.pick(images.read(path)).face
        except (BadImage, OSError):
            return None
        self.crops += [] if face is None else [face.chip]
        return None if face is None else len(self.crops) - 1

    def best(self, colours: Sequence[ColourOrder], size: int, flip: bool | None) -> tuple[list[Trial], InputSpec]:
        """Try the usual preprocessings; raises Undefined where none is clearly the best.

        The mirror image is added where it was asked for, or where the pairs say that it is clearly better.
        """
        tried: list[_Tried] = []
        for colour, (name, (mean, std)) in product(colours, PREPROCESSINGS.items()):
            embedder = self.embedder_of(_spec(size, mean, std, colour, False))
            plain = embedder.embed(np.stack(self.crops))
            for mirrored in (False, True) if flip is None else (flip,):
                vectors = _unit(plain + embedder.embed(np.stack(self.crops)[:, :, ::-1])) if mirrored else plain
                trial = self._trial(vectors, colour, name, mirrored)
                tried.append(_Tried(trial, _spec(size, mean, std, colour, mirrored), self._scores(vectors)))
                self._on_event(Message(f"{_named(trial)}: AUC {trial.auc:.4f}, separation {trial.separation:.2f}"))
        tried.sort(key=lambda row: -row.trial.separation)
        first = self._clearest([row for row in tried if not row.trial.flip] or tried)
        for other in tried:  # the same with the mirror image
            if replace(other.spec, flip=first.spec.flip) == first.spec and self._confidence(other, first) >= SURE:
                first = other
        return [row.trial.model_copy(update={"chosen": row is first}) for row in tried], first.spec

    def norm(self, embedder: Embedder) -> TypicalNorm | None:
        """Measure the typical norm of the embeddings, with the chosen preprocessing."""
        vectors, norms = embedder.embed_with_norms(np.stack(self.crops))
        scores = self._scores(vectors)[self.same]
        return typical_norm(norms, self.rows[self.same], scores, self.data, self.recognizer.detector_name)

    def _clearest(self, tried: Sequence[_Tried]) -> _Tried:
        """Return the first; raises Undefined where another that gives other scores may be as good."""
        first = tried[0]
        for other in tried[1:]:
            if np.abs(other.scores - first.scores).mean() > ALIKE and self._confidence(first, other) < SURE:
                raise Undefined(
                    f"no preprocessing is clearly the best: {_named(first.trial)} separates the pairs by"
                    f" {first.trial.separation:.2f} standard deviations, {_named(other.trial)} by"
                    f" {other.trial.separation:.2f}; say --mean, --std and --colour"
                )
        return first

    def _trial(self, vectors: NDArray[np.float32], colour: ColourOrder, scaling: str, flip: bool) -> Trial:
        scores = self._scores(vectors)
        genuine, impostor = scores[self.same], scores[~self.same]
        wins = (genuine[:, None] > impostor).mean() + (genuine[:, None] == impostor).mean() / 2
        apart = _separation(scores, self.same)
        return Trial(colour=colour, scaling=scaling, flip=flip, auc=float(wins), separation=apart)

    def _scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        return similarities(vectors[self.rows[:, 0]], vectors[self.rows[:, 1]])

    def _confidence(self, first: _Tried, other: _Tried) -> float:
        """The share of resampled pairs on which the first preprocessing separates better than another."""
        rng, same, wins = np.random.default_rng(0), self.same, 0
        for _ in range(RESAMPLES):
            rows = np.concatenate([rng.choice(np.flatnonzero(same == kind), (same == kind).sum()) for kind in (0, 1)])
            wins += _separation(first.scores[rows], same[rows]) > _separation(other.scores[rows], same[rows])
        return wins / RESAMPLES


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:  # (N, D) -> (N, D)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _separation(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """The difference of the means of both kinds of pairs, in pooled standard deviations."""
    genuine, impostor = scores[same], scores[~same]
    spread = float(np.sqrt((genuine.var() + impostor.var()) / 2))
    return float(genuine.mean() - impostor.mean()) / max(spread, 1e-12)


def _named(trial: Trial) -> str:
    return f"{trial.colour} {trial.scaling}{' + mirror image' * trial.flip}"


def _content(path: Path) -> bytes:
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise BundleError(f"{path}: expected an ONNX file of at most {MOST_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror or error})") from None
