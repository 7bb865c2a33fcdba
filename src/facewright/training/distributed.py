"""The processes of a run, as started by torchrun: ranks, sums over all of them, one writer, requests to stop."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from facewright.errors import is_first_failure
from facewright.platforms import STOP_SIGNALS

CPU = torch.device("cpu")
WAIT_SECONDS = 6 * 3600  # for another process, before the run is given up
_RUNS = itertools.count()  # in this process: the same in all, which run the same commands
# Python keeps the group of the latest run, so that Python is the last to let go of it: a reducer of DDP would free it
# with the interpreter's lock held, and wait for ever for the group's thread, which needs that lock (pytorch#56297).
_GROUPS: list[dist.ProcessGroup | None] = []


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU  # of this process

    @property
    def is_main_process(self) -> bool:
        """This process owns the run directory."""
        return self.rank == 0

    @property
    def writes_cache(self) -> bool:
        """This process fills the cache of its machine."""
        return os.environ.get("LOCAL_RANK", "0") == "0"

    def wrap(self, model: nn.Module, own: Sequence[str] = ()) -> nn.Module:
        """Return the model whose gradients are averaged over all processes, but for those of its `own` parameters."""
        if self.size == 1:
            return model
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, list(own))  # type: ignore[no-untyped-call]
        return DistributedDataParallel(model)

    def all_reduce_sum(self, numbers: Sequence[float]) -> list[float]:
        """Add up each number over all processes."""
        if self.size == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64)  # by gloo: no device waits, and some have no float64
        dist.all_reduce(shared)
        return [float(number) for number in shared.tolist()]

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def greatest(self, values: Tensor) -> Tensor:
        """Return the greatest of each value over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def all_gather(self, own: Tensor) -> list[Tensor]:
        """Return the tensor of each process, of one shape, in order of the ranks."""
        if self.size == 1:
            return [own]
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own.contiguous())
        return parts

    def barrier(self) -> None:
        """Wait until every process has come here."""
        self.all_reduce_sum([0.0])


@contextmanager
def joined(device: torch.device = CPU) -> Iterator[World]:
    """Join the processes that torchrun started; without torchrun, a world of one.

    On CUDA each process takes the GPU of its LOCAL_RANK, and they speak NCCL; on CPUs gloo.

    Args:
        device: what to compute on.
    Yields:
        A world whose process group is taken down at the end, also after an error. The other processes see the lost
        connection when this one ends or joins again.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    # Numbers go over gloo, tensors of a GPU over NCCL. One process may compute features for long while others wait.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # Addresses that an earlier run of these processes left in torchrun's store lead nowhere: each run has its own keys.
    store, rank, size = next(iter(rendezvous("env://")))
    keys = PrefixStore(f"run{next(_RUNS)}", store)
    timeout = timedelta(seconds=WAIT_SECONDS)
    dist.init_process_group(backend, store=keys, rank=rank, world_size=size, timeout=timeout)
    _GROUPS[:] = [dist.group.WORLD]
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    except BaseException:
        is_first_failure()  # known before the others lose the connection and fail too
        raise
    finally:
        dist.destroy_process_group()


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGTERM or Ctrl-C into a request to stop; the second one acts as if nothing had caught the first.

    Yields:
        A function that tells whether a request has come.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def take(number: int, _frame: Any) -> None:
        received.append(number)
        for taken, handler in previous.items():
            signal.signal(taken, handler)

    for signum in STOP_SIGNALS:
        try:
            previous[signum] = signal.signal(signum, take)
        except ValueError:  # not the main thread: only the main thread handles signals
            break
    try:
        yield lambda: bool(received)
    finally:
        for taken, handler in previous.items():
            signal.signal(taken, handler)
