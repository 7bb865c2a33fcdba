"""The jobs end to end, one file a job: open → split → train → evaluate → report; compare; predict; verify."""


def __getattr__(name: str) -> object:
    """Return one of the package's functions by its old place, with a FutureWarning of one line."""
    import warnings

    import facewright

    if name not in facewright.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"facewright.workflows.{name} is now facewright.{name}", FutureWarning, stacklevel=2)
    return getattr(facewright, name)
