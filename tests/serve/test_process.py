"""`facewright serve` as a process: how it starts, how much memory it takes, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from facewright.cli.main import main
from facewright.serve.settings import Limits
from fixtures.faces import saved
from fixtures.large_images import large
from fixtures.photos import jpeg

LIMIT = 16 * 2**20  # bytes of a request, by default
MARGIN = 8 * 2**20  # what the first request of all makes Python load


@contextlib.contextmanager
def started(*words: object, descriptors: int | None = None) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The process, its address, and what it printed until it served.

    Args:
        descriptors: file descriptors that it may have.
    """
    command = [sys.executable, "-m", "facewright", "serve", "--port", "0", *map(str, words)]
    if descriptors is not None:
        command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
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


def hostile(number: int) -> bytes:
    """A small file that decodes to a large image, or claims to."""
    kinds: list[tuple[str, str, int, dict[str, Any]]] = [
        ("PNG", "1", 7_000, {}),
        ("WEBP", "RGB", 4_300, {"lossless": True}),
        ("PNG", "L", 5_000, {}),
        ("JPEG", "L", 7_000, {"quality": 1}),
        ("GIF", "P", 5_000, {}),
        ("PNG", "RGBA", 5_300, {"compress_level": 1}),
        ("PNG", "1", 9_000, {}),
    ]
    kind, mode, side, options = kinds[number % len(kinds)]
    return large(kind, mode, side, **options)


def attack(address: str, requests: int, at_once: int) -> Counter[int]:
    """Send hostile images, so many at once; the statuses of the answers."""

    async def send() -> Counter[int]:
        most = httpx.Limits(max_connections=at_once)
        async with httpx.AsyncClient(base_url=address, timeout=None, limits=most) as client:
            turns = asyncio.Semaphore(at_once)

            async def one(number: int) -> int:
                names = (("photo",), ("a", "b"))[number % 2]
                files = {name: hostile(number // 2) for name in names}
                async with turns:
                    return (await client.post(("v1/faces", "v1/verify")[number % 2], files=files)).status_code

            return Counter(await asyncio.gather(*(one(number) for number in range(requests))))

    return asyncio.run(send())


def check_memory(folder: Path, requests: int) -> None:
    """Memory stays within base + 2 x the budget; with 64 descriptors, 150 readers that do not read shut nobody out."""
    with started(saved(folder), descriptors=64) as (process, address, _), ExitStack() as stack:
        attack(address, 1, 1)
        base = most_memory(process)
        statuses = attack(address, requests, min(16, requests // 2))
        assert set(statuses) <= {200, 400, 413, 503} and statuses[200] >= requests // 2
        grown = most_memory(process) - base
        print(f"{requests} requests: {grown / 2**20:.0f} MiB over the {base / 2**20:.0f} of one request; {statuses}")
        assert grown <= 2 * Limits.decoded
        name, port = address.removeprefix("http://").rstrip("/").split(":")
        for _ in range(150):
            lazy = stack.enter_context(socket.create_connection((name, int(port))))
            with contextlib.suppress(ConnectionError):
                lazy.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        while True:
            with contextlib.suppress(httpx.TransportError):  # its place may be taken as soon as it has it
                assert httpx.get(f"{address}healthz", timeout=None).status_code == 200
                break
        threading.Thread(target=attack_in_vain, args=[address], daemon=True).start()
        process.send_signal(signal.SIGTERM)
        process.wait()
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
        assert len([line for line in lines if "connections are taken" in line]) <= 1 and len(lines) <= 40, lines


def attack_in_vain(address: str) -> None:
    with contextlib.suppress(httpx.HTTPError):
        attack(address, 16, 16)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_hostile_images_take_no_more_memory_than_the_budget(tmp_path: Path) -> None:
    check_memory(tmp_path, 16)


@pytest.mark.slow
def test_two_thousand_hostile_images_take_no_more_memory_than_the_budget(tmp_path: Path) -> None:
    check_memory(tmp_path, 2_000)


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
        (["--gallery", "nowhere/typo/people.gallery"], "nowhere/typo"),
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


@pytest.mark.skipif(sys.platform != "linux", reason="fills a pipe of Linux")
def test_it_ends_although_nobody_reads_what_it_prints(tmp_path: Path) -> None:
    with started(saved(tmp_path)) as (process, address, _):
        assert httpx.get(f"{address}healthz", timeout=None).status_code == 200
        writing = os.open(f"/proc/{process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 4096)
        process.send_signal(signal.SIGTERM)
        assert process.wait() in (0, -signal.SIGTERM)  # by itself, or by the timer that waits for no pipe
        os.close(writing)
