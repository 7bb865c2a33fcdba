"""The documentation names what the package has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import facewright

ROOT = Path(__file__).parents[1]


def test_the_api_page_lists_every_public_name() -> None:
    listed = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text("utf-8"), re.MULTILINE)
    public = []
    for name in facewright.__all__:
        value = getattr(facewright, name)
        if getattr(value, "__module__", "").startswith("facewright"):
            public.append(f"{value.__module__}.{value.__qualname__}")
    assert sorted(listed) == sorted(public)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_page_is_in_the_site(page: Path) -> None:
    assert page.name in (ROOT / "mkdocs.yml").read_text("utf-8")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 200
