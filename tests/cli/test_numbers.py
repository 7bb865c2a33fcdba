"""Every number that a person can type has two bounds, and NaN is refused."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from facewright.cli.main import app, main


def numbers(group: Any, above: str = "") -> dict[str, Any]:
    """Every option and argument that takes a number: "train --epochs"."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= numbers(command, f"{above}{name} ")
            continue
        for parameter in command.params:
            if parameter.type_descriptor.annotation in (int, float, list[int], list[float]):
                found[f"{above}{name} {max(parameter.opts, key=len)}"] = parameter
    return found


NUMBERS = numbers(typer.main.get_command(app))


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_number_has_two_bounds(name: str) -> None:
    low, high = NUMBERS[name].min, NUMBERS[name].max
    assert low is not None and high is not None and high <= 2**63 - 1


@pytest.mark.parametrize("name", sorted(NUMBERS))
@pytest.mark.parametrize("value", ["1e300", "-1e300", "nan", "inf", "100000000000000000000"])
def test_a_number_beyond_is_wrong_usage_at_once(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = name.split()
    assert main([*words[:-1], words[-1], value, "a", "b"]) == 2
    assert words[-1] in capsys.readouterr().err


@pytest.mark.parametrize("name", ["epochs", "batch"])
@pytest.mark.parametrize("value", [10**9, 10**20])
def test_a_recipe_has_bounds_too(name: str, value: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "synthetic:faces?identities=2&images=4", "--set", f"training.{name}={value}"]) == 1
    assert name in capsys.readouterr().err
