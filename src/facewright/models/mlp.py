"""The multilayer perceptron: numbers in, numbers out; for regression, function approximation and as a head.

Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986; the
initialisation is Glorot and Bengio's for tanh (AISTATS 2010, eq. 16) and He et al.'s for ReLU, GELU and
SiLU (arXiv:1502.01852, eq. 10).
No image classifier, so it is not in the catalogue: build it with `create_mlp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from facewright.errors import UnknownName, UsageError

Activation = Literal["relu", "gelu", "silu", "tanh"]
LAYERS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class MLP(nn.Module):
    """Linear layers with an activation, and dropout if any, after each but the last."""

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((inputs, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, width), LAYERS[activation]()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear((inputs, *hidden)[-1], outputs))
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                if activation == "tanh":
                    nn.init.xavier_uniform_(layer.weight)
                else:
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:  # (..., inputs) -> (..., outputs)
        out: Tensor = self.layers(x)
        return out


def create_mlp(
    inputs: int, hidden: Sequence[int], outputs: int, *, activation: str = "relu", dropout: float = 0.0
) -> MLP:
    """A fresh perceptron; its weights come from PyTorch's global random generator.

    Args:
        hidden: width of each hidden layer; none gives a linear map.
        activation: "relu", "gelu", "silu" or "tanh".
        dropout: share of the hidden values that training sets to 0; in [0, 1).
    Raises:
        UnknownName: no such activation.
        UsageError: a width below 1, or a dropout outside its range.
    >>> create_mlp(1, [64, 64], 1, activation="tanh").layers
    Sequential(
      (0): Linear(in_features=1, out_features=64, bias=True)
      (1): Tanh()
      (2): Linear(in_features=64, out_features=64, bias=True)
      (3): Tanh()
      (4): Linear(in_features=64, out_features=1, bias=True)
    )
    """
    if min(inputs, outputs, *hidden) < 1:
        raise UsageError(f"every layer needs a width of at least 1, not {inputs}, {list(hidden)}, {outputs}")
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout is a share in [0, 1), not {dropout}")
    for known in get_args(Activation):
        if activation == known:
            return MLP(inputs, hidden, outputs, known, dropout)
    raise UnknownName("activation", activation, get_args(Activation))
