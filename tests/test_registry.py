import pytest

from facewright.errors import UnknownName
from facewright.registry import Registry


def colours() -> Registry[int]:
    registry: Registry[int] = Registry("colour")
    registry.register("red", 1)
    registry.register("green", 0)
    return registry


def test_values_come_back_by_name():
    registry = colours()
    assert registry.get("red") == 1
    assert registry.get("green") == 0  # a value that is false is a value
    assert registry.names() == ("red", "green")  # as they were entered
    assert "red" in registry
    assert "blue" not in registry


def test_a_name_is_registered_once():
    registry = colours()
    with pytest.raises(ValueError, match="colour 'red' is already registered"):
        registry.register("red", 2)
    assert registry.get("red") == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("gren", "unknown colour 'gren': did you mean 'green'?"),  # a typing mistake
        ("xyz", "unknown colour 'xyz': known: green, red"),  # nothing near
    ],
)
def test_an_unknown_name_is_told_what_is_known(asked, message):
    with pytest.raises(UnknownName) as caught:
        colours().get(asked)
    assert message in str(caught.value)
