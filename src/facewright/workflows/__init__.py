"""The jobs end to end, one file a job: open → split → train → evaluate → report; compare; predict; verify."""

import sys
import warnings


def __getattr__(name: str) -> object:
    """Return one of the package's functions by its old place, with a FutureWarning of one line."""
    public = sys.modules["facewright"]  # the package around this one; loaded first
    if name not in public.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"facewright.workflows.{name} is now facewright.{name}", FutureWarning, stacklevel=2)
    return getattr(public, name)
