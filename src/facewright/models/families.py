"""The families of architectures, a row each: paper, source, costs, and the module that builds them.

Ordered by descent, and each family from small to large; this is the order in which they are listed. A row holds numbers
alone, so that listing loads no network. A new family is one module and one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from facewright.public_names import load_name

if TYPE_CHECKING:
    from facewright.models.blocks import Model, Stem

STEMS: tuple[Stem, ...] = ("coarse", "imagenet", "medium", "small")
SMALLEST_SIDE = 32  # px: the small stem is made for it; a backbone that halves three times leaves 4 x 4 points


# Libraries whose classifiers are architectures too; see `bridge`.
BRIDGED = {
    "timm": "https://github.com/huggingface/pytorch-image-models",
    "torchvision": "https://docs.pytorch.org/vision",
}
PRETRAINED = "pretrained"  # the weights that one of these libraries has for an architecture


@dataclass(frozen=True)
class Family:
    """Architectures of one paper."""

    network: str  # its module of this package and class, "resnet:ResNet"
    paper: str
    source: str  # of the parameter counts
    counts: Mapping[str, tuple[int, int]]
    """Name -> parameters as published, and FLOPs of one image of the native size as `summarize` counts them; with
    1,000 classes and the family's first stem (the imagenet stem for the parameters); one multiply-add is 2 FLOPs."""
    native_size: int = 224  # px
    stems: tuple[Stem, ...] = STEMS
    native_sizes: Mapping[str, int] = field(default_factory=dict)  # of those whose paper trained on another size
    smallest_side: int = SMALLEST_SIDE  # px

    def build(self, name: str, classes: int, stem: Stem) -> Model:
        """Build one of the architectures with random weights."""
        module, kind = self.network.split(":")
        network: Callable[[str, int, Stem], Model] = load_name(f"facewright.models.{module}", kind)
        return network(name, classes, stem)


