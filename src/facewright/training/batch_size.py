"""`--batch auto`: the largest batch a device has memory for, found by doubling."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright import devices, platforms
from facewright.training.training_module import autocast

FIRST, MOST = 8, 4096
SHARE = 0.5  # of the free memory of a CPU: beyond it the system ends the process instead of refusing


def largest(network: nn.Module, size: int, device: torch.device, dtype: torch.dtype, most: int, pixels: int) -> int:
    """Double the batch while a step of AdamW fits.

    Args:
        network: left as it was; a copy is trained on noise. size: side of the images, px.
        most: images that a batch may have; the first batch is not below 2.
        pixels: bytes of the images, which lie on the device beside the network where they fit.
    Raises:
        DeviceFault: not even the first batch fits.
    """
    twin = copy.deepcopy(network).to(device).train()
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.0)
    memory = devices.memory(device)
    ballast = None
    if memory is not None and device.type != "cpu" and devices.fits(pixels, memory):
        ballast = torch.empty(pixels, dtype=torch.uint8, device=device)
    batch, tried = 0, max(2, min(FIRST, most))
    while tried <= min(most, MOST):
        platforms.reset_peak_memory()
        before = platforms.peak_memory_bytes() or 0
        try:
            _step(twin, optimizer, torch.randn(tried, 3, size, size, device=device), dtype)
        except RuntimeError as error:
            if not devices.is_out_of_memory(error):
                raise
            if batch == 0:
                raise devices.fault(error, device, tried) from error
            break
        batch, tried = tried, 2 * tried
        grown = (platforms.peak_memory_bytes() or 0) - before
        if device.type == "cpu" and memory is not None and 2 * grown > SHARE * memory.free:
            break
    del twin, optimizer, ballast
    if device.type != "cpu":
        torch.accelerator.empty_cache()
    return batch


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, dtype: torch.dtype) -> None:
    optimizer.zero_grad(set_to_none=True)
    with autocast(images.device, dtype):
        scores: Tensor = network(images)
    loss = functional.cross_entropy(scores.float(), torch.zeros(len(images), dtype=torch.long, device=images.device))
    torch.autograd.backward(loss)
    optimizer.step()
    loss.item()
