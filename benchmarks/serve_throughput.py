"""`python -m benchmarks serve_throughput`: the server's steps per second, and late frames."""

import dataclasses
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

from benchmarks.server_process import started
from jaxdodge.bevy import connect
from jaxdodge.bevy.client import Client
from jaxdodge.hardware import hardware

ORIGINAL = 57  # steps/s of the original at 60 fps, over HTTP
REPEATS = 5
IMAGE = {"observation_mode": "topdown"}
OBSERVATIONS: dict[str, dict[str, Any]] = {
    "vector": {"observation_mode": "standard"},
    "84x84x1": {**IMAGE, "image_obs_width": 84, "image_obs_height": 84, "image_grayscale": True},
    "256x256x3": {**IMAGE, "image_obs_width": 256, "image_obs_height": 256, "image_grayscale": False},
}
ARENAS = (1, 8, 16)


@dataclasses.dataclass(frozen=True)
class Options:
    """Measure steps per second with one client, and how many frames of many arenas are late."""

    seconds: float = 5.0
    """Time per row."""
    out: Path | None = None
    """Write the figures as JSON to this file."""


def steps_per_second(client: Client, seconds: float) -> float:
    """Play for so long, with a reset after every episode."""
    client.reset()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        if client.step([0.5, -0.5, 0.0]).terminated:
            client.reset()
        count += 1
    return count / (time.perf_counter() - start)


def measure_lockstep(seconds: float) -> list[dict[str, Any]]:
    """A row per transport and observation."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        transports = ("--http", "--port", "0", "--grpc-port", "0", "--socket-path", f"{folder}/game.sock")
        with started(*transports, "--mode", "lockstep", addresses=3) as server:
            for url in server.urls:
                client = connect(url, timeout=60)
                for name, fields in OBSERVATIONS.items():
                    client.configure(level=2, action_space_type="basic_3d", **fields)
                    steps_per_second(client, seconds / 5)
                    rates = [steps_per_second(client, seconds / REPEATS) for _ in range(REPEATS)]
                    transport = url.split(":")[0]
                    rows.append({"transport": transport, "observation": name, "rates": rates})
                    median = statistics.median(rates)
                    times = f"{median / ORIGINAL:5.1f} times the original"
                    print(f"{transport:5} {name:10} {median:7.0f} steps/s  {times}", flush=True)
                client.close()
    return rows


def measure_realtime(seconds: float) -> list[dict[str, Any]]:
    """Frames per second and late frames of arenas at level 2 without clients."""
    rows = []
    for arenas in ARENAS:
        flags = ("--http", "--port", "0", "--metrics-port", "0", "--arenas", str(arenas))
        with started(*flags, addresses=arenas + 1) as server:
            for url in server.urls[:-1]:
                connect(url).set_level(2)
            health = server.urls[-1].replace("/metrics", "/health")
            before, start = requests.get(health, timeout=60).json(), time.perf_counter()
            used = _cpu_seconds(server.process.pid)
            time.sleep(seconds * 2)
            used = _cpu_seconds(server.process.pid) - used
            after, elapsed = requests.get(health, timeout=60).json(), time.perf_counter() - start
            frames = after["frames"] - before["frames"]
            row = {
                "arenas": arenas,
                "frames_per_second": frames / elapsed / arenas,
                "late_share": (after["late_frames"] - before["late_frames"]) / frames,
                "cores_busy": used / elapsed,
            }
            rows.append(row)
            print(
                f"realtime, {arenas:2} arenas: {row['frames_per_second']:.2f} frames/s each, "
                f"{row['late_share']:.2%} late, {row['cores_busy']:.0%} of a core",
                flush=True,
            )
    return rows


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(options: Options) -> int:
    """Measure, print and write; returns the exit status."""
    document = {
        "hardware": {**hardware(), "cores_used": len(os.sched_getaffinity(0))},
        "original_steps_per_second": ORIGINAL,
        "lockstep": measure_lockstep(options.seconds),
        "realtime": measure_realtime(options.seconds),
    }
    if options.out is not None:
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0
