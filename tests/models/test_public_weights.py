"""Public weights, from the folder beside the repository: they load strictly and answer as their source does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from facewright.models import catalog

WEIGHTS = Path(__file__).parents[2] / "../shared/weights"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not WEIGHTS.is_dir(), reason="wants the public weights in ../shared/weights"),
]


def loaded(name: str) -> catalog.Model:
    model = catalog.create_model(name, 1000)
    state: dict[str, Tensor] = load_file(WEIGHTS / f"{name}.safetensors")
    model.load_state_dict(state, strict=True)
    return model.eval()


def test_squeezenet_reproduces_the_scores_of_its_source() -> None:
    model = loaded("squeezenet1_1")
    reference: dict[str, Tensor] = load_file(WEIGHTS / "squeezenet1_1_reference_io.safetensors")
    for number in range(3):
        with torch.inference_mode():
            scores = model(reference[f"input{number}"])
        torch.testing.assert_close(scores, reference[f"output{number}"], rtol=0, atol=1e-3)


def test_mobilenet_v2_loads_and_tells_pictures_apart() -> None:
    model = loaded("mobilenet_v2")
    picture: Tensor = load_file(WEIGHTS / "squeezenet1_1_reference_io.safetensors")["input0"]
    with torch.inference_mode():
        scores = model(torch.cat([picture, torch.zeros_like(picture)]))
    assert torch.isfinite(scores).all()
    assert scores[0].std() > 1 and not torch.equal(scores[0].argmax(), scores[1].argmax())
