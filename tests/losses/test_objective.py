"""One object for every kind: that it is the loss it says, who learns from what, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from facewright.errors import UnknownName, UsageError
from facewright.heads import HeadSpec, build
from facewright.losses.classification import (
    CentreLoss,
    NormQuality,
    a_softmax,
    adaface,
    arcface,
    capsule_margin,
    cosface,
    cross_entropy,
    focal,
)
from facewright.losses.objective import Objective, contrastive, score_distributions, triplet
from facewright.specs import KINDS, ON_COSINES, ON_PAIRS, SHARED, ObjectiveSpec

CLASSES, WIDTH = 4, 6
LABELS = torch.arange(4).repeat(3)
COSINE = HeadSpec(kind="cosine", embedding=WIDTH, scale=16.0)
LINEAR = HeadSpec(embedding=WIDTH)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def features() -> Tensor:
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(1))


def head_for(kind: str) -> nn.Module:
    return build(COSINE if kind in ON_COSINES else LINEAR, 5, CLASSES)


def a_soft(head, x, blend: float) -> Tensor:
    return a_softmax(head.cosines(x), x.norm(dim=1), LABELS, 4, blend)


# Each row: spec, step -> the loss from the head and its embeddings.
EXPECTED = {
    "cross-entropy": (ObjectiveSpec(), 0, lambda h, x: cross_entropy(h.classify(x), LABELS)),
    "focal": (ObjectiveSpec(kind="focal", gamma=3), 0, lambda h, x: focal(h.classify(x), LABELS, 3)),
    "capsule-margin": (
        ObjectiveSpec(kind="capsule-margin"),
        0,
        lambda h, x: capsule_margin(h.classify(x) / 16, LABELS),
    ),
    "centre": (
        ObjectiveSpec(kind="centre", weight=0.5),
        0,
        lambda h, x: cross_entropy(h.classify(x), LABELS) + 0.5 * CentreLoss(CLASSES, WIDTH)(x, LABELS),
    ),
    "cosface": (ObjectiveSpec(kind="cosface"), 0, lambda h, x: cosface(h.cosines(x), LABELS, 16.0, 0.35)),
    "arcface": (ObjectiveSpec(kind="arcface"), 0, lambda h, x: arcface(h.cosines(x), LABELS, 16.0, 0.5)),
    "adaface": (
        ObjectiveSpec(kind="adaface"),
        0,
        lambda h, x: adaface(h.cosines(x), NormQuality()(x.norm(dim=1)), LABELS, 16.0, 0.4),
    ),
    "arcface, own": (
        ObjectiveSpec(kind="arcface", margin=0.0),  # a margin of 0 is a margin
        0,
        lambda h, x: arcface(h.cosines(x), LABELS, 16.0, 0.0),
    ),
    "a-softmax, start": (ObjectiveSpec(kind="a-softmax"), 0, lambda h, x: a_soft(h, x, 1000.0)),
    "a-softmax, end": (ObjectiveSpec(kind="a-softmax"), 100_000, lambda h, x: a_soft(h, x, 5.0)),
    "a-softmax, own": (
        ObjectiveSpec(kind="a-softmax", blend_start=10.0, blend_fall=1.0, blend_least=0.0),
        4,
        lambda h, x: a_soft(h, x, 2.0),
    ),
    "contrastive": (ObjectiveSpec(kind="contrastive"), 0, lambda h, x: beside(h, x) + contrastive(x, LABELS, 1.0)),
    "pairwise": (ObjectiveSpec(kind="pairwise"), 0, lambda h, x: beside(h, x) + score_distributions(x, LABELS)),
    "triplet": (
        ObjectiveSpec(kind="triplet", margin=0.3, mining="semi-hard"),
        0,
        lambda h, x: beside(h, x) + triplet(x, LABELS, 0.3, "semi-hard"),
    ),
}


def beside(head, x: Tensor) -> Tensor:
    return cross_entropy(head.classify(x), LABELS)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_kind_is_its_loss(name: str) -> None:
    spec, step, expected = EXPECTED[name]
    head = head_for(spec.kind)
    loss, scores = Objective(spec, CLASSES, WIDTH)(head, features(), LABELS, step)
    embeddings = head.embed(features())  # in training, batch norm does not look at what it saw before
    assert math.isclose(loss.item(), expected(head, embeddings).item(), rel_tol=1e-6)
    assert torch.equal(scores, head.classify(embeddings))  # without margins
    assert loss.ndim == 0


def test_every_kind_is_tested() -> None:
    assert {spec.kind for spec, _, _ in EXPECTED.values()} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_teaches_the_body_and_the_head(kind: str) -> None:
    head, x = head_for(kind), features().requires_grad_()
    loss, _ = Objective(ObjectiveSpec(kind=kind), CLASSES, WIDTH)(head, x, LABELS, 0)
    loss.backward()
    assert x.grad.abs().max() > 0
    assert all(parameter.grad.abs().max() > 0 for parameter in head.parameters())


@pytest.mark.parametrize("kind", ON_PAIRS)
def test_the_class_layer_beside_a_pair_loss_does_not_teach_the_body(kind: str) -> None:
    """With other labels for the class layer alone, its gradient changes and the body's does not."""
    gradients = []
    for weights in (None, torch.tensor([0.1, 5.0, 1.0, 9.0])):
        torch.manual_seed(0)
        head, x = head_for(kind), features().requires_grad_()
        loss, _ = Objective(ObjectiveSpec(kind=kind), CLASSES, WIDTH, weights)(head, x, LABELS, 0)
        loss.backward()
        gradients.append((x.grad, head.layers[0].weight.grad, head.classifier.weight.grad))
    (body, projection, layer), (body_again, projection_again, layer_again) = gradients
    assert torch.equal(body, body_again)
    assert torch.equal(projection, projection_again)
    assert not torch.allclose(layer, layer_again)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ON_PAIRS])
