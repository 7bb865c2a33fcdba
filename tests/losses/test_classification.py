"""Cross-entropy, focal and centre loss against sums written out, and by numerical gradients."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from facewright.errors import UsageError
from facewright.losses.classification import CentreLoss, capsule_margin, cross_entropy, focal

B, C = 5, 4
LABELS = torch.tensor([0, 3, 3, 1, 2])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)


def scores(seed: int = 0) -> Tensor:
    return torch.randn(B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shares() -> Tensor:
    return scores(1).softmax(1)


def written_out(logits: Tensor, q: Tensor, gamma: float, smoothing: float, weights: Tensor) -> float:
    total = 0.0
    for i in range(B):
        denominator = sum(math.exp(value) for value in logits[i].tolist())
        for c in range(C):
            p = math.exp(logits[i, c]) / denominator
            share = float(q[i, c]) * (1 - smoothing) + smoothing / C
            total -= float(weights[c]) * share * (1 - p) ** gamma * math.log(p)
    return total / B


@pytest.mark.parametrize("targets", [LABELS, shares()], ids=["labels", "shares"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(targets: Tensor, weights: Tensor | None, smoothing: float) -> None:
    q = targets if targets.ndim == 2 else functional.one_hot(targets, C)
    expected = written_out(scores(), q, 0.0, smoothing, torch.ones(C) if weights is None else weights)
    assert math.isclose(cross_entropy(scores(), targets, smoothing, weights), expected, rel_tol=1e-12)
    logits = scores().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, targets, smoothing, weights), logits)


@pytest.mark.parametrize("targets", [LABELS, shares()], ids=["labels", "shares"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal(targets: Tensor, weights: Tensor | None, gamma: float) -> None:
    q = targets if targets.ndim == 2 else functional.one_hot(targets, C)
    expected = written_out(scores(), q, gamma, 0.0, torch.ones(C) if weights is None else weights)
    assert math.isclose(focal(scores(), targets, gamma, weights), expected, rel_tol=1e-12)
    logits = scores().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: focal(x, targets, gamma, weights), logits)


def test_plain_cross_entropy_is_that_of_pytorch_to_the_bit() -> None:
    logits = scores().float()
    assert torch.equal(
        cross_entropy(logits, LABELS, 0.1), functional.cross_entropy(logits, LABELS, label_smoothing=0.1)
    )


@pytest.mark.parametrize("targets", [LABELS, shares()], ids=["labels", "shares"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_capsule_margin(targets: Tensor, weights: Tensor | None) -> None:
    lengths, q = scores().sigmoid(), targets if targets.ndim == 2 else functional.one_hot(targets, C)
    total = 0.0
    for i in range(B):
        image = importance = 0.0
        for k in range(C):
            length, present = float(lengths[i, k]), float(q[i, k])
            image += present * max(0.0, 0.9 - length) ** 2 + 0.5 * (1 - present) * max(0.0, length - 0.1) ** 2
            importance += present * (1.0 if weights is None else float(weights[k]))
        total += image * importance
    assert math.isclose(capsule_margin(lengths, targets, weights), total / B, rel_tol=1e-12)
    assert torch.autograd.gradcheck(lambda x: capsule_margin(x, targets, weights), lengths.requires_grad_())


def test_capsules_within_the_margins_cost_nothing() -> None:
    assert capsule_margin(torch.tensor([[0.95, 0.05, 0.1]]), torch.tensor([0])) == 0


def test_focal_counts_easy_pictures_for_less() -> None:
    easy = torch.tensor([[4.0, 0.0]])
    hard = torch.tensor([[0.0, 4.0]])
    label = torch.tensor([0])
    assert focal(easy, label) / cross_entropy(easy, label) < 1e-3
    assert focal(hard, label) / cross_entropy(hard, label) > 0.9


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_is_safe_where_a_probability_is_one(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    loss = focal(logits, torch.tensor([0, 0]), gamma)
    loss.backward()
    assert math.isclose(loss.item(), 100.0)  # one picture costs nothing, one 200
    assert logits.grad[0].tolist() == [0.0, 0.0]
    assert torch.allclose(logits.grad[1], torch.tensor([-0.5, 0.5]))


@pytest.mark.parametrize("loss", [cross_entropy, focal])
def test_half_precision_is_computed_in_float32(loss) -> None:
    logits = scores().to(torch.bfloat16)
    assert torch.equal(loss(logits, LABELS), loss(logits.float(), LABELS))


def moved(centres: Tensor, embeddings: Tensor, labels: Tensor, rate: float) -> list[Tensor]:
    """Eq. 4, class by class."""
    result = []
    for c, centre in enumerate(centres):
        members = [embedding for embedding, label in zip(embeddings, labels, strict=True) if label == c]
        change = sum((centre - member for member in members), torch.zeros_like(centre)) / (1 + len(members))
        result.append(centre - rate * change)
    return result


def test_centre_loss_follows_the_paper() -> None:
    centre = CentreLoss(classes=3, width=2, rate=0.5).double()
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(4, 2, dtype=torch.float64, generator=generator) for _ in range(3)]
    labels = torch.tensor([0, 0, 1, 0])
    centre(batches[0], labels)
    # First seen: the mean; a class that was in no batch stays where it was.
    expected = torch.stack([batches[0][[0, 1, 3]].mean(0), batches[0][2], torch.zeros(2, dtype=torch.float64)])
    assert torch.allclose(centre.centres, expected)
    for batch in batches[1:]:
        loss = centre(batch, labels)
        by_hand = sum(float((x - expected[c]) @ (x - expected[c])) for x, c in zip(batch, labels, strict=True)) / 8
        assert math.isclose(loss, by_hand, rel_tol=1e-12)  # with the centres from before the batch
        expected = torch.stack(moved(expected, batch, labels, 0.5))
        assert torch.allclose(centre.centres, expected, atol=1e-12)


def test_centre_loss_gradient() -> None:
    centre = CentreLoss(classes=3, width=2).double()
    labels = torch.tensor([0, 0, 1, 2])
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centre(x + 1, labels)
    centre.eval()
    before = centre.centres.clone()
    assert torch.autograd.gradcheck(lambda y: centre(y, labels), x.requires_grad_())
    assert torch.equal(centre.centres, before)  # looking does not move them


def test_nothing_is_pulled_before_there_is_a_centre() -> None:
    centre = CentreLoss(classes=3, width=2)
    x = torch.full((2, 2), 5.0, requires_grad=True)
    centre.eval()
    centre(x, torch.tensor([0, 1])).backward()
    assert x.grad.abs().max() == 0
    centre.train()
    assert centre(x, torch.tensor([0, 1])).item() == 0  # each is its class's mean


def test_centres_resume_to_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(6, 2, generator=generator) for _ in range(6)]
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    whole, first, second = (CentreLoss(3, 2, rate=0.3) for _ in range(3))
    for batch in batches:
        whole(batch, labels)
    for batch in batches[:3]:
        first(batch, labels)
    second.load_state_dict(first.state_dict())
    for batch in batches[3:]:
        second(batch, labels)
    assert torch.equal(whole.centres, second.centres)
    assert not list(whole.parameters())


def test_centres_settle_where_the_embeddings_are() -> None:
    centre = CentreLoss(classes=2, width=2, rate=0.5)
    labels = torch.tensor([0, 1, 0, 1])
    centre(torch.zeros(4, 2), labels)
    there = torch.tensor([[1.0, 2.0], [-3.0, 4.0], [1.0, 2.0], [-3.0, 4.0]])
    for _ in range(60):
        loss = centre(there, labels)
    assert loss < 1e-6
    assert torch.allclose(centre.centres, there[:2], atol=1e-3)


def test_centre_loss_refuses_what_does_not_fit() -> None:
    centre = CentreLoss(classes=2, width=2)
    with pytest.raises(UsageError, match="centres are 2 wide, the embeddings 3"):
        centre(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(UsageError, match="whole numbers as labels"):
        centre(torch.zeros(4, 2), torch.zeros(4))


# What each of two processes runs, on its half of every batch.
HALF = """
import json, sys
import torch
from facewright.losses.classification import CentreLoss

rank, meeting = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
centre = CentreLoss(3, 2, rate=0.3)
generator = torch.Generator().manual_seed(0)
for step in range(4):
    batch, labels = torch.randn(6, 2, generator=generator), torch.tensor([0, 0, 1, 2, 2, 2])
    centre(batch[rank * 3 : rank * 3 + 3], labels[rank * 3 : rank * 3 + 3])
print(json.dumps(centre.centres.tolist()))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_keep_one_set_of_centres(tmp_path: Path) -> None:
    """Of the three classes, process 0 alone sees the first two and process 1 alone the last."""
    launch = [sys.executable, "-c", HALF]
    both = [
        subprocess.Popen([*launch, str(rank), str(tmp_path / "meeting")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    zero, one = (json.loads(process.communicate(timeout=120)[0]) for process in both)
    assert zero == one
    alone = CentreLoss(3, 2, rate=0.3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        alone(torch.randn(6, 2, generator=generator), torch.tensor([0, 0, 1, 2, 2, 2]))
    assert torch.allclose(torch.tensor(zero), alone.centres, atol=1e-6)
