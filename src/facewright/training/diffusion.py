"""Denoising diffusion: a network learns to take noise out of images, and makes new ones from noise alone.

Sources: Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (arXiv:2006.11239; "DDPM" below);
Song, Meng, Ermon, "Denoising Diffusion Implicit Models", ICLR 2021 (arXiv:2010.02502; "DDIM").
Pixels lie in [-1, 1]. Times count from 0, the papers' from 1. Nothing random has a state: the images, times and noise
of a step are a function of (seed, step), the noise that an image starts from is one of (seed, number of the image).
Deviations: the network predicts the image x_0 (an alternative that DDPM names in section 3.2), not its noise, which
then follows from eq. 4: so a narrow network need not carry the noise of every pixel. The learning rate falls to 0 along
a cosine, and the average of the weights forgets after some 200 steps, not 10,000, for the training is a hundredth as
long.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.data.sampling import derive
from facewright.errors import NonFiniteLoss
from facewright.training.recipe_parts import Generation
from facewright.training.training_module import AveragedNetwork

GROUPS = 8  # of the group norms
PATCH = 2  # pixels along a side of a point

STEPS = 1000  # T of DDPM, section 4
FIRST_VARIANCE, LAST_VARIANCE = 1e-4, 0.02  # beta_1 and beta_T, linear in between
DECAY = 0.995  # of the averaged weights
BLOCK = 64  # images sampled at once
LONGEST = 1.0  # norm of the gradient


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the embedded time is added between them."""

    def __init__(self, channels: int, out: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(time, out)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, out), nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:  # (B, C, G, G), (B, T) -> (B, out, G, G)
        found = self.conv1(functional.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        found = self.conv2(functional.silu(self.norm2(found)))
        return self.shortcut(x) + found  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention of one head over all points of a map, beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.queries_keys_values, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, G, G) -> the same
        points = self.norm(x).flatten(2).transpose(1, 2)
        attended = functional.scaled_dot_product_attention(*self.queries_keys_values(points).chunk(3, -1))
        return x + self.out(attended).transpose(1, 2).unflatten(2, x.shape[2:])  # type: ignore[no-any-return]