def test_class_weights_count(kind: str) -> None:
    head = head_for(kind)
    only_first = torch.tensor([1.0, 0, 0, 0])
    spec = ObjectiveSpec(kind=kind, weight=0.0)
    weighted, _ = Objective(spec, CLASSES, WIDTH, only_first)(head, features(), LABELS, 0)
    head_alone = head_for(kind)
    head_alone.load_state_dict(head.state_dict())
    x = features()
    even = Objective(ObjectiveSpec(kind=kind, weight=0.0), CLASSES, WIDTH, torch.ones(CLASSES))(head, x, LABELS, 0)[0]
    plain = Objective(ObjectiveSpec(kind=kind, weight=0.0), CLASSES, WIDTH)(head, x, LABELS, 0)[0]
    assert math.isclose(even.item(), plain.item(), rel_tol=1e-5)
    assert 0 < weighted.item() < plain.item()


@pytest.mark.parametrize("kind", SHARED)
def test_shares_of_one_class_are_that_class(kind: str) -> None:
    head, objective = head_for(kind), Objective(ObjectiveSpec(kind=kind), CLASSES, WIDTH)
    shares = nn.functional.one_hot(LABELS, CLASSES).float()
    by_class, by_share = (objective(head, features(), targets, 0)[0].item() for targets in (LABELS, shares))
    assert math.isclose(by_class, by_share, rel_tol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SHARED])
def test_shares_are_refused_elsewhere(kind: str) -> None:
    with pytest.raises(UsageError, match="turn mixup and cutmix off"):
        Objective(ObjectiveSpec(kind=kind), CLASSES, WIDTH)(head_for(kind), features(), torch.rand(12, CLASSES), 0)


def test_labels_are_smoothed() -> None:
    head = head_for("cross-entropy")
    loss, _ = Objective(ObjectiveSpec(), CLASSES, WIDTH, smoothing=0.1)(head, features(), LABELS, 0)
    assert math.isclose(loss.item(), cross_entropy(head(features()), LABELS, 0.1).item(), rel_tol=1e-6)


