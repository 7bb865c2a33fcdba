"""Fitting: the recipe, the second-order steps against automatic differentiation, seeds, early stopping."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facewright.errors import FacewrightError, NonFiniteLoss, UnknownName, UsageError
from facewright.regression import fitting
from facewright.regression.fitting import FitRecipe, Rows
from facewright.regression.regressor import Activation, Perceptron


def rows_of(count: int, noise: float = 0.0, seed: int = 0) -> Rows:
    """Points of a smooth function of two inputs."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1.5, 1.5, (count, 2))
    y = np.sin(2 * x[:, :1]) * x[:, 1:]
    return x, y + noise * random.normal(size=y.shape)


def network_of(recipe: FitRecipe) -> Perceptron:
    return Perceptron(2, recipe.network.hidden, 1, recipe.network.activation)


def changed(recipe: FitRecipe | None = None, **changes: str) -> FitRecipe:
    table = (recipe or fitting.load("function")).to_dict()
    for key, value in changes.items():
        part, name = key.split("__")
        table[part][name] = fitting.toml_recipes._value(value)
    return FitRecipe.model_validate(table)


SMALL = changed(network__hidden="[8]", training__epochs="60", optimizer__name="levenberg-marquardt")
ADAM = changed(network__hidden="[8]", training__epochs="30", optimizer__name="adam")


def fit(recipe: FitRecipe, seed: int = 0, noise: float = 0.0) -> fitting.Fitted:
    train, validation = rows_of(60, noise), rows_of(20, noise, seed=1)
    return fitting.fit(network_of(recipe), train, validation, recipe, seed, lambda _event: None)


