"""One form of a name; nothing in it that cannot be seen."""

import unicodedata

import pytest

from facewright.errors import UsageError
from facewright.names import checked_name, lookalikes, same_names, similar_names


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("José", "José"),
        (unicodedata.normalize("NFD", "José"), "José"),
        (unicodedata.normalize("NFD", "Ngô Bảo Châu"), "Ngô Bảo Châu"),
        ("김민준", "김민준"),
        (unicodedata.normalize("NFD", "김민준"), "김민준"),
        ("\u212bke", "Åke"),  # the sign for ångström
        ("O'Neil-Smith, Jr. (2)", "O'Neil-Smith, Jr. (2)"),
        ("نمی\u200cخواهم", "نمی\u200cخواهم"),  # a joiner that Persian is spelt with
        ("👩", "👩"),
    ],
)
def test_one_form(typed, name):
    assert checked_name(typed) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        " Ann",
        "Ann\n",
        "A\nnn",
        "A\0nn",
        "A\u200bnn",
        "Ann\u200d",
        "A\u200dnn",
        "\u202eAnn",
        "A\u3164nn",
        "A\u00a0nn",
        "A\ufe0enn",
        "\ufeffAnn",
        "A\u00adnn",
        *("A\x7fnn", "A\x85nn", "A\u2028nn", "A\ue000nn", "A\udc80nn", "\u2066Ann\u2069", "A" * 201),
    ],
)
def test_what_cannot_be_seen_is_refused(typed):
    with pytest.raises(UsageError):
        checked_name(typed)


def test_the_character_is_named():
    with pytest.raises(UsageError, match=r"a class.*U\+200B"):
        checked_name("a\u200bb", "a class")


def test_names_that_look_alike_are_found():
    assert lookalikes(["Ann", "ann", "ANN", "Bob", "straße", "strasse", "\uff21nn", "Cy"]) == [
        ("ANN", "Ann", "ann", "Ａnn"),
        ("strasse", "straße"),
    ]


def test_names_that_are_meant():
    decomposed = unicodedata.normalize("NFD", "José")
    assert same_names("José", [decomposed, "JOSÉ", "Ann"]) == [decomposed] and same_names("Bo", ["Ann"]) == []
    assert similar_names("ann", [decomposed, "Ann"]) == ["Ann"] and similar_names("Ann", ["Ann"]) == []
