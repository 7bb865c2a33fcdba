"""Our optimizers give torch's weights, and the kernel for CPUs is shown tensors that it need not copy."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

from facewright.training import optimizers
from facewright.training.optimizers import Group
from facewright.training.recipe_parts import OptimizerSpec


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(36, 2))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@pytest.mark.parametrize(("name", "theirs"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_channels_last_weights_are_updated_where_they_lie(name: Any, theirs: Any, monkeypatch) -> None:
    shown: list[bool] = []
    module = import_module("torch.optim.adam")  # `torch.optim` hides it
    kernel = module.adam
    monkeypatch.setattr(
        module,
        "adam",
        lambda *lists, **rest: (
            shown.extend(one.is_contiguous() for tensors in lists[:4] for one in tensors),
            kernel(*lists, **rest),
        ),
    )
    a, b = network(), network()
    rule = OptimizerSpec(name=name, weight_decay=0.01, decay_all=True)
    ours = optimizers.build(rule, [Group(tuple(a.parameters()), 1.0, head=False)], 0.01)
    torchs = theirs(b.parameters(), lr=0.01, betas=(0.9, rule.beta2), weight_decay=0.01, fused=True)
    images = torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    for _ in range(3):
        for model, optimizer in ((b, torchs), (a, ours)):
            shown.clear()
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
    assert shown and all(shown)
    for mine, other in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(mine, other)
        state = ours.state[mine]
        assert state["exp_avg"].shape == mine.shape and state["exp_avg"].stride() == mine.stride()
