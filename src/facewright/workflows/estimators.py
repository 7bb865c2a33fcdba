"""Training and verification behind scikit-learn's interface: fit, predict, predict_proba, score, clone.

X is a list of images: an (N, H, W, 3) uint8 array, arrays of different sizes, PIL images, paths, or a pandas frame or
series of paths. Images are no table of numbers, so of scikit-learn's own checks those that fit on one do not apply.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from facewright.data.image_records import FileSource
from facewright.data.records import Dataset, Labelled
from facewright.errors import DataError, UsageError
from facewright.images import ImageLike, as_image
from facewright.inference import BATCH
from facewright.metrics.calibration import calibrate_scores
from facewright.metrics.thresholds import choose_threshold
from facewright.names import checked_name
from facewright.recognition import Recognizer, SelectFace
from facewright.runs import load_classifier
from facewright.workflows.training_runs import train

NO_FACE = -1.0  # the lowest cosine: a pair in which a face is missing is no match


class _ImageEstimator(BaseEstimator):  # type: ignore[misc]
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True  # images are checked one by one
        return tags


class FaceClassifier(ClassifierMixin, _ImageEstimator):  # type: ignore[misc]
    """Train a network on images and predict their classes.

    `fit` keeps a part of X for validation, which chooses the best epoch, and one for the test numbers of
    `evaluation_`, by the recipe's shares: every class needs at least three images.

    Args:
        model: an architecture, or architecture@weights, as `train` takes it.
        recipe: as of `train`; None: `finetune` with weights, else `scratch`.
        overrides: recipe values to change, {"training.epochs": "5"}.
        seed: of the split, the random weights, the order and the augmentation.
        device: as of `train`.
        out: the run directory to write; None: nothing is kept on disk.

    Attributes:
        classes_: (C,) the distinct values of y, sorted. classifier_: the `Classifier`. evaluation_: the test numbers.
        history_: a row an epoch.
    """

    def __init__(
        self,
        model: str = "resnet18",
        *,
        recipe: str | Path | None = None,
        overrides: Mapping[str, str] | None = None,
        seed: int = 0,
        device: str | None = None,
        out: str | Path | None = None,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.overrides = overrides
        self.seed = seed
        self.device = device
        self.out = out

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Train on N images.

        Args:
            X: N images; see the top of this module. y: (N,) their classes: text, numbers or booleans.
        Raises:
            UsageError: the lengths differ, or an element is no image. DataError: too few classes or images.
        """
        images, values = images_of(X), np.asarray(y).reshape(-1)
        if len(images) != len(values):
            raise UsageError(f"expected a class for each of {len(images)} images, got {len(values)}")
        data = _dataset(images, values)
        self.classes_ = np.unique(values)
        names = [checked_name(str(value).strip(), "a class name") for value in self.classes_.tolist()]
        if len(set(names)) != len(names):
            raise UsageError(f"two values of y have one name as text: {', '.join(sorted(names))[:200]}")
        with ExitStack() as kept:
            folder = Path(kept.enter_context(TemporaryDirectory())) / "run" if self.out is None else Path(self.out)
            run = train(
                data, model=self.model, recipe=self.recipe, overrides=self.overrides, seed=self.seed,
                device=self.device, out=folder, report=self.out is not None, track=() if self.out is None else None,
            )  # fmt: skip
            self.classifier_ = load_classifier(folder, self.device)
            self.evaluation_, self.history_ = run.evaluation, run.history
        self._columns = [self.classifier_.classes.index(name) for name in names]
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, (N, C), in the order of `classes_`; rows sum to one."""
        check_is_fitted(self, "classifier_")
        images, model = images_of(X), self.classifier_
        rows = [
            model.probabilities(np.stack([model.fit(as_image(image)) for image in images[start : start + BATCH]]))
            for start in range(0, len(images), BATCH)
        ]
        return np.concatenate([np.zeros((0, len(model.classes))), *rows])[:, self._columns]

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of each image, (N,); of two classes by the threshold chosen on the validation part."""
        shares = self.predict_proba(X)
        chosen, line = shares.argmax(axis=1), self.classifier_.threshold
        if line is not None:
            at = [self.classifier_.classes[column] for column in self._columns]
            accepted = at.index(str(line.accepted))
            chosen = np.where(shares[:, accepted] >= line.value, accepted, 1 - accepted)
        return np.asarray(self.classes_[chosen])


