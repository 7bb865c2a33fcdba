"""The main jobs end to end, one file a job: open → split → train → evaluate → report; compare; predict; inspect.

>>> import facewright as fw                                                            # doctest: +SKIP
>>> run = fw.train("synthetic:faces?identities=5&images=20", model="resnet18")         # doctest: +SKIP
>>> run.evaluation.accuracy                                                            # doctest: +SKIP
Rate(value=0.85, low=0.64, high=0.95, n=20)
"""

from facewright.runs import Run
from facewright.workflows.calibrating import calibrate
from facewright.workflows.comparing import Compared, compare
from facewright.workflows.demonstration import demo
from facewright.workflows.inspecting import inspect
from facewright.workflows.judging import evaluate
from facewright.workflows.pairing import pairs
from facewright.workflows.predicting import predict
from facewright.workflows.running import resume, train
from facewright.workflows.strangers import calibrate_unknown
from facewright.workflows.sweeping import train_all
from facewright.workflows.vectors import embed
from facewright.workflows.verifying import verify

__all__ = [
    "Compared",
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
]
