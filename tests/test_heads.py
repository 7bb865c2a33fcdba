"""Heads: shapes, what their parts mean, and descriptions that come from hostile files."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from facewright.errors import UnknownName, UsageError
from facewright.heads import build
from facewright.specs import HEADS, HeadSpec

SPECS = {
    "linear": HeadSpec(),
    "linear, dropout": HeadSpec(dropout=0.5),
    "linear, embedding": HeadSpec(embedding=7),
    "sigmoid": HeadSpec(kind="sigmoid"),
    "two-layer": HeadSpec(kind="two-layer", dropout=0.3),
    "two-layer, embedding": HeadSpec(kind="two-layer", embedding=7),
    "hidden-256": HeadSpec(kind="hidden-256", dropout=0.5),
    "cosine": HeadSpec(kind="cosine", scale=30.0),
    "cosine, all": HeadSpec(kind="cosine", embedding=7, dropout=0.2, scale=30.0, subcentres=3),
}
# What the last layer sees, for 10 features.
WIDTHS = {"linear, embedding": 7, "two-layer": 512, "two-layer, embedding": 512, "hidden-256": 256, "cosine, all": 7}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", SPECS)
def test_every_head(name: str) -> None:
    classes = 2 if SPECS[name].kind == "sigmoid" else 5
    head = build(SPECS[name], features=10, classes=classes)
    features = torch.randn(6, 10, requires_grad=True)
    scores = head(features)
    assert scores.shape == (6, classes)
    scores[:, 1].square().sum().backward()
    assert features.grad is not None
    assert all(parameter.grad is not None for parameter in head.parameters())
    head.eval()
    embeddings = head.embed(features)
    assert embeddings.shape == (6, head.width) == (6, WIDTHS.get(name, 10))
    assert torch.equal(head(features), head.classify(embeddings))
    again = build(SPECS[name], features=10, classes=classes).eval()
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(features), head(features))


def test_every_kind_is_tested() -> None:
    assert {spec.kind for spec in SPECS.values()} == set(HEADS)


def test_a_plain_linear_head_is_nn_linear() -> None:
    head = build(HeadSpec(), features=10, classes=5)
    plain = nn.Linear(10, 5)
    assert isinstance(head, nn.Linear)
    plain.load_state_dict(head.state_dict())  # strict: the very names
    x = torch.randn(3, 10)
    assert torch.equal(plain(x), head(x))
    assert head.embed(x) is x


def test_the_two_layer_head_is_that_of_the_notebooks() -> None:
    layers = [type(layer).__name__ for layer in build(HeadSpec(kind="two-layer", dropout=0.3), 10, 5).layers]
    hidden = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert layers == ["BatchNorm1d", *hidden, *hidden]
    # 2 x 10 of the first norm, 10 x 1024 + 1024, 2 x 1024, 1024 x 512 + 512, 2 x 512, 512 x 5 + 5
    assert sum(p.numel() for p in build(HeadSpec(kind="two-layer"), 10, 5).parameters()) == 541_721


def test_the_embedding_is_mapped_without_bias_and_normalised_after_dropout() -> None:
    layers = list(build(HeadSpec(embedding=7, dropout=0.2), 10, 5).layers)
    assert [type(layer).__name__ for layer in layers] == ["Dropout", "Linear", "BatchNorm1d"]
    assert layers[1].bias is None


def test_cosines_against_a_loop() -> None:
    head = build(HeadSpec(kind="cosine", scale=30.0, subcentres=3), features=4, classes=5).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    for row in range(6):
        for c in range(5):
            directions = head.weight[3 * c : 3 * c + 3]
            cosines = [float(x[row] @ w / (x[row].norm() * w.norm())) for w in directions.detach()]
            assert math.isclose(head.cosines(x)[row, c].item(), max(cosines), abs_tol=1e-12)
            assert math.isclose(head(x)[row, c].item(), 30 * max(cosines), abs_tol=1e-11)


def test_lengths_do_not_matter_to_cosines() -> None:
    head = build(HeadSpec(kind="cosine", scale=30.0), features=4, classes=5)
    x = torch.randn(6, 4)
    before = head(x)
    with torch.no_grad():
        head.weight *= 3
    assert torch.allclose(head(100 * x), before, atol=1e-4)


def test_only_the_nearest_subcentre_learns() -> None:
    head = build(HeadSpec(kind="cosine", scale=30.0, subcentres=3), features=4, classes=1)
    x = torch.randn(1, 4)
    nearest = int((x @ nn.functional.normalize(head.weight).T).argmax())
    head(x).sum().backward()
    moved = head.weight.grad.abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == [nearest]


def test_an_embedding_of_zeros_gets_no_gradient() -> None:
    head = build(HeadSpec(kind="cosine", scale=30.0), features=4, classes=5)
    x = torch.zeros(2, 4, requires_grad=True)
    scores = head(x)
    scores.sum().backward()
    assert scores.abs().max() == 0
    assert x.grad.abs().max() == 0
    assert head.weight.grad.abs().max() == 0


def test_cosines_keep_their_digits_under_autocast() -> None:
    head = build(HeadSpec(kind="cosine", scale=30.0), features=64, classes=5)
    x = torch.randn(6, 64)
    with torch.autocast("cpu", torch.bfloat16):
        scores = head(x)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, head(x))


def test_a_cosine_head_can_be_exported_for_any_batch() -> None:
    head = build(SPECS["cosine, all"], features=10, classes=5).eval()
    program = torch.export.export(head, (torch.randn(4, 10),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    x = torch.randn(9, 10)
    assert torch.allclose(program.module()(x), head(x), atol=1e-6)


@pytest.mark.parametrize("name", SPECS)
def test_a_description_survives_json(name: str) -> None:
    assert HeadSpec.from_dict(json.loads(json.dumps(SPECS[name].to_dict()))) == SPECS[name]


@pytest.mark.parametrize(
    ("values", "error", "named"),
    [
        ([], UsageError, "head"),
        ({"width": 5}, UnknownName, "'width'"),
        ({"embeding": 5}, UnknownName, "'embedding'"),
        ({7: 5}, UsageError, "7"),
        ({"kind": "cosin"}, UnknownName, "'cosine'"),
        ({"kind": ["linear"]}, UsageError, "kind"),
        ({"kind": None}, UsageError, "kind"),
        ({"embedding": -1}, UsageError, "embedding.*-1"),
        ({"embedding": 16_385}, UsageError, "16384"),
        ({"embedding": 2**40}, UsageError, "16384"),
        ({"embedding": 10**5000}, UsageError, "an integer of more than 64 bits"),  # too long to be printed
        ({"embedding": 128.0}, UsageError, "embedding"),
        ({"embedding": True}, UsageError, "embedding"),
        ({"embedding": "128"}, UsageError, "embedding"),
        ({"dropout": 1.0}, UsageError, "dropout"),  # nothing would be left
        ({"dropout": -0.1}, UsageError, "dropout"),
        ({"dropout": math.nan}, UsageError, "dropout"),
        ({"dropout": None}, UsageError, "dropout"),
        ({"kind": "cosine"}, UsageError, "32"),
        ({"kind": "cosine", "scale": math.inf}, UsageError, "scale"),
        ({"kind": "cosine", "scale": 10**400}, UsageError, "scale"),
        ({"kind": "cosine", "scale": -3}, UsageError, "scale"),
        ({"kind": "cosine", "scale": 3, "subcentres": 0}, UsageError, "subcentres"),
        ({"kind": "cosine", "scale": 3, "subcentres": 10**9}, UsageError, "64"),
        ({"scale": 3}, UsageError, "linear"),
        ({"subcentres": 2}, UsageError, "linear"),
        ({"kind": "native", "dropout": 0.1}, UsageError, "native"),
    ],
)
def test_descriptions_that_are_refused(values: object, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        HeadSpec.from_dict(values)


@pytest.mark.parametrize(("features", "classes"), [(0, 5), (10, 0)])
def test_nothing_to_build(features: int, classes: int) -> None:
    with pytest.raises(UsageError, match="at least one feature and one class"):
        build(HeadSpec(), features, classes)


def test_one_sigmoid_output_is_two_classes() -> None:
    torch.manual_seed(0)
    head = build(HeadSpec(kind="sigmoid"), features=7, classes=2)
    features, labels = torch.randn(9, 7), torch.randint(2, (9,))
    scores = head(features)
    z = scores[:, 1]
    assert not scores[:, 0].any()
    torch.testing.assert_close(torch.softmax(scores, 1)[:, 1], torch.sigmoid(z))
    binary = torch.nn.functional.binary_cross_entropy_with_logits(z, labels.float())
    torch.testing.assert_close(torch.nn.functional.cross_entropy(scores, labels), binary)
    assert head.state_dict().keys() == {"weight", "bias"}
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.1)
    binary.backward()
    optimizer.step()
    assert not head(features)[:, 0].any() and not head.weight[0].any(), "training leaves the first row alone"
    with pytest.raises(UsageError, match="two classes"):
        build(HeadSpec(kind="sigmoid"), features=7, classes=3)
