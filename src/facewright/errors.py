"""Every exception of Facewright. Each message says what was expected, what came and what to do."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_NEAREST = 5  # names that an error lists


class FacewrightError(Exception):
    """Anything this package refuses, with one clear line."""


class UsageError(FacewrightError):
    """The request cannot be met as it was made."""


class UnknownName(UsageError):
    """A name that is in no table; the message gives the nearest five names.

    >>> str(UnknownName("model", "resnet51", ["resnet50", "xception"]))
    "unknown model 'resnet51': did you mean 'resnet50'? known: resnet50, xception"
    >>> str(UnknownName("model", "runs/a", ["resnet50"]))
    "unknown model 'runs/a': neither a known name nor a file or folder that exists"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        if "/" in name:  # the nearest names would say nothing
            super().__init__(f"unknown {kind} {name!r}: neither a known name nor a file or folder that exists")
            return
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" did you mean {near[0]!r}?" if near else ""
        listed = "known"
        if len(names) > _NEAREST:
            listed = f"nearest of {len(names)}"
            names = difflib.get_close_matches(name, names, n=_NEAREST, cutoff=0)
        super().__init__(f"unknown {kind} {name!r}:{hint} {listed}: {', '.join(names)}")


EXTRAS = {
    "cloud": ("fsspec", "aiohttp"),
    "data": ("pyarrow",),
    "hub": ("huggingface_hub",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "mqtt": ("paho",),
    "onnx": ("onnxscript", "torch"),
    "postgres": ("psycopg", "pgvector"),
    "search": ("optuna",),
    "ray": ("ray", "grpc"),
    "tensorboard": ("tensorboard",),
    "timm": ("timm", "torch"),
    "torchvision": ("torchvision", "torch"),
    "train": ("torch", "scipy", "sklearn", "matplotlib", "jinja2"),
    "video": ("av", "scipy"),
    "wandb": ("wandb",),
}


def require_extra(extra: str, purpose: str) -> None:
    """Refuse to work without the packages of an extra, before anything is loaded. Raises UsageError."""
    missing = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise UsageError(f"{purpose} needs {', '.join(missing)}, not installed: pip install 'facewright[{extra}]'")


@cache
def is_first_failure() -> bool:
    """Return True in the process that prints its error: of those that torchrun started, the first on its machine.

    The first is known by a file beside those in which torchrun collects errors; without torchrun every process is it.
    """
    collected = os.environ.get("TORCHELASTIC_ERROR_FILE")
    try:
        if collected:
            (Path(collected).parents[1] / "first-failure").touch(exist_ok=False)
    except FileExistsError:
        return False
    except (OSError, IndexError):  # better twice than never
        return True
    return True


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return what to install where a package of the extra `train` is missing; None for any other package."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS["train"]:
        return None
    return f"this needs {package}, which is not installed: pip install 'facewright[train]'"


class Unconvertible(UsageError):
    """A network that cannot score a whole photo in one pass as it scores patches."""


class DataError(FacewrightError):
    """The given data cannot be used."""


class BadImage(DataError):
    """One image cannot be used."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class BadArchive(DataError):
    """An archive that is refused whole."""


class EmptyClass(DataError):
    """A class folder without one readable image."""


class OtherClasses(DataError):
    """Data with other classes than the model's: its answers cannot be called right or wrong."""


class BundleError(FacewrightError):
    """A model file that is not what it says."""


class ExportDrift(FacewrightError):
    """An exported model that does not answer as the one it was made of."""


class WeightsError(FacewrightError):
    """Public weights that cannot be had, or that are not what they should be."""


class RunError(FacewrightError):
    """Something about a run directory."""


class RunLocked(RunError):
    """Another living process owns the run directory."""


class ResumeError(RunError):
    """Nothing to resume, or it does not fit the request."""


class NonFiniteLoss(RunError):
    """The loss is no longer a number."""


class DeviceFault(FacewrightError, RuntimeError):
    """A device has no memory left, or failed."""


class Interrupted(RunError):
    """The run was asked to stop; its state is saved."""


class GalleryError(FacewrightError):
    """Something about a gallery of enrolled faces."""


class GalleryDamaged(GalleryError):
    """The content of the gallery is not what was written into it."""


class OtherModel(GalleryError):
    """A gallery that was enrolled with another network or another preprocessing: its vectors cannot be compared."""


class Undefined(FacewrightError):
    """A number that does not exist for this input."""


class EmptyScores(Undefined):
    """A side of a comparison has no scores."""
