"""The public API's names: imported on first use, so that one does not load all modules; arguments with a new name."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ParamSpec, TypeVar


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package.

    `homes`: for each module its public names, separated by spaces; "public=own" where the module has another name for
    it. No module is named like a public name: importing it would replace the name.
    """
    rows = [(home, *name.partition("=")) for home, names in homes.items() for name in names.split()]
    table = {public: (home, own or public) for home, public, _, own in rows}

    def get_name(name: str) -> object:
        if name not in table:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = load_name(*table[name])
        setattr(sys.modules[package], name, value)  # the next use does not come here
        return value

    return get_name


def load_name(module: str, name: str) -> Any:
    """Import a module of a table in the source, never one that a file or a user names, and return one of its names."""
    return getattr(import_module(module), name)


P = ParamSpec("P")
R = TypeVar("R")


def select_face_was_policy(function: Callable[P, R]) -> Callable[P, R]:
    """Accept `policy=` for `select_face=`, with a FutureWarning of one line."""

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> R:
        if "policy" in kwargs and "select_face" not in kwargs:
            warnings.warn("the argument policy is now select_face", FutureWarning, stacklevel=2)
            kwargs["select_face"] = kwargs.pop("policy")
        return function(*args, **kwargs)

    return renamed
