"""The families of the zoo, a row each: who wrote it, what it was trained on, how it is built.

Ordered by descent, and each family from small to large; this is the order in which the zoo is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from facewright.models import (
    alexnet,
    densenet,
    dlib_resnet,
    efficientnet,
    facenet,
    inception_resnet,
    iresnet,
    mobilefacenet,
    mobilenet,
    nfnet,
    patchnet,
    plain_cnn,
    regnet,
    resnest,
    resnet,
    squeezenet,
    tinydarknet,
    vgg,
    vit,
    xception,
)
from facewright.models.blocks import Stem

Model = (
    alexnet.AlexNet
    | vgg.VGG
    | resnet.ResNet
    | xception.Xception
    | densenet.DenseNet
    | squeezenet.SqueezeNet
    | mobilenet.MobileNetV1
    | mobilenet.MobileNetV2
    | efficientnet.EfficientNet
    | regnet.RegNet
    | resnest.ResNeSt
    | nfnet.NFNet
    | vit.VisionTransformer
    | inception_resnet.InceptionResNetV1
    | facenet.SmallFaceNet
    | iresnet.IResNet
    | mobilefacenet.MobileFaceNet
    | dlib_resnet.DlibResNet
    | tinydarknet.TinyDarknet
    | tinydarknet.PointwiseFaceNet
    | patchnet.PatchNet
    | plain_cnn.PlainCNN
)
"""What `create_model` gives: `forward` (B, 3, H, W) -> (B, classes); `forward_features` -> (B, feature_width)."""

STEMS: tuple[Stem, ...] = ("coarse", "imagenet", "medium", "small")
SMALLEST_SIDE = 32  # px: the small stem is made for it; a body that halves three times leaves 4 x 4 points


@dataclass(frozen=True)
class Family:
    """Architectures of one paper."""

    build: Callable[[str, int, Stem], Model]  # name, classes, stem
    paper: str
    source: str
    native_size: int
    parameters: dict[str, int]
    stems: tuple[Stem, ...] = STEMS
    native_sizes: dict[str, int] = field(default_factory=dict)  # of those whose paper trained on another size
    smallest_side: int = SMALLEST_SIDE  # px


class Counted(Protocol):
    @property
    def parameters(self) -> int: ...


def _counts(variants: Mapping[str, Counted], beginning: str = "") -> dict[str, int]:
    """The published counts of a family's table, or of the rows whose names begin so."""
    return {name: variant.parameters for name, variant in variants.items() if name.startswith(beginning)}


