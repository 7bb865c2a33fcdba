"""Keyword arguments that have a new name; the old one works for one version."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

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
