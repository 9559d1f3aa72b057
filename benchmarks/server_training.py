"""`python -m benchmarks server_training`: learning from scratch on servers that fail.

Our servers run in lockstep, each behind a proxy, see `fleet_faults`. Every `every` steps a random
one is killed, stopped, or its next answer spoiled. At the end every stored transition is looked up
in the logs of the servers, and remaining processes are counted.
"""

import collections
import contextlib
import dataclasses
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from trained_servers import FAULTS, PROXY, check_stored, inject, proxies  # noqa: E402

GOAL = 900.0


@dataclasses.dataclass(frozen=True)
class Options:
    """Train on servers that fail; the exit status is 1 if a requirement is not met."""

    steps: int = 200_000
    """Steps of all servers together."""
    servers: int = 4
    """Servers."""
    every: int = 500
    """Mean number of steps per fault; 0 for none."""
    timeout: float = 1.0
    """Timeout of a response in seconds. A stopped server holds up the others for as long."""
    seed: int = 0
    """Seed of the faults."""
    arguments: str = ""
    """Further arguments of the training, separated by spaces."""


def run(options: Options) -> int:
    """Train, check and print; returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="training-") as name:
        folder, log = Path(name) / "orders", Path(name) / "log.jsonl"
        folder.mkdir()
        log.touch()
        server = f"{sys.executable} -m jaxdodge.serve --mode lockstep --http --port {{server_port}}"
        server += f" --frames-per-step 7 --response-frame 0 --log {log}"
        command = [sys.executable, "-m", "jaxdodge.train", "--results", f"{Path(name) / 'results'}"]
        command += ["--server-command", f"{PROXY} {folder} {options.timeout + 0.5} -- {server}"]
        command += ["--num-servers", f"{options.servers}", "--think-seconds", "0"]
        command += ["--timeout", f"{options.timeout}", "--max-restarts", "100000"]
        # The check needs every row. An episode's end is one more, and while the others are away one
        # server may play alone.
        rows = 2 * options.steps * options.servers
        command += ["--total-timesteps", f"{options.steps}", "--buffer-size", f"{rows}"]
        command += options.arguments.split()
        began = time.monotonic()
        training = subprocess.Popen(command)
        injected = _spoil(training, options, folder, log)
        seconds = time.monotonic() - began
        _, orphans = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=5)
        (trained,) = (Path(name) / "results" / "default").iterdir()
        stored = check_stored(trained, log)
        summary = json.loads((trained / "summary.json").read_text())
        best = summary["best_evaluation"]["mean"]
    print(f"faults: {sum(injected.values())} ({', '.join(f'{key} {n}' for key, n in injected.items())})")
    print(f"stored transitions, each true: {stored}; processes left: {len(orphans)}; {seconds:.0f} s")
    print(f"best return {best:.1f}, final {summary['final_evaluation']['mean']:.1f}")
    good = training.returncode == 0 and stored == options.steps and not orphans and best >= GOAL
    print("passed" if good else "FAILED")
    return 0 if good else 1


def _spoil(
    training: "subprocess.Popen[bytes]", options: Options, folder: Path, log: Path
) -> collections.Counter[str]:
    """Inject faults until the training ends; how many of each kind."""
    draw, injected, lines = random.Random(options.seed), collections.Counter[str](), 0
    due = draw.expovariate(1 / options.every) if options.every else float("inf")
    with log.open("rb") as answered:
        while training.poll() is None:
            time.sleep(0.05)
            lines += answered.read().count(b"\n")
            alive = proxies(folder)
            if lines > due and len(alive) == options.servers:
                due = lines + draw.expovariate(1 / options.every)
                fault = draw.choice(FAULTS)
                with contextlib.suppress(OSError):
                    inject(fault, folder, draw.choice(alive))
                    injected[fault] += 1
    return injected
