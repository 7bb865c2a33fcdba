"""`facewright models`, without the rest of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from facewright.cli.models import models
from facewright.errors import UnknownName, UsageError
from facewright.models import catalog

app = typer.Typer()
app.command()(models)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_lists_every_architecture() -> None:
    lines = call().stdout.splitlines()
    assert lines[0].split()[:3] == ["model", "family", "parameters"]
    assert any(line.split()[:4] == ["resnet50", "resnet", "25,557,032", "8.18"] for line in lines)
    assert len(lines) == 1 + len(catalog.names())


def test_lists_as_json() -> None:
    listed = json.loads(call("--json").stdout)["models"]
    xception = next(row for row in listed if row["name"] == "xception")
    assert (xception["parameters"], xception["native_size"]) == (22_855_952, 299)


def test_shows_blocks_or_every_layer() -> None:
    blocks, layers = (
        call(*words).stdout.split("\n\n")[0].splitlines() for words in (["resnet50"], ["resnet50", "--all"])
    )
    assert len(blocks) == 14  # header, stem 2, 4 stages of a first block and its like, pool, classifier, total
    assert len(layers) > 150
    assert blocks[-1].split() == layers[-1].split() == ["total", "25,557,032", "8,178.4"]
    assert any(
        line.split() == ["layer3.1", "×5", "Bottleneck", "1024×14×14", "5,585,920", "2,183.7"] for line in blocks
    )


def test_shows_as_json_at_another_size() -> None:
    shown = json.loads(call("densenet121", "--size", "64", "--stem", "medium", "--json").stdout)
    assert (shown["size"], shown["stem"], shown["classes"]) == (64, "medium", 1000)
    assert sum(layer["flops"] for layer in shown["layers"]) == shown["flops"]
    assert shown["layers"][0]["output_shape"] == [64, 32, 32]


def test_draws(tmp_path: Path) -> None:
    target = tmp_path / "resnet18.svg"
    result = call("resnet18", "--size", "64", "--plot", str(target))
    assert target.read_text("utf-8").startswith("<svg")
    assert f"wrote {target}" in result.stderr


# words typed -> why they are refused
@pytest.mark.parametrize(
    ("words", "error"),
    [(["resnet5"], UnknownName), (["resnet50", "--size", "16"], UsageError), (["--size", "64"], UsageError)],
)
def test_refuses(words: list[str], error: type[Exception]) -> None:
    assert isinstance(call(*words).exception, error)
