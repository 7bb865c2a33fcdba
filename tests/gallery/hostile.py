"""What other processes do to a gallery in the tests of its faults; run as a program, `python hostile.py ACTION …`.

enrol FILE WHO COUNT       enrol COUNT photos of one person, one by one, and tell the number of each once it is kept
enrol … KILL               the same, but die by SIGKILL in the midst of the last one: after KILL of SQLite's steps,
                           or right after it is kept and before that is told, where KILL is 0
delete FILE WHO KILL       delete a person, but die after KILL of SQLite's steps
read FILE                  begin to read, say so, and keep reading until standard input ends
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from facewright.gallery.sqlite import SqliteStore
from facewright.gallery.store import Entry, Pin

WIDTH = 64
PIN = Pin("a" * 32, "patchnet", 1.0, False, WIDTH)
STRIDE = 20  # of SQLite's instructions a step


def entry(who: int, photo: int) -> Entry:
    """A person's photo with a vector and a crop that are found nowhere else."""
    drawn = np.random.default_rng([who, photo])
    vector = drawn.standard_normal(WIDTH)
    vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return Entry(f"person {who}", vector, f"{who}-{photo}", f"{photo}.jpg", {"n": str(photo)}, drawn.bytes(6_000))


def die() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


def die_after(store: SqliteStore, steps: int) -> None:
    left = iter(range(steps))
    store._connection.set_progress_handler(lambda: die() if next(left, None) is None else 0, STRIDE)


def enrol(where: Path, who: int, count: int, kill: int | None) -> None:
    store = SqliteStore(where, PIN)
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
        enrol(Path(where), given[0], given[1], given[2] if len(given) > 2 else None)
        return
    store = SqliteStore(Path(where))
    if action == "delete":
        die_after(store, given[1])
        store.delete([f"person {given[0]}"])
    elif action == "read":
        store._connection.execute("BEGIN")
        store._connection.execute("SELECT COUNT(*) FROM entries").fetchone()
        print("reading", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
