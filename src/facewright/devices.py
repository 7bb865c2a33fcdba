"""The device that computes: `--device auto|cpu|cuda[:N]|mps|xpu`, or FACEWRIGHT_DEVICE.

torch is imported when a device is chosen, so this module costs nothing to import.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from facewright.errors import UsageError

if TYPE_CHECKING:
    import torch

VARIABLE = "FACEWRIGHT_DEVICE"
ACCELERATORS = ("cuda", "mps", "xpu")
INSTALL = "https://pytorch.org/get-started/locally"


def choose(name: str | None = None) -> torch.device:
    """Return the device of this name; None: that of FACEWRIGHT_DEVICE, else `auto`, the accelerator where there is one.

    Raises:
        UsageError: an unknown device, one that is not there, or a GPU that this PyTorch cannot use.
    >>> choose("cpu")
    device(type='cpu')
    """
    import torch

    name = name or os.environ.get(VARIABLE) or "auto"
    kind, _, number = name.partition(":")
    own = torch._C._get_privateuse1_backend_name()  # of a backend that was registered, as torch_npu does
    if kind not in ("auto", "cpu", *ACCELERATORS, own) or not re.fullmatch(r"|\d{1,3}", number):
        raise UsageError(f"unknown device {name!r}: expected auto, cpu, cuda, cuda:N, mps or xpu")
    if kind == "cpu":
        return torch.device("cpu")
    if kind == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device("cpu") if found is None or found.type not in ACCELERATORS else torch.device(found.type, 0)
    count = _count(kind)
    if count == 0:
        raise UsageError(f"no device {name}: {_why_not(kind)}; choose --device cpu")
    if int(number or 0) >= count:
        raise UsageError(f"no device {name}: this machine has {count}, from {kind}:0 on")
    return torch.device(kind, int(number or 0))


def describe(device: torch.device) -> str | None:
    """Return a line about the device for people: its name, or that a GPU lies idle; None for a CPU without a GPU."""
    import torch

    if device.type == "cuda":
        return f"device {device}: {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return f"device {device}"
    idle = not torch.cuda.is_available() and _has_nvidia_gpu() and os.environ.get(VARIABLE) != "cpu"
    return f"device cpu, though {_why_not('cuda')}" if idle else None


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a batch to the device without waiting for it; on the CPU it is the tensor itself."""
    if device.type == "cpu":
        return tensor
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Readback:
    """Numbers of a device on their way to the CPU: reading them later waits only for what came before them."""

    def __init__(self, values: torch.Tensor) -> None:
        self._event = None
        if values.device.type == "cuda":
            self._values = values.new_empty(values.shape, device="cpu", pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._event = _recorded_event()
        else:
            self._values = values.to("cpu", non_blocking=values.device.type != "cpu")

    def read(self) -> list[float]:
        """Wait for the numbers and return them."""
        if self._event is not None:
            self._event.synchronize()
        return [float(value) for value in self._values.tolist()]


def _recorded_event() -> torch.cuda.Event:
    import torch

    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


def _count(kind: str) -> int:
    import torch

    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = getattr(torch, kind, None)
    return int(module.device_count()) if module is not None and module.is_available() else 0


def _why_not(kind: str) -> str:
    import torch

    if kind == "cuda" and _has_nvidia_gpu():
        return f"this machine has an NVIDIA GPU, but PyTorch {torch.__version__} cannot use it: see {INSTALL}"
    return f"PyTorch {torch.__version__} finds none"


def _has_nvidia_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None or os.path.exists("/proc/driver/nvidia/version")  # noqa: PTH110
