"""The training loop, top to bottom: phases of epochs of steps, validation, best weights, a state that resumes to the
same bits.

Everything random is a pure function of (seed, position): the order of the pictures, their augmentation, and the global
generator that dropout draws from, which is seeded anew at every step. So the position is all there is to restore, and
neither the number of loader workers nor a kill changes one bit of the weights.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from facewright.data.augment import mix
from facewright.errors import Interrupted, NonFiniteLoss, ResumeError
from facewright.events import EpochFinished, EpochRow, EventHandler, Message, StepFinished
from facewright.training import checkpoints, freezing, optimizers, validation
from facewright.training.averaging import averaged
from facewright.training.clipping import clip_unitwise
from facewright.training.distributed import World
from facewright.training.feeding import Data, FeatureFeed, PictureFeed, feature_feed
from facewright.training.learner import Learner
from facewright.training.phases import Phase, Position, Settings
from facewright.training.schedule import Plateau
from facewright.training.seeds import derive
from facewright.training.signals import stop_requests
from facewright.training.validation import Validation


class Trainer:
    """Trains one model in one run directory.

    Args:
        model: in channels_last memory where that is wanted; its parameters are trained in place.
        objective: what is minimised, as `losses.Objective`.
        head: name of the model's head; None where the model is trained as a whole to class scores.
        phases: in order.
        keep: called with the weights' owner whenever they are the best so far.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: nn.Module,
        head: str | None,
        phases: tuple[Phase, ...],
        data: Data,
        settings: Settings,
        folder: Path,
        keep: Callable[[nn.Module], None],
        on_event: EventHandler,
        world: World,
    ) -> None:
        self.model = model
        self.objective = objective
        self.head = head
        self.phases = phases
        self.data = data
        self.settings = settings
        self.folder = folder
        self.keep = keep
        self.on_event = on_event
        self.world = world
        self.progress = Position()
        self.enter()
        self._clock = time.monotonic()
        self._saved = time.monotonic()

    # The loop ------------------------------------------------------------------------------------------------------

    def fit(self) -> tuple[EpochRow, ...]:
        """Train to the end (or until the last phase ends early) from wherever `progress` stands.

        Raises:
            NonFiniteLoss: the loss is no longer a number; the last checkpoint is still finite.
            Interrupted: asked to stop by a signal; a checkpoint was written first.
        """
        progress = self.progress
        self._clock = self._saved = time.monotonic()
        with stop_requests() as stop:
            while not progress.finished:
                self.feed()
                started = time.monotonic()
                before = progress.images
                self.train_epoch(stop)
                speed = (progress.images - before) / max(1e-9, time.monotonic() - started)
                self.close_epoch(self.validate(), speed)
        self.checkpoint()
        return tuple(progress.rows)

    def enter(self) -> None:
        """Make ready for the phase that `progress` stands in: what learns, how fast, and from pictures or features."""
        phase, settings = self.phase, self.settings
        self.used = self.data  # in this phase
        self.labels = torch.from_numpy(self.used.store.dataset.labels)  # (N,) class numbers, built once a phase
        self.optimizer = phase.begin(self.model)
        self.plateau = None if phase.plateau is None else replace(phase.plateau)
        self.average = averaged(self.model, settings.ema) if settings.ema else None
        self.wrapped = self.world.wrap(Learner(self.model, self.objective, self.head, settings.dtype))
        self._feed: PictureFeed | FeatureFeed | None = None  # made when the phase's first step is taken

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return self.phases[self.progress.phase]

    def feed(self) -> PictureFeed | FeatureFeed:
        """Where the phase's steps get their inputs from; of a frozen body the features are computed here, once."""
        if self._feed is None:
            phase, settings, world = self.phase, self.settings, self.world
            for until_now in self.phases[: self.progress.phase + 1]:  # what earlier phases added stays
                if until_now.extend is not None:
                    self.used = until_now.extend(self.judged(), self.used)
            self.labels = torch.from_numpy(self.used.store.dataset.labels)
            data = self.used
            if phase.draws and self.head is not None:
                size, seed, dtype = phase.sizes[0], settings.seed, settings.dtype
                self._feed = feature_feed(
                    self.model, self.head, data, phase.draws, size, seed, dtype, self.on_event, world
                )
            else:
                self._feed = PictureFeed(data, phase.sizes, settings.seed, world)
        return self._feed

    def train_epoch(self, stop: Callable[[], bool]) -> None:
        """The steps of one epoch, from `progress.step` on."""
        progress, settings = self.progress, self.settings
        batches = self.used.plan(progress.epoch)
        started, first = time.monotonic(), progress.step
        self.wrapped.train()
        freezing.training_mode(self.model, self.phase.frozen_norms)
        for inputs, indices in self.feed().training(batches, progress.epoch, progress.phase_epoch, first):
            self.step(inputs, indices)
            done = progress.step - first
            speed = done * settings.batch / max(1e-9, time.monotonic() - started)
            self.report(len(batches), speed)
            self.checkpoint_if_due()
            if self.world.total([float(stop())])[0] > 0:
                self.checkpoint()
                raise Interrupted(
                    f"stopped at step {progress.steps}; the state is saved, "
                    f"go on with: facewright train --resume --out {shlex.quote(str(self.folder))}"
                )

    def step(self, inputs: Tensor, indices: NDArray[np.int64]) -> None:
        """One update of the weights: pictures or features, and the rows (B,) of the store they are of."""
        progress, settings = self.progress, self.settings
        torch.manual_seed(derive(settings.seed, "step", progress.steps, self.world.rank))
        rate = optimizers.set_rate(self.optimizer, self.factor())
        labels = self.labels[torch.from_numpy(indices)]
        inputs, targets = self.targets(inputs, labels)
        loss, scores = self.wrapped(inputs, targets, progress.phase_steps)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteLoss(self._diverged(f"the loss is {value}", rate, indices))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.clip(rate, indices)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        correct = float((scores.detach().argmax(1) == labels).sum())
        self._count(value, correct, len(labels))

    def clip(self, rate: float, indices: NDArray[np.int64]) -> None:
        """Shorten gradients that are too long."""
        settings = self.settings
        if settings.adaptive_clip:
            head = f"{getattr(self.model, 'classifier_name', self.head)}."
            body = (p for name, p in self.model.named_parameters() if not name.startswith(head))
            clip_unitwise(body, settings.adaptive_clip)
        if settings.clip:
            norm = float(nn.utils.clip_grad_norm_(self.wrapped.parameters(), settings.clip, foreach=True))
            if not math.isfinite(norm):
                raise NonFiniteLoss(self._diverged(f"the gradient's norm is {norm}", rate, indices))

    def targets(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Class numbers (B,), or where pictures are mixed, shares of classes (B, C)."""
        settings, progress = self.settings, self.progress
        alpha = settings.mixup or settings.cutmix
        if not alpha:
            return images, labels
        shares = functional.one_hot(labels, len(self.used.store.dataset.classes)).float()
        kind: Literal["mixup", "cutmix"] = "mixup" if settings.mixup else "cutmix"
        return mix(images, shares, alpha, kind, settings.seed, progress.epoch, progress.step)

    @torch.inference_mode()
    def validate(self) -> Validation:
        """The validation part, judged by the averaged weights where there are any."""
        found = Validation(0.0, 0.0, 0.0)
        if self.world.writes:
            model = self.judged().eval()
            scores, rows = zip(*self.feed().validation(model, self.progress.phase_epoch), strict=True)
            labels = self.labels[torch.from_numpy(np.concatenate(rows))]
            found = validation.judge(torch.cat(scores), labels, self.settings.metric)
        return Validation(*self.world.first_says([found.loss, found.accuracy, found.score]))

    def judged(self) -> nn.Module:
        """The weights that are validated and kept."""
        return self.model if self.average is None else self.average.module

    def close_epoch(self, found: Validation, speed: float) -> None:
        """Write down the epoch; keep the weights if they are the best; decide whether to go on."""
        progress, settings = self.progress, self.settings
        if not found.finite():
            raise NonFiniteLoss(self._diverged(f"the validation loss is {found.loss}", self.rate(), None))
        best = self.judge(found)
        progress.rows.append(self.row(found, speed, best))
        if self.plateau is not None and self.plateau.update(-found.score):
            self.on_event(Message(f"validation stalled: learning rate times {self.plateau.scale:g}"))
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.phase_epoch += 1
        progress.loss_sum = progress.correct = 0.0
        progress.seen = 0
        stalled = bool(settings.patience) and progress.waited >= settings.patience
        if stalled:
            self.on_event(
                Message(f"no better epoch in {settings.patience}: stopped early after epoch {progress.epoch}")
            )
        self.on_event(EpochFinished(progress.rows[-1]))
        if stalled or progress.phase_epoch == len(self.phase.sizes):
            self.leave()
        self.checkpoint_if_due()

    def leave(self) -> None:
        """Go on to the next phase, or finish."""
        progress = self.progress
        if progress.phase + 1 == len(self.phases):
            progress.finished = True
            return
        progress.phase, progress.phase_epoch, progress.phase_steps, progress.waited = progress.phase + 1, 0, 0, 0
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())  # what was judged is what goes on
        self.enter()

    def judge(self, found: Validation) -> bool:
        """Whether this epoch is the best so far, and if so, keep its weights; only epochs at the full size compete.

        Of equal scores the lower loss is better: on a small validation part accuracy and HTER soon stand still.
        """
        progress, sizes = self.progress, self.phase.sizes
        if sizes[progress.phase_epoch] != sizes[-1]:
            return False
        if progress.best is not None and (found.score, -found.loss) <= (progress.best, -progress.best_loss):
            progress.waited += 1
            return False
        progress.best, progress.best_loss, progress.waited = found.score, found.loss, 0
        if self.world.writes:
            self.keep(self.judged())
        return True

    def row(self, found: Validation, speed: float, best: bool) -> EpochRow:
        """The epoch just done, as it stands in metrics.csv."""
        progress, phase = self.progress, self.phase
        loss_sum, correct, seen = self.world.total([progress.loss_sum, progress.correct, float(progress.seen)])
        self._tick()
        return EpochRow(
            epoch=progress.epoch + 1,
            phase=phase.name,
            images_seen=progress.images,
            steps=progress.steps,
            image_size=phase.sizes[progress.phase_epoch],
            learning_rate=self.rate(),
            train_loss=loss_sum / seen,
            train_accuracy=correct / seen,
            validation_loss=found.loss,
            validation_accuracy=found.accuracy,
            validation_score=found.score,
            seconds=progress.seconds,
            images_per_second=speed,
            best=best,
        )

    def rate(self) -> float:
        """The learning rate of the step just taken, of what learns fastest."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def factor(self) -> float:
        """Of the learning rate, for the step about to be taken."""
        scale = 1.0 if self.plateau is None else self.plateau.scale
        return self.phase.schedule.at(self.progress.phase_steps) * scale

    def report(self, steps: int, speed: float) -> None:
        """Tell the listener about the step just taken."""
        progress = self.progress
        later = sum(len(phase.sizes) for phase in self.phases[progress.phase + 1 :])
        epochs = progress.epoch + len(self.phase.sizes) - progress.phase_epoch + later
        left = ((epochs - progress.epoch) * steps - progress.step) * self.settings.batch / max(speed, 1e-9)
        loss, accuracy = progress.loss_sum / progress.seen, progress.correct / progress.seen
        self.on_event(StepFinished(progress.epoch + 1, epochs, progress.step, steps, loss, accuracy, speed, left))

    # The state -----------------------------------------------------------------------------------------------------

    def state(self) -> checkpoints.State:
        """Everything that a run needs to go on as if nothing had happened."""
        self._tick()
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        tensors |= {f"objective.{name}": tensor for name, tensor in self.objective.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizers.tensors_of(self.optimizer).items()}
        facts = {"progress": asdict(self.progress), "plateau": None if self.plateau is None else asdict(self.plateau)}
        return checkpoints.State(tensors, facts)

    def restore(self, state: checkpoints.State) -> None:
        """Take up a state that `state` gave.

        Raises:
            ResumeError: it is of another model or recipe.
        """
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "objective": {}, "optimizer": {}}
        for name, tensor in state.tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = tensor
        facts: dict[str, Any] = dict(state.facts["progress"])
        facts["rows"] = [EpochRow(**row) for row in facts["rows"]]
        try:
            self.progress = Position(**facts)
            self.enter()
            self.model.load_state_dict(parts["model"])
            self.objective.load_state_dict(parts["objective"])
            if self.average is not None:
                self.average.load_state_dict(parts["average"])
            optimizers.restore(self.optimizer, parts["optimizer"])
        except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ResumeError(f"the checkpoint is of another model or recipe: {str(error).splitlines()[0]}") from None
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
        progress.phase_steps += 1
        progress.images += images * self.world.size
        progress.loss_sum += loss * images
        progress.correct += correct
        progress.seen += images

    def _tick(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self._clock
        self._clock = now

    def _diverged(self, what: str, rate: float, indices: NDArray[np.int64] | None) -> str:
        records = self.used.store.dataset.records
        shown = [] if indices is None else [records[row].path for row in indices[:4]]
        if indices is not None and len(indices) > len(shown):
            shown.append("…")
        files = f"; pictures: {', '.join(shown)}" if shown else ""
        place = f"step {self.progress.steps + 1} (epoch {self.progress.epoch + 1})"
        return f"{what} at {place}, learning rate {rate:.3g}{files}; lower optimizer.learning_rate or set training.clip"
