"""What every architecture of the catalogue must do, whatever its family."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from facewright import models
from facewright.errors import UnknownName, UsageError
from facewright.models import catalog, early_networks, families
from facewright.models.summary import summarize
from facewright.models.weight_matching import match_weights

EVERY = catalog.names()


def test_a_new_family_is_one_module_and_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(early_networks.__file__).read_text(encoding="utf-8").replace("plain_cnn", "newest_cnn")
    (tmp_path / "newest.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    row = replace(
        families.FAMILIES["plain_cnn"], network="newest:PlainCNN", counts={"newest_cnn": (16_404_392, 77_594_624)}
    )
    monkeypatch.setitem(families.FAMILIES, "newest", row)
    monkeypatch.setattr(catalog, "_KNOWN", catalog._facts())
    assert catalog.names()[-1] == "newest_cnn"
    model = catalog.create_model("newest_cnn", 3, input_size=32)
    summary = summarize(model, 64)
    assert summary.parameters == sum(parameter.numel() for parameter in model.parameters())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    matched = match_weights("newest_cnn", state, "newest.safetensors")  # our own names need no rule
    assert (matched.classes, len(matched.state)) == (3, len(state))
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


SMALLEST = [  # one of each kind of block
    "lenet5",
    "resnet18",
    "plain18",
    "resnet50",
    "seresnext50_32x4d",
    "xception",
    "densenet121",
    "squeezenet1_1",
    "mobilenet_v1_x0_25",
    "mobilenet_v2",
    "efficientnet_b0",
    "regnet_x_200mf",
    "regnet_y_200mf",
    "resnest50",
    "capsnet",
    "vit_ti_16",
    "mobilefacenet",
    "dlib_resnet29",
    "facenet_small",
    "tinydarknet",
    "pointwise_facenet",
    "patchnet",
    "plain_cnn",
]
# 24 to 130 million parameters: with real numbers among the slow tests
WEIGHTY = ["alexnet", "vgg11", "vgg11_bn", "nfnet_f0", "inception_resnet_v1", "iresnet18"]
REAL = [*SMALLEST, *(pytest.param(name, marks=pytest.mark.slow) for name in WEIGHTY)]
STEMMED = [name for name in SMALLEST if catalog.describe(name).stems == catalog.STEMS]
STEMS = [(name, stem) for name in SMALLEST for stem in catalog.describe(name).stems]


def shapes_only(name: str, **options: object) -> catalog.Model:
    with torch.device("meta"):
        return catalog.create_model(name, 7, **options)  # type: ignore[arg-type]


def fresh(name: str, seed: int = 0) -> catalog.Model:
    torch.manual_seed(seed)
    return catalog.create_model(name, 7, input_size=catalog.describe(name).smallest_side)


def pictures(name: str, count: int) -> torch.Tensor:
    side = catalog.describe(name).smallest_side
    return torch.randn(count, 3, side, side)


@pytest.mark.parametrize("name", EVERY)
def test_parameter_count_is_the_published_one_and_no_name_or_shape_changes(name: str) -> None:
    with torch.device("meta"):
        model = catalog.create_model(name, 1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == catalog.describe(name).parameters
    state = "\n".join(f"{path} {tuple(tensor.shape)}" for path, tensor in model.state_dict().items())
    kept = json.loads((Path(__file__).parent / "state_digests.json").read_text("utf-8"))  # of files that people have
    assert sha256(state.encode()).hexdigest()[:16] == kept[name]


@pytest.mark.parametrize("name", EVERY)
def test_scores_and_features_have_their_shapes_and_the_outline_holds_every_parameter_once(name: str) -> None:
    model = shapes_only(name, input_size=112).eval()
    paths = [path for stage in model.stages() for part in stage.parts for path in part.paths]
    held = [p for path in paths for p in model.get_submodule(path).parameters(recurse=path != "")]
    assert len(held) == len(set(held))
    assert set(held) == set(model.parameters())
    x = torch.empty(2, 3, 112, 112, device="meta")
    with torch.no_grad():
        assert model(x).shape == (2, 7)
        assert model.forward_features(x).shape == (2, model.feature_width)


@pytest.mark.parametrize("name", [*SMALLEST, *WEIGHTY])
@pytest.mark.parametrize("size", [(32, 32), (48, 48), (75, 75), (41, 97), (33, 32)])
def test_takes_every_size(name: str, size: tuple[int, int]) -> None:
    least = catalog.describe(name).smallest_side
    height, width = (max(side, least) for side in size)
    model = shapes_only(name, input_size=min(height, width)).eval()
    with torch.no_grad():
        assert model(torch.empty(2, 3, height, width, device="meta")).shape == (2, 7)


@pytest.mark.parametrize(("name", "stem"), STEMS)
def test_the_smallest_real_pictures_pass_every_stem(name: str, stem: str) -> None:
    side = catalog.COARSE_SIDE if stem == "coarse" else catalog.describe(name).smallest_side
    model = catalog.create_model(name, 7, input_size=side, stem=stem).eval()
    with torch.inference_mode():
        assert torch.isfinite(model(torch.randn(2, 3, side, side))).all()


@pytest.mark.parametrize("name", STEMMED)
def test_stem_decides_how_much_of_the_side_is_left(name: str) -> None:
    # The last feature map has the same side for pictures of half the side with the next stem.
    sides = []
    for stem, size in zip(catalog.STEMS, (512, 256, 128, 64), strict=True):
        model = shapes_only(name, stem=stem).eval()
        maps: list[int] = []  # sides of the convolutions' outputs; those of 1 are weights of channels
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(lambda _module, _inputs, out, maps=maps: maps.append(out.shape[-1]))
        with torch.no_grad():
            model(torch.empty(1, 3, size, size, device="meta"))
        sides.append([side for side in maps if side > 1][-1])
    assert sides == ([15, 15, 16, 16] if name == "squeezenet1_1" else [8] * 4)  # 1.1 pads nothing with large stems


@pytest.mark.parametrize(
    "name", [name if name in SMALLEST else pytest.param(name, marks=pytest.mark.slow) for name in EVERY]
)
def test_gradient_reaches_every_parameter_and_the_input(name: str) -> None:
    model = fresh(name)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # residual branches start closed, which would stop it on purpose
    for path, parameter in model.named_parameters():
        if path.endswith("skipinit_gain"):
            torch.nn.init.ones_(parameter)  # the same
    x = pictures(name, 4).requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 3]))
    torch.autograd.backward(loss)
    assert x.grad is not None and x.grad.abs().sum() > 0
    learnt = [(path, p) for path, p in model.named_parameters() if p.requires_grad]
    lost = [path for path, p in learnt if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert lost == []


@pytest.mark.parametrize("name", REAL)
def test_saved_and_loaded_it_answers_the_same(name: str) -> None:
    model, other = fresh(name, seed=0).eval(), fresh(name, seed=1).eval()
    x = pictures(name, 2)
    with torch.inference_mode():
        before = model(x)
        assert not torch.equal(before, other(x))
        other.load_state_dict(load(save(model.state_dict())))
        assert torch.equal(before, other(x))


@pytest.mark.parametrize("name", REAL)
def test_evaluation_is_deterministic_and_knows_neither_neighbours_nor_layout(name: str) -> None:
    model = fresh(name).eval()
    x = pictures(name, 3)
    state = {path: tensor.clone() for path, tensor in model.state_dict().items()}
    with torch.inference_mode():
        scores = model(x)
        assert torch.equal(scores, model(x))
        torch.testing.assert_close(scores[:1], model(x[:1]), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, state[path]) for path, tensor in model.state_dict().items())
    with torch.inference_mode():
        torch.nn.Module.to(model, memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = model(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(scores, last, rtol=1e-4, atol=1e-5 * max(1.0, float(scores.abs().max())))


def test_one_seed_gives_one_set_of_weights() -> None:
    first, second = fresh("densenet121", seed=3), fresh("densenet121", seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exports_with_a_free_batch_size(name: str) -> None:
    model = fresh(name).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (pictures(name, 2),), dynamic_shapes=({0: batch},))
    x = pictures(name, 5)
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)


# request -> what it is refused with
@pytest.mark.parametrize(
    ("name", "classes", "size", "stem", "error", "words"),
    [
        ("resnet51", 2, None, "auto", UnknownName, "did you mean 'resnet50'"),
        ("__class__", 2, None, "auto", UnknownName, "unknown model"),  # a name is looked up, never evaluated
        ("resnet18", 0, None, "auto", UsageError, "at least 1 class"),
        ("resnet18", 2, 31, "auto", UsageError, "at least 32 px"),
        ("resnet18", 2, 31, "small", UsageError, "at least 32 px"),
        ("resnet18", 2, 0, "auto", UsageError, "at least 32 px"),  # 0 is a size, not the absence of one
        ("resnet18", 2, 63, "coarse", UsageError, "at least 64 px"),  # its last map would vanish
        ("resnet18", 2, 64, "tiny", UnknownName, "unknown stem 'tiny'"),
        ("inception_resnet_v1", 2, 74, "auto", UsageError, "at least 75 px"),  # it pads nothing
        ("vgg16", 2, 48, "coarse", UnknownName, "unknown stem 'coarse'"),  # a stem that others have
    ],
)
def test_refuses(name: str, classes: int, size: int | None, stem: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        catalog.create_model(name, classes, input_size=size, stem=stem)


# input side -> stem that "auto" takes, by the one table
@pytest.mark.parametrize("family", sorted(catalog.FAMILIES))
def test_auto_stem_follows_its_table(family: str) -> None:
    name = next(name for name in EVERY if catalog.describe(name).family == family)
    stems, least_side = catalog.describe(name).stems, catalog.describe(name).smallest_side
    steps = [row for row in catalog.AUTO_STEM if row[1] in stems and row[0] >= least_side]
    public = "imagenet" if "imagenet" in stems else stems[0]
    assert [least for least, _ in steps] == sorted((least for least, _ in steps), reverse=True)
    lowest = steps[-1][1] if steps and steps[-1][0] == least_side else stems[0]
    assert catalog.resolve_stem(name, least_side) == lowest
    for least, stem in steps:
        assert catalog.resolve_stem(name, least) == stem
        assert catalog.resolve_stem(name, least, public) == public
    for (least, _), (_, below) in pairwise(steps):
        assert catalog.resolve_stem(name, least - 1) == below
    assert catalog.resolve_stem(name, catalog.describe(name).native_size) == public  # public weights fit


def test_describe_states_what_is_published() -> None:
    facts = catalog.describe("densenet161")
    assert (facts.family, facts.parameters, facts.native_size) == ("densenet", 28_681_000, 224)
    assert "1608.06993" in facts.paper
    assert facts.source == "torchvision"
    assert len(EVERY) == len(set(EVERY)) == sum(len(row.counts) for row in catalog.FAMILIES.values())


def test_squeezenet_takes_a_linear_head_on_its_features() -> None:
    model = fresh("squeezenet1_1").eval()
    head = torch.nn.Linear(model.feature_width, 3)
    model.set_submodule(model.classifier_name, head)
    x = pictures("squeezenet1_1", 2)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), head(model.forward_features(x)))


def test_alexnet_enlarges_pictures_that_its_pools_would_use_up() -> None:
    enlarge = shapes_only("alexnet").get_submodule("enlarge")
    assert enlarge(torch.empty(1, 3, 32, 41)).shape == (1, 3, 63, 81)
    picture = torch.empty(1, 3, 63, 64)
    assert enlarge(picture) is picture


def test_a_foreign_classifier_is_named() -> None:
    model = shapes_only("resnet18")
    model.fc = torch.nn.Identity()
    with pytest.raises(UsageError, match="Identity"):
        catalog.classifier_of(model)


def test_depthwise_convolutions_start_at_the_scale_of_their_own_fan() -> None:
    model = fresh("xception")
    weights = model.state_dict()
    depthwise = weights["block5.rep.1.conv1.weight"]  # an input value reaches 9 outputs
    pointwise = weights["block5.rep.1.pointwise.weight"]  # and here 728
    assert float(depthwise.std()) == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert float(pointwise.std()) == pytest.approx((2 / 728) ** 0.5, rel=0.01)
