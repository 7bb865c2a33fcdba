"""Diffusion: each equation against loops over numbers, the draws as functions of (seed, step), and that it learns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from facewright.errors import NonFiniteLoss
from facewright.training import diffusion
from facewright.training.diffusion import Denoiser, embedded_times
from facewright.training.recipe_parts import Generation

CPU = torch.device("cpu")
SMALL = Generation(width=8, updates=3, batch=2, sampling_steps=2)


def silent(done: int, total: int) -> None:
    """Report nothing."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_share_that_is_left_is_a_product_of_what_each_step_leaves() -> None:
    found, left = diffusion.kept_shares().tolist(), 1.0
    for step in range(1000):
        left *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
        assert math.isclose(found[step], left, rel_tol=1e-9)
    assert len(found) == 1000 and found[-1] < 5e-5, "at the end nothing of the image is left"


def test_noisy_images_one_number_at_a_time() -> None:
    images, noise, share = normal(2, 3, 2, 2), normal(2, 3, 2, 2, seed=1), torch.tensor([0.25, 0.9])
    found = diffusion.noisy(images, noise, share)
    for place in [(b, c, y, x) for b in range(2) for c in range(3) for y in range(2) for x in range(2)]:
        a = share[place[0]].item()
        expected = math.sqrt(a) * images[place].item() + math.sqrt(1 - a) * noise[place].item()
        assert math.isclose(found[place].item(), expected, rel_tol=1e-5, abs_tol=1e-6)


def test_one_step_to_its_share_is_all_the_steps_before_it() -> None:
    """Eq. 4 against eq. 2 iterated: the variance of x_t for an image of zeros, and its mean for noise of zeros."""
    mean, variance = 1.0, 0.0
    for step in range(400):
        beta = 1e-4 + (0.02 - 1e-4) * step / 999
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
    share = diffusion.kept_shares()[399:400].float()
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    assert math.isclose(diffusion.noisy(one, zero, share).item(), mean, rel_tol=1e-5)
    assert math.isclose(diffusion.noisy(zero, one, share).item() ** 2, variance, rel_tol=1e-5)


class Halving(nn.Module):
    """Finds half of what it is given, and the time."""

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        return x / 2 + times[:, None, None, None]


def test_the_loss_is_the_mean_square_error_of_the_images() -> None:
    images, noise, times = normal(2, 3, 2, 2), normal(2, 3, 2, 2, seed=1), torch.tensor([0, 700])
    shares = diffusion.kept_shares()
    found = diffusion.image_error(Halving(), images, noise, times, shares).item()
    total = 0.0
    for row in range(2):
        a = shares[times[row]].item()
        for x0, e in zip(images[row].flatten().tolist(), noise[row].flatten().tolist(), strict=True):
            xt = math.sqrt(a) * x0 + math.sqrt(1 - a) * e
            total += (x0 - (xt / 2 + times[row].item())) ** 2
    assert math.isclose(found, total / 24, rel_tol=1e-5)


@pytest.mark.parametrize(("share", "following"), [(0.3, 0.8), (0.9, 1.0), (0.001, 0.5)])
def test_a_ddim_step_one_number_at_a_time(share: float, following: float) -> None:
    x, image = normal(1, 3, 2, 2), normal(1, 3, 2, 2, seed=1)
    found = diffusion.ddim_step(x, image, share, following).flatten().tolist()
    for value, x0, result in zip(x.flatten().tolist(), image.flatten().tolist(), found, strict=True):
        e = (value - math.sqrt(share) * x0) / math.sqrt(1 - share)
        expected = math.sqrt(following) * x0 + math.sqrt(1 - following) * e
        assert math.isclose(result, expected, rel_tol=1e-4, abs_tol=1e-5)


