"""From a folder of face photos to a trained, honestly measured, usable face classifier or verifier.

    import facewright as fw

    data = fw.open_dataset("photos/")
    run = fw.train(data, model="resnet50", recipe="scratch")
    print(run.evaluation.accuracy)
    fw.compare([run, other]).to_html("report.html")

A name is imported when it is first used: `import facewright` alone is quick and loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facewright.lazy import lazy_names

if TYPE_CHECKING:
    from facewright.data.sources import open_dataset
    from facewright.errors import FacewrightError
    from facewright.gallery.gallery import Gallery
    from facewright.models.catalog import create_model
    from facewright.recognition import Recognizer
    from facewright.regression.run import fit
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
    from facewright.workflows.explanation import explain, explain_pair
    from facewright.workflows.exportation import export
    from facewright.workflows.face_scan import scan

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

__getattr__ = lazy_names(
    __name__,
    {
        "facewright.data.sources": "open_dataset",
        "facewright.errors": "FacewrightError",
        "facewright.gallery.gallery": "Gallery",
        "facewright.models.catalog": "create_model",
        "facewright.recognition": "Recognizer",
        "facewright.workflows": "Run calibrate calibrate_unknown compare demo embed evaluate inspect pairs predict "
        "resume train train_all verify",
        "facewright.workflows.explanation": "explain explain_pair",
        "facewright.workflows.exportation": "export",
        "facewright.workflows.face_scan": "scan",
        "facewright.regression.run": "fit",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
