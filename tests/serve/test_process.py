"""`facewright serve` as a process: how it starts, what it takes in, how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from facewright.cli.main import main
from fixtures.faces import saved
from fixtures.photos import jpeg

LIMIT = 16 * 2**20  # bytes of a request, by default
MARGIN = 8 * 2**20  # what the first request of all makes Python load


@contextlib.contextmanager
def started(*words: object) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The process, its address, and what it said until it served."""
    command = [sys.executable, "-m", "facewright", "serve", "--port", "0", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    said: list[str] = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if match := re.search(r"http://\S+:\d+/", line):
                yield process, match[0], said
                return
        raise AssertionError("".join(said))
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def most_memory(process: subprocess.Popen[str]) -> int:
    """The most bytes that a process has held so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_large_uploads_take_no_more_memory_than_twice_the_limit(tmp_path: Path) -> None:
    with started(saved(tmp_path)) as (process, address, _), httpx.Client(base_url=address, timeout=60) as client:
        assert client.post("/v1/predict", files={"photo": jpeg(0)}).status_code == 200
        before = most_memory(process)
        for sent in (
            {"files": {"photo": bytes(4 * LIMIT)}},  # says how much it is
            {"content": (bytes(2**16) for _ in range(4 * LIMIT // 2**16))},  # does not
            {"files": {"photo": bytes(LIMIT - 1_000)}},  # as much as may be
        ):
            with contextlib.suppress(httpx.TransportError):  # hung up on in the midst
                assert client.post("/v1/predict", **sent).status_code in (400, 413, 415)  # type: ignore[arg-type]
        assert most_memory(process) - before <= 2 * LIMIT + MARGIN
        assert client.get("/healthz").status_code == 200
        end(process, signal.SIGTERM)


def test_beyond_this_machine_a_token_is_made_told_once_and_wanted(tmp_path: Path) -> None:
    with started(saved(tmp_path), "--host", "0.0.0.0") as (process, address, said):
        assert process.stderr is not None
        token = re.search(r"token, told only now: (\S+)", process.stderr.readline())[1]  # type: ignore[index]
        assert address in said[-1] and len(token) >= 32
        assert process.stderr.readline().strip() == f"in a browser: {address}?token={token}"
        assert httpx.get(f"{address}healthz").status_code == 401
        assert httpx.get(f"{address}healthz", headers={"authorization": f"Bearer {token}"}).status_code == 200
        end(process, signal.SIGINT)


def end(process: subprocess.Popen[str], by: signal.Signals) -> None:
    """It ends when it is told to, without a word."""
    process.send_signal(by)
    process.wait(30)
    assert process.stderr is not None and process.stderr.read() == ""


# words after `serve` -> the exit status, a word of the one line
@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["nowhere.safetensors"], "no such file"),
        (["--token", "short"], "16"),
        (["--host", "256.1.1.1"], "cannot listen"),
        (["built-in", "--detector", "haar"], "unknown detector"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    words: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if words[0] in ("nowhere.safetensors", "built-in") else [str(saved(tmp_path))]
    assert main(["serve", "--port", "0", *model, *words]) == 1
    said = capsys.readouterr().err
    assert word in said and said.count("\n") == 1
