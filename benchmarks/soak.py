"""`python -m benchmarks soak`: a million image requests without error or memory growth."""

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal

from benchmarks.server_process import started
from jaxdodge.bevy import connect
from jaxdodge.hardware import hardware

FIELDS = {"level": 2, "action_space_type": "discrete", "observation_mode": "topdown"}
LARGEST_GROWTH = 0.05
# Share of the requests that fill pools and caches before the memory is compared.
WARM_UP = 0.02


@dataclasses.dataclass(frozen=True)
class Options:
    """Send image requests to one server; fail on errors, unrequested resets and growing memory.

    Ctrl-C ends it early and reports the requests so far.
    """

    requests: int = 1_000_000
    """Steps with images of 256 x 256 x 3."""
    transport: Literal["http", "grpc"] = "grpc"
    """Of the requests."""
    out: Path | None = None
    """Write the figures as JSON to this file."""


def resident_bytes(process: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(requests: int, transport: str) -> dict[str, Any]:
    """Step so often; returns the counts, and the memory after every hundredth of the requests."""
    flags = {"http": ("--http", "--port", "0"), "grpc": ("--grpc-port", "0")}[transport]
    result: dict[str, Any] = {"requests": 0, "resets": 0, "unasked_resets": 0}
    memory: list[tuple[int, int]] = []
    with started(*flags, "--mode", "lockstep", addresses=1) as server:
        client = connect(server.urls[0], timeout=60)
        client.configure(**FIELDS)
        client.reset()
        steps, start = 0, time.perf_counter()
        try:
            for request in range(requests):
                answer = client.step(request % 5)
                steps += 1
                assert answer.image is not None
                assert answer.image.shape == (256, 256, 3)
                result["requests"] += 1
                result["unasked_resets"] += answer.episode_steps != steps
                if answer.terminated or answer.truncated:
                    client.reset()
                    result["resets"] += 1
                    steps = 0
                if request % max(1, requests // 100) == 0:
                    memory.append((request, resident_bytes(server.process.pid)))
                    rate = (request + 1) / (time.perf_counter() - start)
                    print(
                        f"{request:>9,} of {requests:,} requests  {rate:5.0f}/s  "
                        f"{memory[-1][1] / 1e6:6.1f} MB  {result['resets']:,} resets",
                        flush=True,
                    )
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
        seconds = time.perf_counter() - start
        memory.append((result["requests"], resident_bytes(server.process.pid)))
    warm = next(size for request, size in memory if request >= WARM_UP * result["requests"])
    return {
        **result,
        "requests_per_second": result["requests"] / seconds,
        "memory_growth": memory[-1][1] / warm - 1,
        "memory": memory,
    }


def run(options: Options) -> int:
    """Measure, print and write; returns the exit status."""
    result = soak(options.requests, options.transport)
    passed = result["memory_growth"] <= LARGEST_GROWTH and not result["unasked_resets"]
    print(
        f"{result['requests']:,} requests over {options.transport}, {result['requests_per_second']:.0f}/s: "
        f"memory {result['memory_growth']:+.2%}, {result['unasked_resets']} unrequested resets, no error: "
        f"{'passed' if passed else 'FAILED'}"
    )
    if options.out is not None:
        document = {"hardware": hardware(), "transport": options.transport, **result}
        options.out.write_text(json.dumps(document) + "\n", encoding="utf-8")
    return 0 if passed else 1
