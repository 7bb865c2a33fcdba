"""Training steps alone and beside busy processes, by how idle threads wait and what becomes of freed memory.

    python benchmarks/threads.py [--rounds 5] [--seconds 4] [--busy 0 1 2] [--threads 2]

Each row is a process of its own, because OpenMP reads its settings when it is loaded: float32 steps of ResNet-18 at
64 px, batch 32. Settings take turns; images/s are medians over the rounds, and ratios are against torch's defaults
without a busy process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

SETTINGS: dict[str, tuple[dict[str, str], bool]] = {  # name -> variables, freed memory is kept
    "torch's defaults": ({}, False),
    "passive": ({"OMP_WAIT_POLICY": "PASSIVE"}, False),
    "spin 1,000": ({"GOMP_SPINCOUNT": "1000"}, False),
    "spin 30,000": ({"GOMP_SPINCOUNT": "30000"}, False),
    "spin 1,000, memory kept": ({"GOMP_SPINCOUNT": "1000"}, True),
}
OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
BUSY = "while True: pass"
SIZE, BATCH, MODEL = 64, 32, "resnet18"


def measure(seconds: float, threads: int, keep_memory: bool) -> float:
    """Images per second of training steps, in this process; a fifth of the time warms up."""
    import torch
    from torch.nn import functional

    from facewright import platforms
    from facewright.models.catalog import create_model

    if keep_memory:
        platforms.keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = create_model(MODEL, classes=10, stem="small")
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10
    start = begun = time.perf_counter()
    steps = -1
    while (now := time.perf_counter()) - start < seconds or steps < 1:
        if now - start >= seconds / 5 and steps < 0:
            begun, steps = now, 0
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(images), labels))
        optimizer.step()
        steps += steps >= 0
    return steps * BATCH / (time.perf_counter() - begun)


def in_a_process(name: str, busy: int, seconds: float, threads: int) -> float:
    """Images per second of a new process, beside some that compute without end."""
    variables, keep = SETTINGS[name]
    environment = {key: value for key, value in os.environ.items() if key not in OURS} | variables
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        words = [sys.executable, __file__, "--child", "--seconds", str(seconds), "--threads", str(threads)]
        done = subprocess.run(words + ["--keep"] * keep, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        return float(done.stdout)
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="processes that compute beside it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(measure(chosen.seconds, chosen.threads, chosen.keep))
        return
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(chosen.rounds):
        for busy in chosen.busy:
            for name in chosen.settings:
                found.setdefault((name, busy), []).append(in_a_process(name, busy, chosen.seconds, chosen.threads))
    base = statistics.median(found[chosen.settings[0], chosen.busy[0]])
    print("| settings | " + " | ".join(f"{busy} busy" for busy in chosen.busy) + " |")
    print("|---" * (1 + len(chosen.busy)) + "|")
    for name in chosen.settings:
        speeds = [statistics.median(found[name, busy]) for busy in chosen.busy]
        print(f"| {name} | " + " | ".join(f"{speed:.1f} ({speed / base:.2f})" for speed in speeds) + " |")


if __name__ == "__main__":
    main()
