"""The device that computes: `--device auto|cpu|cuda[:N]|mps|xpu`, or FACEWRIGHT_DEVICE. Importing it loads no torch."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from facewright.errors import DeviceFault, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

VARIABLE = "FACEWRIGHT_DEVICE"
ACCELERATORS = ("cuda", "mps", "xpu")
INSTALL = "https://pytorch.org/get-started/locally"
PIXELS_OF_ALL = 0.4  # of a device's memory that pixels may take: by what it has, so that a resumed run decides alike
PIXELS_OF_FREE = 0.8  # and of what is free
PROVIDERS = {"cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider", "xpu": "OpenVINOExecutionProvider"}
LOG = logging.getLogger("facewright.devices")


def choose(name: str | None = None) -> torch.device:
    """Return the device of this name; None: that of FACEWRIGHT_DEVICE, else `auto`, the accelerator where there is one.

    Raises:
        UsageError: an unknown device, one that is not there, or a GPU that this PyTorch cannot use.
    >>> choose("cpu")
    device(type='cpu')
    """
    import torch

    name, kind, number = _parsed(name)
    if kind == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        kind = "cpu" if found is None or found.type not in ACCELERATORS else found.type
    if kind == "cpu":
        device = torch.device("cpu")
    else:
        count = _count(kind)
        if count == 0:
            raise UsageError(f"no device {name}: {_why_not(kind)}; choose --device cpu")
        if (number or 0) >= count:
            raise UsageError(f"no device {name}: this machine has {count}, from {kind}:0 on")
        device = torch.device(kind, number or 0)
    if kind == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for `deterministic`; read at the first product
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32; `training.precision = "tf32"` is the other
    if (line := describe(device)) is not None:
        _say(line, logging.INFO)
    return device


def providers(name: str | None, available: Sequence[str]) -> list[str | tuple[str, dict[str, Any]]]:
    """Choose ONNX Runtime's providers: the device's, then the CPU's, to which it falls back; that is said once.

    `auto` is an NVIDIA GPU where ONNX Runtime can use one: Apple's and Intel's providers round differently.

    Args:
        name: as for `choose`.
        available: the providers of the ONNX Runtime that is installed.
    Raises:
        UsageError: an unknown device.
    >>> providers("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"])
    ['CPUExecutionProvider']
    """
    _, kind, number = _parsed(name)
    wanted = PROVIDERS.get("cuda" if kind == "auto" else kind, kind)
    chosen: list[str | tuple[str, dict[str, Any]]] = ["CPUExecutionProvider"]
    if kind != "cpu" and wanted in available:
        exact = {"device_id": number or 0, "use_tf32": 0} if wanted == PROVIDERS["cuda"] else {}
        return [(wanted, exact), *chosen]
    if kind != "cpu" and (kind != "auto" or _has_nvidia_gpu()):
        say_fallback(name)
    return chosen


def say_fallback(name: str | None) -> None:
    """Say once that ONNX Runtime computes on the CPU instead of a device."""
    kind = _parsed(name)[1]
    package = (
        "; for an NVIDIA GPU: pip install onnxruntime-gpu in place of onnxruntime" if kind in ("auto", "cuda") else ""
    )
    _say(f"ONNX Runtime cannot use {'the GPU' if kind == 'auto' else kind}: its networks compute on the CPU{package}")


def _parsed(name: str | None) -> tuple[str, str, int | None]:
    """Return the name of a device, its kind and its number; UsageError for an unknown one."""
    name = name or os.environ.get(VARIABLE) or "auto"
    kind, _, number = name.partition(":")
    torch = sys.modules.get("torch")  # a backend that was registered with it, as torch_npu does
    own = () if torch is None else (torch._C._get_privateuse1_backend_name(),)
    numbered = ("cuda", "xpu", *own)
    if kind not in ("auto", "cpu", *ACCELERATORS, *own) or not re.fullmatch(r"\d{1,3}" if ":" in name else "", number):
        raise UsageError(f"unknown device {name!r}: expected auto, cpu, cuda, cuda:N, mps or xpu")
    if number and kind not in numbered:
        raise UsageError(f"unknown device {name!r}: there is one {kind}, without a number")
    return name, kind, int(number) if number else None


@cache
def _say(line: str, level: int = logging.WARNING) -> None:
    """Log a line once a process."""
    LOG.log(level, line)


def describe(device: torch.device) -> str | None:
    """Return a line about the device for people: its name, or that a GPU lies idle; None for a CPU without a GPU."""
    import torch

    if device.type == "cuda" and torch.cuda.is_available():
        return f"device {device}: {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return f"device {device}"
    idle = not torch.cuda.is_available() and _has_nvidia_gpu() and os.environ.get(VARIABLE) != "cpu"
    return f"device cpu, though {_why_not('cuda')}" if idle else None


class Memory(NamedTuple):
    """Bytes of a device."""

    free: int
    total: int


def memory(device: torch.device) -> Memory | None:
    """Return how much memory a device has; None where it does not say."""
    import torch

    if device.type == "cpu":
        names = ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES")
        known = hasattr(os, "sysconf") and set(names) <= set(os.sysconf_names)
        return Memory(*(os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") for name in names)) if known else None
    if device.type == "mps":  # shared with the CPU; this much of it a GPU may use
        total = int(torch.mps.recommended_max_memory())
        return Memory(total - int(torch.mps.driver_allocated_memory()), total)
    try:
        return Memory(*map(int, torch.accelerator.get_memory_info(device)))
    except (RuntimeError, ValueError, NotImplementedError):
        return None


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes that tensors of this process took on a device since `reset_peak_memory`.

    None of a CPU, see `platforms.peak_memory_bytes`, and of a device that keeps no statistics.
    """
    import torch

    if device.type == "cpu":
        return None
    try:
        return int(torch.accelerator.max_memory_allocated(device)) or None
    except (RuntimeError, ValueError, NotImplementedError, AttributeError):
        return None


