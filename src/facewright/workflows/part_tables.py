"""A Parquet table of a data set, made in parts by this machine or by a Ray cluster: what `embed` and `faces` share.

Parts lie in .NAME.parquet.parts/ with plan.json (what is made, of which images), each whole or absent; the next run
with the same plan goes on with them. In memory lie the list of images and one part; the files are the user's. On a
cluster an actor a core (or a GPU) makes whole parts by the same code, and the process that asked writes them; the data
must lie where all workers can read it. (Why actors and not Ray Data: docs/architecture.md.)
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from facewright import platforms
from facewright.data.records import Broken, Dataset, Record
from facewright.errors import BadImage, FacewrightError, UsageError, require_extra
from facewright.events import EventHandler, Message, Progress
from facewright.files import replacing, write_atomic, write_json
from facewright.recognition import Recognizer

FORMAT = 1
PRIVATE = 0o600
MOST_RESTARTS = 100
CONNECTION_TIMEOUT = 5  # seconds
MakeRows = Callable[[Recognizer, Dataset, int, int], tuple[Any, list[Broken]]]
"""Makes the pyarrow table of the records from a number to another, and lists what was left out."""

_Range = tuple[int, int]


@dataclass(frozen=True)
class TableJob:
    """A table to make.

    plan: what must be equal, beside the images, to resume an earlier run. schema: of the table.
    doing: the word for progress. rows: records a part.
    """

    out: Path
    dataset: Dataset
    plan: Mapping[str, Any]
    schema: Any
    make: MakeRows
    doing: str
    rows: int


def write_table(
    job: TableJob, recognizer: Recognizer, load: Callable[[], Recognizer], on: str | None, on_event: EventHandler
) -> tuple[int, list[Broken], int]:
    """Make the parts that are not there yet, then the table.

    Args:
        recognizer: works here; `load` makes the same on another machine.
        on: None: this machine; "ray" or "ray://HOST:PORT".
    Returns:
        The rows of the table, what was left out, and the records that an earlier run had done.
    Raises:
        FacewrightError: a worker cannot do its work, another process writes this file, or it cannot be written.
    """
    total = len(job.dataset)
    ranges = [(start, min(start + job.rows, total)) for start in range(0, total, job.rows)]
    with _parts_folder(job.out, _plan(job), on_event) as folder:
        parts = {start: folder / f"{number:06d}.parquet" for number, (start, _) in enumerate(ranges)}
        left = [(start, stop) for start, stop in ranges if not parts[start].is_file()]
        resumed = done = total - sum(stop - start for start, stop in left)
        on_event(Progress(job.doing, done, total))  # the first part may take long, from a bucket longer
        for start, stop in (
            _made_here(job, recognizer, parts, left) if on is None else _made_on(on, job, load, parts, left)
        ):
            done += stop - start
            on_event(Progress(job.doing, done, total))
        rows, broken = _join(list(parts.values()), job.out, job.schema)
        if rows:
            platforms.remove_locked(folder)
    return rows, broken, resumed


def _plan(job: TableJob) -> dict[str, Any]:
    """Return the facts that must be equal to reuse parts of an earlier run."""
    state = hashlib.blake2b(digest_size=16)
    for record in job.dataset.records:
        try:
            stamp = job.dataset.source.stamp(record)
        except BadImage as error:
            stamp = f"broken: {error.reason}"
        state.update(json.dumps([record.path, label_of(record, job.dataset), stamp]).encode())
    return {"format": FORMAT, **job.plan, "pictures": len(job.dataset), "data": state.hexdigest()}


def label_of(record: Record, dataset: Dataset) -> str | None:
    """Return the name of a record's class; None where it is unknown."""
    return None if record.label is None else dataset.classes[record.label]


@contextmanager
def _parts_folder(out: Path, plan: Mapping[str, Any], on_event: EventHandler) -> Iterator[Path]:
    """The folder of the parts, held by this process; parts made by another plan are removed."""
    folder = out.with_name(f".{out.name}.parts")
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0, mode=PRIVATE)
    try:
        lock.acquire()
    except Timeout:
        raise FacewrightError(f"{out}: another process is writing it; wait for it or choose another --out") from None
    try:
        left = [path for path in folder.iterdir() if path.name != ".lock"]
        if left and _read_plan(folder) != plan:
            on_event(Message(f"{folder}: of another model or other images; started again"))
            for path in left:
                path.unlink()
            left = []
        if not left:
            write_json(folder / "plan.json", plan)
        yield folder
    finally:
        lock.release()


def _read_plan(folder: Path) -> object:
    try:
        return json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _made_here(
    job: TableJob, recognizer: Recognizer, parts: Mapping[int, Path], left: Sequence[_Range]
) -> Iterator[_Range]:
    for start, stop in left:
        made = job.make(recognizer, job.dataset, start, stop)
        with replacing(parts[start], mode=PRIVATE) as file:
            _write_part(file, *made)
        yield start, stop