class Denoiser(nn.Module):
    """A small U-Net that maps noisy images and their times to the images without noise: x_0 of the paper.

    Source: DDPM, appendix B: residual blocks with group norms and SiLU, the time as a sinusoidal embedding that each
    block adds, self-attention, last convolutions that start at zero. Deviations, for a few hundred images and a CPU:
    each 2x2 pixels are one point of 12 channels; three grids instead of four or five, one block each on the way down
    and up, attention on the smallest grid alone, no dropout.

    Args:
        width: channels of the largest grid, a multiple of 8; the smaller ones have twice as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels, time, wide = 3 * PATCH**2, 4 * width, 2 * width
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(Block(c, out, time) for c, out in ((width, width), (width, wide), (wide, wide)))
        self.halve = nn.ModuleList(nn.Conv2d(c, c, 3, 2, 1) for c in (width, wide))
        self.middle1, self.attention, self.middle2 = Block(wide, wide, time), Attention(wide), Block(wide, wide, time)
        self.up = nn.ModuleList(Block(2 * c, out, time) for c, out in ((wide, wide), (wide, width), (width, width)))
        self.norm, self.last = nn.GroupNorm(GROUPS, width), nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        """Return the images, (B, 3, S, S).

        Args:
            x: (B, 3, S, S) float32; S is a multiple of 8. times: (B,) int64, from 0.
        """
        x = self.first(functional.pixel_unshuffle(x, PATCH))
        time, maps = self.time(embedded_times(times, self.width)), []
        for number, block in enumerate(self.down):
            x = block(x if number == 0 else self.halve[number - 1](x), time)
            maps.append(x)
        x = self.middle2(self.attention(self.middle1(x, time)), time)
        for number, block in enumerate(self.up):
            x = x if number == 0 else functional.interpolate(x, scale_factor=2.0)
            x = block(torch.cat([x, maps.pop()], 1), time)
        return functional.pixel_shuffle(self.last(functional.silu(self.norm(x))), PATCH)


def embedded_times(times: Tensor, width: int) -> Tensor:
    """Return (B, width) sines and cosines of times (B,) at wavelengths from 2 pi to 20,000 pi.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    >>> embedded_times(torch.tensor([0]), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    half = width // 2
    rates = torch.exp(-math.log(10_000.0) / (half - 1) * torch.arange(half, device=times.device))
    angles = times[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def kept_shares() -> Tensor:
    """Return alpha-bar (STEPS,), float64: the share of an image's variance that is left at each time (DDPM, eq. 4)."""
    return (1.0 - torch.linspace(FIRST_VARIANCE, LAST_VARIANCE, STEPS, dtype=torch.float64)).cumprod(0)


def noisy(images: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """Return x_t = sqrt(share) x_0 + sqrt(1 - share) epsilon (DDPM, eq. 4).

    Args:
        images, noise: (B, 3, S, S). share: (B,) alpha-bar at each one's time.
    >>> noisy(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.tensor([0.36])).mul(10).round().item()
    14.0
    """
    share = share[:, None, None, None]
    return share.sqrt() * images + (1 - share).sqrt() * noise


def image_error(network: nn.Module, images: Tensor, noise: Tensor, times: Tensor, shares: Tensor) -> Tensor:
    """Return the mean square error of the images found: that of the noise in L_simple (DDPM, eq. 14), over SNR(t).

    Args:
        images: (B, 3, S, S) in [-1, 1]. noise: likewise, standard normal. times: (B,) int64. shares: `kept_shares`.
    """
    found = network(noisy(images, noise, shares[times].float()), times)
    return functional.mse_loss(found, images)


def ddim_step(x: Tensor, image: Tensor, share: float, next_share: float) -> Tensor:
    """Take a part of the noise out of x, to an earlier time (DDIM, eq. 12 with sigma = 0).

    epsilon = (x - sqrt(share) x_0) / sqrt(1 - share); then sqrt(next_share) x_0 + sqrt(1 - next_share) epsilon.

    Args:
        x, image: (B, 3, S, S); x_0 is the image found in x.
        share, next_share: alpha-bar at both times; at the end, next_share is 1.
    """
    noise = (x - math.sqrt(share) * image) / math.sqrt(1 - share)
    return math.sqrt(next_share) * image + math.sqrt(1 - next_share) * noise


def fit(
    images: Tensor, flip: float, chosen: Generation, seed: int, device: torch.device, report: Callable[[int, int], None]
) -> nn.Module:
    """Train a denoiser on images alone (DDPM, algorithm 1); return the average of its weights, on the device.

    Args:
        images: (N, 3, S, S) uint8. flip: the share that is mirrored each time.
        report: called with the steps done and all of them.
    Raises:
        NonFiniteLoss: the loss is no longer a number.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "denoiser"))
        network = Denoiser(chosen.width).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels, shares = (images.float() / 127.5 - 1.0).to(device), kept_shares().to(device)
    average = AveragedNetwork(network, DECAY)
    optimizer = torch.optim.Adam(network.parameters(), lr=chosen.learning_rate)
    for step in range(chosen.updates):
        optimizer.param_groups[0]["lr"] = chosen.learning_rate * (1 + math.cos(math.pi * step / chosen.updates)) / 2
        rows, mirrored, times, noise = (one.to(device) for one in _drawn(images, flip, chosen.batch, seed, step))
        batch = torch.where(mirrored[:, None, None, None], pixels[rows].flip(3), pixels[rows])
        loss = image_error(network, batch, noise, times, shares)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(network.parameters(), LONGEST)
        if not math.isfinite(float(norm)):
            raise NonFiniteLoss(
                f"the diffusion model's loss is no number at step {step + 1}: lower generation.learning_rate"
            )
        optimizer.step()
        average.update(network)
        report(step + 1, chosen.updates)
    return average.module


def _drawn(images: Tensor, flip: float, batch: int, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw rows, whether to mirror each, times and noise of one step; on the CPU, so that every device gets these."""
    source = torch.Generator().manual_seed(derive(seed, "denoiser", step))
    rows = torch.randint(len(images), (batch,), generator=source)
    mirrored = torch.rand(batch, generator=source) < flip
    times = torch.randint(STEPS, (batch,), generator=source)
    return rows, mirrored, times, torch.randn((batch, *images.shape[1:]), generator=source)


@torch.inference_mode()
def sample(
    network: nn.Module, count: int, size: int, steps: int, seed: int, report: Callable[[int, int], None]
) -> Tensor:
    """Make images from noise: (count, 3, size, size) uint8.

    Args:
        steps: how many times of the schedule are visited, evenly spaced.
        report: called with the images done and all of them.
    """
    device = next(network.parameters()).device
    times = torch.linspace(STEPS - 1, 0, steps).round().long().tolist()
    shares = kept_shares().tolist()
    made = []
    for start in range(0, count, BLOCK):
        numbers = range(start, min(start + BLOCK, count))
        x = torch.stack([_first_noise(size, seed, number) for number in numbers]).to(device)
        for time, following in zip(times, (*times[1:], None), strict=True):
            image = network(x, torch.full((len(x),), time, device=device)).clamp(-1.0, 1.0)
            x = ddim_step(x, image, shares[time], 1.0 if following is None else shares[following])
        made.append(((x + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu())
        report(numbers[-1] + 1, count)
    return torch.cat(made)


def _first_noise(size: int, seed: int, number: int) -> Tensor:
    source = torch.Generator().manual_seed(derive(seed, "generated", number))
    return torch.randn((3, size, size), generator=source)
