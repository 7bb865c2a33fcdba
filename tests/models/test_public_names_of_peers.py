"""Parameter names and shapes of the public weights of timm, timesler, insightface and the MobileFaceNet ports.

Written down by hand from their sources. Face networks are published without a classifier: theirs is left out.
"""

from __future__ import annotations

import pytest
import torch

from facewright.models import catalog, nfnet

Names = dict[str, tuple[int, ...]]

RESNEST50: Names = {
    "conv1.0.weight": (32, 3, 3, 3),
    "conv1.4.running_mean": (32,),
    "conv1.6.weight": (64, 32, 3, 3),
    "bn1.weight": (64,),
    "layer1.0.conv2.conv.weight": (128, 32, 3, 3),
    "layer1.0.conv2.bn0.weight": (128,),
    "layer1.0.conv2.fc1.weight": (32, 64, 1, 1),
    "layer1.0.conv2.fc1.bias": (32,),
    "layer1.0.conv2.bn1.running_var": (32,),
    "layer1.0.conv2.fc2.weight": (128, 32, 1, 1),
    "layer1.0.downsample.1.weight": (256, 64, 1, 1),
    "layer1.0.downsample.2.weight": (256,),
    "layer4.2.conv2.fc2.bias": (1024,),
    "layer4.2.conv3.weight": (2048, 512, 1, 1),
    "fc.weight": (1000, 2048),
}
RESNEST101: Names = {
    "conv1.0.weight": (64, 3, 3, 3),
    "conv1.6.weight": (128, 64, 3, 3),
    "layer1.0.conv1.weight": (64, 128, 1, 1),
    "layer3.22.bn3.bias": (1024,),
}
NFNET_F0: Names = {
    "stem.conv1.weight": (16, 3, 3, 3),
    "stem.conv1.gain": (16, 1, 1, 1),
    "stem.conv4.bias": (128,),
    "stages.0.0.skipinit_gain": (),
    "stages.0.0.downsample.conv.weight": (256, 128, 1, 1),
    "stages.0.0.conv1.weight": (128, 128, 1, 1),
    "stages.0.0.attn_last.fc1.weight": (128, 256, 1, 1),
    "stages.1.0.conv2.weight": (256, 128, 3, 3),
    "stages.3.2.conv2b.gain": (768, 1, 1, 1),
    "stages.3.2.attn_last.fc2.bias": (1536,),
    "final_conv.weight": (3072, 1536, 1, 1),
    "head.fc.weight": (1000, 3072),
}
VIT_TI: Names = {
    "cls_token": (1, 1, 192),
    "pos_embed": (1, 197, 192),
    "patch_embed.proj.weight": (192, 3, 16, 16),
    "blocks.0.norm1.weight": (192,),
    "blocks.0.attn.qkv.weight": (576, 192),
    "blocks.0.attn.qkv.bias": (576,),
    "blocks.11.attn.proj.weight": (192, 192),
    "blocks.11.mlp.fc1.weight": (768, 192),
    "blocks.11.mlp.fc2.bias": (192,),
    "norm.weight": (192,),
    "head.weight": (1000, 192),
}
INCEPTION_RESNET: Names = {
    "conv2d_1a.conv.weight": (32, 3, 3, 3),
    "conv2d_4b.bn.running_mean": (256,),
    "repeat_1.4.branch2.2.conv.weight": (32, 32, 3, 3),
    "repeat_1.0.conv2d.bias": (256,),
    "mixed_6a.branch0.conv.weight": (384, 256, 3, 3),
    "mixed_6a.branch1.2.conv.weight": (256, 192, 3, 3),
    "repeat_2.9.branch1.1.conv.weight": (128, 128, 1, 7),
    "repeat_2.9.branch1.2.conv.weight": (128, 128, 7, 1),
    "mixed_7a.branch2.2.conv.weight": (256, 256, 3, 3),
    "repeat_3.4.branch0.conv.weight": (192, 1792, 1, 1),
    "block8.branch1.2.bn.running_var": (192,),
    "block8.conv2d.weight": (1792, 384, 1, 1),
    "last_linear.weight": (512, 1792),
    "last_bn.running_mean": (512,),
}
IRESNET50: Names = {
    "conv1.weight": (64, 3, 3, 3),
    "prelu.weight": (64,),
    "layer1.0.bn1.weight": (64,),
    "layer1.0.conv2.weight": (64, 64, 3, 3),
    "layer1.0.downsample.0.weight": (64, 64, 1, 1),
    "layer3.13.prelu.weight": (256,),
    "layer4.0.downsample.1.running_var": (512,),
    "bn2.weight": (512,),
    "fc.weight": (512, 25088),
    "fc.bias": (512,),
    "features.running_mean": (512,),
}
MOBILEFACENET: Names = {
    "conv1.prelu.weight": (64,),
    "conv2_dw.conv.weight": (64, 1, 3, 3),
    "conv_23.project.conv.weight": (64, 128, 1, 1),
    "conv_3.model.3.conv_dw.bn.weight": (128,),
    "conv_45.conv.conv.weight": (512, 128, 1, 1),
    "conv_5.model.1.project.bn.bias": (128,),
    "sep.weight": (512, 128, 1, 1),
    "prelu.weight": (512,),
    "GDC_dw.weight": (512, 1, 7, 7),
    "features.weight": (128, 512, 1, 1),
    "last_bn.running_var": (128,),
}

# architecture, known names, how many tensors its public state_dict has
TABLE = [
    ("resnest50", RESNEST50, 476),
    ("resnest101", RESNEST101, 935),
    ("nfnet_f0", NFNET_F0, 233),
    ("vit_ti_16", VIT_TI, 152),
    ("inception_resnet_v1", INCEPTION_RESNET, 714),
    ("iresnet50", IRESNET50, 475),
    ("mobilefacenet", MOBILEFACENET, 333),
]
FACES = ("inception_resnet_v1", "iresnet50", "mobilefacenet")


@pytest.mark.parametrize(("name", "known", "tensors"), TABLE, ids=[row[0] for row in TABLE])
def test_public_weights_fit(name: str, known: Names, tensors: int) -> None:
    with torch.device("meta"):
        model = catalog.create_model(name, 1000)
    shapes = {public_name(name, key): tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    if name in FACES:
        shapes = {key: shape for key, shape in shapes.items() if not key.startswith(f"{model.classifier_name}.")}
    assert {key: shapes[key] for key in known if key in shapes} == known
    assert len(shapes) == tensors


def public_name(name: str, key: str) -> str:
    rules = nfnet.PUBLIC_NAMES if name.startswith("nfnet") else ()
    for public, ours in rules:
        if key.startswith(ours):
            return public + key.removeprefix(ours)
    return key
