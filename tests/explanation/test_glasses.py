"""On drawn faces a classifier of glasses must look at the glasses, and stop doing so when its weights are shuffled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facewright.bundle import Bundle
from facewright.data.portrait.head import HeadPose
from facewright.data.portrait.identity import identity_of, moment_of
from facewright.data.records import Record
from facewright.data.sources import open_dataset
from facewright.data.synthetic import SyntheticFaces
from facewright.explanation.class_maps import Explainer
from facewright.inference import Classifier
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model

SIDE, TEST, EPOCHS, SHIFT = 64, 200, 10, 6
WHERE = f"synthetic:faces?identities=140&images=10&size={SIDE}&task=glasses&seed=3"
SPEC = InputSpec(SIDE, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
Mask = NDArray[np.bool_]


def band(source: SyntheticFaces, record: Record, below: float = 0.0) -> Mask:
    """(SIDE, SIDE): the upright box around both lenses, or one of its size further down the face.

    Args:
        below: in half heights of the face; the mouth is about 0.55 below the eyes.
    """
    person, index = source._place(record)
    who = identity_of(source.spec.seed, person)
    head = HeadPose(who, moment_of(who, source.spec.seed, index, source.attributes(who, index)), SIDE)
    middle, apart = who.eye_height + 0.02 + below, max(who.eye_spacing, 0.3) + 0.22  # as glasses are drawn
    corners = head.face(np.array([(side * apart, middle + y) for side in (-1, 0, 1) for y in (-0.2, 0.2)]), 0.12)
    (left, top), (right, bottom) = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return mask


def train(pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """A PatchNet that tells faces with glasses from those without; mirrored and moved about."""
    draws = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("patchnet", 2, input_size=SIDE)
        inputs = functional.pad((pixels.float() / 255 - 0.5) / 0.25, (SHIFT,) * 4, mode="replicate")
        steps = len(inputs) // 32
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=EPOCHS * steps)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(inputs), generator=draws)[: 32 * steps].reshape(steps, 32):
                top, left, mirror = torch.randint(0, 2 * SHIFT + 1, (3,), generator=draws).tolist()
                batch = inputs[rows, :, top : top + SIDE, left : left + SIDE]
                loss = functional.cross_entropy(model(batch.flip(3) if mirror % 2 else batch), labels[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return model.state_dict()


@pytest.mark.slow
def test_the_map_of_glasses_lies_on_the_glasses() -> None:
    data = open_dataset(WHERE)
    source = data.source
    assert isinstance(source, SyntheticFaces)
    pixels = torch.from_numpy(np.stack([source.read(r, None) for r in data.records])).permute(0, 3, 1, 2)
    labels = torch.tensor([record.label for record in data.records])
    weights = train(pixels[TEST:], labels[TEST:])
    ready = Classifier(Bundle("patchnet", "imagenet", data.classes, SPEC, weights))
    right = ready.logits(pixels[:TEST]).argmax(1) == labels[:TEST].numpy()
    assert right.mean() > 0.75
    glasses = data.classes.index("glasses")
    rows = [row for row in range(TEST) if data.records[row].label == glasses]
    shown, boxes = pixels[rows], [band(source, data.records[row]) for row in rows]
    mouths = [band(source, data.records[row], 0.55) & ~box for row, box in zip(rows, boxes, strict=True)]
    chance = float(np.mean([box.mean() for box in boxes]))
    trained = Explainer(ready).maps(shown, [glasses] * len(rows))
    for heats in (trained, Explainer(ready, "grad-cam++").maps(shown, [glasses] * len(rows))):
        on, off, mouth = (
            np.array([heat[mask].mean() for heat, mask in zip(heats, masks, strict=True) if mask.any()])
            for masks in (boxes, [~box for box in boxes], mouths)
        )
        peaks = [bool(box.ravel()[heat.argmax()]) for heat, box in zip(heats, boxes, strict=True)]
        assert on.mean() > 1.4 * off.mean()
        assert on.mean() > mouth.mean()  # it is not only the middle of the face
        assert np.mean(peaks) > 3 * chance
    with torch.random.fork_rng():
        torch.manual_seed(9)
        fresh = create_model("patchnet", 2, input_size=SIDE).state_dict()
    other = Explainer(Classifier(Bundle("patchnet", "imagenet", data.classes, SPEC, fresh)))
    pairs = zip(trained, other.maps(shown, [glasses] * len(rows)), strict=True)
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs if a.any() and b.any()]
    assert not alike or np.mean(alike) < 0.3
