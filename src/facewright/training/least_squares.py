"""Levenberg-Marquardt for a small network: the whole training part at once, to second order.

With J the Jacobian of the residuals r, a step solves (JᵀJ + μI) s = Jᵀr and is taken if it lowers |r|². The damping μ
follows the gain ratio, actual over predicted decrease.

Source: D. W. Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", J. SIAM 11 (1963); the
control of μ is H. B. Nielsen's, "Damping parameter in Marquardt's method", IMM-REP-1999-05 (1999), eq. 2.5; its use for
networks is M. T. Hagan's and M. B. Menhaj's, IEEE Transactions on Neural Networks 5 (1994).
Deviation: where there are more weights than residuals, the same step is computed from the smaller matrix JJᵀ + μI.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from facewright.models.mlp import MLP

_CHUNK = 4_096  # rows whose Jacobian is held at once
MOST_DAMPING = 1e12  # of the largest curvature; above it no step is left to take
CHEAP = 1e10  # multiply-adds of one step, about half a second


def cost(residuals: int, weights: int) -> float:
    """Multiply-adds of one step: building the smaller of JᵀJ and JJᵀ, and solving with it."""
    small = min(residuals, weights)
    return float(residuals) * weights * small + small**3 / 3


@dataclass(frozen=True)
class Step:
    """What a pass over the training rows came to."""

    passes: int  # over the training rows, in all; a Jacobian is one, a trial of a step is one
    loss: float  # mean squared residual of the weights in force
    damping: float
    weights: dict[str, Tensor]


class LevenbergMarquardt:
    """Least squares over all rows.

    Args:
        network: (N, D) -> (N, K), float64, without dropout; gives the starting weights.
        inputs: (N, D). targets: (N, K).
        damping: μ at the start, as a share of the largest diagonal entry of JᵀJ.
    """

    def __init__(self, network: MLP, inputs: Tensor, targets: Tensor, damping: float) -> None:
        self.layers, self.inputs, self.targets = tuple(network.layers), inputs, targets
        self.shapes = {name: p.shape for name, p in network.named_parameters()}
        self.start = torch.cat([p.detach().reshape(-1) for p in network.parameters()])
        self.damping = damping

    def steps(self, passes: int) -> Iterator[Step]:
        """The steps that were taken, each with weights that fit better than the ones before.

        Ends after so many passes, or where no step lowers the loss.
        """
        flat, used = self.start, 1
        residuals = self._residuals(flat)
        damping, growth = 0.0, 2.0
        while used + 2 <= passes:  # a Jacobian is of no use without a trial
            normal = self._normal(flat, residuals)
            used += 1
            damping = damping if damping > 0 else self.damping * normal.largest
            taken = False
            while used < passes and damping <= MOST_DAMPING * normal.largest and not taken:
                step = normal.step(damping)
                used += 1
                trial = self._residuals(flat - step)
                gain = self._gain(residuals, trial, step, normal.gradient, damping)
                taken = gain > 0
                if taken:
                    flat, residuals = flat - step, trial
                    damping, growth = damping * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0
                else:
                    damping, growth = damping * growth, growth * 2
            if not taken:
                return
            yield Step(used, float(residuals.square().mean()), damping, self.named(flat))

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """(P,) weights by their names in the network."""
        parts = torch.split(flat, [shape.numel() for shape in self.shapes.values()])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def _residuals(self, flat: Tensor) -> Tensor:  # (P,) -> (N * K,)
        weights = iter(self.named(flat).values())
        values = self.inputs
        with torch.no_grad():
            for layer in self.layers:
                values = linear(values, next(weights), next(weights)) if isinstance(layer, nn.Linear) else layer(values)
        return (values - self.targets).reshape(-1)

    def _jacobian(self, flat: Tensor, rows: Tensor) -> Tensor:  # (P,), (n, D) -> (n * K, P)
        """The derivative of every output of every row by every weight: one pass forth, one back for all outputs."""
        weights = list(self.named(flat).values())
        seen: list[Tensor] = []  # of each layer: what a linear one was given, an activation's slope
        values, number = rows, 0
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                seen.append(values)
                values, number = linear(values, weights[number], weights[number + 1]), number + 2
            else:
                values, slope = _with_slope(layer, values)
                seen.append(slope)
        outputs = values.shape[1]
        back = torch.eye(outputs, dtype=flat.dtype).expand(len(rows), outputs, outputs)  # (n, K, width)
        blocks: list[Tensor] = []  # from the last weight to the first
        for layer, kept in zip(reversed(self.layers), reversed(seen), strict=True):
            if isinstance(layer, nn.Linear):
                number -= 2
                blocks += [back, (back[..., None] * kept[:, None, None, :]).flatten(2)]
                back = back @ weights[number]
            else:
                back = back * kept[:, None, :]
        return torch.cat(blocks[::-1], dim=2).flatten(0, 1)

    def _gain(self, before: Tensor, after: Tensor, step: Tensor, gradient: Tensor, damping: float) -> float:
        """Actual over predicted decrease of |r|²; below 0 where it rose or is no number."""
        actual = float(before.square().sum() - after.square().sum())
        predicted = float(step @ (damping * step + gradient))
        return actual / predicted if predicted > 0 and actual == actual else -1.0

    def _normal(self, flat: Tensor, residuals: Tensor) -> Tall | Wide:
        weights = len(flat)
        if len(residuals) < weights:
            jacobian = self._jacobian(flat, self.inputs)
            return Wide(jacobian, jacobian @ jacobian.T, jacobian.T @ residuals, float(jacobian.square().sum(0).max()))
        matrix, gradient = torch.zeros(weights, weights, dtype=flat.dtype), torch.zeros_like(flat)
        outputs = self.targets.shape[1]
        for start in range(0, len(self.inputs), _CHUNK):
            jacobian = self._jacobian(flat, self.inputs[start : start + _CHUNK])
            matrix.addmm_(jacobian.T, jacobian)
            gradient += jacobian.T @ residuals[start * outputs : start * outputs + len(jacobian)]
        return Tall(matrix, gradient, float(matrix.diagonal().max()))


@dataclass(frozen=True)
class Tall:
    """The normal equations of at least as many residuals as weights."""

    matrix: Tensor  # (P, P) JᵀJ
    gradient: Tensor  # (P,) Jᵀr
    largest: float  # diagonal entry of JᵀJ

    def step(self, damping: float) -> Tensor:
        return _solve(self.matrix, damping, self.gradient)


@dataclass(frozen=True)
class Wide:
    """The same for fewer residuals than weights: (JᵀJ + μI)⁻¹ g = (g − Jᵀ (JJᵀ + μI)⁻¹ J g) / μ."""

    jacobian: Tensor  # (M, P)
    matrix: Tensor  # (M, M) JJᵀ
    gradient: Tensor  # (P,) Jᵀr
    largest: float  # diagonal entry of JᵀJ

    def step(self, damping: float) -> Tensor:
        inner = _solve(self.matrix, damping, self.jacobian @ self.gradient)
        return (self.gradient - self.jacobian.T @ inner) / damping


def _with_slope(activation: nn.Module, values: Tensor) -> tuple[Tensor, Tensor]:
    """An elementwise function and its derivative, both at `values`."""
    with torch.enable_grad():
        given = values.detach().requires_grad_()
        said: Tensor = activation(given)
        (slope,) = torch.autograd.grad(said.sum(), given)
    return said.detach(), slope


def _solve(matrix: Tensor, damping: float, right: Tensor) -> Tensor:
    """x of (matrix + damping · I) x = right; not finite where rounding makes that singular, which no trial accepts."""
    damped = matrix.clone()
    damped.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(damped)
    if int(failed):
        return torch.full_like(right, float("nan"))
    return torch.cholesky_solve(right[:, None], factor)[:, 0]
