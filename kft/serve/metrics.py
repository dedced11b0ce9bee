"""What a server reports to Prometheus."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self, waiting: Callable[[], int], version: Callable[[], int]):
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("kft_requests", "Requests", ["method", "status"], registry=registry)
        self._seconds = Histogram(
            "kft_request_seconds", "Time from a request's head to its answer", ["method"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._rows = Histogram("kft_batch_rows", "Texts of a model call", buckets=_ROWS, registry=registry)
        self._calls = Histogram(
            "kft_model_call_seconds", "Time of a model call", buckets=_SECONDS, registry=registry
        )
        Gauge("kft_queue_rows", "Texts that wait", registry=registry).set_function(waiting)
        Gauge("kft_model_version", "Version served, 0 for none", registry=registry).set_function(version)

    def request(self, method: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, str(status)).inc()
        self._seconds.labels(method).observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        """The model was called."""
        self._rows.observe(rows)
        self._calls.observe(seconds)

    def text(self) -> Any:
        """All of them in Prometheus's text format."""
        return generate_latest(self._registry)
