"""Parameter names and shapes of the networks whose weights are public, written down by hand from their sources.

torchvision, and timm for legacy_xception, the SE networks and MobileNet v1; a rename here would silently stop their
weights from fitting.
"""

from __future__ import annotations

import pytest
import torch

from facewright.models import catalog

Names = dict[str, tuple[int, ...]]

ALEXNET: Names = {
    "features.0.weight": (64, 3, 11, 11),
    "features.3.weight": (192, 64, 5, 5),
    "features.6.weight": (384, 192, 3, 3),
    "features.8.bias": (256,),
    "features.10.weight": (256, 256, 3, 3),
    "classifier.1.weight": (4096, 9216),
    "classifier.4.weight": (4096, 4096),
    "classifier.6.weight": (1000, 4096),
}
VGG16: Names = {
    "features.0.weight": (64, 3, 3, 3),
    "features.28.weight": (512, 512, 3, 3),
    "classifier.0.weight": (4096, 25088),
    "classifier.3.bias": (4096,),
    "classifier.6.weight": (1000, 4096),
}
VGG16_BN: Names = {
    "features.1.running_mean": (64,),
    "features.40.weight": (512, 512, 3, 3),
    "features.41.bias": (512,),
}
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

SQUEEZENET1_0: Names = {
    "features.0.weight": (96, 3, 7, 7),
    "features.3.squeeze.weight": (16, 96, 1, 1),
    "features.5.expand3x3.weight": (128, 32, 3, 3),
    "features.12.expand1x1.weight": (256, 64, 1, 1),
    "classifier.1.weight": (1000, 512, 1, 1),
}
SQUEEZENET1_1: Names = {
    "features.0.weight": (64, 3, 3, 3),
    "features.3.squeeze.bias": (16,),
    "features.4.expand3x3.weight": (64, 16, 3, 3),
    "features.7.squeeze.weight": (32, 256, 1, 1),
    "features.12.expand1x1.weight": (256, 64, 1, 1),
    "classifier.1.bias": (1000,),
}
MOBILENET_V1: Names = {
    "conv_stem.weight": (32, 3, 3, 3),
    "bn1.weight": (32,),
    "blocks.0.0.conv_dw.weight": (32, 1, 3, 3),
    "blocks.0.0.bn1.running_mean": (32,),
    "blocks.0.0.conv_pw.weight": (64, 32, 1, 1),
    "blocks.3.5.bn2.bias": (512,),
    "blocks.4.1.conv_pw.weight": (1024, 1024, 1, 1),
    "classifier.weight": (1000, 1024),
}
MOBILENET_V2: Names = {
    "features.0.0.weight": (32, 3, 3, 3),
    "features.1.conv.0.0.weight": (32, 1, 3, 3),
    "features.1.conv.1.weight": (16, 32, 1, 1),
    "features.2.conv.0.0.weight": (96, 16, 1, 1),
    "features.2.conv.3.running_var": (24,),
    "features.17.conv.2.weight": (320, 960, 1, 1),
    "features.18.0.weight": (1280, 320, 1, 1),
    "classifier.1.weight": (1000, 1280),
}
EFFICIENTNET_B0: Names = {
    "features.0.0.weight": (32, 3, 3, 3),
    "features.1.0.block.0.0.weight": (32, 1, 3, 3),
    "features.1.0.block.1.fc1.weight": (8, 32, 1, 1),
    "features.1.0.block.2.0.weight": (16, 32, 1, 1),
    "features.3.1.block.1.0.weight": (240, 1, 5, 5),
    "features.3.1.block.2.fc2.bias": (240,),
    "features.7.0.block.3.1.running_mean": (320,),
    "features.8.0.weight": (1280, 320, 1, 1),
    "classifier.1.weight": (1000, 1280),
}
REGNET_X_400MF: Names = {
    "stem.0.weight": (32, 3, 3, 3),
    "trunk_output.block1.block1-0.f.a.0.weight": (32, 32, 1, 1),
    "trunk_output.block2.block2-1.f.b.0.weight": (64, 16, 3, 3),
    "trunk_output.block4.block4-0.proj.0.weight": (400, 160, 1, 1),
    "fc.weight": (1000, 400),
}
REGNET_Y_400MF: Names = {
    "stem.1.running_mean": (32,),
    "trunk_output.block1.block1-0.proj.1.weight": (48,),
    "trunk_output.block1.block1-0.f.se.fc1.weight": (8, 48, 1, 1),
    "trunk_output.block2.block2-0.f.se.fc1.weight": (12, 104, 1, 1),
    "trunk_output.block4.block4-5.f.c.0.weight": (440, 440, 1, 1),
    "trunk_output.block4.block4-5.f.se.fc2.bias": (440,),
    "fc.weight": (1000, 440),
}

# architecture, known names, how many tensors its public state_dict has
TABLE = [
    ("alexnet", ALEXNET, 16),
    ("vgg16", VGG16, 32),
    ("vgg16_bn", VGG16_BN, 97),
    ("resnet18", RESNET18, 122),
    ("resnet50", RESNET50, 320),
    ("resnext101_32x8d", RESNEXT101_32X8D, 626),
    ("wide_resnet50_2", WIDE_RESNET50_2, 320),
    ("seresnext50_32x4d", SERESNEXT50, 384),
    ("xception", XCEPTION, 276),
    ("densenet121", DENSENET121, 727),
    ("densenet161", DENSENET161, 967),
    ("squeezenet1_0", SQUEEZENET1_0, 52),
    ("squeezenet1_1", SQUEEZENET1_1, 52),
    ("mobilenet_v1", MOBILENET_V1, 164),
    ("mobilenet_v2", MOBILENET_V2, 314),
    ("efficientnet_b0", EFFICIENTNET_B0, 360),
    ("regnet_x_400mf", REGNET_X_400MF, 428),
    ("regnet_y_400mf", REGNET_Y_400MF, 384),
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


STRIDED = ["xception", "squeezenet1_1", "mobilenet_v1", "mobilenet_v2", "efficientnet_b0", "regnet_y_200mf"]


@pytest.mark.parametrize("name", STRIDED)
def test_stems_that_change_strides_change_no_shape(name: str) -> None:
    shapes = []
    for stem in catalog.STEMS:
        with torch.device("meta"):
            state = catalog.create_model(name, 12, stem=stem).state_dict()
        shapes.append({key: tuple(tensor.shape) for key, tensor in state.items()})
    assert all(shape == shapes[0] for shape in shapes)
