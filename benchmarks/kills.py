"""kill -9 at random steps of a real training: does `--resume` end in the same file?

    python benchmarks/kills.py [--kills 20] [--model resnet18] [--json]

Trains once undisturbed with the command line. Then, for each kill: trains again, kills the process with SIGKILL when
the run's own report of its steps reaches a randomly chosen one, resumes with `--resume`, and compares the model file
and the predictions byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = "synthetic:faces?identities=4&images=24&size=32"
SETTINGS = {"input.size": "32", "training.epochs": "4", "training.batch": "8", "training.checkpoint_steps": "3"}
KILLED = """
import os, signal, sys
from pathlib import Path
from facewright.events import StepFinished
from facewright import train

def on_event(event):
    if isinstance(event, StepFinished) and (event.epoch - 1) * event.steps + event.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

changes = dict(pair.split("=") for pair in sys.argv[5:])
train(sys.argv[3], model=sys.argv[4], out=Path(sys.argv[1]), overrides=changes, on_event=on_event)
"""


def run(*command: str) -> int:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=env, capture_output=True, check=False).returncode


def train(out: Path, model: str, *more: str) -> None:
    options = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    status = run(
        sys.executable, "-m", "facewright", "train", DATA, "--model", model, "--out", str(out), *options, *more
    )
    if status:
        raise SystemExit(f"training failed with status {status}")


def bits(out: Path) -> str:
    files = (out / "model.safetensors", out / "predictions.csv")
    return hashlib.blake2b(b"".join(path.read_bytes() for path in files)).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    chance = random.Random(0)
    same = []
    with tempfile.TemporaryDirectory() as place:
        train(Path(place) / "whole", asked.model)
        wanted = bits(Path(place) / "whole")
        last = int((Path(place) / "whole" / "metrics.csv").read_text().splitlines()[-1].split(",")[3])
        for number in range(asked.kills):
            out, step = Path(place) / str(number), chance.randint(1, last)
            settings = [f"{key}={value}" for key, value in SETTINGS.items()]
            killed = run(sys.executable, "-c", KILLED, str(out), str(step), DATA, asked.model, *settings)
            if killed != -signal.SIGKILL:
                raise SystemExit(f"the run was not killed (status {killed})")
            train(out, asked.model, "--resume")
            same.append(bits(out) == wanted)
            if not asked.json:
                print(f"killed at step {step:3} of {last}: {'same bits' if same[-1] else 'OTHER BITS'}", flush=True)
    result = {"kills": asked.kills, "same": sum(same)}
    print(json.dumps(result) if asked.json else f"{result['same']} of {result['kills']} ended in the same bits")


if __name__ == "__main__":
    main()
