"""The network of the diffusion model: a small U-Net that finds the image in noise.

Source: Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (arXiv:2006.11239), appendix B:
residual blocks with group norms and SiLU, the time as a sinusoidal embedding that each block adds, self-attention, last
convolutions that start at zero.
Deviations, for a few hundred images and a CPU: each 2x2 pixels are one point of 12 channels; three grids instead of
four or five, one block each on the way down and up, attention on the smallest grid alone, no dropout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 8  # of the group norms
PATCH = 2  # pixels along a side of a point


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
    """Map noisy images and their times to the images without noise: x_0 of the paper.

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
