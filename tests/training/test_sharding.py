"""The class layer shared out to two processes against the whole one: loss, gradients, a run and its bundle."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch.distributed import HashStore

from facewright.errors import UsageError
from facewright.heads import build
from facewright.losses.objective import Objective
from facewright.models.catalog import create_model
from facewright.specs import HeadSpec, ObjectiveSpec
from facewright.training import checkpoints, distributed, loading
from facewright.training import recipe as recipes
from facewright.training.assembly import check_shares
from facewright.training.distributed import World
from facewright.training.loading import shares
from facewright.training.sharding import ShardedObjective, Sharding
from facewright.training.trainer import Trainer
from facewright.training.training_module import TrainingModule
from facewright.training.validation import of_rows, row_numbers, validate
from facewright.workflows.training_runs import resume, train
from fixtures.trainers import TABLES, data_for, recipe_of

KINDS = ("cosface", "arcface", "adaface")
CLASSES, WIDTH, BATCH = 7, 5, 8
HEAD = HeadSpec(kind="cosine", scale=16.0, subcentres=2)
Found = tuple[float, int, torch.Tensor, torch.Tensor]  # loss, hits, gradients of the directions and of the backbone


def setting(kind: str):
    torch.manual_seed(3)
    head, backbone = build(HEAD, WIDTH, CLASSES), torch.nn.Linear(4, WIDTH)
    images, labels = torch.randn(BATCH, 4) * 3, torch.tensor([0, 6, 3, 3, 2, 5, 1, 6])
    return head, backbone, images, labels, ObjectiveSpec(kind=kind)


def whole(kind: str) -> Found:
    head, backbone, images, labels, spec = setting(kind)
    objective = Objective(spec, CLASSES, WIDTH)
    loss, scores = objective(head, backbone(images), labels, 0)
    loss.backward()
    return loss.item(), int(objective.hits(scores, labels)), head.weight.grad, backbone.weight.grad


def shared(kind: str, world: World, negatives: float = 1.0) -> Found:
    head, backbone, images, labels, spec = setting(kind)
    sharding = Sharding(world, CLASSES, 2)
    head.weight = torch.nn.Parameter(sharding.take(head.weight.detach()))
    objective = ShardedObjective(spec, sharding, negatives, seed=1)
    part = slice(world.rank * BATCH // world.size, (world.rank + 1) * BATCH // world.size)
    loss, right = objective(head, backbone(images[part]), labels[part], 0)
    loss.backward()
    gradient = world.all_reduce(backbone.weight.grad.clone()) / world.size  # as DistributedDataParallel does
    hits = int(world.all_reduce_sum([float(objective.hits(right, labels[part]))])[0])
    return loss.item(), hits, sharding.collect(head.weight.grad), gradient


def scored(world: World) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and hit of each image by scores that are shared out, and the directions put together again."""
    head, backbone, images, labels, _ = setting("arcface")
    with torch.no_grad():
        head.weight[8:10] = head.weight[2:4]  # classes 1 and 4 always score alike: the first is the answer
        sharding = Sharding(world, CLASSES, 2)
        head.weight = torch.nn.Parameter(sharding.take(head.weight.detach()))
        numbers = sharding.row_numbers(head, backbone(images), labels)
    with sharding.whole(head):
        return numbers, head.weight.detach().clone()