FAMILIES = {
    "lenet": Family(
        network="early_networks:LeNet5",
        paper="LeCun et al. 1998, Proceedings of the IEEE 86(11)",
        source="counted here: the paper's 60,000 before the classifier, and 300 for colour",
        native_size=32,
        counts={"lenet5": (145_300, 1_289_760)},
        stems=("imagenet",),
    ),
    "alexnet": Family(
        network="early_networks:AlexNet",
        paper="Krizhevsky 2014, arXiv:1404.5997",
        source="torchvision",
        counts={"alexnet": (61_100_840, 1_428_376_960)},
        stems=("imagenet",),
    ),
    "vgg": Family(
        network="early_networks:VGG",
        paper="Simonyan and Zisserman 2015, arXiv:1409.1556",
        source="torchvision",
        counts={
            "vgg11": (132_863_336, 15_218_180_096),
            "vgg11_bn": (132_868_840, 15_218_180_096),
            "vgg13": (133_047_848, 22_616_932_352),
            "vgg13_bn": (133_053_736, 22_616_932_352),
            "vgg16": (138_357_544, 30_940_528_640),
            "vgg16_bn": (138_365_992, 30_940_528_640),
            "vgg19": (143_667_240, 39_264_124_928),
            "vgg19_bn": (143_678_248, 39_264_124_928),
        },
        stems=("imagenet",),
    ),
    "resnet": Family(
        network="resnet:ResNet",
        paper="K. He et al. 2016, arXiv:1512.03385",
        source="torchvision",
        counts={
            "resnet18": (11_689_512, 3_628_146_688),
            "resnet34": (21_797_672, 7_327_522_816),
            "resnet50": (25_557_032, 8_178_368_512),
            "resnet101": (44_549_160, 15_602_810_880),
            "resnet152": (60_192_808, 23_027_253_248),
        },
    ),
    "plain": Family(
        network="resnet:ResNet",
        paper="K. He et al. 2016, arXiv:1512.03385, section 3.3",
        source="counted here: ResNet without its projections",
        counts={
            "plain18": (11_515_688, 3_589_611_520),
            "plain34": (21_623_848, 7_288_987_648),
        },
    ),
    "resnext": Family(
        network="resnet:ResNet",
        paper="Xie et al. 2017, arXiv:1611.05431",
        source="torchvision",
        counts={
            "resnext50_32x4d": (25_028_904, 8_460_959_744),
            "resnext101_64x4d": (83_455_272, 30_920_540_160),
            "resnext101_32x8d": (88_791_336, 32_828_030_976),
        },
    ),
    "wide_resnet": Family(
        network="resnet:ResNet",
        paper="Zagoruyko and Komodakis 2016, arXiv:1605.07146",
        source="torchvision",
        counts={
            "wide_resnet50_2": (68_883_240, 22_796_042_240),
            "wide_resnet101_2": (126_886_696, 45_506_101_248),
        },
    ),
    "seresnet": Family(
        network="resnet:ResNet",
        paper="Hu et al. 2018, arXiv:1709.01507",
        source="imgclsmob (README); the names are timm's",
        counts={
            "seresnet50": (28_088_024, 8_183_398_400),
            "seresnet101": (49_326_872, 15_612_297_216),
            "seresnext50_32x4d": (27_559_896, 8_465_989_632),
            "seresnext101_32x4d": (48_955_416, 15_949_479_936),
            "seresnext101_32x8d": (93_569_048, 32_837_517_312),
        },
    ),
    "xception": Family(
        network="xception:Xception",
        paper="Chollet 2017, arXiv:1610.02357",
        source="timm (legacy_xception)",
        native_size=299,
        counts={"xception": (22_855_952, 16_714_806_992)},
    ),
    "densenet": Family(
        network="densenet:DenseNet",
        paper="Huang et al. 2017, arXiv:1608.06993",
        source="torchvision",
        counts={
            "densenet121": (7_978_856, 5_668_323_328),
            "densenet161": (28_681_000, 15_455_814_144),
            "densenet169": (14_149_480, 6_719_686_656),
            "densenet201": (20_013_928, 8_582_731_776),
        },
    ),
    "squeezenet": Family(
        network="small_networks:SqueezeNet",
        paper="Iandola et al. 2016, arXiv:1602.07360",
        source="torchvision",
        counts={
            "squeezenet1_0": (1_248_424, 1_637_849_152),
            "squeezenet1_1": (1_235_496, 698_303_872),
        },
    ),
    "mobilenet_v1": Family(
        network="mobilenet:MobileNetV1",
        paper="Howard et al. 2017, arXiv:1704.04861",
        source="imgclsmob (README); the names are timm's",
        counts={
            "mobilenet_v1_x0_25": (470_072, 82_060_544),
            "mobilenet_v1_x0_5": (1_331_592, 298_994_176),
            "mobilenet_v1_x0_75": (2_585_560, 650_800_896),
            "mobilenet_v1": (4_231_976, 1_137_480_704),
        },
    ),
    "mobilenet_v2": Family(
        network="mobilenet:MobileNetV2",
        paper="Sandler et al. 2018, arXiv:1801.04381",
        source="torchvision",
        counts={"mobilenet_v2": (3_504_872, 601_548_544)},
    ),
    "efficientnet": Family(
        network="mobilenet:EfficientNet",
        paper="Tan and Le 2019, arXiv:1905.11946",
        source="torchvision",
        counts={
            "efficientnet_b0": (5_288_548, 771_629_504),
            "efficientnet_b1": (7_794_184, 1_373_605_664),
            "efficientnet_b2": (9_109_994, 1_987_123_744),
            "efficientnet_b3": (12_233_232, 3_654_282_784),
            "efficientnet_b4": (19_341_616, 8_787_542_048),
        },
        native_sizes={"efficientnet_b1": 240, "efficientnet_b2": 260, "efficientnet_b3": 300, "efficientnet_b4": 380},
    ),
    "regnet": Family(
        network="regnet:RegNet",
        paper="Radosavovic et al. 2020, arXiv:2003.13678",
        source="torchvision; 200MF and 600MF: imgclsmob (README)",
        counts={
            "regnet_x_200mf": (2_684_792, 398_079_744),
            "regnet_x_400mf": (5_495_976, 827_625_216),
            "regnet_x_600mf": (6_196_040, 1_201_780_224),
            "regnet_x_800mf": (7_259_656, 1_599_399_424),
            "regnet_x_1_6gf": (9_190_136, 3_205_699_584),
            "regnet_x_3_2gf": (15_296_552, 6_353_243_904),
            "regnet_x_8gf": (39_572_648, 15_990_264_832),
            "regnet_y_200mf": (3_162_996, 399_028_160),
            "regnet_y_400mf": (4_344_144, 803_685_696),
            "regnet_y_600mf": (6_055_160, 1_202_441_984),
            "regnet_y_800mf": (6_432_512, 1_667_712_512),
            "regnet_y_1_6gf": (11_202_430, 3_224_152_320),
            "regnet_y_3_2gf": (19_436_338, 6_352_965_504),
            "regnet_y_8gf": (39_381_472, 16_946_141_184),
        },
    ),
    "resnest": Family(
        network="resnest:ResNeSt",
        paper="Zhang et al. 2022, arXiv:2004.08955",
        source="timm (resnest50d, resnest101e)",
        counts={
            "resnest50": (27_483_240, 10_742_321_152),
            "resnest101": (48_275_016, 26_642_944_000),
        },
        native_sizes={"resnest101": 256},
    ),
    "nfnet": Family(
        network="nfnet:NFNet",
        paper="Brock et al. 2021, arXiv:2102.06171",
        source="timm (dm_nfnet_f0, dm_nfnet_f1)",
        counts={
            "nfnet_f0": (71_489_284, 13_954_007_040),
            "nfnet_f1": (132_634_256, 34_875_842_560),
        },
        native_sizes={"nfnet_f0": 192},
    ),
    "capsnet": Family(
        network="capsnet:CapsNet",
        paper="Sabour et al. 2017, arXiv:1710.09829",
        source="counted here: the paper's layers (6.8 M with ten classes), and colour",
        native_size=32,
        counts={"capsnet": (152_827_136, 933_101_568)},
        stems=("imagenet",),
    ),
    "vit": Family(
        network="vit:VisionTransformer",
        paper="Dosovitskiy et al. 2021, arXiv:2010.11929",
        source="timm",
        counts={
            "vit_ti_16": (5_717_416, 2_507_366_400),
            "vit_s_16": (22_050_664, 9_197_764_608),
            "vit_b_16": (86_567_656, 35_127_656_448),
        },
        stems=("imagenet",),
    ),
    "inception_resnet": Family(
        network="face_networks:InceptionResNetV1",
        paper="Szegedy et al. 2017, arXiv:1602.07261; Schroff et al. 2015, arXiv:1503.03832",
        source="timesler (facenet-pytorch): 23,482,624 before the classifier",
        native_size=160,
        counts={"inception_resnet_v1": (23_995_624, 2_836_348_608)},
        stems=("imagenet",),
        smallest_side=75,
    ),
    "iresnet": Family(
        network="resnet:IResNet",
        paper="Deng et al. 2019, arXiv:1801.07698",
        source="counted from insightface's source, which states none",
        native_size=112,
        counts={
            "iresnet18": (24_538_600, 5_220_933_632),
            "iresnet50": (44_103_848, 12_619_685_888),
            "iresnet100": (65_669_160, 24_180_236_288),
        },
        stems=("imagenet",),
    ),
    "mobilefacenet": Family(
        network="face_networks:MobileFaceNet",
        paper="Chen et al. 2018, arXiv:1804.07573",
        source="a public file: 1,003,136 before the classifier (the paper: 0.99 M)",
        native_size=112,
        counts={"mobilefacenet": (1_132_136, 442_186_752)},
        stems=("imagenet",),
    ),
    "dlib_resnet": Family(
        network="face_networks:DlibResNet",
        paper="K. He et al. 2016, arXiv:1512.03385; the network is D. King's",
        source="counted in dlib's file, whose convolutions have biases too",
        native_size=150,
        counts={"dlib_resnet29": (5_740_040, 541_964_288)},
        stems=("imagenet",),
        smallest_side=103,
    ),
    "facenet": Family(
        network="face_networks:SmallFaceNet",
        paper="after Schroff et al. 2015, arXiv:1503.03832",
        source="counted here; no published figure",
        native_size=96,
        counts={"facenet_small": (278_120, 175_777_792)},
        stems=("imagenet",),
    ),
    "tinydarknet": Family(
        network="small_networks:TinyDarknet",
        paper="Redmon, pjreddie.com/darknet/tiny-darknet",
        source="counted from darknet's cfg/tiny.cfg; its weights take 4.0 MB",
        counts={"tinydarknet": (1_042_104, 933_128_192)},
        stems=("imagenet",),
    ),
    "pointwise_facenet": Family(
        network="small_networks:PointwiseFaceNet",
        paper="none: a net for small devices",
        source="counted here; no published figure",
        native_size=32,
        counts={"pointwise_facenet": (8_193_608, 16_744_448)},
        stems=("imagenet",),
    ),
    "patchnet": Family(
        network="small_networks:PatchNet",
        paper="none: our own, for scanning photos",
        source="counted here; no published figure",
        native_size=64,
        counts={"patchnet": (227_416, 24_500_480)},
        stems=("imagenet",),
        smallest_side=36,
    ),
    "plain_cnn": Family(
        network="early_networks:PlainCNN",
        paper="none: a baseline of courses",
        source="counted here; no published figure",
        native_size=64,
        counts={"plain_cnn": (16_404_392, 77_594_624)},
        stems=("imagenet",),
    ),
}
