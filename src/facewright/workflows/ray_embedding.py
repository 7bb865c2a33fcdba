"""The parts of `embed` on a Ray cluster: an actor a core keeps a recognizer and makes whole parts.

The parts are those of one machine (workflows/embeddings.py), made by the same code, so their bytes are the same, and a
stopped command goes on with the parts that are there. They come back to the process that asked, which writes them: the
workers need no common folder to write to. They read the images themselves, so the data must lie where all of them can
read it. A worker that dies is started again, elsewhere if need be, and its part is made again.

Why Ray's actors and not Ray Data: a part is what is resumed, and Ray Data's blocks have other borders on each cluster.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from facewright.data.records import Dataset
from facewright.errors import FacewrightError, UsageError
from facewright.recognition import Recognizer

MOST_RESTARTS = 100
MakePart = Callable[[Path, int, Dataset, Recognizer], None]
"""Writes the part of a number to a file."""


class EmbeddingWorker:
    """Makes parts in a process of the cluster.

    Args:
        loading: arguments of `Recognizer.load`.
        make: writes a part.
    """

    def __init__(self, loading: Mapping[str, Any], make: MakePart) -> None:
        self.recognizer, self.make = Recognizer.load(**loading), make

    def part(self, number: int, dataset: Dataset) -> tuple[int, bytes]:
        """Return the number and the bytes of one part's Parquet file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "part.parquet")
            self.make(path, number, dataset, self.recognizer)
            return number, path.read_bytes()


def parts_on(
    address: str, loading: Mapping[str, Any], dataset: Dataset, make: MakePart, numbers: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Yield the parts of these numbers as they are done.

    Args:
        address: "ray", a cluster that runs already or else this machine; or ray://HOST:PORT.
        loading, make: as of `EmbeddingWorker`.
        dataset: whose images are embedded.
        numbers: of the parts to make.
    Raises:
        UsageError: another address. FacewrightError: no such cluster, or a worker cannot do its work.
    """
    if address != "ray" and not address.startswith("ray://"):
        raise UsageError(f"expected --on ray or --on ray://HOST:PORT, got {address!r}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    import ray
    from ray.util import ActorPool

    mine = not ray.is_initialized()
    try:
        if mine:
            where: dict[str, Any] = {"include_dashboard": False} if address == "ray" else {"address": address}
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
        worker = ray.remote(num_cpus=1, max_restarts=MOST_RESTARTS, max_task_retries=MOST_RESTARTS)(EmbeddingWorker)
        cores = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
        count = min(len(numbers), max(1, int(cores)))
        shared = ray.put(dataset)
        pool: Any = ActorPool([worker.remote(dict(loading), make) for _ in range(count)])
        yield from pool.map_unordered(lambda actor, number: actor.part.remote(number, shared), list(numbers))
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise FacewrightError(f"--on {address}: {str(error).strip().splitlines()[-1][:300]}") from error
    finally:
        if mine and ray.is_initialized():
            ray.shutdown()