def test_steps_with_the_true_image_keep_its_noise_and_lead_back_to_it() -> None:
    image, noise, shares = normal(1, 3, 4, 4), normal(1, 3, 4, 4, seed=1), diffusion.kept_shares().tolist()
    x = diffusion.noisy(image, noise, torch.tensor([shares[999]]))
    for time, following in ((999, 500), (500, 20)):
        x = diffusion.ddim_step(x, image, shares[time], shares[following])
        there = diffusion.noisy(image, noise, torch.tensor([shares[following]]))
        torch.testing.assert_close(x, there, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(diffusion.ddim_step(x, image, shares[20], 1.0), image)


def test_times_are_embedded_as_in_the_paper() -> None:
    found = embedded_times(torch.tensor([7]), 8)[0].tolist()
    for place in range(4):
        angle = 7 / 10_000 ** (place / 3)
        assert math.isclose(found[place], math.sin(angle), abs_tol=1e-5)
        assert math.isclose(found[4 + place], math.cos(angle), abs_tol=1e-5)


@pytest.mark.parametrize("size", [16, 40, 64])
def test_a_network_starts_at_grey_and_reads_the_time(size: int) -> None:
    torch.manual_seed(0)
    network, x, times = Denoiser(8), normal(2, 3, size, size), torch.tensor([3, 900])
    assert not network(x, times).any()
    for weights in network.parameters():
        if not weights.any():
            nn.init.normal_(weights, std=0.1)
    found = network(x, times)
    assert found.shape == x.shape
    torch.testing.assert_close(network(x[1:], times[1:]), found[1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(network(x[1:], times[:1]), found[1:], atol=1e-2)


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    network = Denoiser(8)
    for weights in network.parameters():
        if not weights.any():
            nn.init.normal_(weights, std=0.1)
    network(normal(2, 3, 16, 16), torch.tensor([3, 900])).square().sum().backward()
    assert all(weights.grad is not None and weights.grad.abs().max() > 0 for weights in network.parameters())


def bright(count: int, size: int = 16) -> Tensor:
    """Images of one colour each, between light and lighter."""
    levels = torch.linspace(150, 250, count).to(torch.uint8)
    return levels[:, None, None, None].expand(count, 3, size, size).contiguous()


def test_it_learns_to_find_the_images() -> None:
    chosen = Generation(width=8, updates=40, batch=8, learning_rate=5e-3)
    network = diffusion.fit(bright(8), 0.5, chosen, 0, CPU, silent)
    times, noise = torch.arange(8) * 120 + 20, normal(8, 3, 16, 16, seed=5)
    images, shares = bright(8).float() / 127.5 - 1, diffusion.kept_shares()
    untrained = diffusion.image_error(Denoiser(8), images, noise, times, shares)
    assert diffusion.image_error(network, images, noise, times, shares) < untrained / 3


def test_equal_seeds_give_equal_images_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = [diffusion.fit(bright(4), 0.5, SMALL, seed, CPU, silent) for seed in (0, 0, 1)]
    first, again, other = ([weights.detach() for weights in network.parameters()] for network in networks)
    assert all(map(torch.equal, first, again)) and not all(map(torch.equal, first, other))
    whole = diffusion.sample(networks[0], 5, 16, 2, 0, silent)
    monkeypatch.setattr(diffusion, "BLOCK", 2)
    parts = diffusion.sample(networks[0], 5, 16, 2, 0, silent)
    assert (whole.int() - parts.int()).abs().max() <= 1
    assert not torch.equal(diffusion.sample(networks[0], 5, 16, 2, 1, silent), parts)


def test_fitting_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    diffusion.fit(bright(4), 0.5, SMALL, 0, CPU, silent)
    assert torch.equal(torch.rand(1), expected)


def test_a_loss_that_is_no_number_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "image_error", lambda network, *_: network.last.bias.sum() * math.inf)
    with pytest.raises(NonFiniteLoss, match=r"generation\.learning_rate"):
        diffusion.fit(bright(4), 0.5, SMALL, 0, CPU, silent)