def test_validation_with_shared_classes_gives_the_numbers_of_all_scores(both: dict[str, tuple]) -> None:
    head, backbone, images, labels, _ = setting("arcface")
    with torch.no_grad():
        head.weight[8:10] = head.weight[2:4]
        expected = row_numbers(head(backbone(images)), labels)
    for numbers, whole in (both["scored"], scored(World())):
        torch.testing.assert_close(numbers.double(), expected, atol=1e-5, rtol=0)
        assert torch.equal(whole, head.weight)
    one, many = of_rows(both["scored"][0], "loss"), validate(head(backbone(images)).detach(), labels, "loss")
    assert one.loss == pytest.approx(many.loss, abs=1e-5) and one.accuracy == many.accuracy
    assert 0 < many.accuracy < 1


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_rows_that_three_processes_saved_are_read_by_any_number(processes: int, tmp_path: Path) -> None:
    whole = torch.arange(CLASSES * 2 * 3.0).reshape(-1, 3)
    sums = []
    for rank in range(3):
        rows = {"model.head.weight": Sharding(World(rank, 3), CLASSES, 2).take(whole)}
        sums.append(checkpoints.save_rows(tmp_path, checkpoints.State({}, {}, rows), 7, rank))
    checkpoints.save(tmp_path, checkpoints.State({"model.bias": torch.zeros(2)}, {}), 7, sums)
    state = checkpoints.load(tmp_path)
    assert state is not None and checkpoints.names_of_rows(state.shards) == ["model.head.weight"]
    for rank in range(processes):
        sharding = Sharding(World(rank, processes), CLASSES, 2)
        found = checkpoints.load_rows(state.shards, "model.head.weight", sharding.rows(rank))
        assert torch.equal(found, sharding.take(whole))


def test_a_damaged_shard_falls_back_to_the_checkpoint_before(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        rows = {"model.head.weight": torch.full((4, 2), float(step))}
        sums = [checkpoints.save_rows(tmp_path, checkpoints.State({}, {}, rows), step, rank) for rank in (0, 1)]
        checkpoints.save(tmp_path, checkpoints.State({"model.bias": torch.zeros(2)}, {}), step, sums)
    assert len(list(tmp_path.glob("step-00000001*"))) == 0 and len(list(tmp_path.glob("step-0000000[23]*"))) == 6
    newest = tmp_path / "step-00000003.rank-0001.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    state = checkpoints.load(tmp_path)
    assert state is not None
    assert checkpoints.load_rows(state.shards, "model.head.weight", slice(2, 6)).tolist() == [[2.0, 2.0]] * 4


def uneven(world: World, folder: Path) -> tuple[float, ...]:
    """Train two steps on batches of 7 and 5 images, and validate 5; return the numbers and some of the weights."""
    recipe = recipe_of(TABLES, {"training": {"epochs": 1, "checkpoint_steps": 0}})
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(3), torch.nn.Flatten(),
        torch.nn.Linear(36, 3),
    )  # fmt: skip
    data = data_for(recipe)
    plan = [data.train[:7], data.train[7:12]]
    data = replace(data, world=world, plan=lambda epoch: plan, validation=data.validation[:5], steps=2)
    module = TrainingModule(network, Objective(recipe.objective, 3, 0, smoothing=0.1), None)
    (row,) = Trainer(module, data, recipe, folder, lambda best: None).fit()
    flat = torch.cat([p.detach().flatten() for p in network.parameters()])
    return row.train_loss, row.validation_loss, row.validation_accuracy, row.images_seen, *flat[::20].tolist()


def frozen(world: World, folder: Path) -> torch.Tensor:
    """Features of ten images in blocks of four: three blocks for two processes."""
    data = data_for(recipe_of(TABLES, {}))
    inputs = loading.FeatureInputs(data.store, data.spec, np.arange(10), data.augment, 32, 0, 2)
    torch.manual_seed(0)
    network = create_model("plain_cnn", 3, input_size=32)
    found = loading.features_of(network, inputs, torch.float32, folder / "features", world=world)
    return torch.from_numpy(np.array(found.values))


def test_batches_that_two_processes_share_unevenly_train_to_the_numbers_of_one(
    both: dict[str, tuple], tmp_path: Path
) -> None:
    expected = uneven(World(), tmp_path)
    assert both["uneven"] == pytest.approx(expected, abs=1e-5)
    assert both["uneven"][3] == 12


