"""Public weights by name: where they lie, what they are, under which licence, and what their authors say they score.

Those of architectures; face recognizers and detectors, which bring their own graph, are rows of `face_weights`.
Sources and scores: timm's tables of defaults and `results/results-imagenet.csv` (single crop, ImageNet-1k validation),
pycls and DeiT through the same tables, the README of timesler's facenet-pytorch. Nothing here was measured by us.
A checksum of 64 digits is the whole SHA-256 of the file, as other projects pin it; a shorter one is in the file's own
name, and the whole sum is written beside the file when it came. Pickles are read only by `weights get` and `weights
convert`, which store safetensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from facewright.errors import UnknownName
from facewright.files import cache_folder
from facewright.input_spec import InputSpec
from facewright.models.catalog import describe

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
FACENET_STD = (128 / 255,) * 3  # timesler's fixed standardisation, (x - 127.5) / 128
DLIB_MEAN, DLIB_STD = (122.782 / 255, 117.001 / 255, 104.298 / 255), (256 / 255,) * 3  # (x - mean) / 256

GITHUB = "https://github.com/huggingface/pytorch-image-models/releases/download"
HUB = "https://huggingface.co/timm"
DEIT = "https://dl.fbaipublicfiles.com/deit"
FACENET = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"
TIMM = "https://github.com/huggingface/pytorch-image-models"
RESULTS = f"{TIMM}/blob/main/results/results-imagenet.csv"
IMAGENET = "ImageNet-1k: non-commercial research and education"
IMAGENET_TERMS = "https://huggingface.co/datasets/timm/imagenet-12k-wds/blob/main/LICENSE"
WHOLE = 64  # hexadecimal digits of a checksum

Kind = Literal["classifier", "recognizer", "detector"]


@dataclass(frozen=True)
class Weights:
    """A row of public weights. What it says of licences, data, scores and checksums has the address it is from."""

    architecture: str  # "": a file with its own graph
    name: str  # what stands behind the @; of a file with its own graph its whole name
    source: str  # https address
    sha256: str  # hexadecimal: all 64 digits, or the first 8 or more
    licence: str  # of the weights
    spec: InputSpec | None  # size that the weights were trained with, mean and std they expect; None: of a detector
    published: str  # score, in the words of a table: what, on what, by whom
    rule: str = ""  # how their parameters are named; see `weight_matching`
    classes: int = 1000
    kind: Kind = "classifier"
    data: str = IMAGENET  # training data, and its terms as far as they were found
    bytes: int | None = None  # of the file
    template: str | None = None  # of a recognizer's aligned crops
    asks: bool = False  # their licence, or their publisher for their data, allows no commercial use: accepted once
    of: str | None = None  # the row architecture@weights whose file it is
    licence_source: str = ""
    data_source: str = IMAGENET_TERMS
    published_source: str = ""
    sha256_source: str = ""  # who pins it

    @property
    def title(self) -> str:
        """The name to type.

        >>> released("resnet18")[0].title
        'resnet18@imagenet'
        """
        return f"{self.architecture}@{self.name}" if self.architecture else self.name

    @property
    def file_name(self) -> str:
        """The name of the downloaded file in the cache.

        >>> released("resnet18")[0].file_name
        'resnet18@imagenet.safetensors'
        """
        suffix = ".onnx" if not self.architecture else ".safetensors" if self.is_safe else ".pth"
        return f"{self.title}{suffix}"

    @property
    def is_safe(self) -> bool:
        """True if the source is safetensors, which can hold nothing but numbers."""
        return self.source.endswith(".safetensors")


def cached_file(weights: Weights, cache: Path | None = None) -> Path:
    """Return the path of the file of released weights that is loaded, downloaded or not."""
    folder = (cache_folder() if cache is None else cache) / "weights"
    name = weights.of or weights.title
    return folder / f"{name}{'.safetensors' if '@' in name else '.onnx'}"


def released(architecture: str) -> tuple[Weights, ...]:
    """The public weights of an architecture, the usual ones first; none for most.

    Raises:
        UnknownName: no such architecture.

    >>> released("inception_resnet_v1")[0].name
    'vggface2'
    """
    describe(architecture)
    return tuple(weights for weights in RELEASED if weights.architecture == architecture)


def find(architecture: str, name: str) -> Weights:
    """One row.

    Raises:
        UnknownName: no such architecture, or it has no weights of this name.
    """
    rows = {weights.name: weights for weights in released(architecture)}
    if name not in rows:
        raise UnknownName(f"weights of {architecture}", name, rows)
    return rows[name]


def expected_input(architecture: str) -> InputSpec:
    """Return the assumed input of weights of unknown origin: the family's default, at the architecture's native size.

    ImageNet's mean and std, but pixels in [-1, 1] for Xception, ViT (timm's) and networks for aligned faces.
    """
    facts = describe(architecture)
    mean, std = HABITS.get(facts.family, (IMAGENET_MEAN, IMAGENET_STD))
    return InputSpec(facts.native_size, facts.native_size, mean, std)


HABITS = {
    "xception": (HALF, HALF),
    "vit": (HALF, HALF),
    "mobilefacenet": (HALF, HALF),
    "iresnet": (HALF, HALF),
    "inception_resnet": (HALF, FACENET_STD),
    "dlib_resnet": (DLIB_MEAN, DLIB_STD),
}


def _timm(architecture: str, source: str, sha256: str, score: tuple[float, int], size: int | None = None) -> Weights:
    """Weights for ImageNet-1k out of timm's tables.

    Args:
        score: top-1 in percent, and the side in px of the images it was measured on.
        size: px that they were trained with, where that is not the architecture's native size.
    """
    spec = expected_input(architecture)
    spec = spec if size is None else replace(spec, height=size, width=size)
    published = f"{score[0]:.1f} % top-1 on ImageNet at {score[1]} px (timm)"
    row = Weights(architecture, "imagenet", source, sha256, "Apache-2.0", spec, published, "timm")
    return replace(row, licence_source=TIMM, published_source=RESULTS, sha256_source=f"the name of {source}")


def _hub(
    architecture: str, tag: str, sha256: str, score: tuple[float, int], size: int | None = None, model: str = ""
) -> Weights:
    """A safetensors file beside a model card of timm's; `tv_` is torchvision's. `model`: timm's name of it."""
    card = f"{HUB}/{model or architecture}.{tag}"
    row = _timm(architecture, f"{card}/resolve/main/model.safetensors", sha256, score, size)
    licence = "BSD-3-Clause" if tag.startswith("tv_") else row.licence
    return replace(row, licence=licence, licence_source=card, sha256_source=f"{card}/blob/main/model.safetensors")


