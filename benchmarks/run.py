"""The speed table of docs/benchmarks.md: loading and training against the plain loop of notebooks; `make bench`.

    python benchmarks/run.py [--rounds 3] [--images 160] [--threads 2]

Prints a Markdown table in under four minutes on two idle cores. Needs a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import loading
import torch

import training

LOADING = {
    "store": "loading from a warm store, 112 px",
    "store, augmented": "… with the same random crop and flip",
    "store, all of it": "… with rotation, color and erasing too",
}


def loading_rows(images: int, rounds: int) -> list[tuple[str, float, float]]:
    """Measure loading: the name of a row, images/s of the plain loop and of ours."""
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        loading.draw_folder(photos, images)
        rates = {name: statistics.median(values) for name, values in loading.measure(photos, 112, rounds).items()}
    return [(title, rates["notebook"], rates[name]) for name, title in LOADING.items()]


def training_rows(images: int, rounds: int) -> list[tuple[str, float, float]]:
    """Measure training; likewise."""
    rows = []
    for name, sides in training.compare(rounds, images).items():
        plain = sides["plain"]["images_per_second"]
        rows.append((name, plain, sides[training.OURS]["images_per_second"]))
        rows.append(("… in float32", plain, sides[training.FULL]["images_per_second"]))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("measuring loading, then training", file=sys.stderr, flush=True)
    rows = loading_rows(arguments.images, 2 * arguments.rounds + 1)
    rows += training_rows(arguments.images, arguments.rounds)
    print("| | plain | ours | ratio |\n|---|---|---|---|")
    for name, plain, ours in rows:
        digits = 1 if max(plain, ours) < 100 else 0
        print(f"| {name} | {plain:,.{digits}f} images/s | {ours:,.{digits}f} images/s | {ours / plain:.1f} x |")


if __name__ == "__main__":
    main()
