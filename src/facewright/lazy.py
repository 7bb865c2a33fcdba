"""Names that are imported on first use, so that one of them does not load the modules of all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package.

    Args:
        package: the full name of the package.
        homes: for each module its public names, separated by spaces. No module is named like one of them: importing it
            would replace the name.
    """
    modules = {name: module for module, names in homes.items() for name in names.split()}

    def get_name(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = load_name(modules[name], name)
        setattr(sys.modules[package], name, value)  # the next use does not come here
        return value

    return get_name


def load_name(module: str, name: str) -> Any:
    """Import a module of a table in the source, never one that a file or a user names, and return one of its names."""
    return getattr(import_module(module), name)
