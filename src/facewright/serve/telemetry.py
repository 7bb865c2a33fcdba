"""The counts of `/metrics`, in Prometheus' text format. No label comes from a request's content."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})


class Telemetry:
    """The counts of one server."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "facewright_requests", "Requests answered", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "facewright_request_seconds", "From the head of a request to the end of its answer", ["route"],
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._batches = Histogram(
            "facewright_batch_size", "Images that passed a network together", ["kind"],
            buckets=SIZES, registry=self._registry,
        )  # fmt: skip
        queue = Gauge("facewright_waiting_jobs", "Jobs that wait for the networks", registry=self._registry)
        queue.set_function(waiting)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. Methods and routes that do not exist are counted together."""
        self._requests.labels(method if method in METHODS else "other", route or "other", str(status)).inc()
        self._seconds.labels(route or "other").observe(seconds)

    def computed(self, kind: str, size: int) -> None:
        """Count a batch."""
        self._batches.labels(kind).observe(size)

    def response(self) -> Response:
        """Return all counts."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
