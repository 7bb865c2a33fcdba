"""From a folder of face photos to a trained, honestly measured, usable face classifier or verifier.

    import facewright as fw

    data = fw.open_dataset("photos/")
    run = fw.train(data, model="resnet50", recipe="scratch")
    print(run.evaluation.accuracy)
    fw.compare([run, other]).to_html("report.html")

A name is imported when it is first used: `import facewright` alone is quick and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facewright.data.sources import open_dataset
    from facewright.errors import FacewrightError
    from facewright.gallery.gallery import Gallery
    from facewright.models.catalog import create_model
    from facewright.recognition import Recognizer
    from facewright.workflows import (
        Run,
        calibrate,
        calibrate_unknown,
        compare,
        demo,
        embed,
        evaluate,
        inspect,
        pairs,
        predict,
        resume,
        train,
        train_all,
        verify,
    )
    from facewright.workflows.explaining import explain, explain_pair
    from facewright.workflows.exporting import export
    from facewright.workflows.fitting import fit
    from facewright.workflows.scanning import scan

__version__ = "0.1.0"

__all__ = [
    "FacewrightError",
    "Gallery",
    "Recognizer",
    "Run",
    "calibrate",
    "calibrate_unknown",
    "compare",
    "create_model",
    "demo",
    "embed",
    "evaluate",
    "explain",
    "explain_pair",
    "export",
    "fit",
    "inspect",
    "open_dataset",
    "pairs",
    "predict",
    "resume",
    "scan",
    "train",
    "train_all",
    "verify",
]

# Where each name lives. The only names ever imported from a string, and none of them comes from outside.
_HOMES = {
    "FacewrightError": "facewright.errors",
    "Gallery": "facewright.gallery.gallery",
    "Recognizer": "facewright.recognition",
    "create_model": "facewright.models.catalog",
    "explain": "facewright.workflows.explaining",
    "explain_pair": "facewright.workflows.explaining",
    "export": "facewright.workflows.exporting",
    "fit": "facewright.workflows.fitting",
    "open_dataset": "facewright.data.sources",
    "scan": "facewright.workflows.scanning",
    **dict.fromkeys(
        (
            "Run",
            "calibrate",
            "calibrate_unknown",
            "compare",
            "demo",
            "embed",
            "evaluate",
            "inspect",
            "pairs",
            "predict",
            "resume",
            "train",
            "train_all",
            "verify",
        ),
        "facewright.workflows",
    ),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
