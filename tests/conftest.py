"""What all tests share: none of them sees or fills the user's own cache."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_of_this_test(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, made when it is first written to."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(folder))
    return folder
