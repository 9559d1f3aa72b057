"""Prometheus metrics and `/health` of one server process."""

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, Metric

from jaxdodge.server.arena import Arena

LATENCY_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)  # s


class Metrics:
    """Counters of requests, and at every scrape those of the arenas.

    Outcomes of a request: ok, refused (its content), failed (its form: no such route, too large, too slow).
    """

    def __init__(self, arenas: Sequence[Arena]):
        self.registry = CollectorRegistry()
        self._arenas = arenas
        self._requests = Counter(
            "jaxdodge_requests", "Answered requests.", ("arena", "route", "outcome"), registry=self.registry
        )
        self._latency = Histogram(
            "jaxdodge_request_seconds",
            "From a request's arrival to its answer.",
            ("route",),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self._children: dict[tuple[int, str, str], tuple[Any, Any]] = {}
        self.registry.register(self)

    def answered(self, arena: int, route: str, outcome: str, seconds: float) -> None:
        """Count a request."""
        key = (arena, route, outcome)
        if key not in self._children:
            self._children[key] = (self._requests.labels(*key), self._latency.labels(route))
        requests, latency = self._children[key]
        requests.inc()
        latency.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """What the arenas have counted, as Prometheus wants it."""
        for name, text in (
            ("frames", "Frames run."),
            ("late_frames", "Frames that were due before the one before them had ended."),
            ("episodes", "Resets, those of a configure included."),
            ("collisions", "Games that a projectile ended."),
        ):
            family = CounterMetricFamily(f"jaxdodge_{name}", text, labels=("arena",))
            for arena in self._arenas:
                family.add_metric([str(arena.number)], getattr(arena, name))
            yield family


def health(arenas: Sequence[Arena], mode: str) -> dict[str, Any]:
    """The answer to `/health`: sums over the arenas."""
    return {
        "status": "ok",
        "mode": mode,
        "frames": sum(arena.frames for arena in arenas),
        "late_frames": sum(arena.late_frames for arena in arenas),
    }
