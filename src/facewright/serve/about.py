"""What a server says of itself."""

from __future__ import annotations

from typing import Any

from facewright import __version__
from facewright.decision import Decision
from facewright.gallery.calibration import GalleryThreshold
from facewright.serve.service import Service, threaded
from facewright.serve.settings import Limits


async def about(service: Service, limits: Limits) -> dict[str, Any]:
    """As `/v1/about` has it."""
    models = service.models
    recognizer, classifier = models.recognizer, models.classifier
    spec = recognizer.spec if classifier is None else classifier.spec
    model = {
        "name": models.name,
        "kind": "embedder" if classifier is None else "classifier",
        "fingerprint": recognizer.fingerprint,
        "detector": recognizer.detector_name,
        "runtime": models.runtime,
        "classes": [] if classifier is None else list(classifier.classes),
        "input": {"height": spec.height, "width": spec.width},
    }
    can = {
        "predict": classifier is not None,
        "verify": True,
        "faces": True,
        "embed": True,
        "explain": True,
        "explain_class": classifier is not None and models.runtime == "pytorch",
        "gallery": models.gallery is not None,
        "write": models.gallery is not None,
    }
    decision = recognizer.decision()
    return {
        "version": __version__,
        "model": model,
        "can": can,
        "threshold": None if decision is None else _threshold(decision),
        "gallery": await _gallery(service),
        "limits": {"bytes": limits.bytes, "pixels": limits.pixels, "photos": limits.photos},
    }


def gallery_threshold(kept: GalleryThreshold | None) -> dict[str, Any] | None:
    """When somebody is unknown, as answers have it."""
    if kept is None:
        return None
    return {
        "value": kept.threshold.value,
        "fpir_target": kept.threshold.far_target,
        "people": kept.people,
        "entries": kept.entries,
        "few_people": kept.few_people,
    }


async def _gallery(service: Service) -> dict[str, Any] | None:
    gallery = service.models.gallery
    if gallery is None:
        return None
    people = await threaded(gallery.people)
    kept = await threaded(lambda: gallery.threshold)
    return {"people": len(people), "entries": sum(people.values()), "threshold": gallery_threshold(kept)}


def _threshold(decision: Decision) -> dict[str, Any]:
    facts = decision.threshold.to_dict()
    histograms = None if decision.histograms is None else decision.histograms.to_dict()
    return facts | {"histograms": histograms}
