"""A feature map brought to the grid that the layer behind it was made for.

Networks that flatten their last map, or weigh its points one by one, fit one size of picture only. With this between,
they take every size, and at their own it is not there.
"""

from __future__ import annotations

from torch import Tensor, nn


class FixedGrid(nn.Module):
    """The map as it is where it has the side; else in each cell the mean of the points that fall into it.

    >>> import torch
    >>> FixedGrid(2)(torch.arange(16.0).reshape(1, 1, 4, 4)).flatten().tolist()
    [2.5, 4.5, 10.5, 12.5]
    >>> FixedGrid(2)(torch.ones(1, 1, 1, 1)).shape
    torch.Size([1, 1, 2, 2])
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, side, side)
        if x.shape[-2:] == (self.side, self.side):
            return x
        return nn.functional.adaptive_avg_pool2d(x, self.side)

    def extra_repr(self) -> str:
        return str(self.side)
