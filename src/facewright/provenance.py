"""Provenance of a file or page: time, command, versions and machine."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class Origin:
    """The provenance that a page names."""

    created: str = ""  # as it shall be read
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def origin(of: Mapping[str, str]) -> Origin:
    """Return the time and the command of now, with versions."""
    return Origin(created(), command(), of)


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def created() -> str:
    """Return the time in UTC for a page."""
    return datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC")


def command() -> str:
    """Return the command line of this process for a page; empty in an interactive session."""
    name = Path(sys.argv[0]).name
    words = ["facewright" if name == "__main__.py" else name, *sys.argv[1:]]  # of `python -m facewright`
    return shlex.join(words) if len(words) > 1 else ""


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, Facewright and the packages."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in ("facewright", *packages)}


def machine() -> str:
    """Return the operating system and the processor's architecture."""
    return f"{platform.system()} {platform.machine()}"
