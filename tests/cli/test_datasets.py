"""`facewright data export`, and the colour order of DATA in the other commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import facewright
from facewright.cli.main import main
from facewright.data.sources import open_dataset
from fixtures.trees import as_folder, images

DRAWN = "synthetic:faces?identities=2&images=3&size=24"


def test_export_writes_what_opens_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "faces.npz"
    assert main(["data", "export", DRAWN, "--to", "npz", "--out", str(out), "--colour-order", "bgr", "--json"]) == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert (facts["form"], facts["images"], facts["height"], facts["width"]) == ("npz", 6, 24, 24)
    assert facts["where"] == f"{out}?colour-order=bgr"
    assert facts["where"] in printed.err
    assert open_dataset(facts["where"]).classes == open_dataset(DRAWN).classes
    assert main(["data", "export", DRAWN, "-o", str(out), "--size", "8"]) == 0
    assert capsys.readouterr().out == "wrote 6 images of 8x8 in 2 classes\n"


# Each row: the arguments -> the exit status and what the error names.
REFUSED = [
    (["data", "export", DRAWN], 2, "--out"),
    (["data", "export", DRAWN, "-o", "x.npz", "--to", "csv"], 2, "csv"),
    (["data", "export", DRAWN, "-o", "x.npz", "--colour-order", "gbr"], 2, "gbr"),
    (["data", "export", DRAWN, "-o", "x.npy"], 1, "expected the name of an .npz"),
    (["data", "export", DRAWN, "-o", "absent/x.npz"], 1, "absent"),
    (["inspect", "photos", "--colour-order", "bgr"], 1, ".npz"),
    (["train", "--resume", "--out", "r", "--colour-order", "bgr"], 1, "--colour-order"),
    (["evaluate", "runs/a", "--colour-order", "bgr"], 1, "--colour-order"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), REFUSED)
def test_what_is_refused(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["inspect", "x.npz"], "inspect"),
        (["train", "x.npz"], "train"),
        (["compare", "x.npz", "--models", "a,b"], "train_all"),
        (["evaluate", "runs/a", "x.npz"], "evaluate"),
    ],
)
def test_the_colour_order_reaches_the_workflow(arguments, name, monkeypatch) -> None:
    asked = []

    class Asked(Exception):
        """The end of the command: what it asks is known."""

    def workflow(*given: object, **_: object) -> None:
        asked.extend(given)
        raise Asked

    monkeypatch.setattr(sys.modules[getattr(facewright, name).__module__], name, workflow)
    with pytest.raises(Asked):
        main([*arguments, "--colour-order", "bgr"])
    assert "x.npz?colour-order=bgr" in asked


def test_inspect_reads_bgr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blue = np.zeros((4, 8, 8, 3), np.uint8)
    blue[..., 0] = 255  # in BGR
    blue[:, 0, 0] = np.arange(4)[:, None]  # no two alike
    np.savez(tmp_path / "x.npz", input=blue, target=[0, 1, 0, 1])
    assert main(["inspect", str(tmp_path / "x.npz"), "--colour-order", "bgr", "--json"]) == 0
    mean = json.loads(capsys.readouterr().out)["statistics"]["mean"]
    assert mean[0] < 0.1 < 0.9 < mean[2]


def test_inspect_says_how_a_known_set_was_read_and_how_else_it_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "25_0_2_20170104165055622.png 1_1_0_20170109190741112.png 30_1_3_20170109190741113.png"
    folder = as_folder(tmp_path / "faces", images(names))
    assert main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "utkface" in said and "--columns label=" in said
    assert main(["inspect", str(folder), "--columns", "label=race", "--names", "2=a,0=b,3=c", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["layout"], facts["counts"]) == ("utkface", {"a": 1, "b": 1, "c": 1})
    assert facts["where"] == f"{folder}?columns=label=race&names=2=a,0=b,3=c"
    assert main(["inspect", str(folder), "--label-from", r"^(?P<label>\d+)_", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["counts"]) == {"25", "1", "30"}
    assert main(["inspect", str(folder), "--layout", "celebA"]) == 1
    assert "celeba" in capsys.readouterr().err


def test_a_table_of_pixels_is_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = ["emotion,pixels,Usage"]
    for number in range(48):
        usage = ("Training", "Training", "PublicTest", "PrivateTest")[number % 4]
        pixels = " ".join(map(str, rng.integers(100 * (number % 3), 100 * (number % 3) + 50, 256)))
        rows.append(f"{number % 3},{pixels},{usage}")
    file = tmp_path / "fer2013.csv"
    file.write_text("\n".join(rows) + "\n")
    out = tmp_path / "run"
    arguments = [
        "train",
        str(file),
        "--model",
        "resnet18",
        "--epochs",
        "1",
        "--size",
        "32",
        "--out",
        str(out),
        "--json",
    ]
    assert main([*arguments, "--names", "0=cross,1=calm,2=glad"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert json.loads((out / "run.json").read_text())["classes"] == ["calm", "cross", "glad"]
