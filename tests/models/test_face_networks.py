"""What single families promise beyond the contract: their counts by hand, their sizes, their starting points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from facewright.images import read
from facewright.models import catalog, nfnet, resnet, summary, vit
from facewright.models.blocks import FixedGrid

SHARED = Path(__file__).parents[2] / "../shared"


@pytest.mark.parametrize("name", list(resnet.IRESNET_DEPTHS))
def test_iresnet_counts_are_those_of_its_table(name: str) -> None:
    total = 3 * 64 * 9 + 2 * 64 + 64  # first convolution, norm, PReLU
    inputs = 64
    for width, depth in zip((64, 128, 256, 512), resnet.IRESNET_DEPTHS[name], strict=True):
        for index in range(depth):
            total += 2 * inputs + 9 * inputs * width + 2 * width + width + 9 * width**2 + 2 * width
            if index == 0:
                total += inputs * width + 2 * width  # the shortcut
            inputs = width
    total += 2 * 512 + (512 * 49 + 1) * 512 + 2 * 512  # norm, linear, norm
    assert total == catalog.describe(name).parameters - 1000 * (512 + 1)


def test_backbones_without_their_classifier_have_the_published_counts() -> None:
    for name, count in (("inception_resnet_v1", 23_482_624), ("mobilefacenet", 1_003_136)):
        facts = catalog.describe(name)
        with torch.device("meta"):
            width = catalog.create_model(name, 2).feature_width
        assert facts.parameters - 1000 * (width + 1) == count


def test_tiny_darknet_needs_the_operations_that_its_author_states() -> None:
    # 0.98 billion; the author's last convolution gives 1,000 scores at each of 14 x 14 points before their mean.
    assert catalog.describe("tinydarknet").flops + 2 * 128 * 1000 * (14 * 14 - 1) == pytest.approx(0.98e9, rel=0.005)


@pytest.mark.parametrize(("name", "side", "grid"), [("mobilefacenet", 112, 7), ("plain_cnn", 64, 16)])
def test_the_native_size_needs_no_averaging(name: str, side: int, grid: int) -> None:
    with torch.device("meta"):
        model = catalog.create_model(name, 2)
    whole = summary.summarize(model, side)
    before = [row for row in whole.rows if len(row.output_shape) == 3]
    place = next(index for index, row in enumerate(before) if row.kind == "FixedGrid")
    assert before[place - 1].output_shape == before[place].output_shape
    assert before[place].output_shape[1:] == (grid, grid)
    x = torch.randn(1, 2, grid, grid)
    assert FixedGrid(grid)(x) is x


def test_vit_positions_stay_at_the_native_size_and_are_resampled_at_others() -> None:
    embeddings = torch.randn(1, 197, 8)
    assert vit.positions(embeddings, 14, 14) is embeddings
    other = vit.positions(embeddings, 7, 5)
    assert other.shape == (1, 36, 8)
    assert torch.equal(other[:, 0], embeddings[:, 0])
    rising = torch.arange(14.0).repeat_interleave(14).reshape(1, 196, 1)  # every row of the grid has its number
    halved = vit.positions(torch.cat([torch.zeros(1, 1, 1), rising], 1), 7, 7)[0, 1:, 0].reshape(7, 7)
    torch.testing.assert_close(halved[2:5, 0], torch.tensor([4.5, 6.5, 8.5]), rtol=0, atol=1e-4)


def test_vit_fills_sides_up_to_whole_patches() -> None:
    torch.manual_seed(0)
    model = catalog.create_model("vit_ti_16", 3).eval()
    x = torch.randn(1, 3, 40, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), model(nn.functional.pad(x, (0, 0, 0, 8))))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_standardised_convolution_equals_its_explicit_form(stride: int) -> None:
    torch.manual_seed(0)
    layer = nfnet.StandardisedConv2d(4, 6, 3, stride, groups=2)
    with torch.no_grad():
        layer.gain.uniform_(0.5, 2)
    x = torch.randn(2, 4, 8, 8)
    kernels = torch.empty_like(layer.weight)
    for index, kernel in enumerate(layer.weight.detach()):
        values = kernel.flatten()
        centred = values - values.mean()
        deviation = (centred.square().mean() + 1e-5).sqrt()
        kernels[index] = (layer.gain[index] * centred / (deviation * len(values) ** 0.5)).reshape(kernel.shape)
    padded = nn.functional.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
    expected = nn.functional.conv2d(padded, kernels, layer.bias, stride, groups=2)
    torch.testing.assert_close(layer(x), expected)


def test_an_nfnet_block_starts_as_its_shortcut_and_keeps_the_variance() -> None:
    torch.manual_seed(0)
    block = nfnet.Block(256, 256, 1, beta=1.0)
    x = torch.randn(2, 256, 8, 8)
    assert torch.equal(block(x), x)
    assert float(nfnet.ScaledGELU()(torch.randn(100_000)).var()) == pytest.approx(1, abs=0.02)


def faces(folder: Path, count: int) -> Tensor:
    pictures = [read(path) for path in sorted(folder.iterdir())[:count]]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1  # RGB in [-1, 1]


@pytest.mark.realdata
def test_public_mobilefacenet_weights_load_and_tell_two_people_apart() -> None:
    weights, people = SHARED / "weights/mobilefacenet_arcface.safetensors", SHARED / "data/celebrities12"
    if not weights.is_file() or not people.is_dir():
        pytest.skip("wants ../shared/weights/mobilefacenet_arcface.safetensors and ../shared/data/celebrities12")
    state = {key.removeprefix("arcface."): tensor for key, tensor in load_file(weights).items()}
    model = catalog.create_model("mobilefacenet", 2).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["classifier.weight", "classifier.bias"], [])
    with torch.inference_mode():
        first, second = (
            nn.functional.normalize(model.forward_features(faces(people / name, 20)))
            for name in ("Keanu_Reeves", "Tina_Fey")
        )
    same = torch.cat([(who @ who.T)[torch.triu_indices(20, 20, 1).unbind()] for who in (first, second)])
    other = (first @ second.T).flatten()
    area = (same[:, None] > other[None]).float().mean()  # the chance that a pair of one person scores higher
    assert float(area) > 0.98
