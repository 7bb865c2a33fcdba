"""Heat maps of classes: the formulas against explicit loops, and a map for every family of the zoo."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facewright.bundle import Bundle
from facewright.errors import UnknownName, UsageError
from facewright.explanation.class_maps import (
    METHODS,
    Explainer,
    attentions,
    choose_target_layer,
    grad_cam,
    grad_cam_plus_plus,
    layer_gradients,
    map_shapes,
    rollout,
)
from facewright.heads import put_head
from facewright.inference import Classifier
from facewright.input_spec import InputSpec
from facewright.models import catalog
from facewright.models.blocks import Model
from facewright.models.families import FAMILIES
from facewright.models.vit import VisionTransformer
from facewright.specs import HeadSpec

CLASSES = ("ann", "bob", "cid")
# the smallest architecture of each family
SMALLEST = {family: min(row.counts, key=row.counts.__getitem__) for family, row in FAMILIES.items()}
HEAVY = {"vgg", "nfnet", "wide_resnet", "alexnet"}  # 60 million parameters and more
FAMILY_ROWS = [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in SMALLEST]


class TwoLayers(nn.Module):
    """A convolution of 1x1, a ReLU in place, the mean, a linear layer: small enough for pencil and paper."""

    classifier_name = "fc"

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.relu = nn.ReLU(inplace)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 2)
        scores: Tensor = self.fc(self.relu(self.conv(x)).square().mean((2, 3)))
        return scores

    def stages(self) -> tuple[SimpleNamespace, ...]:
        parts = (SimpleNamespace(paths=("conv",)), SimpleNamespace(paths=("fc",)))
        return (SimpleNamespace(name="all", parts=parts),)


def two_layers(inplace: bool = True) -> Model:
    torch.manual_seed(3)
    return cast(Model, TwoLayers(inplace).eval().requires_grad_(False))


def classifier(
    name: str, side: int = 48, head: HeadSpec | None = None, classes: tuple[str, ...] = CLASSES
) -> Classifier:
    side = max(side, catalog.describe(name).smallest_side)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = catalog.create_model(name, len(classes), input_size=side)
        put_head(model, head, len(classes))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)  # residual branches start closed
    spec = InputSpec(side, side, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return Classifier(Bundle(name, catalog.resolve_stem(name, side), classes, spec, model.state_dict(), head=head))


def pictures(side: int, count: int = 1) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("index", [0, 1])
def test_grad_cam_is_the_paper_loop_by_loop(index: int) -> None:
    model, x = two_layers(), torch.randn(1, 3, 2, 3, generator=torch.Generator().manual_seed(2))
    layers = cast(TwoLayers, model)
    weight, bias = layers.conv.weight[:, :, 0, 0].tolist(), layers.conv.bias
    last = layers.fc.weight.tolist()
    assert bias is not None
    activation = [
        [
            [max(0.0, float(bias[k]) + sum(weight[k][c] * float(x[0, c, i, j]) for c in range(3))) for j in range(3)]
            for i in range(2)
        ]
        for k in range(4)
    ]
    # y = sum over k of w_k * mean over (i, j) of A^2, so dy/dA = w_k * 2 A / 6
    gradient = [[[last[index][k] * 2 * activation[k][i][j] / 6 for j in range(3)] for i in range(2)] for k in range(4)]
    alpha = [sum(gradient[k][i][j] for i in range(2) for j in range(3)) / 6 for k in range(4)]  # eq. 1
    expected = [
        [max(0.0, sum(alpha[k] * activation[k][i][j] for k in range(4))) for j in range(3)] for i in range(2)
    ]  # eq. 2
    found = layer_gradients(model, "conv", x, index)
    np.testing.assert_allclose(found[0][0], activation, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1][0], gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grad_cam(*found)[0], expected, rtol=1e-5, atol=1e-6)


def test_grad_cam_plus_plus_is_the_paper_loop_by_loop() -> None:
    random = np.random.default_rng(0)
    activation, gradient = np.maximum(random.normal(size=(3, 2, 4)), 0), random.normal(size=(3, 2, 4))
    expected = np.zeros((2, 4))
    for a, g in zip(activation, gradient, strict=True):
        weight = 0.0
        for i in range(2):
            for j in range(4):
                denominator = 2 * g[i, j] ** 2 + sum(a[s, t] * g[i, j] ** 3 for s in range(2) for t in range(4))
                alpha = g[i, j] ** 2 / denominator if denominator != 0 else 0.0  # eq. 19, exp(S) left out
                weight += alpha * max(0.0, g[i, j])  # eq. 10
        expected += weight * a
    found = grad_cam_plus_plus(torch.from_numpy(activation)[None], torch.from_numpy(gradient)[None])
    np.testing.assert_allclose(found[0], np.maximum(expected, 0), rtol=1e-12)


def test_rollout_is_the_paper_loop_by_loop() -> None:
    random = np.random.default_rng(0)
    layers = [random.dirichlet(np.ones(5), size=(1, 2, 5)) for _ in range(3)]  # (1, heads, N, N), rows sum to one
    flow = np.eye(5)
    for attention in layers:
        mean = sum(attention[0, head] for head in range(2)) / 2
        mixed = np.array([[(mean[i, j] + (i == j)) / 2 for j in range(5)] for i in range(5)])
        flow = np.array([[sum(mixed[i, k] * flow[k, j] for k in range(5)) for j in range(5)] for i in range(5)])
    found = rollout([torch.from_numpy(attention) for attention in layers])
    np.testing.assert_allclose(found[0], flow[0], rtol=1e-12)
    assert float(found.sum()) == pytest.approx(1.0)


def test_the_attention_is_what_the_layers_use() -> None:
    model = cast(VisionTransformer, classifier("vit_ti_16").model)
    held: list[tuple[Tensor, Tensor]] = []
    attention = model.get_submodule("blocks.11.attn")
    with torch.inference_mode():
        handle = attention.register_forward_hook(lambda _m, given, out: held.append((given[0], out)))
        weights = attentions(model, torch.randn(1, 3, 48, 48))[-1]
        handle.remove()
        given, out = held[0]
        _, _, value = model.blocks[11].attn.qkv(given).unflatten(-1, (3, 3, -1)).permute(2, 0, 3, 1, 4)  # type: ignore[union-attr, operator]
        expected = model.blocks[11].attn.proj((weights @ value).transpose(1, 2).flatten(2))  # type: ignore[union-attr, operator]
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILY_ROWS)
def test_every_family_has_a_map_of_each_class(family: str) -> None:
    ready = classifier(SMALLEST[family])
    side = ready.spec.height
    before = ready.logits(pictures(side))
    maps = {}
    for method in ("rollout",) if family == "vit" else ("grad-cam", "grad-cam++"):
        explainer = Explainer(ready, method)
        maps[method] = heat = explainer.maps(pictures(side).expand(3, -1, -1, -1), [0, 1, 2])
        assert heat.shape == (3, side, side) and heat.dtype == np.float32
        assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() == 1
        assert set(heat.max(axis=(1, 2)).tolist()) <= {0.0, 1.0}
    differ = any(not np.array_equal(heat[0], heat[1]) for heat in maps.values())
    assert differ == (family != "vit")  # rollout knows no class
    np.testing.assert_array_equal(ready.logits(pictures(side)), before)  # no hook stays


@pytest.mark.parametrize(
    ("name", "side", "layer"),
    [
        ("resnet18", 224, "layer4.1"),  # 7 x 7, the paper's
        ("resnet18", 112, "layer3.1"),  # the last has 2 x 2 points, this one 4 x 4
        ("vgg11", 224, "features.20"),  # not the pool to 7 x 7 behind it
        ("squeezenet1_1", 224, "features.12"),  # not the map of the classes
        ("mobilenet_v2", 224, "features.18.1"),
        ("mobilefacenet", 112, "prelu"),  # not the depthwise convolution that weighs its points one by one
        ("patchnet", 48, "layers.5"),
        ("iresnet18", 112, "bn2"),  # not what brings it to the grid of the linear layer
    ],
)
def test_the_layer_is_the_last_that_says_where(name: str, side: int, layer: str) -> None:
    model = catalog.create_model(name, 3, input_size=side).eval()
    shapes = map_shapes(model, side, side)
    assert choose_target_layer(shapes) == layer
    assert min(shapes[layer]) >= 4


@pytest.mark.parametrize(
    "head",
    [
        HeadSpec(kind="two-layer", dropout=0.5),
        HeadSpec(kind="hidden-256"),
        HeadSpec(kind="cosine", embedding=16, scale=16.0, subcentres=2),
        HeadSpec(kind="linear", embedding=8),
    ],
)
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_attached_heads(name: str, head: HeadSpec) -> None:
    heat = Explainer(classifier(name, head=head), "grad-cam++").maps(pictures(48).expand(2, -1, -1, -1), [0, 1])
    assert heat.max() == 1 and not np.array_equal(heat[0], heat[1])


def test_one_output_speaks_for_both_classes() -> None:
    ready = classifier("patchnet", head=HeadSpec(kind="sigmoid"), classes=("no", "yes"))
    shown = pictures(48, 4)
    # Of the first class the score is 0 whatever is shown; what speaks for it is what speaks against the second.
    first, second = (Explainer(ready).maps(shown, [index] * 4) for index in (0, 1))
    assert all(a.any() or b.any() for a, b in zip(first, second, strict=True)) and first.any()
    model, inputs = cast(Model, ready.model), torch.randn(1, 3, 48, 48)
    (_, against), (_, speaking) = (layer_gradients(model, "layers.5", inputs, index) for index in (0, 1))
    assert bool(speaking.any())
    torch.testing.assert_close(against, -speaking)


def test_maps_follow_an_oblong_input_and_rollout_leaves_the_filling_out() -> None:
    for name in ("patchnet", "vit_ti_16"):
        torch.manual_seed(0)
        model = catalog.create_model(name, 3, input_size=40)
        spec = InputSpec(40, 56, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        ready = Classifier(Bundle(name, "imagenet", CLASSES, spec, model.state_dict()))
        assert Explainer(ready).maps(pictures(64), [1]).shape == (1, 40, 56)
    assert Explainer(ready).points == (3, 4)
    assert Explainer(ready).maps(pictures(64)[:0], []).shape == (0, 40, 56)


@pytest.mark.parametrize("inplace", [True, False])
def test_a_relu_in_place_leaves_the_map_rectified(inplace: bool) -> None:
    activations, _ = layer_gradients(two_layers(inplace), "conv", torch.randn(1, 3, 8, 8), 0)
    assert bool((activations >= 0).all()) == inplace


def test_random_weights_change_the_map() -> None:
    """The check of parameters of Adebayo et al. 2018, "Sanity Checks for Saliency Maps", from the top down."""
    ready = classifier("patchnet", side=64)
    shown = pictures(64, 8)
    real = Explainer(ready, "grad-cam++", layer="layers.3").maps(shown, [0] * 8)
    model, likeness = ready.model, []
    torch.manual_seed(5)
    for path in ("fc", "templates", "layers.5", "layers.4", "layers.3", "layers.2"):
        for parameter in model.get_submodule(path).parameters():
            parameter.copy_(torch.randn_like(parameter) * parameter.std().clamp(min=0.05))
        now = Explainer(ready, "grad-cam++", layer="layers.3").maps(shown, [0] * 8)
        rows = zip(real.reshape(8, -1), now.reshape(8, -1), strict=True)
        likeness.append(np.mean([np.corrcoef(a, b)[0, 1] if b.any() else 0.0 for a, b in rows]))
    assert likeness[-1] < 0.5 < 0.999 and likeness[-1] < likeness[0] + 0.1


def test_others_may_use_the_model_meanwhile() -> None:
    """The explainer hooks modules of its own; the weights are shared, not copied."""
    ready = classifier("patchnet")
    explainer = Explainer(ready, "grad-cam++")
    expected, scores = explainer.maps(pictures(48, 4), [0, 1, 2, 0]), ready.logits(pictures(48, 4))
    twin = explainer._model
    assert twin is not ready.model
    for mine, theirs in zip(twin.parameters(), ready.model.parameters(), strict=True):
        assert mine is theirs
    with ThreadPoolExecutor(4) as pool:
        maps = [pool.submit(explainer.maps, pictures(48, 4), [0, 1, 2, 0]) for _ in range(8)]
        said = [pool.submit(ready.logits, pictures(48, 4)) for _ in range(8)]
        assert all(np.array_equal(found.result(), expected) for found in maps)
        assert all(np.array_equal(found.result(), scores) for found in said)


@pytest.mark.parametrize(
    ("name", "method", "layer", "error", "words"),
    [
        ("patchnet", "gradcam", None, UnknownName, "grad-cam"),
        ("patchnet", "rollout", None, UsageError, "choose grad-cam or grad-cam"),
        ("vit_ti_16", "grad-cam", None, UsageError, "choose rollout"),
        ("patchnet", "grad-cam", "layer.5", UnknownName, "did you mean 'layers.5'"),
        ("patchnet", "grad-cam", "fc", UsageError, "gives no map"),
    ],
)
def test_refusals(name: str, method: str, layer: str | None, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Explainer(classifier(name), method, layer)


@pytest.mark.parametrize("classes", [[3], [-1], [], [0, 1]])
def test_a_class_for_each_picture(classes: list[int]) -> None:
    with pytest.raises(UsageError, match="expected 1 class indices from 0 to 2"):
        Explainer(classifier("patchnet")).maps(pictures(48), classes)


@pytest.mark.parametrize(("name", "method"), [("patchnet", "grad-cam"), ("vit_ti_16", "rollout")])
def test_the_method_that_fits_is_chosen(name: str, method: str) -> None:
    explainer = Explainer(classifier(name))
    assert explainer.method == method and method in METHODS
    assert explainer.by_class == (method != "rollout")


def test_a_map_that_is_not_rectified_does_not_cancel_out() -> None:
    activations, gradients = torch.tensor([[[[1.0, -9.0]], [[-9.0, 1.0]]]]), torch.ones(1, 2, 1, 2)
    assert bool((grad_cam_plus_plus(activations, gradients) > 0).all())
    assert not grad_cam(activations, gradients).any()