def _write_part(file: IO[bytes], table: Any, broken: Sequence[Broken]) -> None:
    """Write one part; the list of what was left out travels in its metadata."""
    from pyarrow import parquet  # type: ignore[import-untyped]

    listed = json.dumps([[item.path, item.reason] for item in broken])
    parquet.write_table(table.replace_schema_metadata({"broken": listed}), file)


def _join(parts: Sequence[Path], out: Path, schema: Any) -> tuple[int, list[Broken]]:
    """The parts as one file, a row group each; how many rows, and what was left out."""
    from pyarrow import parquet

    rows, broken = 0, list[Broken]()
    with replacing(out, mode=PRIVATE) as file, parquet.ParquetWriter(file, schema) as writer:
        for part in parts:
            table = parquet.read_table(part)
            broken += [Broken(*item) for item in json.loads(table.schema.metadata[b"broken"])]
            if table.num_rows:
                writer.write_table(table.replace_schema_metadata(schema.metadata))
                rows += table.num_rows
    return rows, broken


class PartWorker:
    """Makes parts in a process of a cluster."""

    def __init__(self, load: Callable[[], Recognizer], make: MakeRows) -> None:
        self.recognizer, self.make = load(), make

    def part(self, dataset: Dataset, start: int, stop: int) -> tuple[int, int, bytes]:
        """Return the records' numbers, and the bytes of their part."""
        file = io.BytesIO()
        _write_part(file, *self.make(self.recognizer, dataset, start, stop))
        return start, stop, file.getvalue()


def _made_on(
    address: str, job: TableJob, load: Callable[[], Recognizer], parts: Mapping[int, Path], left: Sequence[_Range]
) -> Iterator[_Range]:
    """Make parts on a Ray cluster, each written here when it arrives."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    os.environ.setdefault("RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", "2")  # a server answered; Ray doubles it twice
    import ray
    from ray.util import ActorPool

    mine = not ray.is_initialized()
    try:
        if mine:
            where: dict[str, Any] = {"include_dashboard": False} if address == "ray" else {"address": address}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # what the error says too
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
        needs, count = _shares(ray.cluster_resources())  # type: ignore[no-untyped-call]
        worker = ray.remote(max_restarts=MOST_RESTARTS, max_task_retries=MOST_RESTARTS, **needs)(PartWorker)
        shared = ray.put(job.dataset)
        pool: Any = ActorPool([worker.remote(load, job.make) for _ in range(min(count, len(left)))])
        for start, stop, content in pool.map_unordered(lambda actor, part: actor.part.remote(shared, *part), left):
            write_atomic(parts[start], content, mode=PRIVATE)
            yield start, stop
    except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
        token = "; if the cluster asks for a token: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        hint = token if "timeout" in str(error) else ""
        raise FacewrightError(f"--on {address}: {str(error).strip().splitlines()[-1][:300]}{hint}") from error
    finally:
        if mine and ray.is_initialized():
            ray.shutdown()


def _shares(cluster: Mapping[str, float]) -> tuple[dict[str, Any], int]:
    """The resources of an actor, and the number of actors: one a GPU where the cluster has any, else one a core.

    >>> _shares({"CPU": 8.0, "GPU": 2.0}), _shares({"CPU": 2.0})
    (({'num_cpus': 1, 'num_gpus': 1}, 2), ({'num_cpus': 1}, 2))
    """
    cores, gpus = int(cluster.get("CPU", 1)), int(cluster.get("GPU", 0))
    return ({"num_cpus": 1, "num_gpus": 1}, gpus) if gpus else ({"num_cpus": 1}, max(1, cores))


def check_cluster(on: str | None) -> None:
    """Refuse, before anything else is done, what is no cluster or does not answer; None is this machine.

    Raises:
        UsageError: neither "ray" nor "ray://HOST:PORT", or Ray is not installed. FacewrightError: nothing answers.
    """
    if on is None:
        return
    require_extra("ray", "--on")
    if on != "ray" and not re.fullmatch(r"ray://[^/\s]+:[0-9]{1,5}", on):
        raise UsageError(f"expected --on ray or --on ray://HOST:PORT, got {on!r}")
    address = (os.environ.get("RAY_ADDRESS", "") if on == "ray" else on).removeprefix("ray://")
    if ":" not in address:
        return
    import grpc  # type: ignore[import-untyped]

    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=CONNECTION_TIMEOUT)
        except grpc.FutureTimeoutError:
            raise FacewrightError(
                f"--on {on}: no Ray cluster answered at {address} within {CONNECTION_TIMEOUT} s; start its head with "
                "ray start --head --ray-client-server-port PORT"
            ) from None
