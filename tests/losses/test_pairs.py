"""Losses on pairs and triplets against loops over all of them, by numerical gradients, and in the corners."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from facewright.errors import UnknownName, UsageError
from facewright.losses.objective import contrastive, score_distributions, triplet

MININGS = ["all", "semi-hard", "batch-hard"]
LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 0])
LOSSES = {
    "contrastive": contrastive,
    "distributions": score_distributions,
    "all": lambda x, y: triplet(x, y, 0.2, "all"),
    "semi-hard": lambda x, y: triplet(x, y, 0.2, "semi-hard"),
    "batch-hard": lambda x, y: triplet(x, y, 0.2, "batch-hard"),
}


def embeddings(seed: int = 0, n: int = len(LABELS)) -> Tensor:
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def units(x: Tensor) -> list[list[float]]:
    return [[float(value) / math.hypot(*row) for value in row] for row in x.tolist()]


def squared(a: list[float], b: list[float]) -> float:
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))


def contrast(d2: float, same: bool, margin: float) -> float:
    return d2 / 2 if same else max(0.0, margin - math.sqrt(d2)) ** 2 / 2


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_contrastive(margin: float) -> None:
    x = embeddings()
    pairs = list(itertools.combinations(zip(units(x), LABELS.tolist(), strict=True), 2))
    expected = sum(contrast(squared(a, b), p == q, margin) for (a, p), (b, q) in pairs) / len(pairs)
    assert math.isclose(contrastive(x, LABELS, margin), expected, rel_tol=1e-12)
    assert torch.autograd.gradcheck(lambda y: contrastive(y, LABELS, margin), x.requires_grad_())


def distributions_written_out(x: Tensor, labels: Tensor, nodes: int) -> float:
    rows, step = units(x), 2 / (nodes - 1)
    histograms = {True: [0.0] * nodes, False: [0.0] * nodes}
    counts = {True: 0, False: 0}
    for i, j in itertools.combinations(range(len(rows)), 2):
        score = sum(p * q for p, q in zip(rows[i], rows[j], strict=True))
        same = bool(labels[i] == labels[j])
        counts[same] += 1
        for r in range(nodes):
            histograms[same][r] += max(0.0, 1 - abs(score - (-1 + r * step)) / step)
    return sum(
        histograms[False][r] / counts[False] * sum(histograms[True][: r + 1]) / counts[True] for r in range(nodes)
    )


@pytest.mark.parametrize("nodes", [2, 11, 101])
def test_score_distributions(nodes: int) -> None:
    x = embeddings()
    assert math.isclose(
        score_distributions(x, LABELS, nodes), distributions_written_out(x, LABELS, nodes), rel_tol=1e-9
    )
    assert torch.autograd.gradcheck(lambda y: score_distributions(y, LABELS, nodes), x.requires_grad_())


def test_score_distributions_know_perfect_and_worst() -> None:
    apart = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])
    assert score_distributions(apart, torch.tensor([0, 0, 1, 1])) == 0
    crossed = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])  # of one person: opposite
    # Genuine pairs all at -1, impostor pairs at -1 and 1: every genuine score is at most every impostor's.
    assert score_distributions(crossed, torch.tensor([0, 0, 1, 1])) == 1


def triplets_written_out(x: Tensor, labels: Tensor, margin: float, mining: str) -> float:
    rows, count = units(x), len(labels)
    d = [[squared(a, b) for b in rows] for a in rows]
    losses = []
    for a in range(count):
        positives = [p for p in range(count) if p != a and labels[p] == labels[a]]
        negatives = [n for n in range(count) if labels[n] != labels[a]]
        if mining == "all":
            losses += [max(0.0, d[a][p] - d[a][n] + margin) for p in positives for n in negatives]
        elif mining == "semi-hard":
            for p in positives:
                fitting = [d[a][n] for n in negatives if d[a][p] < d[a][n] < d[a][p] + margin]
                losses += [d[a][p] - min(fitting) + margin] if fitting else []
        elif positives and negatives:
            losses.append(max(0.0, max(d[a][p] for p in positives) - min(d[a][n] for n in negatives) + margin))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("margin", [0.2, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_triplet(mining, margin: float, seed: int) -> None:
    x = embeddings(seed)
    expected = triplets_written_out(x, LABELS, margin, mining)
    assert expected > 0
    assert math.isclose(triplet(x, LABELS, margin, mining), expected, rel_tol=1e-10)
    assert torch.autograd.gradcheck(lambda y: triplet(y, LABELS, margin, mining), x.requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_lengths_do_not_matter(name: str) -> None:
    x = embeddings()
    longer = x * torch.linspace(0.1, 50, len(x), dtype=torch.float64).unsqueeze(1)
    assert math.isclose(LOSSES[name](x, LABELS), LOSSES[name](longer, LABELS), rel_tol=1e-9)


# Each row: what the batch lacks -> labels, and for which losses that leaves nothing.
LACKING = {
    "all strangers": (torch.arange(6), ["distributions", *MININGS]),
    "one person": (torch.zeros(6, dtype=torch.int64), ["distributions", *MININGS]),
    "one picture": (torch.tensor([0]), list(LOSSES)),
}


@pytest.mark.parametrize(("lack", "name"), [(lack, name) for lack, (_, names) in LACKING.items() for name in names])
def test_what_a_batch_lacks_counts_nothing(lack: str, name: str) -> None:
    labels = LACKING[lack][0]
    x = embeddings(n=len(labels)).float().requires_grad_()
    loss = LOSSES[name](x, labels)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_no_semi_hard_negative_counts_nothing() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0]], requires_grad=True)  # the stranger is far beyond
    loss = triplet(x, torch.tensor([0, 0, 1]), 0.2, "semi-hard")
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


CORNERS = {
    "all alike": torch.ones(4, 3),  # cosines of 1, distances of 0
    "opposite": torch.tensor([[1.0, 0, 0], [-1, 0, 0], [1, 0, 0], [-1, 0, 0]]),
    "no direction": torch.zeros(4, 3),
    "one without direction": torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "huge": torch.tensor([[1e15, 0, 0], [0, 1e15, 0], [0, 0, 1e15], [1e15, 1e15, 0]]),
    "tiny": torch.tensor([[1e-30, 0, 0], [0, 1e-30, 0], [0, 0, 1e-30], [1e-30, 1e-30, 0]]),
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("name", LOSSES)
def test_corners(corner: str, name: str) -> None:
    x = CORNERS[corner].clone().requires_grad_()
    loss = LOSSES[name](x, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(x.grad).all()
    assert x.grad.norm() < 1e4


@pytest.mark.parametrize("name", LOSSES)
def test_digits_are_kept_under_autocast(name: str) -> None:
    x = embeddings().float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = LOSSES[name](x, LABELS)
    assert torch.equal(inside, LOSSES[name](x, LABELS))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "semi-hard"])
def test_a_small_network_learns_to_tell_people_apart(name: str) -> None:
    """Points on two crossed rings, four people: scored by the chance that an impostor pair beats a genuine one."""
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(12)
    angles = labels * (math.pi / 2) + torch.randn(48) * 0.15
    lengths = 1 + torch.rand(48)
    x = torch.stack([angles.cos(), angles.sin()], 1) * lengths.unsqueeze(1) * torch.tensor([1.0, 0.2]) + 3
    network = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    before = score_distributions(network(x), labels).item()
    for _ in range(200):
        optimizer.zero_grad()
        torch.autograd.backward(LOSSES[name](network(x), labels))
        optimizer.step()
    after = score_distributions(network(x), labels).item()
    assert before > 0.15
    assert after < 0.02


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: triplet(embeddings(), LABELS, 0.2, "batch-hardest"), UnknownName, "did you mean 'batch-hard'"),
        (lambda: triplet(embeddings(), LABELS[:3]), UsageError, r"got \(9, 3\) and \(3,\)"),
        (lambda: contrastive(embeddings(), LABELS.double()), UsageError, "whole numbers as labels"),
        (lambda: score_distributions(embeddings(), LABELS, 1), UsageError, "at least two nodes"),
    ],
)
def test_refusals(call, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()
