"""Fitting: the recipe, the second-order steps against automatic differentiation, seeds, early stopping."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from facewright.errors import FacewrightError, NonFiniteLoss, UnknownName, UsageError
from facewright.models.mlp import MLP, create_mlp
from facewright.training import fit_recipe as recipes
from facewright.training import fitting
from facewright.training.fit_recipe import FitRecipe
from facewright.training.fitting import Rows
from facewright.training.least_squares import LevenbergMarquardt, Tall, Wide


def rows_of(count: int, noise: float = 0.0, seed: int = 0, outputs: int = 1) -> Rows:
    """Points of a smooth function of two inputs."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1.5, 1.5, (count, 2))
    y = np.stack([np.sin(2 * x[:, 0] + k) * x[:, 1] for k in range(outputs)], axis=1)
    return Rows(torch.from_numpy(x), torch.from_numpy(y + noise * random.normal(size=y.shape)))


def network_of(recipe: FitRecipe, seed: int = 0, outputs: int = 1) -> MLP:
    return fitting.fresh_network(2, outputs, recipe, seed)


def changed(**changes: str) -> FitRecipe:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return recipes.override(recipes.load("function"), keys)


SMALL = changed(network__hidden="[8]", training__epochs="60", optimizer__name="levenberg-marquardt")
ADAM = changed(network__hidden="[8]", training__epochs="30", optimizer__name="adam")


def fit(recipe: FitRecipe, seed: int = 0, noise: float = 0.0) -> fitting.Fitted:
    train, validation = rows_of(60, noise), rows_of(20, noise, seed=1)
    return fitting.fit(network_of(recipe, seed), train, validation, recipe, seed, lambda _event: None)


