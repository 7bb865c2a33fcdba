"""Train, evaluate and use face classifiers and verifiers: what the command line does, with the same names.

    import facewright as fw

    data = fw.open_dataset("photos/")
    run = fw.train(data, model="resnet50", recipe="scratch")
    print(run.evaluation.accuracy)
    fw.compare([run, other]).to_html("report.html")

A name is imported when it is first used: `import facewright` alone is quick and loads no torch. In every function
`device` is what computes, as for `train`, and `on_event` receives messages and progress (`facewright.events`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facewright.public_names import lazy_names

if TYPE_CHECKING:
    from facewright.data.cache import cache_clear as clear_cache
    from facewright.data.cache import cache_entries
    from facewright.data.cache import cache_verify as verify_cache
    from facewright.data.records import Dataset
    from facewright.data.sources import open_dataset
    from facewright.embedding import Embedder
    from facewright.errors import FacewrightError
    from facewright.gallery.gallery import Gallery
    from facewright.gallery.results import Photo
    from facewright.images import as_image
    from facewright.inference import Classifier
    from facewright.models.catalog import create_model
    from facewright.models.catalog import describe as describe_model
    from facewright.models.catalog import names as model_names
    from facewright.models.conversion import convert as convert_weights
    from facewright.models.released import released as known_weights
    from facewright.models.weights import get_weights
    from facewright.recognition import Recognizer
    from facewright.recognition.networks import read_defaults, set_default
    from facewright.regression.run import fit
    from facewright.runs import Run
    from facewright.training.recipe import load as load_recipe
    from facewright.training.recipe import names as recipe_names
    from facewright.workflows.calibration import calibrate, calibrate_unknown
    from facewright.workflows.clusters import change_clusters
    from facewright.workflows.clusters import cluster_photos as cluster
    from facewright.workflows.comparison import compare
    from facewright.workflows.diagnosis import doctor
    from facewright.workflows.dry_runs import dry_run, find_learning_rate
    from facewright.workflows.embeddings import embed
    from facewright.workflows.estimators import FaceClassifier, FaceVerifier
    from facewright.workflows.evaluation import evaluate
    from facewright.workflows.explanation import explain, explain_pair
    from facewright.workflows.exportation import export
    from facewright.workflows.face_detection import faces as detect_faces
    from facewright.workflows.face_detection import write_faces
    from facewright.workflows.face_scan import scan
    from facewright.workflows.galleries import enroll, export_gallery, identify, import_gallery
    from facewright.workflows.inspection import export_dataset, inspect
    from facewright.workflows.label_issues import find_label_issues
    from facewright.workflows.model_card import model_card, pull, push
    from facewright.workflows.model_import import import_model
    from facewright.workflows.pair_evaluation import pairs
    from facewright.workflows.prediction import fill_template, predict
    from facewright.workflows.recipe_search import search
    from facewright.workflows.training_runs import demo, resume, train, train_all
    from facewright.workflows.verification import verify
    from facewright.workflows.verification_benchmark import benchmark
    from facewright.workflows.watching import watch

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "Dataset",
    "Embedder",
    "FaceClassifier",
    "FaceVerifier",
    "FacewrightError",
    "Gallery",
    "Photo",
    "Recognizer",
    "Run",
    "as_image",
    "benchmark",
    "cache_entries",
    "calibrate",
    "calibrate_unknown",
    "change_clusters",
    "clear_cache",
    "cluster",
    "compare",
    "convert_weights",
    "create_model",
    "demo",
    "describe_model",
    "detect_faces",
    "doctor",
    "dry_run",
    "embed",
    "enroll",
    "evaluate",
    "explain",
    "explain_pair",
    "export",
    "export_dataset",
    "export_gallery",
    "fill_template",
    "find_label_issues",
    "find_learning_rate",
    "fit",
    "get_weights",
    "identify",
    "import_gallery",
    "import_model",
    "inspect",
    "known_weights",
    "load_recipe",
    "model_card",
    "model_names",
    "open_dataset",
    "pairs",
    "predict",
    "pull",
    "push",
    "read_defaults",
    "recipe_names",
    "resume",
    "scan",
    "search",
    "set_default",
    "train",
    "train_all",
    "verify",
    "verify_cache",
    "watch",
    "write_faces",
]

_load = lazy_names(
    __name__,
    {
        "facewright.data.cache": "cache_entries clear_cache=cache_clear verify_cache=cache_verify",
        "facewright.data.records": "Dataset",
        "facewright.data.sources": "open_dataset",
        "facewright.embedding": "Embedder",
        "facewright.errors": "FacewrightError",
        "facewright.gallery.gallery": "Gallery",
        "facewright.gallery.results": "Photo",
        "facewright.images": "as_image",
        "facewright.inference": "Classifier",
        "facewright.models.catalog": "create_model describe_model=describe model_names=names",
        "facewright.models.conversion": "convert_weights=convert",
        "facewright.models.released": "known_weights=released",
        "facewright.models.weights": "get_weights",
        "facewright.recognition": "Recognizer",
        "facewright.recognition.networks": "read_defaults set_default",
        "facewright.regression.run": "fit",
        "facewright.training.recipe": "load_recipe=load recipe_names=names",
        "facewright.runs": "Run",
        "facewright.workflows.calibration": "calibrate calibrate_unknown",
        "facewright.workflows.clusters": "change_clusters cluster=cluster_photos",
        "facewright.workflows.comparison": "compare",
        "facewright.workflows.diagnosis": "doctor",
        "facewright.workflows.dry_runs": "dry_run find_learning_rate",
        "facewright.workflows.embeddings": "embed",
        "facewright.workflows.estimators": "FaceClassifier FaceVerifier",
        "facewright.workflows.evaluation": "evaluate",
        "facewright.workflows.explanation": "explain explain_pair",
        "facewright.workflows.exportation": "export",
        "facewright.workflows.face_detection": "detect_faces=faces write_faces",
        "facewright.workflows.face_scan": "scan",
        "facewright.workflows.galleries": "enroll export_gallery identify import_gallery",
        "facewright.workflows.inspection": "export_dataset inspect",
        "facewright.workflows.label_issues": "find_label_issues",
        "facewright.workflows.model_card": "model_card pull push",
        "facewright.workflows.model_import": "import_model",
        "facewright.workflows.pair_evaluation": "pairs",
        "facewright.workflows.prediction": "fill_template predict",
        "facewright.workflows.recipe_search": "search",
        "facewright.workflows.training_runs": "demo resume train train_all",
        "facewright.workflows.verification": "verify",
        "facewright.workflows.verification_benchmark": "benchmark",
        "facewright.workflows.watching": "watch",
    },
)


def __getattr__(name: str) -> object:
    if name in __all__:
        from facewright.platforms import calm_threads

        calm_threads()  # before one of the names loads PyTorch; importing the package changes nothing
    return _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