@pytest.mark.parametrize("activation", ["tanh", "silu", "gelu", "relu"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_derivatives_and_outputs_are_those_of_pytorch(activation: Activation, outputs: int) -> None:
    network = Perceptron(2, (5, 4), outputs, activation)
    weights, (x, _), targets = network.initialize(0), rows_of(7), np.random.default_rng(0).normal(size=(7, outputs))
    function = {"tanh": torch.tanh, "silu": nn.functional.silu, "gelu": nn.functional.gelu, "relu": torch.relu}

    def reference(flat: torch.Tensor) -> torch.Tensor:
        parts = torch.split(flat, [int(np.prod(shape)) for shape in network.shapes.values()])
        arrays = [part.reshape(shape) for part, shape in zip(parts, network.shapes.values(), strict=True)]
        values = torch.from_numpy(x)
        for number in range(0, 6, 2):
            values = nn.functional.linear(values, arrays[number], arrays[number + 1])
            values = function[activation](values) if number < 4 else values
        return values.reshape(-1)

    flat = torch.from_numpy(weights).requires_grad_()
    np.testing.assert_allclose(network(weights, x).ravel(), reference(flat).detach().numpy(), rtol=1e-12)
    jacobian = torch.autograd.functional.jacobian(reference, flat)
    np.testing.assert_allclose(network.jacobian(weights, x), jacobian.numpy(), atol=1e-12)
    loss = nn.functional.mse_loss(reference(flat), torch.from_numpy(targets.ravel()))
    loss.backward()  # type: ignore[no-untyped-call]
    value, gradient = network.loss_and_gradient(weights, x, targets)
    assert value == pytest.approx(float(loss.detach()))
    np.testing.assert_allclose(gradient, flat.grad.numpy(), atol=1e-12)


def test_adam_takes_the_steps_of_pytorch() -> None:
    recipe = changed(ADAM, training__epochs="3", training__batch="100", training__schedule="constant")
    network, (x, y) = network_of(recipe), rows_of(60)
    kept: list[np.ndarray] = []
    recorder = fitting.Fitted(network, (x, y), recipe, lambda _: None, network.initialize(0))
    recorder.record = lambda weights, *_: kept.append(weights.copy())  # type: ignore[method-assign]
    fitting._adam(network, (x, y), recipe, 0, recorder)
    weights = torch.from_numpy(network.initialize(0)).requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=recipe.optimizer.learning_rate)
    for epoch in range(3):
        weights.grad = torch.from_numpy(network.loss_and_gradient(weights.detach().numpy(), x, y)[1])
        optimizer.step()
        np.testing.assert_allclose(kept[epoch], weights.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("hidden", ["[]", "[8]", "[40, 40]"])  # a line: fewer weights than rows; and many more
def test_every_step_lowers_the_loss_within_the_budget(hidden: str) -> None:
    recipe = changed(SMALL, network__hidden=hidden)
    history = fit(recipe).history
    losses = [row.train_loss for row in history]
    assert losses == sorted(losses, reverse=True)
    assert history[-1].epoch <= 60
    assert all(later.epoch >= row.epoch + 2 for row, later in itertools.pairwise(history))


def test_a_linear_map_is_found_exactly() -> None:
    recipe = changed(SMALL, network__hidden="[]")
    rows = rows_of(40)
    target = rows[0] @ np.array([[2.0], [-1.0]]) + 0.5
    fitted = fitting.fit(network_of(recipe), (rows[0], target), (rows[0], target), recipe, 0, lambda _: None)
    np.testing.assert_allclose(fitted.weights, [2.0, -1.0, 0.5])


def test_second_order_beats_adam_by_far_for_as_many_passes() -> None:
    second, first = (fit(recipe) for recipe in (SMALL, changed(ADAM, training__epochs="60")))
    best = [min(row.validation_loss for row in found.history) for found in (second, first)]
    assert best[0] < best[1] / 20


@pytest.mark.parametrize("recipe", [SMALL, ADAM])
def test_equal_seeds_give_equal_weights(recipe: FitRecipe) -> None:
    one, same, other = fit(recipe), fit(recipe), fit(recipe, seed=1)
    assert np.array_equal(one.weights, same.weights)
    assert not np.array_equal(one.weights, other.weights)


@pytest.mark.parametrize("recipe", [SMALL, ADAM])
def test_the_weights_with_the_lowest_validation_loss_are_kept(recipe: FitRecipe) -> None:
    found, validation = fit(recipe, noise=0.5), rows_of(20, 0.5, seed=1)
    lowest = min(row.validation_loss for row in found.history)
    loss = np.mean((network_of(recipe)(found.weights, validation[0]) - validation[1]) ** 2)
    assert loss == pytest.approx(lowest)
    assert [row for row in found.history if row.best][-1].validation_loss == lowest


def test_patience_ends_a_fit_of_noise() -> None:
    patient = changed(SMALL, selection__patience="10", training__epochs="400")
    found = fit(patient, noise=1.0)
    best = max(row.epoch for row in found.history if row.best)
    assert found.stopped_early
    assert best + 10 <= found.history[-1].epoch < best + 40
    assert not fit(changed(patient, selection__patience="0"), noise=1.0).stopped_early


def test_divergence_is_said() -> None:
    wild = changed(ADAM, optimizer__learning_rate="1e308")
    with pytest.raises(NonFiniteLoss, match=r"optimizer\.learning_rate"):
        fit(wild)


def test_auto_takes_adam_where_a_second_order_step_is_dear() -> None:
    auto = changed()
    network = network_of(auto)
    assert fitting.resolved(auto, network, 350).optimizer.name == "levenberg-marquardt"
    assert fitting.resolved(auto, network, 1_000_000).optimizer.name == "adam"
    assert fitting.resolved(ADAM, network, 350) is ADAM


def test_shipped_recipes_and_their_toml_are_equal(tmp_path: Path) -> None:
    assert fitting.SHELF.names() == ["adam", "function"]
    for name in fitting.SHELF.names():
        recipe = fitting.load(name)
        assert recipe.name == name
        (tmp_path / "again.toml").write_text(recipe.to_toml())
        assert fitting.load(tmp_path / "again.toml") == recipe


def test_a_recipe_of_version_0_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text('name = "a"\ndescription = ""\n[optimizer]\nname = "auto"\ndamping = 1e-3\n')
    assert fitting.load(path).optimizer.name == "auto"


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"training.epoch": "5"}, UnknownName, "did you mean 'training.epochs'?"),
        ({"epochs": "5"}, UnknownName, "did you mean 'training.epochs'?"),
        ({"training": "5"}, UnknownName, "training"),
        ({"training.epochs": "0"}, UsageError, "--set: training.epochs: "),
        ({"network.activation": "softmax"}, UsageError, "network.activation"),
        ({"network.hidden": "[8, 'a']"}, UsageError, "--set: network.hidden.1: "),
        ({"optimizer.name": "sgd"}, UsageError, "optimizer.name"),
        ({"shares.test": "0.9"}, UsageError, "shares"),
    ],
)
def test_wrong_changes(changes: dict[str, str], error: type[FacewrightError], said: str) -> None:
    with pytest.raises(error) as caught:
        fitting.load("function", changes)
    assert said in str(caught.value)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\ndescription = ""\n[netwrk]\n')
    with pytest.raises(UnknownName, match="did you mean 'network'"):
        fitting.load(path)
    path.write_text("name = ")
    with pytest.raises(UsageError, match="not TOML"):
        fitting.load(path)
    with pytest.raises(UsageError, match=r"b\.toml"):
        fitting.load(tmp_path / "b.toml")
    with pytest.raises(UnknownName, match="did you mean 'function'"):
        fitting.load("functoin")
