"""A dense network says of every patch what the patch classifier says of it alone; what cannot is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from facewright.errors import Unconvertible
from facewright.faces import fully_convolutional
from facewright.faces.fully_convolutional import to_dense
from facewright.models import catalog
from facewright.models.blocks import FixedGrid


def lived_in(model: nn.Module) -> nn.Module:
    """Norms with statistics of their own, as after training."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return model.eval()


def network(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return lived_in(nn.Sequential(*layers))


def model(name: str, side: int) -> nn.Module:
    torch.manual_seed(0)
    return lived_in(catalog.create_model(name, 2, input_size=side))


class Joined(nn.Module):
    """Two branches joined by functions, as networks of blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.pool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.cat([x, self.a(x) + self.b(x)], 1)
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


class OwnLinear(nn.Linear):
    """As a head of the package is."""


# what -> network, patch height and width, stride in px
CONVERTIBLE = {
    "patchnet": (model("patchnet", 64), (64, 64), 4),
    "patchnet, smaller": (model("patchnet", 64), (36, 36), 4),  # one point of its map is left, repeated 8 x 8 times
    "pointwise": (model("pointwise_facenet", 32), (32, 32), 2),
    "pointwise, its grid averaged": (model("pointwise_facenet", 32), (64, 64), 2),
    "flatten": (network(nn.Conv2d(3, 4, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 8, 2)), (15, 19), 2),
    "two linear": (
        network(nn.Conv2d(3, 4, 5), nn.Flatten(), OwnLinear(4 * 16, 6), nn.Dropout(), nn.Tanh(), nn.Linear(6, 1)),
        (8, 8),
        1,
    ),
    "norm first": (
        network(
            nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), OwnLinear(36, 2)
        ),
        (8, 8),
        2,
    ),
    "whole-side ceiling": (
        network(
            nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, ceil_mode=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
        ),
        (10, 10),
        2,
    ),
    "dilated, behind a grid": (
        network(nn.Conv2d(3, 4, 3, dilation=2), FixedGrid(4), nn.Conv2d(4, 4, 2), nn.Flatten(), nn.Linear(36, 2)),
        (16, 16),
        1,
    ),
    "joined": (lived_in(Joined()), (9, 9), 1),
}


@pytest.mark.parametrize("what", [name for name in CONVERTIBLE if name != "patchnet, smaller"])
@torch.inference_mode()
def test_every_patch_of_a_photo_scores_as_it_does_alone(what: str) -> None:
    patches, (height, width), stride = CONVERTIBLE[what]
    dense = to_dense(patches, height, width)
    assert dense.stride == stride
    photo = torch.randn(1, 3, height + 6 * stride - 1, width + 7 * stride, generator=torch.Generator().manual_seed(2))
    together = dense.scores(photo)[0]
    assert together.shape[1:] == (6, 8)
    corners = [(row * stride, column * stride) for row in range(6) for column in range(8)]
    alone = patches(torch.cat([photo[:, :, top : top + height, left : left + width] for top, left in corners]))
    torch.testing.assert_close(together.flatten(1).T, alone, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_the_model_itself_stays_as_it_is() -> None:
    patches = model("patchnet", 64)
    state = {name: tensor.clone() for name, tensor in patches.state_dict().items()}
    to_dense(patches, 64, 64)
    assert {name: tensor.shape for name, tensor in patches.state_dict().items()} == {
        n: t.shape for n, t in state.items()
    }
    assert all(torch.equal(tensor, state[name]) for name, tensor in patches.state_dict().items())


# what -> network, side of the patch, why it is refused
@pytest.mark.parametrize(
    ("patches", "side", "words"),
    [
        (model("tinydarknet", 64), 64, "pads the patch's border"),
        (model("resnet18", 64), 64, "pads the patch's border"),
        (model("vit_ti_16", 64), 64, "decides while it runs"),
        (model("patchnet", 64), 36, "not equally large"),  # a grid finer than the map
        (network(nn.Conv2d(3, 2, 3)), 8, "6x6 points, not one"),
        (network(nn.Conv2d(3, 2, 3), nn.MaxPool2d(2, ceil_mode=True)), 9, "over the patch's border"),
        (network(nn.MaxPool2d(3, padding=1)), 9, "pads the patch's border"),
        (network(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4)), 9, "InstanceNorm2d"),
        (network(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(4)), 9, "not equally large"),
        (network(nn.Conv2d(3, 4, 3), nn.Linear(7, 2)), 9, "columns of the map"),
        (network(nn.Conv2d(3, 4, 3, (1, 2))), 9, "strides by"),
    ],
)
def test_refuses_what_a_photo_would_change(patches: nn.Module, side: int, words: str) -> None:
    with pytest.raises(Unconvertible, match=words):
        to_dense(patches, side, side)


def test_a_conversion_that_changes_a_score_is_caught() -> None:
    class Liar(nn.ReLU):
        """Says it works point by point, and looks at the whole map."""

        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean((2, 3), keepdim=True)

    class Hidden(fully_convolutional._Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return True if isinstance(m, Liar) else super().is_leaf_module(m, module_qualified_name)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Unconvertible, match="differs from its patches"):
        patch.setattr(fully_convolutional, "_Tracer", Hidden)
        to_dense(network(nn.Conv2d(3, 4, 3), Liar(), nn.Flatten(), nn.Linear(4 * 49, 2)), 9, 9)
