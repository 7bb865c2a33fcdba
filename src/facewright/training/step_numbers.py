"""Loss, hits and gradient norm of the steps, on their way from the device: no step waits for its own numbers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facewright.data.records import Record
from facewright.devices import Readback
from facewright.errors import NonFiniteLoss
from facewright.training.history import Position


class StepNumbers:
    """The steps that are not counted yet, oldest first."""

    def __init__(self) -> None:
        self._steps: deque[tuple[str, NDArray[np.int64], Readback]] = deque()

    def add(self, place: str, indices: NDArray[np.int64], numbers: Tensor) -> None:
        """Begin to read a step's numbers.

        Args:
            place: of the step, for an error. indices: (B,) rows of the store. numbers: loss, hits, and the norm of the
                gradient where that must be a number.
        """
        self._steps.append((place, indices, Readback(numbers)))

    def clear(self) -> None:
        """Forget the steps that are not counted yet."""
        self._steps.clear()

    def settle(self, position: Position, records: Callable[[], Sequence[Record]], later: int = 0) -> None:
        """Count the steps, all but the last `later`, in the position.

        Args:
            records: what the rows of the steps are of.
        Raises:
            NonFiniteLoss: the loss of a step, or the norm of its gradient, is no number.
        """
        while len(self._steps) > later:
            place, indices, numbers = self._steps.popleft()
            loss, correct, *norm = numbers.read()
            if not math.isfinite(loss):
                raise NonFiniteLoss(divergence(f"the loss is {loss}", place, records(), indices))
            if norm and not math.isfinite(norm[0]):
                raise NonFiniteLoss(divergence(f"the gradient's norm is {norm[0]}", place, records(), indices))
            position.loss_sum += loss * len(indices)
            position.correct += correct
            position.seen += len(indices)


def divergence(fault: str, place: str, records: Sequence[Record], indices: NDArray[np.int64] | None = None) -> str:
    """Say where training diverged, on which images, and what helps."""
    shown = [] if indices is None else [records[row].path for row in indices[:4]]
    if indices is not None and len(indices) > len(shown):
        shown.append("…")
    files = f"; images: {', '.join(shown)}" if shown else ""
    return f"{fault} at {place}{files}; lower optimizer.learning_rate or set training.clip"
