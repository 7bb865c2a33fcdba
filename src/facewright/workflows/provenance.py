"""Provenance of a file: time, command, versions and machine."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path


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
