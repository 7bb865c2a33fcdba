"""Training, resuming, evaluating and predicting on a pretend accelerator.

`test_devices.py` runs this file in a process of its own: a backend cannot be unregistered, and it must be registered
before PyTorch's autograd engine starts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from facewright import devices, evaluate, pairs, predict, train
from facewright.bundle import Bundle, save
from facewright.cli.main import main
from facewright.data.augment import TOLERANCE
from facewright.data.loaders import Loader, ResidentStore, resident
from facewright.data.sources import open_dataset
from facewright.embedding import Embedder
from facewright.errors import DeviceFault, NonFiniteLoss
from facewright.evaluation.results import latency
from facewright.events import EpochFinished, EpochRow, StepFinished
from facewright.explanation.class_maps import Explainer
from facewright.inference import Classifier
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model
from facewright.runs import Run
from facewright.serve.engine import Engine, Kind
from facewright.serve.responses import error_of
from facewright.specs import Augment
from facewright.training import checkpoints, optimizers, precision
from facewright.training.distributed import World
from facewright.training.trainer import Trainer
from facewright.workflows.face_scan import scan
from facewright.workflows.label_issues import find_label_issues
from fixtures.pretend import WAITS, install
from fixtures.trainers import bits, make_phased_trainer, make_trainer

WHERE = "synthetic:faces?identities=3&images=12&size=32"
TWO = "synthetic:faces?identities=4&images=8&size=32&task=glasses"
SMALL = {"input.size": "32", "training.batch": "8", "training.precision": "float32"}
SMALL["training.deterministic"] = "false"
ONE_EPOCH = {**SMALL, "training.epochs": "1"}


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[torch.device]:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield install()
    torch.__future__.set_overwrite_module_params_on_conversion(before)


def test_the_pretend_accelerator_catches_what_was_left_on_the_cpu(pretend: torch.device) -> None:
    layer = torch.nn.Linear(3, 2).to(pretend)
    with pytest.raises(RuntimeError, match="CPU tensor"):
        layer(torch.ones(4, 3))
    assert layer(torch.ones(4, 3).to(pretend)).device == pretend


def on_device(trainer, device: torch.device):  # type: ignore[no-untyped-def]
    """Return a new trainer of the same parts on a device."""
    trainer.module.requires_grad_(True)  # the first phase of the other trainer froze some
    return type(trainer)(
        trainer.module.to(device), replace(trainer.data, world=World(device=device)), trainer.recipe, trainer.folder,
        trainer.save_best, trainer.on_event,
    )  # fmt: skip


@pytest.mark.parametrize("make", [make_trainer, make_phased_trainer])
def test_training_on_a_device_gives_the_cpus_numbers(  # type: ignore[no-untyped-def]
    make, pretend: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers, "FUSED", ())  # a fused kernel rounds otherwise
    monkeypatch.setattr(devices, "memory", lambda device: devices.Memory(10**9, 10**9))
    cpu = make(tmp_path / "cpu")
    there = on_device(make(tmp_path / "there"), pretend)
    ours, theirs = cpu.fit(), there.fit()
    assert [row.train_loss for row in ours] == pytest.approx([row.train_loss for row in theirs], rel=1e-5)
    assert [row.validation_loss for row in ours] == pytest.approx([row.validation_loss for row in theirs], rel=1e-5)
    assert all(tensor.device == pretend for tensor in there.network.state_dict().values())
    assert there.average is not None and next(there.average.module.parameters()).device == pretend


def test_a_run_on_a_device_resumes_to_the_same_bits(pretend: torch.device, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(event: object) -> None:
        if isinstance(event, EpochFinished) and event.row.epoch == 2:
            raise Stop

    whole = on_device(make_trainer(tmp_path / "whole"), pretend)
    whole.fit()
    broken = on_device(make_trainer(tmp_path / "b", stop), pretend)
    with pytest.raises(Stop):
        broken.fit()
    again = on_device(make_trainer(tmp_path / "b"), pretend)
    state = checkpoints.load(tmp_path / "b" / "checkpoints")
    assert state is not None and 0 < state.facts["progress"]["steps"] < 16
    again.restore(state)
    again.fit()
    assert checkpoint_bits(again) == checkpoint_bits(whole)


FULL = Augment(
    flip=0.5, area=(0.6, 1.0), aspect=0.2, rotation=20, zoom=0.1, translate=0.1, brightness=0.3, contrast=0.3,
    saturation=0.3, grey=0.2, erase=0.5,
)  # fmt: skip
COLOURS = Augment(flip=0.5, brightness=0.3, contrast=0.3, saturation=0.3, erase=0.5)


@pytest.mark.parametrize("free", [0, 10**9])
@pytest.mark.parametrize("size", [32, 24])
@pytest.mark.parametrize("augment", [FULL, COLOURS, None])
def test_batches_on_a_device_are_the_cpus(
    augment: Augment | None, size: int, free: int, pretend: torch.device, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(devices, "memory", lambda device: devices.Memory(free, free))
    data = make_trainer(tmp_path).data
    rows = np.concatenate([data.train, data.validation])
    store, line = resident(data.store, rows, pretend)
    lies_there = free > 0
    assert isinstance(store, ResidentStore) == lies_there and ("lie on pretend:0" in str(line)) == lies_there
    plan = data.plan(0)
    here = Loader(data.store, data.spec, augment, size, 3).epoch(plan, 1)
    there = Loader(store, data.spec, augment, size, 3, 0 if lies_there else 2, pretend).epoch(plan, 1)
    level = 1 / (255 * np.array(data.spec.std)).reshape(3, 1, 1)
    equal = []
    for ours, theirs in zip(here, there, strict=True):
        assert theirs.images.device == pretend and (theirs.indices == ours.indices).all()
        difference = np.abs(theirs.images.cpu().numpy() - ours.images.numpy()) / level
        assert difference.max() <= (TOLERANCE + 1e-3 if lies_there else 0)
        equal.append((difference < 0.5).mean())
    assert np.mean(equal) > (0.8 if size != 32 else 0.999)


def test_a_resident_store_refuses_rows_that_are_not_there(pretend: torch.device, tmp_path: Path) -> None:
    data = make_trainer(tmp_path).data
    store = ResidentStore(data.store, np.array([1, 4]), pretend)
    assert torch.equal(store.batch(np.array([4, 1, 4])).cpu(), data.store.batch(np.array([4, 1, 4])))
    for rows in ([0], [2], [5]):
        with pytest.raises(IndexError):
            store.batch(np.array(rows))


def checkpoint_bits(trainer) -> str:  # type: ignore[no-untyped-def]
    state = trainer.state()
    tensors = {name: tensor.cpu() for name, tensor in state.tensors.items()}
    trainer.state = lambda: checkpoints.State(tensors, state.facts)
    return bits(trainer)


def test_a_loss_that_is_no_number_is_found_one_step_late_and_named(pretend: torch.device, tmp_path: Path) -> None:
    trainer = on_device(make_trainer(tmp_path), pretend)
    steps: list[int] = []

    def poison(event: object) -> None:
        if isinstance(event, StepFinished):
            steps.append(trainer.position.steps)
            if trainer.position.steps == 5:
                with torch.no_grad():
                    trainer.network[0].weight.fill_(float("nan"))  # type: ignore[index,union-attr,operator]

    trainer.on_event = poison
    with pytest.raises(NonFiniteLoss, match=r"at step 6 .*images: person_"):
        trainer.fit()
    assert steps[-1] == 6, "the seventh step was under way"
    state = checkpoints.load(tmp_path / "checkpoints")
    assert state is not None and all(torch.isfinite(tensor).all() for tensor in state.tensors.values())


def test_float16_scales_its_gradients_and_keeps_the_scale(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, training={"precision": "float16", "epochs": 1})
    trainer.module.dtype = torch.float16
    half = on_device(trainer, torch.device("cpu"))
    half.scaler.load_state_dict({**half.scaler.state_dict(), "scale": 1024.0})
    half.fit()
    state = half.state()
    assert state.facts["scaler"]["scale"] == 1024.0
    again = on_device(trainer, torch.device("cpu"))
    again.restore(state)
    assert again.scaler.state_dict() == half.scaler.state_dict()


def test_float16_steps_that_overflow_are_skipped_and_are_no_fault(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, training={"precision": "float16", "epochs": 1, "ema": 0.0})
    trainer.module.dtype = torch.float16
    half = on_device(trainer, torch.device("cpu"))
    half.scaler.load_state_dict({**half.scaler.state_dict(), "scale": 2.0**120})
    rows = half.fit()
    assert np.isfinite(rows[0].train_loss)
    assert half.scaler.state_dict()["scale"] < 2.0**120


RECIPES = {
    "scratch": (WHERE, {}),
    "cosine": (
        WHERE,
        {"head.kind": "cosine", "head.scale": "16.0", "objective.kind": "adaface", "augment.jpeg": "0.5"},
    ),
    "triplet": (WHERE, {"head.kind": "linear", "objective.kind": "triplet", "sampling.plan": "triplets"}),
    "pairwise": (WHERE, {"head.kind": "linear", "objective.kind": "pairwise", "sampling.plan": "pairs"}),
    "centre": (WHERE, {"head.kind": "linear", "objective.kind": "centre", "training.ema": "0.9"}),
    "mixup": (WHERE, {"training.mixup": "0.2"}),
    "two classes": (TWO, {"selection.metric": "hter", "objective.class_weights": "inverse"}),
    "sharded": (
        WHERE,
        {
            "head.kind": "cosine",
            "head.scale": "16.0",
            "objective.kind": "arcface",
            "training.shard_classes": "true",
            "training.negatives": "0.5",
            "training.clip": "5.0",
        },
    ),
    "sgd": (WHERE, {"optimizer.name": "sgd", "training.adaptive_clip": "0.1"}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_kind_of_recipe_trains_evaluates_and_predicts(name: str, pretend: torch.device, tmp_path: Path) -> None:
    where, changes = RECIPES[name]
    changes = {**ONE_EPOCH, "training.label_smoothing": "0.0", **changes}
    waits: list[int] = []

    def count(event: object) -> None:
        if isinstance(event, StepFinished):
            waits.append(len(WAITS))

    there, here = (
        train(
            where, model="plain_cnn", out=tmp_path / kind, overrides=changes, report=False, device=kind, on_event=count
        )
        for kind in (str(pretend), "cpu")
    )
    steps = len(waits) // 2
    assert steps > 1 and set(np.diff(waits[:steps])) == {1}, WAITS[-20:]  # the numbers of the step before
    ours, theirs = here.history[-1], there.history[-1]
    assert isinstance(theirs, EpochRow)
    assert theirs.train_loss == pytest.approx(ours.train_loss, rel=1e-3)
    np.testing.assert_allclose(there.predictions.probabilities, here.predictions.probabilities, atol=1e-3)
    again = evaluate(there.folder, where, task="classification", device=str(pretend))
    assert again.to_dict()["n"] == sum(there.facts.counts.values())
    dataset = open_dataset(where)
    image = tmp_path / "one.png"
    Image.fromarray(dataset.source.read(dataset.records[0], None)).save(image)
    said, expected = (predict(there.folder, [image], device=kind)[0] for kind in (str(pretend), "cpu"))
    assert said.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def bundle_of(architecture: str, *classes: str, size: int = 32) -> Bundle:
    torch.manual_seed(0)
    network = create_model(architecture, len(classes), input_size=size)
    spec = InputSpec(size, size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return Bundle(architecture, "imagenet", classes, spec, network.state_dict())


def test_label_issues_of_a_device_are_the_cpus(
    pretend: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(WHERE, model="plain_cnn", out=tmp_path / "run", overrides=ONE_EPOCH, report=False, device="cpu")
    save_file(bundle_of("plain_cnn", "a", "b").weights, tmp_path / "public.safetensors")
    for weights in (f"plain_cnn@{tmp_path / 'public.safetensors'}", "none"):
        found = []
        for kind in (str(pretend), "cpu"):
            monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / kind))  # features of the other are not read
            found.append(find_label_issues(run.folder, folds=2, weights=weights, device=kind))
            computed_on = [Run(one).facts.device for one in (run.folder / "folds").glob("*")]
            shutil.rmtree(run.folder / "folds", ignore_errors=True)
            assert computed_on == [torch.device(kind).type] * 2 * (weights == "none")
        assert found[0].accuracy.value == found[1].accuracy.value
        assert [row.path for row in found[0].suspects] == [row.path for row in found[1].suspects]


def test_embeddings_of_a_device_are_the_cpus(pretend: torch.device) -> None:
    bundle = bundle_of("plain_cnn", "a", "b", "c")
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    here, there = (Embedder(bundle, device=name).embed(images) for name in ("cpu", str(pretend)))
    assert (here * there).sum(1) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("architecture", "method"), [("plain_cnn", "grad-cam"), ("plain_cnn", "grad-cam++"), ("vit_ti_16", "rollout")]
)
def test_heat_maps_of_a_device_are_the_cpus(architecture: str, method: str, pretend: torch.device) -> None:
    bundle = bundle_of(architecture, "a", "b")
    pixels = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    here, there = (Explainer(Classifier(bundle, name), method).maps(pixels, [0, 1]) for name in ("cpu", str(pretend)))
    assert here.any()
    np.testing.assert_allclose(there, here, atol=1e-4)


@pytest.mark.parametrize("architecture", ["patchnet", "plain_cnn"])
def test_a_scan_on_a_device_finds_what_the_cpu_finds(architecture: str, pretend: torch.device, tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", bundle_of(architecture, "face", "other", size=64))
    photo = np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8)
    here, there = (
        scan(tmp_path / "model.safetensors", photo, threshold=0.3, device=name) for name in ("cpu", str(pretend))
    )
    assert (here.why_windows is None) == (there.why_windows is None) == (architecture == "patchnet")
    assert here.photos[0].found is not None and len(here.photos[0].found)
    assert there.to_dict() == here.to_dict()


def test_pairs_on_a_device_have_the_cpus_scores(pretend: torch.device, tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", bundle_of("plain_cnn", "a", "b"))
    dataset = open_dataset(WHERE)
    records = dataset.records[:4] + dataset.records[-4:]
    for number, record in enumerate(records):
        Image.fromarray(dataset.source.read(record, None)).save(tmp_path / f"{number}.png")
    rows = ["0,1,1", "2,3,1", "4,5,1", "0,4,0", "1,5,0", "2,6,0"]
    listed = ("{}.png,{}.png,{}".format(*row.split(",")) for row in rows)
    (tmp_path / "pairs.csv").write_text("\n".join(["a,b,same", *listed]))
    here, there = (
        pairs(tmp_path / "model.safetensors", tmp_path / "pairs.csv", tmp_path, device=name)
        for name in ("cpu", str(pretend))
    )
    np.testing.assert_allclose(there.scored.scores, here.scored.scores, atol=1e-6)


@pytest.mark.parametrize(("seconds", "chosen"), [((0.100, 0.109), True), ((0.100, 0.111), False), (None, False)])
def test_deterministic_kernels_are_measured_told_kept_and_asked_for(
    seconds: tuple[float, float] | None, chosen: bool, pretend: torch.device, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def measured(step: Callable[[bool], None], ways: tuple[bool, ...], most: float, world: World) -> list[float]:
        assert world.device == pretend and ways == (False, True) and most <= 2.5
        for exact in ways:
            step(exact)
        if seconds is None:
            raise RuntimeError("pool_cuda does not have a deterministic implementation, but you set")
        return list(seconds)

    monkeypatch.setattr(precision, "step_seconds", measured)
    real, taken = Trainer.step, []

    def step(self: Trainer, inputs: torch.Tensor, *rest: object) -> None:
        before = next(self.network.parameters()).detach().clone()
        real(self, inputs, *rest)  # type: ignore[arg-type]
        moved = not torch.equal(before, next(self.network.parameters()))
        spec, exact = self.module.objective.spec, torch.are_deterministic_algorithms_enabled()
        taken.append((spec.kind, self.recipe.training.accumulate, len(inputs), exact, moved))

    monkeypatch.setattr(Trainer, "step", step)
    asked: list[bool] = []
    said: list[str] = []
    monkeypatch.setattr(torch.accelerator, "max_memory_allocated", lambda device: 12_345)
    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", lambda device: None)

    def on_event(event: object) -> None:
        if isinstance(event, StepFinished):
            asked.append(torch.are_deterministic_algorithms_enabled())
        said.append(str(getattr(event, "text", "")))

    changes = {**ONE_EPOCH, "training.deterministic": "auto", "training.accumulate": "2"}
    changes |= {"objective.kind": "arcface", "head.kind": "cosine", "head.scale": "32"}
    changes["training.label_smoothing"] = "0"
    options = {"model": "plain_cnn", "out": tmp_path / "run", "report": False, "device": str(pretend)}
    run = train(WHERE, overrides=changes, on_event=on_event, **options)
    assert set(asked) == {chosen} and run.facts.deterministic == chosen and run.facts.device == pretend.type
    assert run.facts.device_peak_memory_bytes == 12_345
    steps, batch = len(taken) - len(asked), run.recipe.training.batch
    assert taken[:steps] == [("arcface", 2, batch, exact, True) for exact in (False, True)], "steps of the run to come"
    assert {one[:3] for one in taken[steps:]} == {("arcface", 2, batch)}
    (line,) = (text for text in said if text.startswith("deterministic kernels"))
    assert ("pool_cuda" in line) == (seconds is None) and line.endswith("resumes bit-identically") == chosen
    said.clear()
    train(WHERE, overrides=changes, resume=True, on_event=on_event, **options)  # measured once
    assert not any(text.startswith("deterministic kernels") for text in said)


def test_the_cost_of_deterministic_kernels_is_timed_in_turn(
    pretend: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 0.0, "steps": 0.0}

    def step() -> None:
        clock["now"] += 0.3 if torch.are_deterministic_algorithms_enabled() else 0.2
        clock["steps"] += 1

    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock["now"])
    world = World(device=pretend)
    found = precision.choose_kernels(step, "key", tmp_path, world)
    assert not found.deterministic and "300 ms" in found.reason and "200 ms" in found.reason
    assert clock["steps"] == 2 * (precision.REPEATS + 1) and clock["now"] <= precision.SECONDS
    assert precision.choose_kernels(step, "key", tmp_path, world).reason == "measured before"


def test_a_device_is_timed(pretend: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    model = create_model("plain_cnn", 2, input_size=32).to(pretend)
    found = latency(model, 32, batch=2, seconds=0.01)
    assert found.median_ms > 0 and set(waited) == {pretend}


FULL_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")
LOST = RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported")


@pytest.mark.parametrize("error", [FULL_MEMORY, LOST])
@pytest.mark.parametrize("command", ["train", "timed", "embed", "predict", "scan"])
def test_a_device_that_fails_is_one_line(
    command: str, error: RuntimeError, pretend: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    photo, model = tmp_path / "photos" / "a.png", tmp_path / "model.safetensors"
    photo.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(photo)
    save(model, bundle_of("plain_cnn", "face", "other"))
    training = ["train", WHERE, "--model", "plain_cnn", "--size", "32", "--batch", "8", "--out", str(tmp_path / "run")]
    words = {
        "train": [*training, "--precision", "float32", "--no-deterministic"],
        "timed": [*training, "--precision", "float32"],
        "embed": ["embed", str(model), str(photo.parent), "--out", str(tmp_path / "vectors.parquet")],
        "predict": ["predict", str(model), str(photo)],
        "scan": ["scan", str(model), str(photo)],
    }[command]
    monkeypatch.setattr("fixtures.pretend.FAULTS", [error])
    assert main([*words, "--device", str(pretend)]) == 1
    printed = capsys.readouterr().err
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in printed and ("no memory left" in line) == (error is FULL_MEMORY)
    if command in ("train", "timed"):
        assert ("--batch 4" if error is FULL_MEMORY else "--resume") in line and str(pretend) in line
    else:
        assert "--resume" not in line


def test_a_server_whose_device_is_lost_says_so(monkeypatch: pytest.MonkeyPatch, pretend: torch.device) -> None:
    embedder = Embedder(bundle_of("plain_cnn", "a", "b"), device=str(pretend))
    engine = Engine({"embed": Kind(lambda images: list(embedder.embed(np.stack(images))), most=4)})
    image = np.zeros((32, 32, 3), np.uint8)
    assert len(engine.do("embed", [image])) == 1 and engine.fault is None
    for error, lasting in ((FULL_MEMORY, False), (LOST, True)):
        monkeypatch.setattr("fixtures.pretend.FAULTS", [error])
        with pytest.raises(DeviceFault) as told:
            engine.do("embed", [image] * 3)
        assert (engine.fault is not None) == lasting and error_of(told.value).status == 503
    engine.close()


@pytest.mark.parametrize("name", ["pretend:9", "pretender", "cuda:0"])
def test_a_device_that_is_not_there_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", WHERE, "--model", "plain_cnn", "--device", name]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert name in line
