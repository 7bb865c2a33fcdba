"""Parameter names and shapes of the networks whose weights are public, written down by hand from their sources.

torchvision, and timm for legacy_xception and the SE networks; a rename here would silently stop their weights from
fitting.
"""

from __future__ import annotations

import pytest
import torch

from facewright.models import catalog

Names = dict[str, tuple[int, ...]]

RESNET18: Names = {
    "conv1.weight": (64, 3, 7, 7),
    "bn1.running_var": (64,),
    "layer1.0.conv1.weight": (64, 64, 3, 3),
    "layer2.0.downsample.0.weight": (128, 64, 1, 1),
    "layer2.0.downsample.1.running_mean": (128,),
    "layer4.1.bn2.weight": (512,),
    "layer4.1.conv2.weight": (512, 512, 3, 3),
    "fc.weight": (1000, 512),
    "fc.bias": (1000,),
}
RESNET50: Names = {
    "layer1.0.conv1.weight": (64, 64, 1, 1),
    "layer1.0.conv3.weight": (256, 64, 1, 1),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer3.5.conv2.weight": (256, 256, 3, 3),
    "layer4.2.bn3.num_batches_tracked": (),
    "layer4.2.conv3.weight": (2048, 512, 1, 1),
    "fc.weight": (1000, 2048),
}
RESNEXT101_32X8D: Names = {
    "layer1.0.conv1.weight": (256, 64, 1, 1),
    "layer1.0.conv2.weight": (256, 8, 3, 3),
    "layer4.2.conv2.weight": (2048, 64, 3, 3),
    "layer4.2.conv3.weight": (2048, 2048, 1, 1),
    "fc.weight": (1000, 2048),
}
WIDE_RESNET50_2: Names = {
    "layer1.0.conv1.weight": (128, 64, 1, 1),
    "layer4.2.conv2.weight": (1024, 1024, 3, 3),
    "layer4.2.conv3.weight": (2048, 1024, 1, 1),
}
SERESNEXT50: Names = {
    "layer1.0.conv2.weight": (128, 4, 3, 3),
    "layer1.0.se.fc1.weight": (16, 256, 1, 1),
    "layer1.0.se.fc1.bias": (16,),
    "layer1.0.se.fc2.weight": (256, 16, 1, 1),
    "layer4.2.se.fc1.weight": (128, 2048, 1, 1),
    "layer4.2.se.fc2.bias": (2048,),
    "layer1.0.downsample.1.weight": (256,),
}
XCEPTION: Names = {
    "conv1.weight": (32, 3, 3, 3),
    "conv2.weight": (64, 32, 3, 3),
    "block1.rep.0.conv1.weight": (64, 1, 3, 3),
    "block1.rep.0.pointwise.weight": (128, 64, 1, 1),
    "block1.rep.1.weight": (128,),
    "block1.rep.3.pointwise.weight": (128, 128, 1, 1),
    "block1.skip.weight": (128, 64, 1, 1),
    "block1.skipbn.running_mean": (128,),
    "block3.rep.1.pointwise.weight": (728, 256, 1, 1),
    "block4.rep.1.conv1.weight": (728, 1, 3, 3),
    "block11.rep.7.pointwise.weight": (728, 728, 1, 1),
    "block11.rep.8.bias": (728,),
    "block12.rep.1.pointwise.weight": (728, 728, 1, 1),
    "block12.rep.4.pointwise.weight": (1024, 728, 1, 1),
    "block12.skip.weight": (1024, 728, 1, 1),
    "conv3.conv1.weight": (1024, 1, 3, 3),
    "conv4.pointwise.weight": (2048, 1536, 1, 1),
    "bn4.weight": (2048,),
    "fc.weight": (1000, 2048),
}
DENSENET121: Names = {
    "features.conv0.weight": (64, 3, 7, 7),
    "features.norm0.weight": (64,),
    "features.denseblock1.denselayer1.norm1.weight": (64,),
    "features.denseblock1.denselayer1.conv1.weight": (128, 64, 1, 1),
    "features.denseblock1.denselayer1.norm2.running_mean": (128,),
    "features.denseblock1.denselayer6.conv2.weight": (32, 128, 3, 3),
    "features.transition1.norm.weight": (256,),
    "features.transition1.conv.weight": (128, 256, 1, 1),
    "features.denseblock3.denselayer24.conv1.weight": (128, 992, 1, 1),
    "features.denseblock4.denselayer16.norm1.weight": (992,),
    "features.norm5.bias": (1024,),
    "classifier.weight": (1000, 1024),
}
DENSENET161: Names = {
    "features.conv0.weight": (96, 3, 7, 7),
    "features.denseblock1.denselayer1.conv1.weight": (192, 96, 1, 1),
    "features.denseblock3.denselayer36.conv2.weight": (48, 192, 3, 3),
    "classifier.weight": (1000, 2208),
}

# architecture, known names, how many tensors its public state_dict has
TABLE = [
    ("resnet18", RESNET18, 122),
    ("resnet50", RESNET50, 320),
    ("resnext101_32x8d", RESNEXT101_32X8D, 626),
    ("wide_resnet50_2", WIDE_RESNET50_2, 320),
    ("seresnext50_32x4d", SERESNEXT50, 384),
    ("xception", XCEPTION, 276),
    ("densenet121", DENSENET121, 727),
    ("densenet161", DENSENET161, 967),
]


@pytest.mark.parametrize(("name", "known", "tensors"), TABLE, ids=[row[0] for row in TABLE])
def test_public_weights_fit(name: str, known: Names, tensors: int) -> None:
    with torch.device("meta"):
        state = catalog.create_model(name, 1000).state_dict()
    assert {key: tuple(state[key].shape) for key in known if key in state} == known
    assert len(state) == tensors


@pytest.mark.parametrize("name", ["resnet50", "densenet121"])
def test_stems_change_the_first_convolution_only(name: str) -> None:
    shapes = []
    for stem in catalog.STEMS:
        with torch.device("meta"):
            state = catalog.create_model(name, 12, stem=stem).state_dict()
        shapes.append({key: tuple(tensor.shape) for key, tensor in state.items()})
    first = {"resnet50": "conv1.weight", "densenet121": "features.conv0.weight"}[name]
    assert [shape.pop(first)[-1] for shape in shapes] == [7, 7, 3, 3]
    assert all(shape == shapes[0] for shape in shapes)


def test_xception_has_one_set_of_shapes_for_all_stems() -> None:
    shapes = []
    for stem in catalog.STEMS:
        with torch.device("meta"):
            state = catalog.create_model("xception", 12, stem=stem).state_dict()
        shapes.append({key: tuple(tensor.shape) for key, tensor in state.items()})
    assert all(shape == shapes[0] for shape in shapes)
