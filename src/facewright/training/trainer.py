"""The training loop, top to bottom: epochs of steps, validation, best weights, a state that resumes to the same bits.

Everything random is a pure function of (seed, position): the order of the pictures, their augmentation, and the global
generator that dropout draws from, which is seeded anew at every step. So the position is all there is to restore, and
neither the number of loader workers nor a kill changes one bit of the weights.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from facewright.data.augment import Augment, mix
from facewright.data.loaders import Loader
from facewright.data.sampling import plan, shard
from facewright.data.store import PixelStore
from facewright.errors import Interrupted, NonFiniteLoss, ResumeError
from facewright.input_spec import InputSpec
from facewright.training import checkpoints, optimizers
from facewright.training.averaging import averaged
from facewright.training.distributed import World
from facewright.training.events import EpochEnded, Listener, Said, Stepped
from facewright.training.history import EpochRow
from facewright.training.schedule import Plateau, Schedule
from facewright.training.seeds import derive
from facewright.training.signals import stop_requests


@dataclass(frozen=True)
class Data:
    """What is trained and validated on."""

    store: PixelStore
    spec: InputSpec
    train: NDArray[np.int64]  # rows of the store
    validation: NDArray[np.int64]
    augment: Augment
    workers: int = 0  # inline: prefetching threads gained nothing beside a training step on two cores


@dataclass(frozen=True)
class Settings:
    """The numbers of the loop."""

    epochs: int
    batch: int
    seed: int
    sizes: tuple[int, ...]  # side in pixels for each epoch; the last is the size the model is meant for
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    clip: float = 0.0  # 0: gradients are not clipped
    ema: float = 0.0  # 0: weights are not averaged
    metric: str = "loss"  # or "accuracy": chooses the best epoch
    patience: int = 0  # 0: never stop early
    dtype: torch.dtype = torch.float32
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int = 0  # 0: by time alone


@dataclass
class Progress:
    """Where the run stands; all of it goes into a checkpoint."""

    epoch: int = 0  # whole epochs done
    step: int = 0  # steps done in the epoch under way
    steps: int = 0  # steps done in all
    images: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0  # over the pictures of the epoch under way
    correct: float = 0.0
    seen: int = 0
    best: float | None = None
    waited: int = 0
    finished: bool = False
    rows: list[EpochRow] = field(default_factory=list)


class Trainer:
    """Trains one model in one run directory.

    Args:
        model: in channels_last memory where that is wanted; its parameters are trained in place.
        optimizer: made by `optimizers.build`.
        schedule: factor of the learning rate at each step.
        plateau: lowers it further when validation stalls, or None.
        keep: called with the weights' owner whenever they are the best so far.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: Schedule,
        plateau: Plateau | None,
        data: Data,
        settings: Settings,
        folder: Path,
        keep: Callable[[nn.Module], None],
        listen: Listener,
        world: World,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.plateau = plateau
        self.data = data
        self.settings = settings
        self.folder = folder
        self.keep = keep
        self.listen = listen
        self.world = world
        self.average = averaged(model, settings.ema) if settings.ema else None
        self.wrapped = world.wrap(model)
        self.labels = torch.from_numpy(data.store.dataset.labels)  # (N,) class numbers, built once
        self.progress = Progress()
        self._clock = time.monotonic()
        self._saved = time.monotonic()

    # The loop ------------------------------------------------------------------------------------------------------

    def fit(self) -> tuple[EpochRow, ...]:
        """Train to the end (or until it stops early) from wherever `progress` stands.

        Raises:
            NonFiniteLoss: the loss is no longer a number; the last checkpoint is still finite.
            Interrupted: asked to stop by a signal; a checkpoint was written first.
        """
        progress, settings = self.progress, self.settings
        self._clock = self._saved = time.monotonic()
        with stop_requests() as stop:
            while progress.epoch < settings.epochs and not progress.finished:
                started = time.monotonic()
                before = progress.images
                self.train_epoch(progress.epoch, stop)
                speed = (progress.images - before) / max(1e-9, time.monotonic() - started)
                self.close_epoch(progress.epoch, self.validate(settings.sizes[progress.epoch]), speed)
        progress.finished = True
        self.checkpoint()
        return tuple(progress.rows)

    def train_epoch(self, epoch: int, stop: Callable[[], bool]) -> None:
        """The steps of one epoch, from `progress.step` on."""
        progress, settings, data = self.progress, self.settings, self.data
        size = settings.sizes[epoch]
        batches = plan(data.train, settings.batch, settings.seed, epoch)
        mine = [shard(batch, self.world.rank, self.world.size) for batch in batches]
        loader = Loader(data.store, data.spec, data.augment, size, settings.seed, data.workers)
        started, first = time.monotonic(), progress.step
        self.wrapped.train()
        for batch in loader.epoch(mine, epoch, start=first):
            self.step(batch.images, batch.indices, epoch)
            done = progress.step - first
            speed = done * settings.batch / max(1e-9, time.monotonic() - started)
            self.report(epoch, len(batches), speed)
            self.checkpoint_if_due()
            if self.world.total([float(stop())])[0] > 0:
                self.checkpoint()
                raise Interrupted(
                    f"stopped at step {progress.steps}; the state is saved, "
                    f"go on with: facewright train --resume --out {shlex.quote(str(self.folder))}"
                )

    def step(self, images: Tensor, indices: NDArray[np.int64], epoch: int) -> None:
        """One update of the weights: images (B, 3, H, W) float32, indices (B,) rows of the store."""
        progress, settings = self.progress, self.settings
        torch.manual_seed(derive(settings.seed, "step", progress.steps, self.world.rank))
        rate = optimizers.set_rate(self.optimizer, self.factor())
        labels = self.labels[torch.from_numpy(indices)]
        images, targets = self.targets(images, labels, epoch)
        with torch.autocast(images.device.type, settings.dtype, enabled=settings.dtype is not torch.float32):
            scores = self.wrapped(images)  # (B, C)
        loss = functional.cross_entropy(scores.float(), targets, label_smoothing=settings.label_smoothing)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteLoss(self._diverged(f"the loss is {value}", rate, indices))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if settings.clip:
            norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip, foreach=True))
            if not math.isfinite(norm):
                raise NonFiniteLoss(self._diverged(f"the gradient's norm is {norm}", rate, indices))
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        correct = float((scores.detach().argmax(1) == labels).sum())
        self._count(value, correct, len(labels))

    def targets(self, images: Tensor, labels: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Class numbers (B,), or where pictures are mixed, shares of classes (B, C)."""
        settings = self.settings
        alpha = settings.mixup or settings.cutmix
        if not alpha:
            return images, labels
        shares = functional.one_hot(labels, len(self.data.store.dataset.classes)).float()
        step = self.progress.step
        return mix(images, shares, alpha, "mixup" if settings.mixup else "cutmix", settings.seed, epoch, step)

    @torch.inference_mode()
    def validate(self, size: int) -> tuple[float, float]:
        """Cross-entropy and accuracy on the validation part, of the averaged weights where there are any."""
        data = self.data
        result = [0.0, 0.0]
        if self.world.writes:
            model = self.judged().eval()
            loader = Loader(data.store, data.spec, None, size, 0, data.workers)
            blocks = np.array_split(data.validation, max(1, math.ceil(len(data.validation) / 64)))
            for batch in loader.epoch(blocks, 0):
                truth = self.labels[torch.from_numpy(batch.indices)]
                scores = model(batch.images).float()
                result[0] += float(functional.cross_entropy(scores, truth, reduction="sum"))
                result[1] += float((scores.argmax(1) == truth).sum())
        loss, correct = self.world.first_says(result)
        return loss / len(data.validation), correct / len(data.validation)

    def judged(self) -> nn.Module:
        """The weights that are validated and kept."""
        return self.model if self.average is None else self.average.module

    def close_epoch(self, epoch: int, validation: tuple[float, float], speed: float) -> None:
        """Write down the epoch; keep the weights if they are the best; decide whether to go on."""
        progress, settings = self.progress, self.settings
        loss, accuracy = validation
        if not math.isfinite(loss):
            raise NonFiniteLoss(self._diverged(f"the validation loss is {loss}", self.rate(), None))
        best = self.judge(settings.sizes[epoch], accuracy if settings.metric == "accuracy" else -loss)
        progress.rows.append(self.row(epoch, validation, speed, best))
        if self.plateau is not None and self.plateau.update(loss):
            self.listen(Said(f"validation loss stalled: learning rate times {self.plateau.scale:g}"))
        progress.epoch, progress.step = epoch + 1, 0
        progress.loss_sum = progress.correct = 0.0
        progress.seen = 0
        if settings.patience and progress.waited >= settings.patience:
            progress.finished = True
            self.listen(Said(f"no better epoch in {settings.patience}: stopped early after epoch {epoch + 1}"))
        self.listen(EpochEnded(progress.rows[-1]))
        self.checkpoint_if_due()

    def judge(self, size: int, score: float) -> bool:
        """Whether this epoch is the best so far, and if so, keep its weights; only epochs at the full size compete."""
        progress = self.progress
        if size != self.settings.sizes[-1]:
            return False
        if progress.best is not None and score <= progress.best:
            progress.waited += 1
            return False
        progress.best, progress.waited = score, 0
        if self.world.writes:
            self.keep(self.judged())
        return True

    def row(self, epoch: int, validation: tuple[float, float], speed: float, best: bool) -> EpochRow:
        """The epoch just done, as it stands in metrics.csv."""
        progress, size = self.progress, self.settings.sizes[epoch]
        loss_sum, correct, seen = self.world.total([progress.loss_sum, progress.correct, float(progress.seen)])
        self._tick()
        return EpochRow(
            epoch=epoch + 1,
            phase=f"{size} px",
            images_seen=progress.images,
            steps=progress.steps,
            image_size=size,
            learning_rate=self.rate(),
            train_loss=loss_sum / seen,
            train_accuracy=correct / seen,
            validation_loss=validation[0],
            validation_accuracy=validation[1],
            seconds=progress.seconds,
            images_per_second=speed,
            best=best,
        )

    def rate(self) -> float:
        """The learning rate of the step just taken."""
        return float(self.optimizer.param_groups[0]["lr"])

    def factor(self) -> float:
        """Of the learning rate, for the step about to be taken."""
        scale = 1.0 if self.plateau is None else self.plateau.scale
        return self.schedule.at(self.progress.steps) * scale

    def report(self, epoch: int, steps: int, speed: float) -> None:
        """Tell the listener about the step just taken."""
        progress, settings = self.progress, self.settings
        left = ((settings.epochs - epoch) * steps - progress.step) * settings.batch / max(speed, 1e-9)
        loss, accuracy = progress.loss_sum / progress.seen, progress.correct / progress.seen
        self.listen(Stepped(epoch + 1, settings.epochs, progress.step, steps, loss, accuracy, speed, left))

    # The state -----------------------------------------------------------------------------------------------------

    def state(self) -> checkpoints.State:
        """Everything that a run needs to go on as if nothing had happened."""
        self._tick()
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizers.tensors_of(self.optimizer).items()}
        facts = {"progress": asdict(self.progress), "plateau": None if self.plateau is None else asdict(self.plateau)}
        return checkpoints.State(tensors, facts)

    def restore(self, state: checkpoints.State) -> None:
        """Take up a state that `state` gave.

        Raises:
            ResumeError: it is of another model or recipe.
        """
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, tensor in state.tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = tensor
        try:
            self.model.load_state_dict(parts["model"])
            if self.average is not None:
                self.average.load_state_dict(parts["average"])
            optimizers.restore(self.optimizer, parts["optimizer"])
        except (RuntimeError, KeyError, IndexError) as error:
            raise ResumeError(f"the checkpoint is of another model or recipe: {str(error).splitlines()[0]}") from None
        facts: dict[str, Any] = dict(state.facts["progress"])
        facts["rows"] = [EpochRow(**row) for row in facts["rows"]]
        self.progress = Progress(**facts)
        if self.plateau is not None:
            self.plateau = Plateau(**state.facts["plateau"])

    def checkpoint(self) -> None:
        """Save the state; only one process writes."""
        if self.world.writes:
            checkpoints.save(self.folder / "checkpoints", self.state(), self.progress.steps)
        self._saved = time.monotonic()

    def checkpoint_if_due(self) -> None:
        """Save the state every so many seconds or steps."""
        settings = self.settings
        by_steps = settings.checkpoint_steps and self.progress.steps % settings.checkpoint_steps == 0
        if by_steps or time.monotonic() - self._saved >= settings.checkpoint_seconds:
            self.checkpoint()

    def _count(self, loss: float, correct: float, images: int) -> None:
        progress = self.progress
        progress.step += 1
        progress.steps += 1
        progress.images += images * self.world.size
        progress.loss_sum += loss * images
        progress.correct += correct
        progress.seen += images

    def _tick(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self._clock
        self._clock = now

    def _diverged(self, what: str, rate: float, indices: NDArray[np.int64] | None) -> str:
        records = self.data.store.dataset.records
        shown = [] if indices is None else [records[row].path for row in indices[:4]]
        if indices is not None and len(indices) > len(shown):
            shown.append("…")
        files = f"; pictures: {', '.join(shown)}" if shown else ""
        place = f"step {self.progress.steps + 1} (epoch {self.progress.epoch + 1})"
        return f"{what} at {place}, learning rate {rate:.3g}{files}; lower optimizer.learning_rate or set training.clip"
