"""What other processes do to a gallery in the tests of its faults; run as a program, `python hostile.py ACTION …`.

enrol WHERE WHO COUNT      enrol COUNT photos of one person, one by one, and tell the number of each once it is kept
enrol … KILL               the same, but die by SIGKILL in the midst of the last one: after KILL steps, or right after
                           it is kept and before that is told, where KILL is 0
delete WHERE WHO KILL      delete a person, but die after KILL steps
read WHERE                 begin to read, say so, and keep reading until standard input ends

WHERE is a file or the address of a gallery on a server. A step is some of SQLite's instructions, or some calls of
functions in this process: the server of the other is not what dies here.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from facewright.gallery.opening import open_store
from facewright.gallery.sqlite import SqliteStore
from facewright.gallery.store import Entry, GalleryStore, Pin

WIDTH = 64
PIN = Pin("a" * 32, "patchnet", 1.0, False, WIDTH)
STRIDE = 20  # of SQLite's instructions a step
CALLS = 150  # a step; of an `add` there are some 2,000


def entry(who: int, photo: int) -> Entry:
    """A person's photo with a vector and a crop that are found nowhere else."""
    drawn = np.random.default_rng([who, photo])
    vector = drawn.standard_normal(WIDTH)
    vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return Entry(f"person {who}", vector, f"{who}-{photo}", f"{photo}.jpg", {"n": str(photo)}, drawn.bytes(6_000))


def filled(where: str, people: int = 3, photos: int = 2, first: int = 0) -> GalleryStore:
    """A store with so many photos of each of so many people."""
    store = open_store(where, PIN)
    store.add([entry(who, photo) for who in range(first, first + people) for photo in range(photos)])
    return store


def everything(store: GalleryStore) -> object:
    """All that a gallery holds, and what it answers."""
    rows = list(store.rows())
    found = store.nearest(np.stack([row.entry.vector for row in rows]), 3, {}) if rows else []
    store.check()
    held = [(row.number, row.entry.person, row.entry.photo, row.entry.digest, row.entry.metadata) for row in rows]
    content = [(row.entry.vector.tobytes(), store.crop(row.number)) for row in rows]
    return store.state(), store.people(), held, content, found


def pieces(who: int, photos: int) -> set[bytes]:
    """Of a person's vectors and crops, 16 bytes each, as they would lie in a file."""
    found = set()
    for photo in range(photos):
        e = entry(who, photo)
        crop = e.crop or b""
        found |= {e.vector.tobytes()[at : at + 16] for at in range(0, 4 * WIDTH, 16)}
        found |= {crop[at : at + 16] for at in range(0, len(crop) - 15, 400)}
    return found


def traces(folder: Path, wanted: set[bytes]) -> int:
    """How many of these pieces the files of a folder hold, wherever in them."""
    first = np.zeros(1 << 16, np.bool_)  # the first two bytes of one of them
    first[[int.from_bytes(piece[:2], "little") for piece in wanted]] = True
    found = 0
    for path in folder.rglob("*"):
        try:
            content = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:  # a server removes files meanwhile
            continue
        for start in (0, 1):
            pairs = np.frombuffer(content, "<u2", max(0, len(content) - start) // 2, start) if content else []
            places = 2 * np.flatnonzero(first[pairs]) + start if len(pairs) else []
            found += sum(content[at : at + 16] in wanted for at in places)
    return found


def die() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


def die_after(store: GalleryStore, steps: int) -> None:
    if isinstance(store, SqliteStore):
        left = iter(range(steps))
        store._connection.set_progress_handler(lambda: die() if next(left, None) is None else 0, STRIDE)
    else:
        calls = iter(range(steps * CALLS))
        sys.setprofile(lambda frame, event, argument: die() if next(calls, None) is None else None)


def enrol(where: str, who: int, count: int, kill: int | None) -> None:
    store = open_store(where, PIN)
    for photo in range(count):
        if kill and photo == count - 1:
            die_after(store, kill)
        (number,) = store.add([entry(who, photo)])
        if kill is not None and photo == count - 1:
            die()
        print(who, photo, number, flush=True)
    store.close()


def main(action: str, where: str, *numbers: str) -> None:
    given = [int(number) for number in numbers]
    if action == "enrol":
        enrol(where, given[0], given[1], given[2] if len(given) > 2 else None)
        return
    store = open_store(where)
    if action == "delete":
        die_after(store, given[1])
        store.delete([f"person {given[0]}"])
    elif action == "read":
        connection = store._connection  # type: ignore[attr-defined]
        connection.execute("BEGIN")
        connection.execute("SELECT COUNT(*) FROM entries").fetchone()
        print("reading", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