FAMILIES = {
    "alexnet": Family(
        alexnet.build,
        "Krizhevsky 2014, arXiv:1404.5997",
        "torchvision",
        224,
        alexnet.VARIANTS,
        stems=("imagenet",),
    ),
    "vgg": Family(
        vgg.build,
        "Simonyan and Zisserman 2015, arXiv:1409.1556",
        "torchvision",
        224,
        _counts(vgg.VARIANTS),
        stems=("imagenet",),
    ),
    "resnet": Family(
        resnet.build,
        "He et al. 2016, arXiv:1512.03385",
        "torchvision",
        224,
        _counts(resnet.VARIANTS, "resnet"),
    ),
    "resnext": Family(
        resnet.build, "Xie et al. 2017, arXiv:1611.05431", "torchvision", 224, _counts(resnet.VARIANTS, "resnext")
    ),
    "wide_resnet": Family(
        resnet.build,
        "Zagoruyko and Komodakis 2016, arXiv:1605.07146",
        "torchvision",
        224,
        _counts(resnet.VARIANTS, "wide_resnet"),
    ),
    "seresnet": Family(
        resnet.build,
        "Hu et al. 2018, arXiv:1709.01507",
        "imgclsmob (README); the names are timm's",
        224,
        _counts(resnet.VARIANTS, "seres"),
    ),
    "xception": Family(
        xception.build, "Chollet 2017, arXiv:1610.02357", "timm (legacy_xception)", 299, xception.VARIANTS
    ),
    "densenet": Family(
        densenet.build, "Huang et al. 2017, arXiv:1608.06993", "torchvision", 224, _counts(densenet.VARIANTS)
    ),
    "squeezenet": Family(
        squeezenet.build, "Iandola et al. 2016, arXiv:1602.07360", "torchvision", 224, _counts(squeezenet.VARIANTS)
    ),
    "mobilenet_v1": Family(
        mobilenet.build_v1,
        "Howard et al. 2017, arXiv:1704.04861",
        "imgclsmob (README); the names are timm's",
        224,
        _counts(mobilenet.V1_VARIANTS),
    ),
    "mobilenet_v2": Family(
        mobilenet.build_v2, "Sandler et al. 2018, arXiv:1801.04381", "torchvision", 224, mobilenet.V2_VARIANTS
    ),
    "efficientnet": Family(
        efficientnet.build,
        "Tan and Le 2019, arXiv:1905.11946",
        "torchvision",
        224,
        _counts(efficientnet.VARIANTS),
        native_sizes={name: variant.size for name, variant in efficientnet.VARIANTS.items()},
    ),
    "regnet": Family(
        regnet.build,
        "Radosavovic et al. 2020, arXiv:2003.13678",
        "torchvision; 200MF and 600MF: imgclsmob (README)",
        224,
        _counts(regnet.VARIANTS),
    ),
    "resnest": Family(
        resnest.build,
        "Zhang et al. 2022, arXiv:2004.08955",
        "timm (resnest50d, resnest101e)",
        224,
        _counts(resnest.VARIANTS),
        native_sizes={"resnest101": 256},
    ),
    "nfnet": Family(
        nfnet.build,
        "Brock et al. 2021, arXiv:2102.06171",
        "timm (dm_nfnet_f0, dm_nfnet_f1)",
        224,
        _counts(nfnet.VARIANTS),
        native_sizes={name: variant.native_size for name, variant in nfnet.VARIANTS.items()},
    ),
    "vit": Family(
        vit.build, "Dosovitskiy et al. 2021, arXiv:2010.11929", "timm", 224, _counts(vit.VARIANTS), stems=("imagenet",)
    ),
    "inception_resnet": Family(
        inception_resnet.build,
        "Szegedy et al. 2017, arXiv:1602.07261; Schroff et al. 2015, arXiv:1503.03832",
        "timesler (facenet-pytorch): 23,482,624 before the classifier",
        160,
        inception_resnet.VARIANTS,
        stems=("imagenet",),
        smallest_side=inception_resnet.SMALLEST_SIDE,
    ),
    "iresnet": Family(
        iresnet.build,
        "Deng et al. 2019, arXiv:1801.07698",
        "counted from insightface's source, which states none",
        112,
        _counts(iresnet.VARIANTS),
        stems=("imagenet",),
    ),
    "mobilefacenet": Family(
        mobilefacenet.build,
        "Chen et al. 2018, arXiv:1804.07573",
        "a public file: 1,003,136 before the classifier (the paper: 0.99 M)",
        112,
        mobilefacenet.VARIANTS,
        stems=("imagenet",),
    ),
    "dlib_resnet": Family(
        dlib_resnet.build,
        "He et al. 2016, arXiv:1512.03385; the network is D. King's",
        "counted in dlib's file, whose convolutions have biases too",
        150,
        dlib_resnet.VARIANTS,
        stems=("imagenet",),
        smallest_side=dlib_resnet.SMALLEST_SIDE,
    ),
    "facenet": Family(
        facenet.build,
        "after Schroff et al. 2015, arXiv:1503.03832",
        "counted here; no published figure",
        96,
        facenet.VARIANTS,
        stems=("imagenet",),
    ),
    "tinydarknet": Family(
        tinydarknet.build,
        "Redmon, pjreddie.com/darknet/tiny-darknet",
        "counted from darknet's cfg/tiny.cfg; its weights take 4.0 MB",
        224,
        {"tinydarknet": tinydarknet.VARIANTS["tinydarknet"]},
        stems=("imagenet",),
    ),
    "pointwise_facenet": Family(
        tinydarknet.build,
        "none: a net for small devices",
        "counted here; no published figure",
        32,
        {"pointwise_facenet": tinydarknet.VARIANTS["pointwise_facenet"]},
        stems=("imagenet",),
    ),
    "patchnet": Family(
        patchnet.build,
        "none: our own, for scanning photos",
        "counted here; no published figure",
        64,
        patchnet.VARIANTS,
        stems=("imagenet",),
        smallest_side=patchnet.SMALLEST_SIDE,
    ),
    "plain_cnn": Family(
        plain_cnn.build,
        "none: a baseline of courses",
        "counted here; no published figure",
        64,
        plain_cnn.VARIANTS,
        stems=("imagenet",),
    ),
}
