"""A gallery as JSON lines, there and back, and what is refused on the way."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facewright.errors import DataError, GalleryError
from facewright.gallery import transfer
from facewright.gallery.entries import Entry, ModelSignature
from facewright.gallery.sqlite import SqliteStore

SIGNATURE = ModelSignature(fingerprint="a" * 32, model="patchnet", crop=0.8, flip=True, width=4)


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 90, 10)).save(out, "PNG")
    return out.getvalue()


def filled(where: Path) -> SqliteStore:
    store = SqliteStore(where, SIGNATURE)
    rows = np.eye(4, dtype=np.float32)
    store.add(
        [
            Entry("Ann", rows[0], "0", "ä.jpg", {"team": "a"}, png()),
            Entry("Bo", rows[1], "1"),
            Entry("Ann", rows[2], "2"),
        ]
    )
    store.set_threshold({"value": 0.5})
    return store


def contents(store: SqliteStore) -> list[object]:
    return [
        (e.person, e.photo, dict(e.metadata), e.digest, e.vector.tobytes(), store.crop(row.number))
        for row in store.rows()
        for e in [row.entry]
    ]


def test_there_and_back(tmp_path: Path) -> None:
    store, out = filled(tmp_path / "a.gallery"), tmp_path / "a.jsonl"
    assert transfer.export(store, out) == 3
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    header = transfer.read_header(out)
    assert header.signature == SIGNATURE and header.threshold == {"value": 0.5}
    other = SqliteStore(tmp_path / "b.gallery", header.signature)
    assert transfer.fill(other, out) == (3, 0)
    assert contents(other) == contents(store)
    assert transfer.fill(other, out) == (0, 3)  # twice is once
    assert transfer.export(store, out, crops=False) == 3
    assert [entry.crop for entry in transfer.read(out, 4)] == [None] * 3


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[list[bytes]], list[bytes]]:
    """An entry changed, with a checksum that fits: somebody wrote such a file on purpose."""

    def apply(lines: list[bytes]) -> list[bytes]:
        facts = json.loads(lines[1])
        change(facts)
        lines = [lines[0], json.dumps(facts).encode() + b"\n", *lines[2:-1]]
        checksum = transfer.hashlib.blake2b(b"".join(lines), digest_size=16).hexdigest()
        return [*lines, json.dumps({"entries": len(lines) - 1, "checksum": checksum}).encode()]

    return apply


BROKEN: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {  # what was done to the lines -> a word
    "nothing at all": (lambda lines: [], ":1"),
    "cut short": (lambda lines: lines[:-1], "a.jsonl"),
    "a line is gone": (lambda lines: [*lines[:2], *lines[3:]], "a.jsonl"),
    "a line twice": (lambda lines: [*lines[:2], *lines[1:]], "a.jsonl"),
    "another letter": (lambda lines: [lines[0], lines[1].replace(b"Ann", b"Amy"), *lines[2:]], "a.jsonl"),
    "more behind the end": (lambda lines: [*lines, lines[1]], ":6"),
    "no JSON": (lambda lines: [lines[0], b"{", *lines[1:]], ":2"),
    "deep JSON": (lambda lines: [lines[0], b"[" * 100_000 + b"\n", *lines[1:]], ":2"),
    "a foreign key": (edited(lambda facts: facts.update(more=1)), "more"),
    "a missing key": (edited(lambda facts: facts.pop("photo")), "photo"),
    "a number as a name": (edited(lambda facts: facts.update(person=3)), "person"),
    "no name": (edited(lambda facts: facts.update(person="")), "name"),
    "metadata no text": (edited(lambda facts: facts.update(metadata={"a": 1})), "metadata"),
    "metadata no table": (edited(lambda facts: facts.update(metadata=[1])), "metadata"),
    "no base64": (edited(lambda facts: facts.update(vector="!")), ":2"),
    "half a number": (edited(lambda facts: facts.update(vector="AAAA")), ":2"),
    "no unit vector": (edited(lambda facts: facts.update(vector="A" * 20 + "==")), ":2"),
    "no image": (edited(lambda facts: facts.update(crop="AAAA")), "crop"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_and_nothing_is_taken(tmp_path: Path, case: str) -> None:
    out, (change, word) = tmp_path / "a.jsonl", BROKEN[case]
    transfer.export(filled(tmp_path / "a.gallery"), out)
    out.write_bytes(b"".join(change(out.read_bytes().splitlines(keepends=True))))
    store = SqliteStore(tmp_path / "b.gallery", SIGNATURE)
    with pytest.raises(DataError, match=word):
        transfer.read_header(out)
        transfer.fill(store, out)
    assert store.header().entries == 0
    store.close()


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"format": "facewright-gallery", "version": 2},
        {"format": "facewright-gallery", "version": 1, "pin": {"width": 4}},
        {"format": "facewright-gallery", "version": 1, "pin": SIGNATURE.to_dict() | {"width": "4"}},
        {"format": "facewright-gallery", "version": 1, "pin": SIGNATURE.to_dict() | {"width": 10**9}},
        {"format": "facewright-gallery", "version": 1, "pin": SIGNATURE.to_dict(), "threshold": 0.5},
    ],
)
def test_no_header(tmp_path: Path, header: dict[str, object]) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(header) + "\n")
    with pytest.raises(DataError):
        transfer.read_header(tmp_path / "a.jsonl")


def test_a_change_during_the_export_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = filled(tmp_path / "a.gallery"), SqliteStore(tmp_path / "a.gallery")
    crop = store.crop
    monkeypatch.setattr(store, "crop", lambda number: (other.delete(["Bo"]) and None) or crop(number))
    with pytest.raises(GalleryError, match="again"):
        transfer.export(store, tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()
    for one in (store, other):
        one.close()
