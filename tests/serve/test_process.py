"""`facewright serve` as a process: how it starts, how much memory it takes, how it ends."""

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
def started(*words: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The process, its address, and what it printed until it served."""
    command = [sys.executable, "-m", "facewright", "serve", "--port", "0", *map(str, words)]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables)
    printed: list[str] = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            printed.append(line)
            if match := re.search(r"http://\S+:\d+/", line):
                yield process, match[0], printed
                return
        raise AssertionError("".join(printed))
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
def test_a_token_is_made_and_large_uploads_take_no_more_memory_than_twice_the_limit(tmp_path: Path) -> None:
    with started(saved(tmp_path), "--host", "0.0.0.0") as (process, address, printed):
        assert process.stderr is not None
        token = re.search(r"token[^:]*: (\S+)", process.stderr.readline())[1]  # type: ignore[index]
        assert address in printed[-1] and len(token) >= 32
        assert f"{address}?token={token}" in process.stderr.readline()
        assert httpx.get(f"{address}healthz", timeout=None).status_code == 401
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=address, timeout=None, headers=headers) as client:
            assert client.post("/v1/predict", files={"photo": jpeg(0)}).status_code == 200
            before = most_memory(process)
            for sent in (
                {"files": {"photo": bytes(4 * LIMIT)}},  # declares how much it is
                {"content": (bytes(2**16) for _ in range(4 * LIMIT // 2**16))},  # does not
                {"files": {"photo": bytes(LIMIT - 1_000)}},  # as much as allowed
            ):
                with contextlib.suppress(httpx.TransportError):  # cut off while it sends
                    assert client.post("/v1/predict", **sent).status_code in (400, 413, 415)  # type: ignore[arg-type]
            assert most_memory(process) - before <= 2 * LIMIT + MARGIN
            assert client.get("/healthz").status_code == 200
        process.send_signal(signal.SIGTERM)
        process.wait()
        assert process.stderr.read() == ""


# words after `serve` -> what the one line names
@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["nowhere.safetensors"], "nowhere.safetensors"),
        (["--token", "short"], "16"),
        (["--host", "256.1.1.1"], "256.1.1.1"),
        (["built-in", "--detector", "haar"], "haar"),
        (["--proxy", "10.0.0"], "10.0.0"),
        (["--root-path", "faces"], "faces"),
        (["--root-path", "/a//b"], "/a//b"),
        (["--cors", "*"], "*"),
        (["--cors", "https://app.example/x"], "app.example"),
    ],
)
def test_what_cannot_be_served_is_reported_in_one_line(
    words: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if words[0] in ("nowhere.safetensors", "built-in") else [str(saved(tmp_path))]
    assert main(["serve", "--port", "0", *model, *words]) == 1
    line = capsys.readouterr().err
    assert word in line and line.count("\n") == 1
