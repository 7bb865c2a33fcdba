"""Speed of ONNX Runtime against PyTorch, in float32 and in int8: the same images, the same two threads.

    python benchmarks/onnx_speed.py [MODEL ...] [--calibration DATA] [--rounds 15] [--out FILE.json]

MODEL is a run, a bundle file or architecture@weights; untrained networks of several families where none is named, for
time does not depend on what the weights are. Measured is `Embedder.embed`, from bytes of images in memory to unit
vectors, one image and 32 at once. The three take turns, so that whatever else the machine does meets all of them;
ratios are of the same round, their median with the lowest and highest quarter. Wants an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facewright import bundle as bundles
from facewright.bundle import Bundle
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.embedding import Embedder, open_model
from facewright.exportation.network import to_int8, to_onnx
from facewright.files import write_json
from facewright.graphs import EMBEDDING, Graph, plain
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model, describe, resolve_stem

THREADS = 2
BATCHES = (1, 32)
NETWORKS = ("mobilefacenet", "mobilenet_v2", "resnet18", "resnet50", "vit_ti_16")
SIDE = 112  # px, of the untrained ones
DRAWN = "synthetic:faces?identities=16&images=8&seed=3"  # to calibrate on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--calibration", default=DRAWN)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows = []
    for name, bundle in [(m, open_model(m)) for m in given.models] or [(n, untrained(n)) for n in NETWORKS]:
        rows.append({"model": name, "side": bundle.spec.height, **measured(bundle, given.calibration, given.rounds)})
        print(in_words(rows[-1]), flush=True)
    if given.out is not None:
        write_json(given.out, {"threads": THREADS, "rounds": given.rounds, "models": rows})


def untrained(name: str) -> Bundle:
    """A network without classes, its weights as they are drawn."""
    torch.manual_seed(0)
    side = max(SIDE, describe(name).smallest_side)
    model = create_model(name, 1, input_size=side)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith(f"{model.classifier_name}.")}
    spec = InputSpec(side, side, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Bundle(name, resolve_stem(name, side), (), spec, weights)


def measured(bundle: Bundle, calibration: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of each of the three at each size of batch, and how many times as fast the two others are."""
    store = PixelStore.open(open_dataset(calibration), bundle.spec)
    batches = [np.array(store.pixels[start : start + 32]) for start in range(0, len(store.dataset), 32)]
    float32 = plain(to_onnx(bundle))
    int8 = plain(to_int8(float32, batches))
    ways = {"pytorch": Embedder(bundle), "float32": embedder(bundle, float32), "int8": embedder(bundle, int8)}
    found: dict[str, Any] = {"bytes": {"float32": len(float32.content), "int8": len(int8.content)}}
    for batch in BATCHES:
        pixels = store.batch(np.arange(batch))
        times = {way: np.array(seconds) for way, seconds in timed(ways, pixels, rounds).items()}
        found[f"batch {batch}"] = {
            "ms": {way: 1000 * float(np.median(seconds)) for way, seconds in times.items()},
            "times as fast": {way: quarters(times["pytorch"] / times[way]) for way in ("float32", "int8")},
        }
    return found


def embedder(bundle: Bundle, graph: Graph) -> Embedder:
    """By way of a file, as everybody does it."""
    with tempfile.TemporaryDirectory() as folder:
        exported = bundles.Exported(graph, "float32", {EMBEDDING: "0"}, {})
        path = Path(folder) / "m.onnx"
        bundles.save(path, Bundle(bundle.architecture, bundle.stem, (), bundle.spec, {}, exported=exported))
        return Embedder.load(path)


def timed(ways: dict[str, Embedder], pixels: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round; two rounds before them warm up."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for round_ in range(rounds + 2):
        for way, one in ways.items():
            repeats = max(1, 32 // len(pixels))
            start = time.perf_counter()
            for _ in range(repeats):
                one.embed(pixels)
            if round_ >= 2:
                seconds[way].append((time.perf_counter() - start) / repeats)
    return seconds


def quarters(ratios: np.ndarray) -> dict[str, float]:
    low, median, high = (float(value) for value in np.percentile(ratios, [25, 50, 75]))
    return {"median": median, "low": low, "high": high}


def in_words(row: dict[str, Any]) -> str:
    """A model in a few lines."""
    lines = [f"{row['model']}, {row['side']} px"]
    for batch in BATCHES:
        part = row[f"batch {batch}"]
        ratios = ", ".join(
            f"{way} {r['median']:.2f} ({r['low']:.2f} to {r['high']:.2f}) times as fast, {part['ms'][way]:.1f} ms"
            for way, r in part["times as fast"].items()
        )
        lines.append(f"  {batch} at once: PyTorch {part['ms']['pytorch']:.1f} ms; {ratios}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
