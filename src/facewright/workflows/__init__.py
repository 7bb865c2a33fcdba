"""The main jobs end to end, one file a job: open → split → train → evaluate → report; compare; predict; inspect.

>>> import facewright as fw                                                            # doctest: +SKIP
>>> run = fw.train("synthetic:faces?identities=5&images=20", model="resnet18")         # doctest: +SKIP
>>> run.evaluation.accuracy                                                            # doctest: +SKIP
Rate(value=0.85, low=0.64, high=0.95, n=20)
"""

from typing import TYPE_CHECKING

from facewright.lazy import lazy_names

if TYPE_CHECKING:
    from facewright.runs import Run
    from facewright.workflows.calibration import calibrate, calibrate_unknown
    from facewright.workflows.comparison import Compared, compare
    from facewright.workflows.demonstration import demo
    from facewright.workflows.dry_runs import dry_run, find_learning_rate
    from facewright.workflows.embeddings import embed
    from facewright.workflows.evaluation import evaluate
    from facewright.workflows.inspection import inspect
    from facewright.workflows.pair_evaluation import pairs
    from facewright.workflows.prediction import predict
    from facewright.workflows.recipe_search import search
    from facewright.workflows.sweeps import train_all
    from facewright.workflows.training_runs import resume, train
    from facewright.workflows.verification import verify
    from facewright.workflows.verification_benchmark import Benchmark, benchmark

__all__ = [
    "Benchmark",
    "Compared",
    "Run",
    "benchmark",
    "calibrate",
    "calibrate_unknown",
    "compare",
    "demo",
    "dry_run",
    "embed",
    "evaluate",
    "find_learning_rate",
    "inspect",
    "pairs",
    "predict",
    "resume",
    "search",
    "train",
    "train_all",
    "verify",
]

__getattr__ = lazy_names(
    __name__,
    {
        "facewright.runs": "Run",
        "facewright.workflows.verification_benchmark": "Benchmark benchmark",
        "facewright.workflows.calibration": "calibrate calibrate_unknown",
        "facewright.workflows.comparison": "Compared compare",
        "facewright.workflows.demonstration": "demo",
        "facewright.workflows.dry_runs": "dry_run find_learning_rate",
        "facewright.workflows.inspection": "inspect",
        "facewright.workflows.evaluation": "evaluate",
        "facewright.workflows.pair_evaluation": "pairs",
        "facewright.workflows.recipe_search": "search",
        "facewright.workflows.prediction": "predict",
        "facewright.workflows.training_runs": "resume train",
        "facewright.workflows.sweeps": "train_all",
        "facewright.workflows.embeddings": "embed",
        "facewright.workflows.verification": "verify",
    },
)
