"""Prometheus metrics and `/health` of one server process."""

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, Metric

from jaxdodge.server.served_env import ServedEnv

LATENCY_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)  # s


class Metrics:
    """Counters of requests, and at every scrape those of the environments.

    Outcomes of a request: ok; refused (invalid content); failed (no
    such route, too large, too slow).
    """

    def __init__(self, envs: Sequence[ServedEnv]):
        self.registry = CollectorRegistry()
        self._envs = envs
        self._requests = Counter(
            "jaxdodge_requests", "Answered requests.", ("arena", "route", "outcome"), registry=self.registry
        )
        self._latency = Histogram(
            "jaxdodge_request_seconds",
            "From a request's arrival to its response.",
            ("route",),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self._children: dict[tuple[int, str, str], tuple[Any, Any]] = {}
        self.registry.register(self)

    def count(self, env: int, route: str, outcome: str, seconds: float) -> None:
        """Count a request and its latency."""
        key = (env, route, outcome)
        if key not in self._children:
            self._children[key] = (self._requests.labels(*key), self._latency.labels(route))
        requests, latency = self._children[key]
        requests.inc()
        latency.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """The counters of the environments; Prometheus calls this at every scrape."""
        for name, text in (
            ("frames", "Frames run."),
            ("late_frames", "Frames due before the frame before them had ended."),
            ("episodes", "Resets, including those of a configure."),
            ("collisions", "Episodes that a projectile ended."),
        ):
            family = CounterMetricFamily(f"jaxdodge_{name}", text, labels=("arena",))
            for env in self._envs:
                family.add_metric([str(env.number)], getattr(env, name))
            yield family


def health(envs: Sequence[ServedEnv], mode: str) -> dict[str, Any]:
    """The response of `/health`: sums over the environments."""
    return {
        "status": "ok",
        "mode": mode,
        "frames": sum(env.frames for env in envs),
        "late_frames": sum(env.late_frames for env in envs),
    }
