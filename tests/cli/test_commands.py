"""Each command: how it calls the workflows, and what it prints. The workflows are replaced by fakes."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import facewright
from facewright.cli.main import main
from facewright.data.audit import Audit, AuditedImage, ExactDuplicates, NearDuplicate, SizeTable
from facewright.data.records import Broken
from facewright.data.store import Statistics
from facewright.evaluation.classification import ClassificationResult, ClassRow, Predictions
from facewright.evaluation.results import Comparison, Entry, Latency
from facewright.events import Message
from facewright.inference import Prediction
from facewright.metrics.intervals import Rate

RATE = Rate(value=0.75, low=0.5, high=0.9, n=4)
RESULT = ClassificationResult(
    split="test",
    n=4,
    classes=("ann", "bo"),
    accuracy=RATE,
    top5=None,
    log_loss=0.5,
    macro_precision=RATE,
    macro_recall=RATE,
    macro_f1=RATE,
    weighted_precision=0.75,
    weighted_recall=0.75,
    weighted_f1=0.75,
    macro_auc=None,
    micro_auc=None,
    macro_average_precision=None,
    calibration_error=0.1,
    confusion=((2, 0), (1, 1)),
    per_class=tuple(
        ClassRow(name=name, n=2, precision=RATE, recall=RATE, f1=0.75, auc=None, average_precision=None)
        for name in ("ann", "bo")
    ),
)
PREDICTIONS = Predictions(("a", "b"), np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]]))
ENTRY = Entry(
    name="resnet18",
    run="runs/a",
    model="resnet18",
    recipe="scratch",
    image_size=64,
    parameters=11_000_000,
    flops=3_600_000_000,
    images_seen=1200,
    epochs=3,
    train_seconds=12.0,
    peak_memory_bytes=None,
    file_bytes=44_000_000,
    latency=Latency(median_ms=5.25, p95_ms=6.0, images_per_second=200.0, batch=32, threads=1),
    test=RESULT,
    predictions=PREDICTIONS,
    history=(),
)
IMAGES = (AuditedImage("ann/1.jpg", "ann", None), AuditedImage("bo/1.jpg", "bo", None))
AUDIT = Audit(
    name="photos",
    where="/photos",
    images=4,
    counts={"ann": 2, "bo": 2},
    sizes=SizeTable((8, 8), (9.5, 9.0), (12, 10), ((8, 8, 4),)),
    broken=(Broken("c.jpg", "truncated"),),
    exact=(ExactDuplicates(images=IMAGES),),
    near=(NearDuplicate(*IMAGES, similarity=0.99, mirrored=False),),
    imbalance=1.0,
    balance=1.0,
    statistics=Statistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    warnings=("a picture is in two classes",),
)
COMPARISON = Comparison(
    dataset="photos",
    fingerprint="f00d",
    classes=("ann", "bo"),
    counts={"train": 3, "test": 4},
    entries=(ENTRY,),
    pairs=(),
    baseline=0.5,
    not_converged=(),
    advice=("Take resnet18.",),
)


@dataclass
class Workflows:
    """Fakes of the workflows: keeps the calls, which must fit the real signatures; returns fixed results."""

    asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)

    def fake(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def answer(*arguments: Any, **options: Any) -> Any:
            inspect.signature(real).bind(*arguments, **options)
            on_event = options.pop("on_event", None)
            if on_event is not None:
                on_event(Message("under way"))
            self.asked.append((name, arguments, options))
            return self.answers[name]

        return answer


@pytest.fixture
def workflows(monkeypatch: pytest.MonkeyPatch) -> Workflows:
    run = SimpleNamespace(folder=Path("runs/a"), evaluation=RESULT, summary=lambda: {"run": "runs/a"})
    seen = Prediction(path="a.jpg", names=("ann", "bo"), probabilities=(0.75, 0.25))
    broken = Prediction(path="b.jpg", names=(), probabilities=(), error="truncated")
    compared = SimpleNamespace(
        runs=[run],
        comparison=COMPARISON,
        to_dict=COMPARISON.to_dict,
        write=lambda folder: (folder.mkdir(parents=True), (folder / "report.html").write_text("page")),
    )
    demonstration = SimpleNamespace(
        compared=compared, predictions=[seen], report=Path("demo/report.html"), to_dict=lambda: {"report": "page"}
    )
    answers = {
        "train": run,
        "resume": run,
        "compare": compared,
        "train_all": compared,
        "evaluate": RESULT,
        "predict": [seen, broken],
        "inspect": (AUDIT, b"png"),
        "demo": demonstration,
        "verify": SimpleNamespace(
            sides=(SimpleNamespace(said=None), SimpleNamespace(said=None)),
            score=0.75, threshold=None, same=True, far=None, to_dict=lambda: {"same": True},
        ),
    }  # fmt: skip
    stand_in = Workflows(answers=answers)
    for name in answers:
        real = getattr(facewright, name)
        monkeypatch.setattr(sys.modules[real.__module__], name, stand_in.fake(name, real))
    return stand_in


# Each row: the arguments -> the workflow it calls, with what.
TRAIN = {"model": "resnet18", "recipe": None, "out": None, "seed": 0, "overrides": {}, "task": None, "resume": False}
EVALUATE = {
    "task": None,
    "seed": 0,
    "detector": None,
    "unknown_classes": "errors",
    "threshold": None,
    "validation": None,
}
PREDICT = {"top_k": 5, "unknown_at": None, "detector": None, "every_face": False}
RUN, PHOTO = Path("runs/a"), Path("a.jpg")
CALLS = [
    ("train photos", "train", ("photos",), TRAIN),
    (
        "train photos -m vgg16 -r my.toml -o r --seed 7 --set batch=8 --epochs 2",
        "train",
        ("photos",),
        {
            **TRAIN, "model": "vgg16", "recipe": "my.toml", "out": Path("r"), "seed": 7,
            "overrides": {"batch": "8", "training.epochs": "2"},
        },
    ),
    ("train --resume --out r", "resume", (Path("r"),), {}),
    (
        "compare photos --models 'a, b,'",
        "train_all",
        ("photos", ["a", "b"]),
        {"recipe": None, "out": None, "seed": 0, "overrides": {}, "task": None, "budget": None},
    ),
    ("evaluate runs/a", "evaluate", (RUN, None), EVALUATE),
    (
        "evaluate built-in other --task identification --seed 3 --detector none",
        "evaluate",
        (Path("built-in"), "other"),
        {**EVALUATE, "task": "identification", "seed": 3, "detector": "none"},
    ),
    (
        "verify a.jpg b.jpg --policy centre",
        "verify",
        (PHOTO, Path("b.jpg")),
        {"model": None, "far": None, "detector": None, "select_face": "center"},
    ),
    ("predict runs/a a.jpg b.jpg", "predict", (RUN, [PHOTO, Path("b.jpg")]), PREDICT),
    ("predict runs/a a.jpg --device cuda:1", "predict", (RUN, [PHOTO]), {**PREDICT, "device": "cuda:1"}),
    ("inspect photos", "inspect", ("photos",), {"detector": None, "form": None}),
    ("demo --quick --out d", "demo", (Path("d"),), {"quick": True}),
]  # fmt: skip


UNSAID = {  # what is asked for with None where no option is given
    "train": ("device", "track"),
    "resume": ("device", "track"),
    "train_all": ("device", "track"),
    "evaluate": ("device", "by", "attributes", "out"),
    "predict": ("device",),
    "verify": ("device",),
    "demo": ("device",),
}


@pytest.mark.parametrize(("words", "name", "given", "options"), CALLS, ids=[row[0] for row in CALLS])
def test_what_is_asked(
    words: str, name: str, given: tuple[Any, ...], options: dict[str, Any], workflows: Workflows
) -> None:
    assert main(shlex.split(words)) == 0
    assert workflows.asked == [(name, given, {**dict.fromkeys(UNSAID.get(name, ())), **options})]


@pytest.mark.parametrize("words", [row[0] for row in CALLS])
def test_json_is_one_object_and_nothing_else(
    words: str, workflows: Workflows, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*shlex.split(words), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert isinstance(json.loads(out), dict)


def test_training_says_where_the_run_is(workflows: Workflows, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "photos"])
    said = capsys.readouterr()
    assert "accuracy  75.0 % (50.0 to 90.0, n=4)" in said.out
    # no terminal: progress is plain lines
    assert said.err.splitlines() == ["under way", "run: runs/a", f"report: {Path('runs/a/report.html')}"]


def test_quiet(workflows: Workflows, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "photos", "--quiet"])
    assert "under way" not in capsys.readouterr().err


def test_of_several_processes_the_first_speaks(
    workflows: Workflows, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["train", "photos", "--json"]) == 0
    assert capsys.readouterr() == ("", "")
    assert len(workflows.asked) == 1


def test_comparing_runs(workflows: Workflows, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    for run in runs:
        run.mkdir()
        (run / "run.json").write_text("{}")
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "both")]) == 0
    assert workflows.asked == [("compare", (runs,), {})]
    said = capsys.readouterr()
    assert "75.0 % (50.0 to 90.0, n=4)" in said.out
    assert "Take resnet18." in said.out
    assert said.err == f"report: {tmp_path / 'both' / 'report.html'}\n"
    assert (tmp_path / "both" / "report.html").read_text() == "page"


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "photos"],  # which models?
        ["compare", "photos", "more", "--models", "a"],  # two datasets
        ["train", "--resume"],  # which run?
        ["train", "--resume", "--out", "r", "--epochs", "4"],  # a run goes on by its own recipe
        ["train", "photos", "--set", "batch=8", "--set", "batch=9"],
        ["train", "photos", "--set", "training.epochs=3", "--epochs", "4"],
        ["train", "photos", "--set", "=3"],
        ["predict", "runs/a", "a.jpg", "--csv", "none/of/these/p.csv"],  # found before the work, not after
        ["inspect", "photos", "--sheet", "."],
    ],
)
def test_a_request_that_is_refused(
    arguments: list[str], workflows: Workflows, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not workflows.asked


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--epochs", "3"], "--models"),  # would be ignored without a word
        (["--seed", "1"], "--models"),
        (["--recipe", "notebook-adam"], "--models"),
        (["--models", "resnet18"], "--models"),
        (["photos"], "photos"),
    ],
)
def test_what_does_not_fit_the_comparing_of_runs(
    more: list[str], words: str, workflows: Workflows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert main(["compare", str(tmp_path), *more]) == 1
    assert words in capsys.readouterr().err
    assert not workflows.asked


def test_predictions_name_the_broken(workflows: Workflows, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "runs/a", "x", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == "a.jpg: ann 75.0 %, bo 25.0 %\n"
    assert said.err == "error: b.jpg: truncated\n"


def test_predictions_of_broken_files_only(workflows: Workflows) -> None:
    workflows.answers["predict"] = workflows.answers["predict"][1:]
    assert main(["predict", "runs/a", "x"]) == 1


def test_predictions_as_csv(workflows: Workflows, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "out.csv"
    assert main(["predict", "runs/a", "x", "--csv", str(table)]) == 0
    assert capsys.readouterr().out == ""
    assert table.read_text().splitlines() == [
        "path,rank,name,probability,error",
        "a.jpg,1,ann,0.750000,",
        "a.jpg,2,bo,0.250000,",
        "b.jpg,,,,truncated",
    ]


def test_inspect_writes_the_sheet(workflows: Workflows, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "photos", "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").read_bytes() == b"png"
    shown = capsys.readouterr().out
    assert "photos: 4 images in 2 classes, from /photos" in shown
    assert "bo          2" in shown
    assert "broken: c.jpg: truncated" in shown
    assert "exact: ann/1.jpg, bo/1.jpg" in shown
    assert "warning: a picture is in two classes" in shown


def test_cache_of_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path))
    assert main(["cache", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"folder": str(tmp_path), "action": "list", "bytes": 0, "freed": 0, "entries": []}
    assert main(["cache", "clear"]) == 0
    assert main(["cache", "clear", "nothing-of-this-name"]) == 1
    assert main(["cache", "list", "nothing-of-this-name"]) == 1


def test_what_a_file_name_holds_is_shown_and_not_obeyed(
    workflows: Workflows, capsys: pytest.CaptureFixture[str]
) -> None:
    workflows.answers["predict"] = [
        Prediction(path="a\x1b[2J.jpg", names=("\x9bann",), probabilities=(1.0,)),
        Prediction(
            path="b\udcff.jpg", names=(), probabilities=(), error="truncated"
        ),  # a name that is not UTF-8, as Python gives it
    ]
    assert main(["predict", "runs/a", "photos", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == "a\\x1b[2J.jpg: \\x9bann 100.0 %\n"
    assert said.err == "error: b\\udcff.jpg: truncated\n"
    assert main(["predict", "runs/a", "photos", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][1]["path"] == "b\udcff.jpg"
