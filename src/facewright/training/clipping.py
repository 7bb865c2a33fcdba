"""Adaptive gradient clipping: no weights change by more than a share of themselves."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

from facewright.errors import UsageError

SMALLEST_GRADIENT = 1e-6  # below it a norm is not divided by; the authors' code has the same


@torch.no_grad()
def clip_unitwise(parameters: Iterable[Parameter], factor: float, eps: float = 1e-3) -> None:
    """Scale down, in place, each unit's gradient whose norm exceeds `factor` times the norm of the unit's weights.

    A unit is what feeds one output: a row of a linear layer, a filter of a convolution. Biases, gains of norms and
    everything else with one axis longer than 1 is a single unit, as in the authors' code.

    Args:
        parameters: those to clip; those without a gradient are passed over. The paper leaves the last layer, the
            classifier, out: so should the caller.
        factor: lambda > 0; 0.01 in the paper for batches of 4096, more for smaller ones.
        eps: the norm of a unit's weights counts as at least this, so that what starts at zero can grow.
    Raises:
        UsageError: the factor is not above 0.
    Source: Brock et al. 2021, "High-Performance Large-Scale Image Recognition Without Normalization",
    arXiv:2102.06171, eq. 3.
    >>> layer = Parameter(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    >>> layer.grad = torch.tensor([[0.0, 10.0], [0.0, 10.0]])
    >>> clip_unitwise([layer], factor=0.1)
    >>> [[round(value, 6) for value in row] for row in layer.grad.tolist()]  # norms 5 and 0.001, times 0.1
    [[0.0, 0.5], [0.0, 0.0001]]
    """
    if not factor > 0:
        raise UsageError(f"expected a clipping factor above 0, got {factor!r}; to clip nothing, do not call this")
    for parameter in parameters:
        if parameter.grad is None:
            continue
        most = factor * _unit_norms(parameter).clamp_min(eps)
        parameter.grad.mul_((most / _unit_norms(parameter.grad).clamp_min(SMALLEST_GRADIENT)).clamp_max(1))


def _unit_norms(x: Tensor) -> Tensor:
    """The Euclidean norm of each unit, in a shape that spreads over x."""
    one_unit = sum(length > 1 for length in x.shape) <= 1
    norms: Tensor = torch.linalg.vector_norm(x, dim=tuple(range(0 if one_unit else 1, x.ndim)), keepdim=True)
    return norms
