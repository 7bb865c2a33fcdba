"""LeNet-5 and CapsNet: against loops over single units, and the sums of parameters that their papers state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facewright.models import catalog
from facewright.models.capsnet import CLASS_WIDTH, PRIMARY_WIDTH, ClassCapsules, PrimaryCapsules, route
from facewright.models.early_networks import PartialConvolution, ScaledTanh, Subsampling
from facewright.specs import CAPSULE_SCALE

# Table I of LeCun et al. 1998, column by column: the maps of S2 that a map of C3 reads.
TABLE = ["012", "123", "234", "345", "045", "015"]
TABLE += ["0123", "1234", "2345", "0345", "0145", "0125", "0134", "1245", "0235", "012345"]


def parameters(name: str, leaving_out: str = "nothing") -> int:
    with torch.device("meta"):
        model = catalog.create_model(name, 10)
    return sum(tensor.numel() for path, tensor in model.named_parameters() if not path.startswith(leaving_out))


def test_parameter_counts_of_the_papers() -> None:
    colour_lenet, colour_capsnet = 2 * 6 * 5 * 5, 2 * 256 * 9 * 9  # two channels more for the first convolution
    assert parameters("lenet5", "fc.") - colour_lenet == 60_000
    assert (parameters("capsnet") - colour_capsnet) / 1e6 == pytest.approx(6.8, abs=0.05)


def test_each_map_of_the_third_layer_reads_the_maps_of_the_table() -> None:
    torch.manual_seed(0)
    layer = PartialConvolution().requires_grad_(False)
    x = torch.randn(6, 5, 5)
    kernels = [*layer.six.weight, *layer.nine.weight, *layer.last.weight]
    biases = torch.cat([layer.six.bias, layer.nine.bias, layer.last.bias])  # type: ignore[list-item]
    assert float(biases.abs().min()) > 0
    with torch.inference_mode():
        found = layer(x[None]).flatten().tolist()
    for number, column in enumerate(TABLE):
        total = float(biases[number])
        for channel, map_read in enumerate(int(digit) for digit in column):
            total += float((kernels[number][channel] * x[map_read]).sum())
        assert found[number] == pytest.approx(total, abs=1e-5)


def test_subsampling_and_squashing_by_hand() -> None:
    layer = Subsampling(2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -2.0]))
        layer.bias.copy_(torch.tensor([0.5, 0.0]))
        x = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).expand(1, 2, 2, 2)
        assert layer(x).flatten().tolist() == [3.5, -6.0]
        squashed = ScaledTanh()(torch.tensor([1.0, -1.0, 3.0]))
    assert squashed.tolist() == pytest.approx([1.0, -1.0, 1.7159 * math.tanh(2.0)], abs=1e-4)


def shortened(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = math.sqrt(sum(number * number for number in vector))
    return vector * (length / (1 + length * length))


def routed(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Procedure 1 of the paper, for one image: votes (classes, capsules, D) -> lengths of the class capsules."""
    classes, capsules, width = votes.shape
    b = np.zeros((classes, capsules))
    v = np.zeros((classes, width))
    for _ in range(3):
        c = np.zeros((classes, capsules))
        for i in range(capsules):
            total = sum(math.exp(b[k, i]) for k in range(classes))
            for j in range(classes):
                c[j, i] = math.exp(b[j, i]) / total
        for j in range(classes):
            v[j] = shortened(sum((c[j, i] * votes[j, i] for i in range(capsules)), np.zeros(width)))
        for j in range(classes):
            for i in range(capsules):
                b[j, i] += float(votes[j, i] @ v[j])
    return np.asarray(np.sqrt((v * v).sum(1)))


def test_scores_are_the_lengths_of_routed_capsules() -> None:
    torch.manual_seed(3)
    images, capsules, classes = 3, 7, 4
    layer = ClassCapsules(capsules * PRIMARY_WIDTH, classes).double()
    torch.nn.init.normal_(layer.weight, 0.0, 0.6)  # so that capsules disagree
    features = torch.randn(images, capsules * PRIMARY_WIDTH, dtype=torch.float64)
    with torch.inference_mode():
        found = layer(features).numpy() / CAPSULE_SCALE
    weight = layer.weight.detach().numpy()
    for image, row in enumerate(features.numpy()):
        votes = np.zeros((classes, capsules, CLASS_WIDTH))
        for j in range(classes):
            for i in range(capsules):
                part = slice(i * PRIMARY_WIDTH, (i + 1) * PRIMARY_WIDTH)
                votes[j, i] = row[part] @ weight[j, part]
        np.testing.assert_allclose(found[image], routed(votes), rtol=1e-6)
    evenly = torch.unflatten(layer.weight.detach(), 1, (capsules, PRIMARY_WIDTH))
    unrouted = torch.einsum("bik,jiko->bjo", torch.unflatten(features, 1, (capsules, PRIMARY_WIDTH)), evenly) / classes
    assert np.abs(found - (1 - 1 / (1 + unrouted.square().sum(-1))).numpy()).max() > 0.1  # routing made a difference


def test_primary_capsules_are_eight_channels_at_one_point() -> None:
    torch.manual_seed(0)
    layer = PrimaryCapsules().requires_grad_(False)
    x = torch.randn(1, 256, 20, 20)
    with torch.inference_mode():
        maps, capsules = layer.conv(x)[0], layer(x)[0]
    assert capsules.shape == (32 * 6 * 6, 8)
    for kind, row, column in ((0, 0, 0), (3, 2, 5), (31, 5, 5)):
        alone = maps[8 * kind : 8 * kind + 8, row, column].double().numpy()
        np.testing.assert_allclose(capsules[kind * 36 + row * 6 + column].numpy(), shortened(alone), rtol=1e-4)


def test_capsules_of_zeros_have_finite_gradients() -> None:
    votes = torch.zeros(1, 2, 3, 4, requires_grad=True)
    torch.autograd.backward(route(votes).sum())
    assert votes.grad is not None and bool(torch.isfinite(votes.grad).all()) and float(votes.grad.sum()) > 0


def test_routing_keeps_its_precision_under_autocast() -> None:
    torch.manual_seed(0)
    model = catalog.create_model("capsnet", 3, input_size=32).eval()
    features = torch.randn(2, model.feature_width).bfloat16()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = model.get_submodule("classes")(features)
    with torch.inference_mode():
        torch.testing.assert_close(found, model.get_submodule("classes")(features.float()))