def reset_peak_memory(device: torch.device) -> None:
    """Forget the peak so far, where the device keeps one."""
    import torch

    if device.type != "cpu":
        with suppress(RuntimeError, ValueError, NotImplementedError, AttributeError):
            torch.accelerator.reset_peak_memory_stats(device)


def fits(size: int, held: Memory) -> bool:
    """Tell if so many bytes of pixels may lie on a device that holds a network too.

    >>> fits(38, Memory(free=50, total=100)), fits(42, Memory(free=90, total=100)), fits(38, Memory(free=40, total=100))
    (True, False, False)
    """
    return size <= min(PIXELS_OF_ALL * held.total, PIXELS_OF_FREE * held.free)


@contextmanager
def deterministic(device: torch.device, wanted: bool) -> Iterator[None]:
    """Let torch choose kernels that give the same bits each time; one that cannot raises RuntimeError."""
    import torch

    if not wanted or device.type == "cpu":  # a CPU's are
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell if an error of torch says that there is no memory left."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or bool(
        re.search(r"out of memory|can't allocate memory", str(error))
    )


def fault(error: RuntimeError, device: torch.device | None = None, batch: int | None = None) -> RuntimeError:
    """Return what an error of torch, in a step of a batch, means to people as a DeviceFault; another error itself."""
    import torch

    if isinstance(error, DeviceFault):
        return error
    where = "the device" if device is None else str(device)
    if is_out_of_memory(error):
        if batch is None:
            return DeviceFault(f"{where} has no memory left: use a smaller model or --device cpu")
        smaller = max(2, batch // 2)
        return DeviceFault(
            f"{where} has no memory left for a batch of {batch}: try --batch {smaller}, --accumulate 2 (the same batch "
            "in two parts), or --batch auto"
        )
    if "does not have a deterministic implementation" in str(error):
        return DeviceFault(f"{str(error).split(' does not')[0]} has no deterministic kernel: set --no-deterministic")
    if re.search(r"gloo|[Cc]onnection (closed|reset|refused)|Broken pipe", str(error)):
        return DeviceFault(
            "another process of the run has ended or cannot be reached: train --resume goes on from the last checkpoint"
        )
    lost = isinstance(error, torch.AcceleratorError) or re.search(
        r"(CUDA|HIP|MPS|XPU|NCCL) error|device lost", str(error)
    )
    if lost:
        first = str(error).strip().splitlines()[0][:200]
        again = "" if batch is None else "; train --resume goes on from the last checkpoint"
        return DeviceFault(f"{where} failed ({first}): look at its driver, or choose --device cpu{again}")
    return error


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to the device without waiting for it; where it is there already it is the tensor itself."""
    if tensor.device == device:
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
