"""The class layer of a margin loss, shared out to processes: each keeps the directions of its classes.

With a million people a layer of 512 numbers each is 2 GB, and the logits of 1,024 images are 4 GB. So each process
holds the directions of a run of classes; all of them see the embeddings of the whole batch, compute the logits of their
own classes, and exchange three numbers an image: the greatest logit, the sum of exponentials, the logit of its class.

Partial FC (`training.negatives`) takes at each step only a part of a process's classes: those of the images of the
batch, and others drawn as a function of (seed, step, process).

Source: An et al. 2022, "Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs by
Partial FC", arXiv:2203.15565. Deviation: directions that a step leaves out still move by the optimizer's momentum and
decay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, linalg, nn
from torch.autograd.function import once_differentiable

from facewright.data.sampling import derive
from facewright.devices import moved
from facewright.errors import UsageError
from facewright.heads import CosineHead
from facewright.losses.classification import NormQuality, margined
from facewright.specs import ObjectiveSpec
from facewright.training.distributed import World
from facewright.vectors import precise

SCORED = 64  # images whose scores a process computes at once


@dataclass(frozen=True)
class Sharding:
    """The share of each process in C classes: runs of nearly equal length, in order of the ranks."""

    world: World
    classes: int
    subcentres: int = 1  # rows a class

    def __post_init__(self) -> None:
        if self.classes < self.world.size:
            raise UsageError(f"expected at least one class a process, got {self.classes} for {self.world.size}")

    @property
    def start(self) -> int:
        """The first class of this process."""
        return self._bound(self.world.rank)

    def rows(self, rank: int) -> slice:
        """Return the rows of a process among those (C * K, D) of all classes."""
        return slice(self._bound(rank) * self.subcentres, self._bound(rank + 1) * self.subcentres)

    def take(self, whole: Tensor) -> Tensor:
        """(C * K, D) of all classes -> the rows of this process."""
        return whole[self.rows(self.world.rank)].clone()

    def collect(self, own: Tensor) -> Tensor:
        """Bring (C * K, D) of all classes to the CPU of the main process; the others keep theirs.

        Every process must call it. The rows of one process after the other are received where they belong, so that none
        lie in memory twice.
        """
        if self.world.size == 1:
            return own
        if not self.world.is_main_process:
            dist.send(own.cpu(), 0)
            return own
        whole = torch.empty(self.classes * self.subcentres, *own.shape[1:], dtype=own.dtype)
        whole[self.rows(0)] = own.cpu()
        for rank in range(1, self.world.size):
            dist.recv(whole[self.rows(rank)], rank)
        return whole

    @contextmanager
    def whole(self, head: CosineHead) -> Iterator[None]:
        """Give the head of the main process the directions of all classes for a while; every process must enter."""
        own = head.weight.data
        head.weight.data = self.collect(own)
        try:
            yield
        finally:
            head.weight.data = own

    def row_numbers(self, head: CosineHead, embeddings: Tensor, labels: Tensor) -> Tensor:
        """As `validation.row_numbers` of the scores of all classes, which no process computes; every one must call it.

        Args:
            head: holds the directions of this process.
            embeddings: (V, D), and labels: (V,), the same in all processes.
        Returns:
            (V, 2): the cross-entropy, and 1 where the image's class has the highest score.
        """
        blocks = zip(torch.split(embeddings, SCORED), torch.split(labels, SCORED), strict=True)
        found = [_own_numbers(head, part, wanted, self.start) for part, wanted in blocks]
        best, place, total, own = (torch.cat(one) for one in zip(*found, strict=True))
        high = self.world.greatest(best.clone())
        total = self.world.all_reduce(total * (best - high).exp())
        own = self.world.all_reduce(own)
        place = self.world.greatest(torch.where(best == high, -place, -self.classes))  # the first of equal ones
        losses = total.log() + high - own
        return torch.stack([losses, (-place == labels).to(losses.dtype)], 1)

    def _bound(self, rank: int) -> int:
        return rank * self.classes // self.world.size


class ShardedObjective(nn.Module):
    """As `losses.objective.Objective` for margin losses (cosface, arcface, adaface), with the classes of this process.

    Args:
        spec: what to minimise.
        sharding: which classes are whose.
        negatives: share of the classes that a step takes, in (0, 1].
        seed: of the run.
    """

    def __init__(self, spec: ObjectiveSpec, sharding: Sharding, negatives: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.spec, self.sharding, self.negatives, self.seed = spec, sharding, negatives, seed
        self.quality = NormQuality(spec.concentration, spec.norm_rate) if spec.kind == "adaface" else None

    def forward(self, head: CosineHead, features: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Compute the loss of the whole batch, and which images of this process are nearest to their own class.

        The gradient of the features is that of the whole batch's loss times the number of processes, so that their
        mean over the processes is right for the backbone; that of the head's directions is right as it is.

        Args:
            features: (B, F), the share of this process; as many in all of them.
            targets: (B,) class numbers.
            step: of the phase, from 0.
        Returns:
            A scalar, the same in all processes, and (B,) bool: of the classes that were taken.
        """
        world = self.sharding.world
        embeddings = precise(head.embed(features))
        quality = None
        if self.quality is not None:
            quality = _all(self.quality(linalg.vector_norm(embeddings, dim=1)), world)
        labels = _all(targets, world) - self.sharding.start
        count = len(head.weight) // head.subcentres
        mine = (labels >= 0) & (labels < count)
        chosen = self._chosen(torch.where(mine, labels, count), count, step) if self.negatives < 1 else None
        gathered: Tensor = _Gathered.apply(embeddings, world)  # type: ignore[no-untyped-call]
        cosines = precise(head.cosines(gathered, chosen))
        places = labels if chosen is None else torch.searchsorted(chosen, labels.clamp(0, count - 1))
        places = torch.where(mine, places, 0).unsqueeze(1)
        own = cosines.gather(1, places)
        counted = margined(self.spec.kind, own, self.spec.used_margin, None if quality is None else quality[:, None])
        margins = torch.where(mine[:, None], counted, own)
        logits = head.scale * cosines.scatter(1, places, margins)
        with torch.no_grad():
            best = world.greatest(cosines.amax(1))
            right = world.greatest(torch.where(mine, own[:, 0], -2.0)) >= best
        batch = len(targets)
        loss: Tensor = _CrossEntropy.apply(logits, places, mine, world)  # type: ignore[no-untyped-call]
        return loss, right[world.rank * batch : (world.rank + 1) * batch]

    def hits(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Count the images that are nearest to their own class, as `forward` gave them."""
        return scores.sum()

    def _chosen(self, positives: Tensor, count: int, step: int) -> Tensor:
        """Return the classes of a step, ascending: those of the images, and others drawn.

        Args:
            positives: (B,) of all processes; `count` where an image's class is another process's.
        """
        generator = torch.Generator().manual_seed(derive(self.seed, "classes", step, self.sharding.world.rank))
        drawn = moved(torch.rand(count + 1, generator=generator, device="cpu"), positives.device)
        drawn[positives] = 2.0
        # Never fewer than images: how many classes they have is on the device, and no step waits for it.
        wanted = min(count, max(1, round(self.negatives * count), len(positives)))
        return drawn[:count].topk(wanted).indices.sort().values


class _Gathered(torch.autograd.Function):
    """(B, D) of each process -> (B * processes, D) of all."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, world: World) -> Tensor:
        ctx.world = world
        return _all(own, world)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        world = ctx.world
        count = len(gradient) // world.size
        total = world.all_reduce(gradient.contiguous().clone())
        return world.size * total[world.rank * count : (world.rank + 1) * count], None


class _CrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of logits whose classes are shared out.

    Args:
        logits: (B, S), of the classes of this process.
        places: (B, 1) the column of the image's own class, and mine: (B,) whether it is here.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, places: Tensor, mine: Tensor, world: World) -> Tensor:
        high = world.greatest(logits.amax(1))
        shares = (logits - high[:, None]).exp_()
        total = world.all_reduce(shares.sum(1))
        own = world.all_reduce(torch.where(mine, logits.gather(1, places)[:, 0] - high, 0.0))
        ctx.save_for_backward(shares.div_(total[:, None]), places, mine)
        return (total.log() - own).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        shares, places, mine = ctx.saved_tensors
        result = shares.scatter_add(1, places, -mine[:, None].to(shares.dtype))
        return result.mul_(gradient / len(shares)), None, None, None


def _own_numbers(head: CosineHead, embeddings: Tensor, labels: Tensor, start: int) -> tuple[Tensor, ...]:
    """Of the scores of classes from `start` on: the highest, its class, the sum of exponentials of what the others lack
    to it, and the score of the image's class, 0 where that is another process's; (B,) each."""
    scores = head.classify(embeddings)
    best, place = scores.max(1)
    mine = (labels >= start) & (labels < start + scores.shape[1])
    own = scores.gather(1, torch.where(mine, labels - start, 0)[:, None])[:, 0]
    return best, place + start, (scores - best[:, None]).exp_().sum(1), torch.where(mine, own, 0.0)


def _all(own: Tensor, world: World) -> Tensor:
    """(B, …) of each process -> those of all, in order of the ranks."""
    return torch.cat(world.all_gather(own))


def whole_norm(module: nn.Module, own: Tensor, world: World) -> Tensor:
    """Return the norm of the gradient of the backbone and of the class directions `own` of all processes."""
    rest = [p.grad for p in module.parameters() if p.grad is not None and p is not own]
    squares = torch.zeros((), device=world.device) if own.grad is None else own.grad.square().sum()
    return (world.all_reduce(squares) + nn.utils.get_total_norm(rest).square()).sqrt()