def test_features_are_shared_out_and_the_file_is_that_of_one_process(
    both: dict[str, tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BATCH", 4)
    assert torch.equal(both["frozen"], frozen(World(), tmp_path))


def test_shares_keep_pairs_together_and_too_small_ones_are_refused() -> None:
    batches = [np.arange(12)]
    assert [shares(batches, World(rank, 4), 2)[0].tolist() for rank in (0, 1)] == [[0, 1], [2, 3, 4, 5]]
    assert [len(shares(batches, World(rank, 5), 1)[0]) for rank in range(5)] == [2, 2, 3, 2, 3]
    assert [shares([np.arange(15)], World(rank, 2), 3)[0].tolist()[-1] for rank in (0, 1)] == [5, 14]
    check_shares([np.arange(5)], World(0, 2), 1, even=False)
    for batch, processes, even in ((5, 3, False), (3, 2, False), (5, 2, True)):
        with pytest.raises(UsageError, match=f"{batch}"):
            check_shares([np.arange(batch)], World(0, processes), 1, even)


# Both processes are forks of one, which has loaded what they need.
TWO = f"""
import os, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
import torch, torch._dynamo, torch.distributed as dist
from pathlib import Path
from test_sharding import KINDS, frozen, loading, scored, shared, uneven
from facewright.training.distributed import World

child = os.fork()
rank = 0 if child else 1
dist.init_process_group("gloo", init_method=f"file://{{sys.argv[1]}}", rank=rank, world_size=2)
found = {{kind: shared(kind, World(rank, 2)) for kind in KINDS}}
found["sampled"] = shared("arcface", World(rank, 2), 0.5)
found["scored"] = scored(World(rank, 2))
loading.BATCH = 4
folder = Path(sys.argv[1]).with_name(f"of-{{rank}}")
found["uneven"] = uneven(World(rank, 2), folder)
found["frozen"] = frozen(World(rank, 2), folder)
if rank == 0:
    torch.save(found, sys.argv[2])
dist.destroy_process_group()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    """What the first of two processes found."""
    folder = tmp_path_factory.mktemp("both")
    command = [sys.executable, "-c", TWO, str(folder / "meet"), str(folder / "out")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=env, check=True, timeout=300)
    return torch.load(folder / "out", weights_only=True)


def test_two_processes_give_the_loss_and_the_gradients_of_the_whole_layer(both: dict[str, tuple]) -> None:
    found = both
    for kind in KINDS:
        loss, hits, directions, backbone = whole(kind)
        assert found[kind][0] == pytest.approx(loss, abs=1e-5) and found[kind][1] == hits
        torch.testing.assert_close(found[kind][2], directions, atol=1e-5, rtol=0)
        torch.testing.assert_close(found[kind][3], backbone, atol=1e-5, rtol=0)
    loss, _, directions, _ = found["sampled"]
    assert 0 < loss < whole("arcface")[0]  # fewer negatives
    moved = directions.reshape(CLASSES, -1).abs().sum(1) > 0
    assert moved[[0, 1, 2, 3, 5, 6]].all()  # those of the images


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_gives_the_same(kind: str) -> None:
    loss, hits, directions, backbone = whole(kind)
    found = shared(kind, World())
    assert found[0] == pytest.approx(loss, abs=1e-5) and found[1] == hits
    torch.testing.assert_close(found[2], directions)
    torch.testing.assert_close(found[3], backbone)


def test_the_sample_of_classes_is_a_function_of_seed_step_and_process() -> None:
    positives = torch.tensor([17, 3, 17])

    def chosen(seed: int, step: int, rank: int) -> list[int]:
        objective = ShardedObjective(ObjectiveSpec(kind="arcface"), Sharding(World(rank, 2), 200), 0.2, seed)
        return objective._chosen(positives, 100, step).tolist()

    one = chosen(0, 5, 0)
    assert len(one) == len(set(one)) == 20 and one == sorted(one) and {3, 17} <= set(one)
    assert one == chosen(0, 5, 0)
    assert len({tuple(chosen(*place)) for place in ((0, 5, 0), (1, 5, 0), (0, 6, 0), (0, 5, 1))}) == 4


def test_more_processes_than_classes() -> None:
    with pytest.raises(UsageError, match="2 for 3"):
        Sharding(World(0, 3), 2)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"objective.kind": "a-softmax"}, "arcface"), ({"training.shard_classes": "false"}, "shard_classes")],
)
def test_settings_that_do_not_go_together(changes: dict[str, str], expected: str) -> None:
    chosen = {"training.shard_classes": "true", "training.negatives": "0.5", **changes}
    with pytest.raises(UsageError, match=expected):
        recipes.override(recipes.load("arcface"), chosen)


WHERE = "synthetic:faces?identities=5&images=12&size=32"
SMALL = {
    "input.size": "32", "training.epochs": "3", "training.batch": "8", "training.precision": "float32",
    "head.scale": "16", "training.ema": "0.9", "training.checkpoint_steps": "1", "training.shard_classes": "true",
    "augment.jpeg": "0",
}  # fmt: skip
STOPPED = f"""
import os, signal, sys
from pathlib import Path
from facewright.events import StepFinished
from facewright.workflows.training_runs import train

def on_event(event):
    if isinstance(event, StepFinished) and (event.epoch, event.step) == (3, 2):
        os.kill(os.getpid(), signal.SIGKILL)

train({WHERE!r}, model="plain_cnn", recipe="arcface", out=Path(sys.argv[1]), overrides={SMALL!r}, on_event=on_event)
"""


@pytest.mark.slow
def test_a_run_of_two_resumes_with_one_and_its_bundle_is_whole(tmp_path: Path) -> None:
    (tmp_path / "stopped.py").write_text(STOPPED)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(tmp_path / "stopped.py")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, str(tmp_path / "run")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert (tmp_path / "run" / "checkpoints" / "last.json").is_file(), done.stderr[-3000:]
    run = resume(tmp_path / "run")
    changes = {**SMALL, "training.shard_classes": "false"}
    one = train(WHERE, model="plain_cnn", recipe="arcface", out=tmp_path / "one", overrides=changes, report=False)
    assert len(run.history) == 3
    for mine, theirs in zip(run.history, one.history, strict=True):
        assert mine.train_loss == pytest.approx(theirs.train_loss, rel=0.03)  # batch norm sees half batches
    weights, expected = (each.classifier.bundle.weights for each in (run, one))
    assert {name: value.shape for name, value in weights.items()} == {n: v.shape for n, v in expected.items()}


def test_what_two_classes_need_is_refused(tmp_path: Path) -> None:
    changes = {**SMALL, "selection.metric": "hter"}
    two = "synthetic:faces?identities=4&images=8&size=32&task=glasses"
    with pytest.raises(UsageError, match="HTER"):
        train(two, model="plain_cnn", recipe="arcface", out=tmp_path / "run", overrides=changes)


@pytest.mark.parametrize(
    ("asked", "device", "backend"), [("cuda", "cuda:3", "cpu:gloo,cuda:nccl"), ("cpu", "cpu", "gloo")]
)
def test_each_process_takes_the_gpu_of_its_local_rank(
    asked: str, device: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    for name, value in {"WORLD_SIZE": "8", "RANK": "7", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "rendezvous", lambda address: iter([(HashStore(), 7, 8)]))
    monkeypatch.setattr(torch.cuda, "set_device", started.append)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: started.append(backend))
    for name, answer in {"get_rank": 7, "get_world_size": 8, "destroy_process_group": None}.items():
        monkeypatch.setattr(dist, name, lambda answer=answer: answer)
    with distributed.joined(torch.device(asked)) as world:
        assert world == World(7, 8, torch.device(device)) and not world.writes_cache
    assert started == [*([torch.device(device)] if asked == "cuda" else []), backend]


def test_python_is_the_last_to_let_go_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freed by the reducer of a model, with the interpreter's lock held, a group may wait for its thread for ever."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "rendezvous", lambda address: iter([(HashStore(), 0, 1)]))
    groups = []
    for _ in range(2):
        with distributed.joined():
            groups.append(weakref.ref(dist.group.WORLD))
    gc.collect()
    assert groups[0]() is None and groups[1]() is not None