@pytest.mark.parametrize("kind", ON_COSINES)
@pytest.mark.parametrize("head", [HeadSpec(), HeadSpec(kind="two-layer"), HeadSpec(kind="hidden-256")])
def test_margins_on_cosines_need_a_cosine_head(kind: str, head: HeadSpec) -> None:
    with pytest.raises(UsageError, match=kind):
        Objective(ObjectiveSpec(kind=kind), CLASSES, WIDTH)(build(head, 5, CLASSES), features(), LABELS, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cosine_head_suits_every_kind(kind: str) -> None:
    objective, head = Objective(ObjectiveSpec(kind=kind), CLASSES, WIDTH), build(COSINE, 5, CLASSES)
    loss, scores = objective(head, features(), LABELS, 0)
    assert math.isfinite(loss.item())
    assert scores.shape == (12, CLASSES)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_the_centres_and_the_norms_and_nothing_else(kind: str) -> None:
    objective = Objective(ObjectiveSpec(kind=kind), CLASSES, WIDTH, torch.ones(CLASSES))
    state = {
        "centre": {"centre.centres", "centre.met"},
        "adaface": {f"quality.{x}" for x in ("mean", "std", "batches")},
    }
    expected = state.get(kind, set())
    assert set(objective.state_dict()) == expected
    assert not list(objective.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_costs_no_digits_after_the_head(kind: str) -> None:
    plain = HeadSpec(kind="cosine", scale=16.0) if kind in ON_COSINES else HeadSpec()
    head, objective = build(plain, 5, CLASSES), Objective(ObjectiveSpec(kind=kind), CLASSES, 5)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = objective(head, features(), LABELS, 0)
    assert loss.dtype == torch.float32
    again = Objective(ObjectiveSpec(kind=kind), CLASSES, 5)(head, features(), LABELS, 0)[0]
    # A linear layer of its own may round; what is on cosines and pairs may not.
    assert math.isclose(loss.item(), again.item(), rel_tol=1e-6 if kind in ON_COSINES else 1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_separates_four_people(kind: str) -> None:
    """A two-layer body on points of the plane; every kind's class layer must name them in the end."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat(12)
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    points = corners[labels] + 0.25 * torch.randn(48, 2, generator=generator)
    body = nn.Sequential(nn.Linear(2, 32), nn.ReLU())
    cosine = HeadSpec(kind="cosine", embedding=8, scale=8.0)
    head = build(cosine if kind in ON_COSINES else HeadSpec(embedding=8), 32, CLASSES)
    objective = Objective(ObjectiveSpec(kind=kind), CLASSES, 8)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=0.02)
    for step in range(120):
        optimizer.zero_grad()
        loss, _ = objective(head, body(points), labels, step)
        torch.autograd.backward(loss)
        optimizer.step()
    head.eval()
    with torch.no_grad():
        embeddings = head.embed(body(points))
        assert (head.classify(embeddings).argmax(1) == labels).float().mean() > 0.97
        assert score_distributions(embeddings, labels) < 0.05  # one person scores above two


@pytest.mark.parametrize(
    ("values", "error", "named"),
    [
        ({"kind": "arcfase"}, UnknownName, "'arcface'"),
        ({"kind": "triplet", "mining": "hard"}, UnknownName, "batch-hard"),
        ({"margin": 0.1}, UsageError, "cross-entropy"),
        ({"kind": "pairwise", "margin": 0.1}, UsageError, "pairwise"),
        ({"kind": "a-softmax", "margin": 2.5}, UsageError, "16"),
        ({"kind": "a-softmax", "margin": math.inf}, UsageError, "margin"),
        ({"kind": "arcface", "margin": -0.1}, UsageError, "1.571"),
        ({"kind": "cosface", "margin": math.nan}, UsageError, "margin"),
        ({"kind": "contrastive", "margin": 2.1}, UsageError, "2.1"),
        ({"kind": "centre", "centre_rate": 1.5}, UsageError, "centre_rate"),
        ({"kind": "centre", "weight": -1}, UsageError, "weight"),
        ({"kind": "focal", "gamma": math.nan}, UsageError, "gamma"),
        ({"smoothing": 0.1}, UnknownName, "smoothing"),
    ],
)
def test_settings_that_are_refused(values: dict[str, object], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        ObjectiveSpec.from_dict(values)


def test_one_weight_for_each_class() -> None:
    with pytest.raises(UsageError, match="4"):
        Objective(ObjectiveSpec(), 4, 6, torch.ones(3))
