"""What a phase trains: names, modes and rates, over the families of the zoo."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from facewright.errors import UnknownName, UsageError
from facewright.heads import put_head
from facewright.models import catalog
from facewright.specs import HeadSpec
from facewright.training.optimizers import freeze, rate_groups, trained_names, training_mode

ONE_A_FAMILY = [next(name for name in catalog.names() if catalog.describe(name).family == family)
                for family in dict.fromkeys(catalog.describe(name).family for name in catalog.names())]  # fmt: skip


def network(name: str, head: HeadSpec | None = None) -> nn.Module:
    with torch.device("meta"):
        model = catalog.create_model(name, 5)
        put_head(model, head, 5)
    return model


@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_every_family_can_be_trained_in_parts(name: str) -> None:
    model = network(name, HeadSpec())
    wanting = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    head, last, everything = (trained_names(model, which) for which in ("head", "last-stage", "all"))
    assert everything == wanting
    assert head == {f"{model.classifier_name}.weight", f"{model.classifier_name}.bias"}
    assert head < last <= everything
    stages = [stage.name for stage in model.stages()]  # type: ignore[operator]
    parts = [trained_names(model, f"from {stage}") for stage in stages]
    assert parts[0] == everything, "from the first stage on is everything"
    assert all(later <= earlier for earlier, later in itertools.pairwise(parts))
    assert all(head <= part for part in parts)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11", "vit_ti_16", "squeezenet1_1"])
def test_the_first_layers_stay_behind(name: str) -> None:
    model = network(name, HeadSpec())
    everything = trained_names(model, "all")
    left = [everything - trained_names(model, f"all but first {count}") for count in (0, 1, 2, 5)]
    assert left[0] == set()
    assert left[0] < left[1] < left[2] < left[3]
    weights = [key for key in left[3] if dict(model.named_parameters())[key].ndim > 1]
    assert len(weights) == 5 or name == "vit_ti_16"  # its token and positions are rows of the model itself


def test_resnet_by_name() -> None:
    model = network("resnet50")
    assert {key.split(".")[0] for key in trained_names(model, "last-stage")} == {"layer4", "fc"}
    assert {key.split(".")[0] for key in trained_names(model, "from layer3.5")} == {"layer3", "layer4", "fc"}
    assert not any(key.startswith("layer3.4") for key in trained_names(model, "from layer3.5"))


@pytest.mark.parametrize(
    ("which", "error", "words"),
    [
        ("from layer9.0", UnknownName, "layer4"),  # the nearest is offered
        ("frist", UsageError, "'all but first N'"),
        ("all but first 500", UsageError, "no parameter"),
    ],
)
def test_what_cannot_be_trained(which: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        trained_names(network("resnet18"), which)


def test_parameters_that_an_architecture_never_trains_stay_out() -> None:
    model = network("iresnet18")
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert fixed
    names = trained_names(model, "all")
    freeze(model, trained_names(model, "head"))
    freeze(model, names)
    assert {name for name, parameter in model.named_parameters() if not parameter.requires_grad} == fixed


def test_frozen_layers_stay_in_inference_mode() -> None:
    model = catalog.create_model("efficientnet_b0", 5, input_size=32)
    put_head(model, HeadSpec(dropout=0.5), 5)
    freeze(model, trained_names(model, "head"))
    training_mode(model)
    before = {
        name: tensor.clone() for name, tensor in model.state_dict().items() if "running" in name or "num_" in name
    }
    model(torch.randn(4, 3, 32, 32))
    after = model.state_dict()
    assert before and all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert [m.training for m in model.get_submodule(model.classifier_name).modules() if isinstance(m, nn.Dropout)] == [
        True
    ]
    features = model.forward_features(torch.ones(1, 3, 32, 32))
    assert torch.equal(features, model.forward_features(torch.ones(1, 3, 32, 32))), "no dropout in a frozen backbone"


def test_norms_may_stay_frozen_while_weights_learn() -> None:
    model = catalog.create_model("resnet18", 5, input_size=32)
    freeze(model, trained_names(model, "all"))
    training_mode(model, frozen_norms=True)
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    training_mode(model)
    assert all(module.training for module in model.modules())


def test_rates_fall_from_the_head_to_the_stem() -> None:
    model = catalog.create_model("resnet18", 5, input_size=32)
    groups = rate_groups(model, layer_decay=0.5)
    factors = [group.factor for group in groups]
    assert factors == sorted(factors) and factors[-1] == 1.0 and groups[-1].head
    assert sum(len(group.parameters) for group in groups) == len(list(model.parameters()))
    by_id = {id(parameter): group.factor for group in groups for parameter in group.parameters}
    assert by_id[id(model.get_parameter("layer4.1.conv1.weight"))] == 0.5
    assert by_id[id(model.get_parameter("layer4.0.conv1.weight"))] == 0.25
    assert {group.factor for group in rate_groups(model, 1.0)} == {1.0}
