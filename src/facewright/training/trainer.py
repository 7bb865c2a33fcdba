"""The training loop, top to bottom: phases of epochs of steps, validation, best weights, a bit-identical resume.

Everything random is a pure function of (seed, position): the order of the images, their augmentation, and the global
generator that dropout draws from, which is seeded again at every step. So neither the number of loader workers nor a
kill changes one bit of the weights.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from facewright.data.augment import mix, mixing_draws
from facewright.data.sampling import derive
from facewright.devices import Readback, moved
from facewright.errors import Interrupted, NonFiniteLoss
from facewright.events import EpochFinished, EpochRow, EventHandler, Message, Progress, StepFinished, ignore_event
from facewright.training import checkpoints, history, optimizers, validation
from facewright.training.added_images import mine_hard_negatives, with_hard_negatives
from facewright.training.distributed import stop_requests
from facewright.training.history import Position, StepNumbers, divergence
from facewright.training.loading import Data, FeatureLoader, ImageLoader
from facewright.training.recipe import Recipe
from facewright.training.recipe_parts import Phase, Plateau
from facewright.training.sharding import ShardedObjective, whole_norm
from facewright.training.training_module import AveragedNetwork, TrainingModule
from facewright.training.validation import Validation

STOP_EVERY = 8  # steps between two questions among processes whether one of them is to stop


class Trainer:
    """Trains one network in one run directory.

    Args:
        module: the network with its objective, on the device of the data's world; trained in place.
        folder: the run directory: metrics.csv, checkpoints/ and hard negatives are kept here.
        save_best: called with the network whenever its weights are the best so far.
    """

    def __init__(
        self,
        module: TrainingModule,
        data: Data,
        recipe: Recipe,
        folder: Path,
        save_best: Callable[[nn.Module], None],
        on_event: EventHandler = ignore_event,
    ) -> None:
        self.module, self.data, self.recipe, self.folder = module, data, recipe, folder
        self.save_best, self.on_event, self.world = save_best, on_event, data.world
        self.phases = tuple(recipe.all_phases.items())
        self.sharding = module.objective.sharding if isinstance(module.objective, ShardedObjective) else None
        self.trained = [
            optimizers.trained_names(module.network, phase.train) for _, phase in self.phases
        ]  # none frozen
        self.position = Position()
        self.scaler = torch.amp.GradScaler(self.world.device.type, enabled=module.dtype is torch.float16)
        self.numbers = StepNumbers()
        self.start_phase()
        self._clock = self._saved = time.monotonic()

    def fit(self) -> tuple[EpochRow, ...]:
        """Train to the end (or until the last phase ends early) from wherever `position` stands.

        Raises:
            NonFiniteLoss: the loss is no longer a number; the last checkpoint is still finite.
            Interrupted: asked to stop by a signal; a checkpoint was written first.
        """
        position = self.position
        self._clock = self._saved = time.monotonic()
        with stop_requests() as stop_requested:
            while not position.finished:
                speed = self.train_epoch(stop_requested)
                self.finish_epoch(self.validate(), speed)
        self.on_event(Progress("saving a checkpoint", 0, 1))
        self.checkpoint()
        return tuple(position.rows)

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self.module.network

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return self.phases[self.position.phase][1]

    def start_phase(self) -> None:
        """Make ready for the phase that `position` stands in: what learns, and how fast."""
        phase, recipe = self.phase, self.recipe
        optimizers.freeze(self.network, self.trained[self.position.phase])
        groups = optimizers.rate_groups(self.network, phase.layer_decay)
        learned = tuple(self.module.objective.parameters())  # the weights of several losses
        groups += (optimizers.Group(learned, 1.0, head=True),) if learned else ()
        self.optimizer = optimizers.build(recipe.optimizer, groups, phase.learning_rate)
        self.plateau = Plateau() if recipe.schedule.name == "plateau" else None
        self.average = AveragedNetwork(self.network, recipe.training.ema) if recipe.training.ema else None
        own = () if self.sharding is None else (f"network.{self.module.head}.weight",)
        self.wrapped = self.world.wrap(self.module, own)
        self.warmups, self.warm_seconds = self.module.warmups, 0.0
        self.loader: ImageLoader | FeatureLoader | None = None  # made when the phase's first step is taken

    def prepare_inputs(self) -> ImageLoader | FeatureLoader:
        """Find the phase's hard negatives, and compute the features of a frozen backbone, once a phase."""
        if self.loader is not None:
            return self.loader
        phase, data = self.phase, self.data
        for name, so_far in self.phases[: self.position.phase + 1]:  # what earlier phases added stays
            if so_far.hard_negatives:
                kept, limit = self.folder / f"mined-{name}.npy", so_far.hard_negatives
                if not kept.is_file() and self.world.is_main_process:  # a resumed run trains on the same
                    mine_hard_negatives(self.validated_network, data, self.recipe, limit, kept, self.on_event)
                self.world.barrier()
                data = with_hard_negatives(data, self.recipe, kept, self.on_event)
        self.inputs_data = data
        self.truth = moved(torch.from_numpy(data.store.dataset.truth), self.world.device)  # (N,), or (N, T) targets
        if phase.draws and self.module.head is not None:
            size = self.recipe.image_size(self.position.epoch)
            self.loader = FeatureLoader(data, self.module, phase.draws, size, self.on_event)
        else:
            self.loader = ImageLoader(data, self.on_event)
        return self.loader

    def train_epoch(self, stop_requested: Callable[[], bool]) -> float:
        """Take the steps of one epoch, from `position.step` on; return images a second."""
        position, loader = self.position, self.prepare_inputs()
        batches = self.inputs_data.plan(position.epoch)
        started, seen = time.monotonic(), position.images
        self.wrapped.train()
        optimizers.training_mode(self.network, self.phase.frozen_norms)
        size = self.recipe.image_size(position.epoch)
        for inputs, indices in loader.training(batches, size, position.epoch, position.phase_epoch, position.step):
            whole = len(batches[position.step])
            if self.warmups and inputs.ndim != 2:
                started, seen = started + self.warm_up(inputs, indices, whole), seen + whole
            else:
                self.step(inputs, indices, whole)
                speed = (position.images - seen) / max(1e-9, time.monotonic() - started)
                self.report(len(batches), speed)
            self.checkpoint_if_due()
            together = self.world.size > 1 and position.steps % STOP_EVERY
            if not together and self.world.all_reduce_sum([float(stop_requested())])[0] > 0:
                self.checkpoint()
                raise Interrupted(
                    f"stopped at step {position.steps}; the state is saved, "
                    f"resume with: facewright train --resume --out {shlex.quote(str(self.folder))}"
                )
        self.settle()
        return (position.images - seen) / max(1e-9, time.monotonic() - started)

    def warm_up(self, inputs: Tensor, indices: NDArray[np.int64], whole: int) -> float:
        """Take a step in which torch compiles or records, and tell its time apart; return its seconds."""
        began = time.monotonic()
        self.step(inputs, indices, whole)
        self.settle()
        seconds = time.monotonic() - began
        self._clock += seconds
        self.warmups, self.warm_seconds = self.warmups - 1, self.warm_seconds + seconds
        if not self.warmups:
            self.on_event(Message(f"compiled in {self.warm_seconds:.1f} s, which the times of the epochs leave out"))
        return seconds

    def step(self, inputs: Tensor, indices: NDArray[np.int64], whole: int | None = None) -> None:
        """Update the weights once.

        Args:
            inputs: images or features. indices: (B,) the rows of the store they are of.
            whole: images of the batch in all processes; None: as many in each.
        """
        whole = len(indices) * self.world.size if whole is None else whole
        position = self.position
        torch.manual_seed(derive(self.data.seed, "step", position.steps, self.world.rank))
        rate = optimizers.set_rate(self.optimizer, self.rate_factor(position.phase_steps))
        labels = self.truth_of(indices)
        inputs, targets = self.targets(inputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss, scores = self.backward(inputs, targets, len(indices) * self.world.size / whole)
        norm = self.clip_gradients()
        correct = self.module.objective.hits(scores, labels)  # type: ignore[operator]
        numbers = torch.stack([loss.float(), correct.float(), *([] if norm is None else [norm.float()])])
        place = f"step {position.steps + 1} (epoch {position.epoch + 1}), learning rate {rate:.3g}"
        self.numbers.add(place, indices, Readback(numbers))
        self.settle(later=0 if self.world.device.type == "cpu" or not position.seen else 1)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network)
        position.take_step(whole)

    def backward(self, inputs: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Sum up the gradients of the parts of a batch; return the loss and the scores of the whole.

        Args:
            share: of this process in the batch, over that of an even one; processes average their gradients.
        """
        parts = self.recipe.training.accumulate
        losses, scores = [], []
        chunks = list(zip(inputs.chunk(parts), targets.chunk(parts), strict=True))
        for number, (part, wanted) in enumerate(chunks, 1):
            alone = self.world.size > 1 and number < len(chunks)  # processes average once a step
            with self.wrapped.no_sync() if alone else nullcontext():  # type: ignore[operator]
                loss, found = self.wrapped(part, wanted, self.position.phase_steps)
                loss = loss * (len(part) / len(inputs))
                torch.autograd.backward(self.scaler.scale(loss * share if share != 1 else loss))
            losses.append(loss.detach())
            scores.append(found.detach())
        return torch.stack(losses).sum(), torch.cat(scores)

    def settle(self, later: int = 0) -> None:
        """Count the loss and the hits of the steps taken, all but the last `later`, as `StepNumbers.settle`."""
        self.numbers.settle(self.position, lambda: self.inputs_data.store.dataset.records, later)

    def clip_gradients(self) -> Tensor | None:
        """Shorten gradients that are too long; return their norm where it was to be clipped and must be a number."""
        training = self.recipe.training
        if training.adaptive_clip or training.clip:
            self.scaler.unscale_(self.optimizer)
        if training.adaptive_clip:
            head = f"{getattr(self.network, 'classifier_name', self.module.head)}."
            backbone = (p for name, p in self.network.named_parameters() if not name.startswith(head))
            optimizers.clip_unitwise(backbone, training.adaptive_clip)
        if not training.clip:
            return None
        foreach = True if self.world.device.type in optimizers.FUSED else None
        if self.sharding is None:
            norm = nn.utils.clip_grad_norm_(self.wrapped.parameters(), training.clip, foreach=foreach)
        else:
            norm = whole_norm(self.wrapped, self.class_weight, self.world)
            nn.utils.clip_grads_with_norm_(self.wrapped.parameters(), training.clip, norm, foreach=foreach)
        return None if self.scaler.is_enabled() else norm  # float16: the scaler skips a step that overflows

    def targets(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and class numbers (B,) or targets (B, T); of mixed images the shares of classes (B, C)."""
        training, position = self.recipe.training, self.position
        alpha = training.mixup or training.cutmix
        if not alpha:
            return images, labels
        shares = functional.one_hot(labels, self.data.classes).float()
        kind = "mixup" if training.mixup else "cutmix"
        draws = mixing_draws(self.data.seed, position.epoch, position.step)
        return mix(images, shares, alpha, kind, draws)  # type: ignore[arg-type]

    @property
    def validated_network(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights where there is one."""
        return self.network if self.average is None else self.average.module

    def validate(self) -> Validation:
        """Measure the validation part and the verification sets, each process its share."""
        assert self.loader is not None
        self.on_event(Progress("validating", 0, 1))
        network, size = self.validated_network.eval(), self.recipe.image_size(self.position.epoch)
        result = validation.validated(self, network, self.loader.validation(size))
        return validation.verified(self, result, network, size)

    def truth_of(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the class numbers (B,) or targets (B, T) of rows of the store, on the device."""
        return self.truth[moved(torch.from_numpy(rows), self.world.device)]

    def whole_classes(self) -> AbstractContextManager[None]:
        """Give the main process's validated network the directions of all classes; every process must enter."""
        if self.sharding is None:
            return nullcontext()
        return self.sharding.whole(self.validated_network.get_submodule(str(self.module.head)))  # type: ignore[arg-type]

    def finish_epoch(self, result: Validation, speed: float) -> None:
        """Write down the epoch; keep the weights if they are the best; decide whether to go on."""
        position, patience = self.position, self.recipe.selection.patience
        if not result.finite():
            fault, place = f"the validation loss is {result.loss}", f"epoch {position.epoch + 1}"
            raise NonFiniteLoss(divergence(fault, place, self.inputs_data.store.dataset.records))
        best = self.update_best(result)
        position.rows.append(self.row(result, speed, best))
        schedule, rate = self.recipe.schedule, self.phase.learning_rate
        if self.plateau is not None and self.plateau.update(-result.score, schedule, rate):
            self.on_event(Message(f"validation stalled: learning rate times {self.plateau.scale:g}"))
        position.end_epoch()
        stalled = bool(patience) and position.waited >= patience
        if stalled:
            self.on_event(Message(f"no better epoch in {patience}: stopped early after epoch {position.epoch}"))
        if self.world.is_main_process:
            history.write_csv(self.folder, position)
        self.on_event(EpochFinished(position.rows[-1]))
        if stalled or position.phase_epoch == self.phase.epochs:
            self.finish_phase()
        self.checkpoint_if_due()

    def finish_phase(self) -> None:
        """Go on to the next phase, or finish."""
        position = self.position
        if position.phase + 1 == len(self.phases):
            position.finished = True
            return
        position.end_phase()
        if self.average is not None:
            self.network.load_state_dict(self.average.module.state_dict())  # what was validated is what goes on
        self.start_phase()

    def update_best(self, result: Validation) -> bool:
        """Keep the weights of the best epoch so far at the full size; of equal scores the lower loss is better."""
        position = self.position
        if self.recipe.image_size(position.epoch) != self.recipe.image_size(self.recipe.epochs - 1):
            return False
        if position.best is not None and (result.score, -result.loss) <= (position.best, -position.best_loss):
            position.waited += 1
            return False
        position.best, position.best_loss, position.waited = result.score, result.loss, 0
        with self.whole_classes():
            if self.world.is_main_process:
                self.save_best(self.validated_network)
        return True

    def row(self, result: Validation, speed: float, best: bool) -> EpochRow:
        """Return the epoch just done, as it stands in metrics.csv."""
        position = self.position
        loss_sum, correct, seen = self.world.all_reduce_sum([position.loss_sum, position.correct, float(position.seen)])
        self._tick()
        return EpochRow(
            epoch=position.epoch + 1,
            phase=self.phases[position.phase][0],
            images_seen=position.images,
            steps=position.steps,
            image_size=self.recipe.image_size(position.epoch),
            learning_rate=optimizers.rate(self.optimizer),
            train_loss=loss_sum / seen,
            train_accuracy=correct / seen,
            validation_loss=result.loss,
            validation_accuracy=result.accuracy,
            validation_score=result.score,
            seconds=position.seconds,
            images_per_second=speed,
            best=best,
        )

    def rate_factor(self, step: int) -> float:
        """Return the factor of the learning rate for a step of the phase, from 0 on."""
        per_epoch = self.data.steps + self.phase.hard_negatives // self.data.batch  # if as many are found as wanted
        scale = 1.0 if self.plateau is None else self.plateau.scale
        steps = per_epoch * self.phase.epochs
        return self.recipe.schedule.at(step, steps, per_epoch) * scale

    def report(self, steps: int, speed: float) -> None:
        """Report the step just taken; the loss and the accuracy of a device are those up to the step before it."""
        position = self.position
        later = sum(phase.epochs for _, phase in self.phases[position.phase + 1 :])
        epochs = position.epoch + self.phase.epochs - position.phase_epoch + later
        left = ((epochs - position.epoch) * steps - position.step) * self.data.batch / max(speed, 1e-9)
        loss, accuracy = position.loss_sum / position.seen, position.correct / position.seen
        self.on_event(StepFinished(position.epoch + 1, epochs, position.step, steps, loss, accuracy, speed, left))

    @property
    def class_weight(self) -> Tensor:
        """The class directions of the head, of this process where they are shared out."""
        weight = self.network.get_submodule(str(self.module.head)).weight
        assert isinstance(weight, Tensor)
        return weight

    def state(self) -> checkpoints.State:
        """Return everything that a run needs to resume as if nothing had happened."""
        self._tick()
        self.settle()
        return checkpoints.state_of(self)

    def restore(self, state: checkpoints.State) -> None:
        """Take up a state that `state` gave. Raises ResumeError: it is of another model or recipe."""
        checkpoints.restore_trainer(self, state)
        if self.position.step:  # no step may be left in this epoch, whose row holds the rate of the last one
            optimizers.set_rate(self.optimizer, self.rate_factor(self.position.phase_steps - 1))

    def checkpoint(self) -> None:
        """Save the state: the main process all of it, but for class directions that are shared out."""
        checkpoints.save_trainer(self)
        self._saved = time.monotonic()

    def checkpoint_if_due(self) -> None:
        """Save the state every so many seconds or steps."""
        training = self.recipe.training
        by_steps = training.checkpoint_steps and self.position.steps % training.checkpoint_steps == 0
        by_time = time.monotonic() - self._saved >= training.checkpoint_seconds
        if self.sharding is not None and self.world.size > 1:  # all write together: the clock of the first counts
            asked = self.position.steps % STOP_EVERY == 0
            by_time = asked and self.world.all_reduce_sum([float(by_time and self.world.is_main_process)])[0] > 0
        if by_steps or by_time:
            self.checkpoint()

    def _tick(self) -> None:
        now = time.monotonic()
        self.position.seconds += now - self._clock
        self._clock = now
