"""Decoding in worker processes: the same results, no script run twice, no worker left, no worker missed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facewright.data.decoding import smallest_side
from facewright.input_spec import InputSpec

SOURCE = """
import multiprocessing, os
import numpy as np

class Noise:
    in_processes = True

    def __init__(self, dies_at=""):
        self.dies_at = dies_at

    def read(self, record, at_least):
        if record.path == self.dies_at and multiprocessing.parent_process() is not None:
            os._exit(3)  # as the system does to a process that takes too much memory
        return np.full((4, 5, 3), int(record.path) % 256, np.uint8)

    def content_key(self, record):
        return record.path

    def stamp(self, record):
        return ""
"""

# No `if __name__ == "__main__":`, as in many a user's script.
SCRIPT = """
import json, multiprocessing, os, signal, sys
from pathlib import Path
import noise_source
from facewright.data import decoding
from facewright.data.records import Dataset, Record
from facewright.data.store import PixelStore
from facewright.input_spec import InputSpec

print("started", flush=True)
decoding.WORTH_PROCESSES = 1
records = tuple(Record(f"{i:03d}", 0) for i in range(64))
data = Dataset("noise", "drawn", ("a",), records, noise_source.Noise(sys.argv[3]))

def progress(event):
    if event.done == 1:
        print(json.dumps([child.pid for child in multiprocessing.active_children()]), flush=True)
        if sys.argv[2] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)

spec = InputSpec(4, 5, (0.5,) * 3, (0.5,) * 3)
store = PixelStore.open(data, spec, Path(sys.argv[1]) / "cache", workers=2, on_event=progress)
print(json.dumps(store.pixels[:, 0, 0, 0].tolist()), flush=True)
print(len(multiprocessing.active_children()), flush=True)
"""


def run(folder: Path, end: str, dies_at: str) -> tuple[int, list[str]]:
    (folder / "noise_source.py").write_text(SOURCE)
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), str(folder), end, dies_at]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert end == "killed" or done.returncode == 0, done.stderr
    return done.returncode, done.stdout.splitlines()


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("dies_at", ["", "040"])
def test_processes_give_every_image_in_order_and_end(tmp_path, dies_at):
    _, (started, children, rows, left) = run(tmp_path, "whole", dies_at)
    assert started == "started" and 1 <= len(json.loads(children)) <= 2  # one may have died already
    assert json.loads(rows) == list(range(64))
    assert left == "0"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_of_a_killed_process_end(tmp_path):
    code, (_, children) = run(tmp_path, "killed", "")
    assert code == -9
    while any(map(alive, json.loads(children))):  # they end, however slow the machine is
        time.sleep(0.05)


@pytest.mark.parametrize(("side", "expected"), [(32, 512), (256, 512), (300, 600)])
def test_reduced_decoding_does_not_depend_on_usual_sizes(side, expected):
    assert smallest_side(InputSpec(side, 16, (0.5,) * 3, (0.5,) * 3)) == expected