class FaceVerifier(ClassifierMixin, _ImageEstimator):  # type: ignore[misc]
    """Decide if two photos show the same person; `fit` chooses the threshold on labelled pairs.

    X holds N pairs: a sequence of (a, b), or a pandas frame whose first two columns are paths. The network is not
    trained. A pair in which no face is found scores -1 and is no match.

    Args:
        model: as of `Recognizer.load`; None: the built-in networks.
        far: the false-accept rate that the threshold is chosen for; it takes 1 / far pairs of two people or more.
        detector: as of `Recognizer`.
        device: likewise.
        select_face: which of several faces, as of `Recognizer.pick`.

    Attributes:
        threshold_: a match iff the cosine is at least its value; with rates and intervals. calibration_: the map from a
            cosine to the probability of a match.
        failures_: training pairs without a score. classes_: [False, True].
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        far: float = 0.01,
        detector: str | None = None,
        select_face: SelectFace | None = None,
        device: str | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self.far = far
        self.detector = detector
        self.select_face = select_face

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Choose the threshold on N pairs.

        Args:
            X: N pairs. y: (N,) True or 1 where both show one person.
        Raises:
            UsageError: no pairs, or y is no truth value. Undefined: too few pairs of two people for this FAR.
        """
        pairs, truth = _pairs_of(X), np.asarray(y).reshape(-1)
        if len(pairs) != len(truth) or not set(truth.tolist()) <= {0, 1}:
            raise UsageError(f"expected 0 or 1 for each of {len(pairs)} pairs, got {len(truth)} values")
        same = truth.astype(bool)
        self.recognizer_ = Recognizer.load(self.model, detector=self.detector, device=self.device)
        scores = self._scores(pairs)
        scored = scores > NO_FACE
        threshold = choose_threshold(scores[same & scored], scores[~same & scored], self.far, f"{len(pairs)} pairs")
        self.calibration_ = calibrate_scores(scores[scored], same[scored], threshold.data)
        self.threshold_ = threshold.replace(calibration=self.calibration_, failures=int((~scored).sum()))
        self.failures_, self.classes_ = self.threshold_.failures, np.array([False, True])
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the cosine of each pair minus the threshold, (N,): at least 0 is a match."""
        check_is_fitted(self, "threshold_")
        return self._scores(_pairs_of(X)) - self.threshold_.value

    def predict(self, X: Any) -> NDArray[np.bool_]:
        """Return True for each pair that matches, (N,)."""
        check_is_fitted(self, "threshold_")
        return self._scores(_pairs_of(X)) >= self.threshold_.value

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probabilities of no match and match, (N, 2), at the share of matches among the training pairs."""
        check_is_fitted(self, "threshold_")
        match = self.calibration_.probabilities_of(self._scores(_pairs_of(X)))
        return np.stack([1 - match, match], axis=1)

    def _scores(self, pairs: Sequence[tuple[ImageLike, ImageLike]]) -> NDArray[np.float64]:
        """Return the cosine of each pair, (N,); each photo is embedded once."""
        selection = self.recognizer_.face_selection(self.select_face)
        vectors: dict[Any, Any] = {}
        for photo in (side for pair in pairs for side in pair):
            if _key(photo) not in vectors:
                vectors[_key(photo)] = self.recognizer_.vector(photo, selection)[0]
        found = [(vectors[_key(a)], vectors[_key(b)]) for a, b in pairs]
        return np.array([NO_FACE if a is None or b is None else float(a @ b) for a, b in found], np.float64)


def images_of(X: Any) -> list[ImageLike]:
    """Return the images of an (N, H, W, 3) or (N, H, W) uint8 array, a sequence, a pandas series or frame of paths.

    Raises:
        UsageError: something else, or no image.
    """
    if hasattr(X, "columns"):  # a frame
        name = "path" if "path" in X.columns else X.columns[0]
        if name != "path" and len(X.columns) > 1:
            raise UsageError(f"expected a frame with a column path, or one column; got {', '.join(X.columns)}")
        return images_of(X[name])
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUS" and (X.dtype != np.uint8 or X.ndim not in (3, 4)):
        raise UsageError(f"expected images: (N, H, W, 3) uint8, a list of images, or paths; got {X.dtype} {X.shape}")
    images = [_grey_too(image) for image in _listed(X)]
    if not images:
        raise UsageError("expected at least one image, got none")
    return images


def _pairs_of(X: Any) -> list[tuple[ImageLike, ImageLike]]:
    """Return the pairs of a sequence of two images each, or of the first two columns of a frame. Raises UsageError."""
    rows = X.iloc[:, :2].itertuples(index=False) if hasattr(X, "columns") else _listed(X)
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUS" and X.dtype != np.uint8:
        raise UsageError(f"expected pairs of images or paths, got numbers: {X.dtype} {X.shape}")
    pairs = [tuple(row) if hasattr(row, "__len__") and len(row) == 2 else () for row in rows]
    if not pairs or () in pairs:
        raise UsageError("expected pairs (a, b) of images, at least one")
    return pairs


def _listed(X: Any) -> Any:
    if isinstance(X, Sequence | np.ndarray) or hasattr(X, "iloc"):
        return X
    raise UsageError(f"expected a list or an array of images or paths, got {type(X).__name__}")


def _key(photo: ImageLike) -> Any:
    """The same for the same photo: its path, or its place in memory while X is there."""
    return str(photo) if isinstance(photo, str | Path) else id(photo)


def _grey_too(image: Any) -> ImageLike:
    """An (H, W) array as the RGB image it shows; anything else as it is."""
    if isinstance(image, np.ndarray) and image.ndim == 2 and image.dtype == np.uint8:
        return np.repeat(image[:, :, None], 3, axis=2)
    if not isinstance(image, str | Path | bytes | np.ndarray) and not hasattr(image, "getexif"):
        raise UsageError(f"expected an image or a path, got {type(image).__name__}")
    return str(image) if isinstance(image, np.str_) else image


def _dataset(images: Sequence[ImageLike], values: NDArray[Any]) -> Dataset:
    """Files stay where they are and are decoded once into the store; images in memory are taken as they are."""
    labels = [str(value) for value in values.tolist()]
    if not all(isinstance(image, str | Path) for image in images):
        return Dataset.from_arrays([as_image(image) for image in images], labels)
    files = [Path(image).resolve() for image in images]  # type: ignore[arg-type]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing}: no such file")
    root = Path(os.path.commonpath([file.parent for file in files]))
    rows = [Labelled(file.relative_to(root).as_posix(), label) for file, label in zip(files, labels, strict=True)]
    return Dataset.of(root.name, f"{len(files)} files below {root}", rows, FileSource(str(root)), layout="frame")
