"""Everything that is measured against the plain loop of the notebooks; what `make bench` runs.

    python benchmarks/run.py

One after the other, each in a process of its own, on two threads. Wants a machine that does nothing else.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PARTS = ("loading.py", "training.py")


def main() -> int:
    here = Path(__file__).parent
    status = 0
    for part in PARTS:
        print(f"== benchmarks/{part}", flush=True)
        status |= subprocess.run([sys.executable, str(here / part)], check=False).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