def _asset(architecture: str, asset: str, score: tuple[float, int], size: int | None = None) -> Weights:
    """A file of a release, whose name ends with the beginning of its checksum."""
    sha256 = asset.removesuffix(".pth").rpartition("-")[2]
    return _timm(architecture, f"{GITHUB}/{asset}", sha256, score, size)


def _pycls(architecture: str, asset: str, score: tuple[float, int]) -> Weights:
    return replace(
        _asset(architecture, f"v0.1-regnet/{asset}", score),
        licence="MIT",
        licence_source="https://github.com/facebookresearch/pycls",
    )


def _deit(architecture: str, asset: str, score: tuple[float, int], name: str = "imagenet") -> Weights:
    sha256 = asset.removesuffix(".pth").rpartition("-")[2]
    row = _timm(architecture, f"{DEIT}/{asset}", sha256, score)
    spec = replace(expected_input(architecture), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return replace(row, name=name, spec=spec, licence_source="https://github.com/facebookresearch/deit")


RELEASED: tuple[Weights, ...] = (
    _hub("vgg11", "tv_in1k", "682c023808812148d4e60c76d80ad83dbeaf5d50eb1a952a0b836895003151e5", (69.0, 224)),
    _hub("vgg16", "tv_in1k", "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8", (71.6, 224)),
    _hub("resnet18", "a1_in1k", "80c49dee3da4822c009c5a7fe591e9223c5a2cfcf95a4067ca4dfb5a7b89c612", (73.2, 288)),
    _hub("resnet34", "a1_in1k", "829a220f9529d2b1ffdc8719d3273463001e0daf411eaf1916865d9db62c0ed2", (77.9, 288)),
    _hub("resnet50", "a1_in1k", "773525d5821de224f8f30c33377b7a795d7863e08522698200d3217d3f2a41bb", (81.2, 288)),
    _asset("resnet101", "v0.1-rsb-weights/resnet101_a1h-36d3f2aa.pth", (82.8, 288)),
    _asset("resnet152", "v0.1-rsb-weights/resnet152_a1h-dc400468.pth", (83.5, 288)),
    _asset("resnext50_32x4d", "v0.1-rsb-weights/resnext50_32x4d_a1h-0146ab0a.pth", (82.0, 288)),
    _asset("resnext101_64x4d", "v0.1-tpu-weights/resnext101_64x4d_c-0d0e0cc0.pth", (83.2, 288)),
    _hub(
        "wide_resnet50_2", "racm_in1k", "03b71d65fb2c73bb0de079a1781009f27a782ec481d2f64ab3bde9b1cdec3000", (82.3, 288)
    ),
    _asset("seresnet50", "v0.1-weights/seresnet50_ra_224-8efdb4bb.pth", (81.3, 288)),
    _asset("seresnext50_32x4d", "v0.1-weights/seresnext50_32x4d_racm-a304a460.pth", (82.2, 288)),
    _asset("seresnext101_32x8d", "v0.1-tpu-weights/seresnext101_32x8d_ah-e6bc4c0a.pth", (84.2, 288)),
    _asset("xception", "v0.1-cadene/xception-43020ad28.pth", (79.0, 299)),
    _hub("densenet121", "tv_in1k", "c894c6d9caa317a8ca1942986dee7a16a86c77734a4d691d2abe05389cfef358", (74.8, 224)),
    _hub(
        "mobilenet_v2",
        "ra_in1k",
        "55ea4fb3a96010b933710ebf44fc965b070d5cd054d3f35e44f2d1320b4a714e",
        (73.0, 224),
        model="mobilenetv2_100",
    ),
    _hub("efficientnet_b0", "ra_in1k", "d569899762ea9b1384ee07f4af64805cf8caa1c55f9253ebb1080dc40e87a2cd", (77.7, 224)),
    _asset("efficientnet_b1", "v0.1-weights/efficientnet_b1-533bc792.pth", (78.8, 256), 224),
    _asset("efficientnet_b2", "v0.1-weights/efficientnet_b2_ra-bcdf34b7.pth", (80.6, 288), 256),
    _asset("efficientnet_b3", "v0.1-weights/efficientnet_b3_ra2-cf984f9c.pth", (82.2, 320), 288),
    _hub(
        "efficientnet_b4",
        "ra2_in1k",
        "8030f9c929ed71a06728db4b61323960e573b463e68f310bd1bfb31ed62cbf91",
        (83.4, 384),
        320,
    ),
    _pycls("regnet_x_200mf", "regnetx_002-e7e85e5c.pth", (68.7, 224)),
    _pycls("regnet_x_600mf", "regnetx_006-85ec1baa.pth", (73.9, 224)),
    _pycls("regnet_x_800mf", "regnetx_008-d8b470eb.pth", (75.0, 224)),
    _pycls("regnet_x_1_6gf", "regnetx_016-65ca972a.pth", (76.9, 224)),
    _pycls("regnet_x_3_2gf", "regnetx_032-ed0c7f7e.pth", (78.2, 224)),
    _pycls("regnet_x_8gf", "regnetx_080-7c7fcab1.pth", (79.2, 224)),
    _pycls("regnet_y_200mf", "regnety_002-e68ca334.pth", (70.3, 224)),
    _pycls("regnet_y_400mf", "regnety_004-0db870e6.pth", (74.0, 224)),
    _pycls("regnet_y_600mf", "regnety_006-c67e57ec.pth", (75.3, 224)),
    _pycls("regnet_y_1_6gf", "regnety_016-54367f74.pth", (77.9, 224)),
    _asset("regnet_y_3_2gf", "v0.1-weights/regnety_032_ra-7f2439f9.pth", (82.7, 288)),
    _asset("resnest50", "v0.1-resnest/resnest50-528c19ca.pth", (81.0, 224)),
    _asset("resnest101", "v0.1-resnest/resnest101-22405ba7.pth", (82.9, 256)),
    _asset("nfnet_f0", "v0.1-dnf-weights/dm_nfnet_f0-604f9c3a.pth", (83.5, 256)),
    _asset("nfnet_f1", "v0.1-dnf-weights/dm_nfnet_f1-fc540f82.pth", (84.7, 320)),
    _deit("vit_ti_16", "deit_tiny_patch16_224-a1311bcf.pth", (72.2, 224)),
    _deit("vit_s_16", "deit_small_patch16_224-cd65a155.pth", (79.8, 224)),
    _hub(
        "vit_b_16",
        "augreg2_in21k_ft_in1k",
        "32aa17d6e17b43500f531d5f6dc9bc93e56ed8841b8a75682e1bb295d722405b",
        (85.1, 224),
        model="vit_base_patch16_224",
    ),
    _deit("vit_b_16", "deit_base_patch16_224-b5f2ef4d.pth", (82.0, 224), name="deit"),
    Weights(
        "inception_resnet_v1",
        "vggface2",
        f"{FACENET}/20180402-114759-vggface2.pt",
        "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
        "MIT: the repository; of the weights it says nothing",
        expected_input("inception_resnet_v1"),
        "99.65 % on LFW (facenet-pytorch)",
        "timesler",
        classes=8631,
        data="VGGFace2: called CC BY-SA 4.0 and CC BY-NC 4.0 by different copies",
        licence_source="https://github.com/timesler/facenet-pytorch/issues/239",
        data_source="https://github.com/ox-vgg/vgg_face2/issues/49"
        " https://huggingface.co/datasets/ProgramComputer/VGGFace2",
        published_source="https://github.com/timesler/facenet-pytorch/blob/master/README.md",
        sha256_source="several projects that pin the file; see the top of released.py",
    ),
)
