"""Other people's names for our parameters, written out from the structure of their networks, and their shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from facewright.errors import WeightsError
from facewright.models import catalog, weight_matching
from facewright.models.weight_matching import match_weights

Public = dict[str, tuple[int, ...]]
Row = tuple[str, tuple[int, ...]]


def norm(name: str, width: int) -> Iterator[Row]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
    yield f"{name}.num_batches_tracked", ()


def conv(name: str, outputs: int, inputs: int, kernel: int = 1) -> Iterator[Row]:
    yield f"{name}.weight", (outputs, inputs, kernel, kernel)


def biased(name: str, *shape: int) -> Iterator[Row]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


# expansion, kernel, width, blocks: the published tables
EFFICIENT = ((1, 3, 16, 1), (6, 3, 24, 2), (6, 5, 40, 2), (6, 3, 80, 3), (6, 5, 112, 3), (6, 5, 192, 4), (6, 3, 320, 1))
MOBILE = ((1, 3, 16, 1), (6, 3, 24, 2), (6, 3, 32, 3), (6, 3, 64, 4), (6, 3, 96, 3), (6, 3, 160, 3), (6, 3, 320, 1))


def inverted_residuals(table: tuple[tuple[int, int, int, int], ...], *, squeeze: bool) -> Iterator[Row]:
    """timm's EfficientNet-B0 and MobileNetV2: `blocks.STAGE.INDEX`, both counted from 0."""
    yield from conv("conv_stem", 32, 3, 3)
    yield from norm("bn1", 32)
    inputs = 32
    for stage, (expansion, kernel, width, depth) in enumerate(table):
        for index in range(depth):
            block, inner = f"blocks.{stage}.{index}", inputs * expansion
            if expansion > 1:
                yield from conv(f"{block}.conv_pw", inner, inputs)
                yield from norm(f"{block}.bn1", inner)
            yield from conv(f"{block}.conv_dw", inner, 1, kernel)
            yield from norm(f"{block}.bn2" if expansion > 1 else f"{block}.bn1", inner)
            if squeeze:
                yield from biased(f"{block}.se.conv_reduce", inputs // 4, inner, 1, 1)
                yield from biased(f"{block}.se.conv_expand", inner, inputs // 4, 1, 1)
            yield from conv(f"{block}.conv_pwl" if expansion > 1 else f"{block}.conv_pw", width, inner)
            yield from norm(f"{block}.bn3" if expansion > 1 else f"{block}.bn2", width)
            inputs = width
    yield from conv("conv_head", 1280, inputs)
    yield from norm("bn2", 1280)
    yield from biased("classifier", 1000, 1280)


def regnet(widths: tuple[int, ...], depths: tuple[int, ...], group: int, *, squeeze: bool) -> Iterator[Row]:
    """timm's RegNet: stages `s1` to `s4`, blocks from `b1`; each convolution with its norm in one module."""
    yield from conv("stem.conv", 32, 3, 3)
    yield from norm("stem.bn", 32)
    inputs = 32
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        for index in range(1, depth + 1):
            block = f"s{stage}.b{index}"
            for number, (before, kernel) in enumerate(((inputs, 1), (group, 3), (width, 1)), start=1):
                yield from conv(f"{block}.conv{number}.conv", width, before, kernel)
                yield from norm(f"{block}.conv{number}.bn", width)
            if squeeze:
                yield from biased(f"{block}.se.fc1", round(inputs / 4), width, 1, 1)
                yield from biased(f"{block}.se.fc2", width, round(inputs / 4), 1, 1)
            if index == 1:
                yield from conv(f"{block}.downsample.conv", width, inputs)
                yield from norm(f"{block}.downsample.bn", width)
            inputs = width
    yield from biased("head.fc", 1000, inputs)


def vgg11() -> Iterator[Row]:
    """timm's VGG: the first two linear layers are convolutions over the last map."""
    inputs = 3
    for index, width in ((0, 64), (3, 128), (6, 256), (8, 256), (11, 512), (13, 512), (16, 512), (18, 512)):
        yield from biased(f"features.{index}", width, inputs, 3, 3)
        inputs = width
    yield from biased("pre_logits.fc1", 4096, 512, 7, 7)
    yield from biased("pre_logits.fc2", 4096, 4096, 1, 1)
    yield from biased("head.fc", 1000, 4096)


def vit(width: int) -> Iterator[Row]:
    """torchvision's ViT."""
    yield "class_token", (1, 1, width)
    yield from biased("conv_proj", width, 3, 16, 16)
    yield "encoder.pos_embedding", (1, 197, width)
    for index in range(12):
        layer = f"encoder.layers.encoder_layer_{index}"
        yield from biased(f"{layer}.ln_1", width)
        yield f"{layer}.self_attention.in_proj_weight", (3 * width, width)
        yield f"{layer}.self_attention.in_proj_bias", (3 * width,)
        yield from biased(f"{layer}.self_attention.out_proj", width, width)
        yield from biased(f"{layer}.ln_2", width)
        yield from biased(f"{layer}.mlp.0", 4 * width, width)
        yield from biased(f"{layer}.mlp.3", width, 4 * width)
    yield from biased("encoder.ln", width)
    yield from biased("heads.head", 1000, width)


def densenet() -> Iterator[Row]:
    """torchvision's DenseNet-121 files, which spell `norm1` as `norm.1`; they are older than the norms' counters."""
    rows = [*conv("features.conv0", 64, 3, 7), *norm("features.norm0", 64)]
    channels = 64
    for block, depth in enumerate((6, 12, 24, 16), start=1):
        for index in range(1, depth + 1):
            layer = f"features.denseblock{block}.denselayer{index}"
            rows += [*norm(f"{layer}.norm.1", channels), *conv(f"{layer}.conv.1", 128, channels)]
            rows += [*norm(f"{layer}.norm.2", 128), *conv(f"{layer}.conv.2", 32, 128, 3)]
            channels += 32
        if block < 4:
            transition = f"features.transition{block}"
            rows += [*norm(f"{transition}.norm", channels), *conv(f"{transition}.conv", channels // 2, channels)]
            channels //= 2
    rows += [*norm("features.norm5", channels), *biased("classifier", 1000, channels)]
    return (row for row in rows if not row[0].endswith("num_batches_tracked"))


# architecture, naming that must be recognised, names and shapes as published
TABLE: list[tuple[str, str, Callable[[], Iterator[Row]]]] = [
    ("efficientnet_b0", "timm", lambda: inverted_residuals(EFFICIENT, squeeze=True)),
    ("mobilenet_v2", "timm", lambda: inverted_residuals(MOBILE, squeeze=False)),
    ("regnet_x_200mf", "timm", lambda: regnet((24, 56, 152, 368), (1, 1, 4, 7), 8, squeeze=False)),
    ("regnet_y_400mf", "timm", lambda: regnet((48, 104, 208, 440), (1, 3, 6, 6), 8, squeeze=True)),
    ("vgg11", "timm", vgg11),
    ("vit_ti_16", "torchvision", lambda: vit(192)),
    ("densenet121", "torchvision before 2018", densenet),
]


def blank(public: Public) -> dict[str, Tensor]:
    """Tensors of these shapes that take no memory."""
    kinds = {name: torch.int64 if name.endswith("tracked") else torch.float32 for name in public}
    return {name: torch.zeros((), dtype=kinds[name]).expand(shape) for name, shape in public.items()}


def ours(architecture: str, classes: int = 1000) -> Public:
    with torch.device("meta"):
        model = catalog.create_model(architecture, classes, stem=weight_matching.published_stem(architecture))
    return weight_matching.shapes(model.state_dict())


@pytest.mark.parametrize(("architecture", "naming", "public"), TABLE, ids=[row[0] for row in TABLE])
def test_public_names_become_ours(architecture: str, naming: str, public: Callable[[], Iterator[Row]]) -> None:
    matched = match_weights(architecture, blank(dict(public())), "public.safetensors")
    assert matched.naming.name == naming
    assert weight_matching.shapes(matched.state) == ours(architecture)
    assert matched.classes == 1000


def test_every_tensor_lands_where_it_belongs() -> None:
    """Names that two blocks share in one naming and not in the other, each with its own number."""
    public = dict(inverted_residuals(EFFICIENT, squeeze=True))
    marked = {name: torch.full((), float(number)).expand(public[name]) for number, name in enumerate(public)}
    state = match_weights("efficientnet_b0", marked, "x").state
    at = list(public).index
    # theirs -> ours, by hand from both sources
    for theirs, own in {
        "bn1.weight": "features.0.1.weight",
        "blocks.0.0.bn1.weight": "features.1.0.block.0.1.weight",
        "blocks.0.0.se.conv_reduce.bias": "features.1.0.block.1.fc1.bias",
        "blocks.0.0.bn2.bias": "features.1.0.block.2.1.bias",
        "blocks.1.1.conv_pw.weight": "features.2.1.block.0.0.weight",
        "blocks.5.3.bn2.running_var": "features.6.3.block.1.1.running_var",
        "blocks.5.3.se.conv_expand.weight": "features.6.3.block.2.fc2.weight",
        "blocks.6.0.conv_pwl.weight": "features.7.0.block.3.0.weight",
        "bn2.running_mean": "features.8.1.running_mean",
    }.items():
        assert state[own].flatten()[0] == at(theirs), theirs


@pytest.mark.parametrize("name", ["nfnet_f0", "xception", "mobilefacenet"])
def test_names_that_differ_in_a_word(name: str) -> None:
    change = {
        "nfnet_f0": lambda key: key.replace("body.", "stages.", 1),
        "xception": lambda key: key.replace("fc.", "last_linear.", 1),
        "mobilefacenet": lambda key: f"arcface.{key}",
    }[name]
    public = {change(key): shape for key, shape in ours(name).items()}
    assert weight_matching.shapes(match_weights(name, blank(public), "x").state) == ours(name)


def test_the_classifier_of_timesler_has_the_identities_of_its_data() -> None:
    """The published file carries `logits` for 8,631 people; those of no network that is made here."""
    public = ours("inception_resnet_v1", 8631)
    assert public["logits.weight"] == (8631, 512) and public["last_linear.weight"] == (512, 1792)
    assert match_weights("inception_resnet_v1", blank(public), "x").classes == 8631
    bare = {key: shape for key, shape in public.items() if not key.startswith("logits.")}
    assert match_weights("inception_resnet_v1", blank(bare), "x").classes == 0


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_what_a_program_puts_before_every_name_is_taken_off(wrapper: str) -> None:
    public = {f"{wrapper}{key}": shape for key, shape in ours("resnet18").items()}
    assert match_weights("resnet18", blank(public), "x").naming.name == weight_matching.OURS
    public["fc.weight"] = public.pop(f"{wrapper}fc.weight")  # not before every one: then it means something
    with pytest.raises(WeightsError, match="missing"):
        match_weights("resnet18", blank(public), "x")


def test_matrices_may_be_convolutions_of_one_point() -> None:
    public = ours("seresnet50")
    flat = {key: shape[:2] if ".se.fc" in key and len(shape) == 4 else shape for key, shape in public.items()}
    assert weight_matching.shapes(match_weights("seresnet50", blank(flat), "x").state) == public


def test_two_names_for_one_place_are_refused() -> None:
    public = ours("nfnet_f0") | {"stages.0.0.conv1.weight": (128, 128, 1, 1)}
    with pytest.raises(WeightsError, match=r"both body\.0\.0\.conv1\.weight"):
        match_weights("nfnet_f0", blank(public), "x")


def test_every_family_with_a_rule_is_a_family() -> None:
    families = {catalog.describe(name).family for name in catalog.names()}
    assert set(weight_matching.NAMINGS) <= families
