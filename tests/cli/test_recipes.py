"""The recipes as the command line shows them."""

from __future__ import annotations

import json

import pytest

from facewright.cli.main import main
from facewright.training import recipe


def test_every_recipe_is_listed_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipe.names()
    assert all(len(line.split()) > 4 for line in lines)


def test_what_is_shown_of_one_is_a_recipe_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "finetune"]) == 0
    assert recipe.parse(capsys.readouterr().out, "shown") == recipe.load("finetune")


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "probe", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["recipes"]
    assert recipe.parse(shown["toml"], "shown") == recipe.load("probe")


def test_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "finetun"]) == 1
    assert "did you mean 'finetune'" in capsys.readouterr().err
