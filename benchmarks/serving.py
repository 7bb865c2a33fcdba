"""A server under many clients, with batches of what comes together and one by one.

    python benchmarks/serving.py [--clients 50] [--seconds 10] [--model MODEL] [--detector none] [--photos DIR]
        [--routes embed predict verify] [--json]

For each route the server is started twice, as `facewright serve --batch 1` and `--batch 32`, in a process of its own
with two threads; this process is all clients, each of which sends its next photo once the last is answered. Prints
requests a second, the median and the 95th percentile of the time to an answer, and the ratio of the two; answers other
than 200 are counted and are no part of it. Without photos of your own, faces are drawn. Wants an otherwise idle
machine; clients and server share its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facewright import bundle as bundles
from facewright.bundle import Bundle
from facewright.data.sources import open_dataset
from facewright.images import SUFFIXES
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model

FILES = {"embed": ("photo",), "faces": ("photo",), "predict": ("photo",), "verify": ("a", "b")}
PHOTOS, SIDE = 64, 112
STEM, CLASSES = "imagenet", tuple(f"person {number}" for number in range(12))
BATCHES = (1, 32)
WARM = 2.0  # seconds of requests that do not count


@dataclass(frozen=True)
class Measured:
    """One server under one load."""

    route: str
    batch: int
    requests_per_second: float
    median_ms: float
    p95_ms: float
    refused: int  # answers other than 200


def drawn() -> list[bytes]:
    data = open_dataset(f"synthetic:faces?identities=8&images={PHOTOS // 8}&size={SIDE}&seed=0")
    return [jpeg(data.source.read(record, None)) for record in data.records]


def jpeg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def found(folder: Path) -> list[bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [path.read_bytes() for path in paths[:PHOTOS]]


def classifier(folder: Path) -> Path:
    """Make a ResNet-18 with random initialization: its answers are random, its speed is that of a trained one."""
    torch.manual_seed(0)
    spec = InputSpec(SIDE, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    model = create_model("resnet18", 12, input_size=SIDE, stem=STEM)
    path = folder / "resnet18.safetensors"
    bundles.save(path, Bundle("resnet18", STEM, CLASSES, spec, model.state_dict()))
    return path


@contextmanager
def server(words: list[str]) -> Iterator[int]:
    """`facewright serve` on a free port."""
    command = [sys.executable, "-m", "facewright", "serve", *words, "--port", "0", "--waiting", "256"]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        said = ""
        for line in process.stderr or ():
            said += line
            if match := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                yield int(match[1])
                return
        raise SystemExit(f"the server did not start: {said}")
    finally:
        process.terminate()
        process.wait(30)
        if process.stderr is not None:
            process.stderr.close()


def request(route: str, photos: tuple[bytes, ...]) -> bytes:
    """The whole of a POST."""
    parts = b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="%s"; filename="a.jpg"\r\n\r\n%s\r\n' % (name.encode(), photo)
        for name, photo in zip(FILES[route], photos, strict=True)
    )
    body = parts + b"--edge--\r\n"
    head = f"POST /v1/{route} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def client(port: int, sent: list[bytes], first: int, until: float, told: list[tuple[float, int]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = first
    while time.perf_counter() < until:
        start = time.perf_counter()
        writer.write(sent[number % len(sent)])
        status = await answer(reader)
        told.append((time.perf_counter() - start, status))
        number += 1
    writer.close()


async def load(port: int, sent: list[bytes], clients: int, seconds: float) -> tuple[list[tuple[float, int]], float]:
    told: list[tuple[float, int]] = []
    await asyncio.gather(*(client(port, sent, i, time.perf_counter() + WARM, told) for i in range(clients)))
    told.clear()
    start = time.perf_counter()
    await asyncio.gather(*(client(port, sent, i, start + seconds, told) for i in range(clients)))
    return told, time.perf_counter() - start


def measure(route: str, batch: int, words: list[str], photos: list[bytes], asked: argparse.Namespace) -> Measured:
    each = len(FILES[route])
    sent = [request(route, tuple(photos[(i + j) % len(photos)] for j in range(each))) for i in range(len(photos))]
    with server([*words, "--batch", str(batch)]) as port:
        told, took = asyncio.run(load(port, sent, asked.clients, asked.seconds))
    statuses = Counter(status for _, status in told)
    times = np.array([seconds for seconds, status in told if status == 200]) * 1_000
    return Measured(
        route, batch, len(times) / took, float(np.median(times)), float(np.percentile(times, 95)),
        sum(statuses.values()) - statuses[200],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--model", help="for embed, faces and verify; default: the built-in networks")
    parser.add_argument("--detector", default="none")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--routes", nargs="+", choices=sorted(FILES), default=["embed", "predict"])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    photos = drawn() if asked.photos is None else found(asked.photos)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for route in asked.routes:
            words = [*([] if asked.model is None else [asked.model]), "--detector", asked.detector]
            if route == "predict":
                words = [str(classifier(Path(folder)))]
            results += [measure(route, batch, words, photos, asked) for batch in BATCHES]
    if asked.json:
        json.dump([asdict(one) for one in results], sys.stdout, indent=1)
        print()
        return
    print(f"{asked.clients} clients, {asked.seconds:g} s each")
    print("| route | batch | requests/s | median | p95 | refused |\n|---|---|---|---|---|---|")
    for one in results:
        print(f"| {one.route} | {one.batch} | {one.requests_per_second:.0f} | {one.median_ms:.0f} ms | "
              f"{one.p95_ms:.0f} ms | {one.refused} |")  # fmt: skip
    for alone, together in zip(results[::2], results[1::2], strict=True):
        print(f"{alone.route}: {together.requests_per_second / alone.requests_per_second:.2f} x the requests, "
              f"{together.p95_ms / alone.p95_ms:.2f} x the 95th percentile")  # fmt: skip


if __name__ == "__main__":
    main()
