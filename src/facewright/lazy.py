"""Names of a package that are imported on first use, so that one of them does not load the modules of all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


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
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)  # the next use does not come here
        return value

    return get_name
