"""The few things in which Linux, macOS and Windows differ for us; every other module is the same on all of them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
import threading
import time
from pathlib import Path

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""Flags of `os.open` for a file that must not exist: a link under its name is not followed."""
NO_WAITING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags of `os.open` for reading: opening a pipe does not wait for its other end."""
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)
)  # the last is Ctrl-Break, on Windows
PATIENCE = 10  # tries to replace a file that another process holds open, on Windows; the waits sum up to 0.55 s


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def calm_threads() -> None:
    """Let idle threads of OpenMP sleep soon, in place of spinning; before torch is loaded, or it has no effect.

    Spinning threads take the cores from every other process: see benchmarks/threads.py. What the user set stays.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        os.environ["GOMP_SPINCOUNT"] = "1000"  # GNU's, about 5 us
        os.environ["KMP_BLOCKTIME"] = "1"  # Intel's and LLVM's, ms


def use_threads(count: int) -> None:
    """Compute with so many threads, in PyTorch and ONNX Runtime; before they are loaded, or `torch` alone is told."""
    os.environ["OMP_NUM_THREADS"] = os.environ["FACEWRIGHT_THREADS"] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next training step; return False where the C library is another one."""
    try:
        library = ctypes.CDLL("libc.so.6")
        set_option = library.mallopt
    except (OSError, AttributeError):
        return False
    trim, mapped = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h; 32 MiB is the most for the second
    return bool(set_option(trim, 1 << 30)) and bool(set_option(mapped, 1 << 25))


def read_at(descriptor: int, size: int, start: int, lock: threading.Lock | threading.RLock) -> bytes:
    """Read up to `size` bytes from `start`, without moving the position that forked processes share.

    `lock` is held where the system has no such read (Windows, which does not fork).
    """
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, start)
    with lock:
        os.lseek(descriptor, start, os.SEEK_SET)
        parts = []
        while size and (part := os.read(descriptor, size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def replace(temporary: Path, path: Path) -> None:
    """Give a file another's name and place; Windows refuses while another process (a virus scanner) holds it open."""
    for waited in range(1, PATIENCE + 1):
        try:
            temporary.replace(path)
        except PermissionError:
            if os.name != "nt" or waited == PATIENCE:
                raise
            time.sleep(0.01 * waited)
        else:
            return


def publish(temporary: Path, path: Path) -> bool:
    """Give a file its name unless there is one of that name; return False then, and the file keeps its own.

    Raises:
        OSError: neither a hard link nor a rename was possible.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # FAT, exFAT and some network shares have no hard links
        if path.exists():
            return False
        temporary.rename(path)
    return True


def remove_locked(folder: Path) -> None:
    """Remove a flat folder whose file `.lock` this process holds; Windows keeps that file, and so the empty folder."""
    for path in folder.iterdir():
        if path.name != ".lock":
            path.unlink()
    with contextlib.suppress(PermissionError):
        (folder / ".lock").unlink()  # while it is held, so that no other process can be waiting for it
        folder.rmdir()


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder durable. Windows opens no folder, and needs none of this."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows; or a folder that may be written and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that syncs no folders
            raise
    finally:
        os.close(descriptor)


def peak_memory_bytes() -> int | None:
    """The most memory this process, its libraries included, held since `reset_peak_memory`; None: not known.

    Where the peak cannot be reset (all but Linux) it is that of the process's whole life.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        peaks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if peaks:
            return 1024 * int(peaks[0])  # the kernel counts in KiB
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in KiB


def reset_peak_memory() -> None:
    """Forget the peak so far, so that a second model trained in one process does not inherit the first one's."""
    with contextlib.suppress(OSError):  # a system without it, or a process that may not
        Path("/proc/self/clear_refs").write_text("5")


def descriptors() -> tuple[int, int] | None:
    """Return how many files and sockets this process may open, and how many are; None: no limit (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = 64
    with contextlib.suppress(OSError):
        used = len(os.listdir("/dev/fd"))  # noqa: PTH208 - no files of ours
    return most, used