@pytest.mark.parametrize("activation", ["tanh", "silu", "gelu", "relu"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_jacobian_is_that_of_automatic_differentiation(activation: str, outputs: int) -> None:
    torch.manual_seed(0)
    network = create_mlp(2, [5, 4], outputs, activation=activation).double()
    rows = rows_of(7, outputs=outputs)
    solver = LevenbergMarquardt(network, rows.inputs, rows.targets, 1e-3)
    expected = []
    for value in network(rows.inputs).reshape(-1):
        parts = torch.autograd.grad(value, list(network.parameters()), retain_graph=True)
        expected.append(torch.cat([part.reshape(-1) for part in parts]))
    found = solver._jacobian(solver.start, rows.inputs)
    torch.testing.assert_close(found, torch.stack(expected))


def test_tall_and_wide_take_the_same_step() -> None:
    random = torch.Generator().manual_seed(0)
    jacobian = torch.randn(6, 9, generator=random, dtype=torch.float64)
    gradient = jacobian.T @ torch.randn(6, generator=random, dtype=torch.float64)
    tall = Tall(jacobian.T @ jacobian, gradient, 1.0).step(0.1)
    torch.testing.assert_close(Wide(jacobian, jacobian @ jacobian.T, gradient, 1.0).step(0.1), tall)


def test_chunks_of_the_jacobian_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(SMALL).history[5].train_loss
    monkeypatch.setattr("facewright.training.least_squares._CHUNK", 7)
    assert fit(SMALL).history[5].train_loss == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("hidden", ["[]", "[8]", "[40, 40]"])  # a line: fewer weights than rows; and many more
def test_every_step_lowers_the_loss_within_the_budget(hidden: str) -> None:
    recipe = recipes.override(SMALL, {"network.hidden": hidden})
    history = fit(recipe).history
    losses = [row.train_loss for row in history]
    assert losses == sorted(losses, reverse=True)
    assert history[-1].epoch <= 60
    assert all(later.epoch >= row.epoch + 2 for row, later in itertools.pairwise(history))


def test_a_linear_map_is_found_exactly() -> None:
    recipe = recipes.override(SMALL, {"network.hidden": "[]"})
    rows = rows_of(40)
    target = rows.inputs @ torch.tensor([[2.0], [-1.0]], dtype=torch.float64) + 0.5
    found = fitting.fit(
        network_of(recipe), Rows(rows.inputs, target), Rows(rows.inputs, target), recipe, 0, lambda _: None
    )
    torch.testing.assert_close(found.weights["layers.0.weight"], torch.tensor([[2.0, -1.0]], dtype=torch.float64))


def test_second_order_beats_adam_by_far_for_as_many_passes() -> None:
    second, first = (fit(recipe) for recipe in (SMALL, recipes.override(ADAM, {"training.epochs": "60"})))
    best = [min(row.validation_loss for row in found.history) for found in (second, first)]
    assert best[0] < best[1] / 20


@pytest.mark.parametrize("recipe", [SMALL, ADAM])
def test_equal_seeds_give_equal_weights(recipe: FitRecipe) -> None:
    state = torch.random.get_rng_state()
    one, same, other = fit(recipe), fit(recipe), fit(recipe, seed=1)
    assert all(torch.equal(one.weights[name], same.weights[name]) for name in one.weights)
    assert not all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("recipe", [SMALL, ADAM])
def test_the_weights_with_the_lowest_validation_loss_are_kept(recipe: FitRecipe) -> None:
    found, validation = fit(recipe, noise=0.5), rows_of(20, 0.5, seed=1)
    lowest = min(row.validation_loss for row in found.history)
    assert fitting._loss(network_of(recipe), found.weights, validation) == pytest.approx(lowest)
    assert [row for row in found.history if row.best][-1].validation_loss == lowest


def test_patience_ends_a_fit_of_noise() -> None:
    patient = recipes.override(SMALL, {"selection.patience": "10", "training.epochs": "400"})
    found = fit(patient, noise=1.0)
    best = max(row.epoch for row in found.history if row.best)
    assert found.stopped_early
    assert best + 10 <= found.history[-1].epoch < best + 40
    assert not fit(recipes.override(patient, {"selection.patience": "0"}), noise=1.0).stopped_early


def test_the_given_network_stays_as_it_is() -> None:
    for recipe in (SMALL, ADAM):
        network = network_of(recipe)
        before = {name: weight.clone() for name, weight in network.state_dict().items()}
        fitting.fit(network, rows_of(30), rows_of(10), recipe, 0, lambda _: None)
        assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())


def test_divergence_is_said() -> None:
    wild = recipes.override(ADAM, {"optimizer.learning_rate": "1e308"})
    with pytest.raises(NonFiniteLoss, match=r"lower optimizer\.learning_rate"):
        fit(wild)


def test_auto_takes_adam_where_a_second_order_step_is_dear() -> None:
    auto = changed()
    network = network_of(auto)
    assert fitting.resolved(auto, network, 350, 1).optimizer.name == "levenberg-marquardt"
    assert fitting.resolved(auto, network, 1_000_000, 1).optimizer.name == "adam"
    assert fitting.resolved(ADAM, network, 350, 1) is ADAM


def test_shipped_recipes_and_their_toml_are_equal() -> None:
    assert recipes.names() == ["adam", "function"]
    for name in recipes.names():
        recipe = recipes.load(name)
        assert recipe.name == name
        assert recipes.parse(recipe.to_toml(), "again") == recipe


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"training.epoch": "5"}, UnknownName, "did you mean 'training.epochs'?"),
        ({"epochs": "5"}, UnknownName, "did you mean 'training.epochs'?"),
        ({"training": "5"}, UnknownName, "unknown fit recipe key"),
        ({"training.epochs": "0"}, UsageError, "--set: training.epochs: "),
        ({"network.activation": "softmax"}, UsageError, "--set: network.activation: "),
        ({"network.hidden": "[8, 'a']"}, UsageError, "--set: network.hidden.1: "),
        ({"optimizer.name": "sgd"}, UsageError, "--set: optimizer.name: "),
        ({"shares.test": "0.9"}, UsageError, "nothing is left"),
    ],
)
def test_wrong_changes(changes: dict[str, str], error: type[FacewrightError], said: str) -> None:
    with pytest.raises(error) as caught:
        recipes.override(recipes.load("function"), changes)
    assert said in str(caught.value)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\ndescription = ""\n[netwrk]\n')
    with pytest.raises(UnknownName, match="did you mean 'network'"):
        recipes.load(path)
    path.write_text("name = ")
    with pytest.raises(UsageError, match="not TOML"):
        recipes.load(path)
    with pytest.raises(UsageError, match="cannot be read"):
        recipes.load(tmp_path / "b.toml")
    with pytest.raises(UnknownName, match="did you mean 'function'"):
        recipes.load("functoin")
