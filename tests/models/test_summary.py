"""Layer tables and FLOPs: against published counts, and against hand-made networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from facewright.heads import put_head
from facewright.models import catalog, summary
from facewright.specs import HeadSpec

# 10^9 multiply-adds for one picture of the native size: torchvision's table of weights; timm's results, which count
# norms too, for xception, the SE networks, ResNeSt and ViT; the paper's table 6 for MobileNet v1; the name itself for
# RegNet-200MF and -600MF; the papers for NFNet and MobileFaceNet; half of OpenVINO's figures for FaceNet and ArcFace.
PUBLISHED_GMACS = {
    "alexnet": 0.714,
    "vgg11": 7.609,
    "vgg11_bn": 7.609,
    "vgg13": 11.308,
    "vgg13_bn": 11.308,
    "vgg16": 15.47,
    "vgg16_bn": 15.47,
    "vgg19": 19.632,
    "vgg19_bn": 19.632,
    "resnet18": 1.81,
    "resnet34": 3.66,
    "resnet50": 4.09,
    "resnet101": 7.80,
    "resnet152": 11.51,
    "resnext50_32x4d": 4.23,
    "resnext101_64x4d": 15.46,
    "resnext101_32x8d": 16.414,
    "wide_resnet50_2": 11.398,
    "wide_resnet101_2": 22.753,
    "seresnet50": 4.11,
    "seresnet101": 7.84,
    "seresnext50_32x4d": 4.26,
    "seresnext101_32x4d": 8.02,
    "seresnext101_32x8d": 16.48,
    "xception": 8.40,
    "densenet121": 2.83,
    "densenet161": 7.73,
    "densenet169": 3.36,
    "densenet201": 4.29,
    "squeezenet1_0": 0.819,
    "squeezenet1_1": 0.349,
    "mobilenet_v1_x0_25": 0.041,
    "mobilenet_v1_x0_5": 0.149,
    "mobilenet_v1_x0_75": 0.325,
    "mobilenet_v1": 0.569,
    "mobilenet_v2": 0.301,
    "efficientnet_b0": 0.386,
    "efficientnet_b1": 0.687,
    "efficientnet_b2": 1.088,
    "efficientnet_b3": 1.827,
    "efficientnet_b4": 4.394,
    "regnet_x_200mf": 0.2,
    "regnet_x_400mf": 0.414,
    "regnet_x_600mf": 0.6,
    "regnet_x_800mf": 0.8,
    "regnet_x_1_6gf": 1.603,
    "regnet_x_3_2gf": 3.177,
    "regnet_x_8gf": 7.995,
    "regnet_y_200mf": 0.2,
    "regnet_y_400mf": 0.402,
    "regnet_y_600mf": 0.6,
    "regnet_y_800mf": 0.834,
    "regnet_y_1_6gf": 1.612,
    "regnet_y_3_2gf": 3.176,
    "regnet_y_8gf": 8.473,
    "resnest50": 5.4,
    "resnest101": 13.38,
    "nfnet_f0": 12.38,
    "nfnet_f1": 35.54,
    "vit_ti_16": 1.26,
    "vit_s_16": 4.61,
    "vit_b_16": 17.58,
    "inception_resnet_v1": 1.423,
    "iresnet100": 12.106,
    "mobilefacenet": 0.221,
}
UNPUBLISHED = {
    "lenet5",
    "capsnet",
    "plain18",
    "plain34",
    "iresnet18",
    "iresnet50",
    "dlib_resnet29",
    "facenet_small",
    "tinydarknet",
    "pointwise_facenet",
    "patchnet",
    "plain_cnn",
}
FEW = ["resnet18", "seresnext50_32x4d", "xception", "densenet121", "alexnet", "squeezenet1_1", "regnet_y_200mf"]
FEW += ["resnest50", "nfnet_f0", "vit_ti_16", "iresnet18", "mobilefacenet", "facenet_small", "tinydarknet", "plain_cnn"]
FEW += ["lenet5", "capsnet"]
PUBLISHED_AT = {  # px, where another size was seen: by torchvision's weights; in the NFNets' test
    "efficientnet_b2": 288,
    "nfnet_f0": 256,
    "nfnet_f1": 320,
}


@pytest.mark.parametrize("name", catalog.names())
def test_counts_are_the_published_ones(name: str) -> None:
    facts = catalog.describe(name)
    with torch.device("meta"):
        model = catalog.create_model(name, 1000)
    flops = summary.summarize(model, facts.native_size).flops
    assert flops == facts.flops
    if name in PUBLISHED_AT:
        flops = summary.summarize(model, PUBLISHED_AT[name]).flops
    if name not in UNPUBLISHED:
        assert flops / 2e9 == pytest.approx(PUBLISHED_GMACS[name], rel=0.008)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("size", [32, 75])
def test_rows_add_up_to_the_totals(name: str, size: int) -> None:
    with torch.device("meta"):
        model = catalog.create_model(name, 12, input_size=size)
    whole = summary.summarize(model, size)
    assert sum(row.flops for row in whole.rows) == whole.flops
    assert sum(row.parameters for row in whole.rows) == whole.parameters
    assert whole.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert whole.rows[-1].output_shape in ((12,), (12, 1, 1))  # SqueezeNet ends with a pool
    blocks = summary.by_block(model, whole)
    assert sum(row.flops for row in blocks) == whole.flops
    assert sum(row.parameters for row in blocks) == whole.parameters
    assert sum(row.flops * repeat for row, repeat in summary.group_repeats(blocks)) == whole.flops


def test_rows_of_a_network_counted_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 4, 5))
    whole = summary.summarize(model, 4)
    row = summary.LayerRow
    assert whole.rows == (
        row("0", "Conv2d", (8, 4, 4), 8 * 27 + 8, 2 * 27 * 8 * 16),  # 27 products an output, 8 x 4 x 4 outputs
        row("1", "ReLU", (8, 4, 4), 0, 0),
        row("2", "Flatten", (128,), 0, 0),
        row("3", "Linear", (5,), 128 * 5 + 5, 2 * 128 * 5),
    )


class OwnArithmetic(nn.Module):
    """Multiplies by a matrix of its own beside its child, and calls one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4, bias=False)
        self.matrix = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(self.inner(x[:, 0, 0]) @ self.matrix)
        return out


def test_arithmetic_between_layers_and_repeated_calls_are_counted_once() -> None:
    whole = summary.summarize(OwnArithmetic(), 4)
    assert [(row.name, row.parameters, row.flops) for row in whole.rows] == [
        ("inner", 16, 32),
        ("inner", 0, 32),
        ("", 16, 32),
    ]
    assert (whole.parameters, whole.flops) == (32, 96)


def test_the_model_stays_as_it_was() -> None:
    model = catalog.create_model("resnet18", 3, input_size=32).train()
    model.get_submodule("bn1").eval()
    before = {path: tensor.clone() for path, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    summary.summarize(model, 32)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[path]) for path, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_part_that_another_head_replaced_is_left_out() -> None:
    model = catalog.create_model("squeezenet1_1", 5)
    put_head(model, HeadSpec(kind="cosine", scale=16.0), 5)
    rows = summary.by_block(model, summary.summarize(model, 64))
    assert "classifier.3" not in [row.name for row in rows] and "classifier.1" in [row.name for row in rows]
