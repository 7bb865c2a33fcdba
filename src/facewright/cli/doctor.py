"""`facewright doctor`: the state of this installation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facewright.cli import options as opt
from facewright.cli.output import number_of, report

if TYPE_CHECKING:
    from facewright.workflows.diagnosis import Diagnosis


def doctor(as_json: opt.Json = False) -> None:
    """Show versions, devices, extras, folders and what is wrong, for a bug report.

    \b
    Example:
      facewright doctor
      facewright doctor --json
    """
    from facewright.workflows.diagnosis import doctor as diagnose

    found = diagnose()
    report(found.to_dict(), describe(found), as_json)


def describe(found: Diagnosis) -> str:
    """Return one page of text to paste."""
    absent = {name: missing for name, missing in found.extras.items() if missing}
    present = ", ".join(name for name, missing in found.extras.items() if not missing) or "none"
    rows = [
        ("facewright", found.facewright),
        ("python", found.python),
        ("machine", f"{found.machine}, {number_of(found.cores, 'core')}"),
        ("packages", ", ".join(f"{name} {version or '(missing)'}" for name, version in found.packages.items())),
        ("extras", present),
        *((f"  {name}", f"needs {', '.join(missing)}") for name, missing in absent.items()),
        ("device", found.device),
        ("cache", f"{found.cache}, {'can' if found.cache_writable else 'cannot'} be written"),
        ("stores", f"{number_of(found.stores, 'data set')}, {found.store_bytes / 2**20:,.0f} MiB"),
        ("weights", ", ".join(found.weights) or "none downloaded"),
        ("licences", ", ".join(found.licences) or "none accepted"),
        ("default", f"model {found.defaults['model']}, detector {found.defaults['detector'] or 'of the model'}"),
        ("variables", ", ".join(f"{name}={value}" for name, value in found.variables.items()) or "none set"),
    ]
    lines = [f"{name.ljust(12)}{value}" for name, value in rows]
    return "\n".join([*lines, "", *([f"problem: {one}" for one in found.problems] or ["no problem found"])])
