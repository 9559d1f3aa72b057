"""The command `ablate`, from end to end: real trainings, in processes that are killed."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

# All cells that train are one program, which is compiled once for all tests.
STUDY = {
    "question": "Does it work?",
    "base": {
        "frames_per_step": 1,
        "response_frame": 1,
        "fps": 10,
        "max_episode_steps": 30,
        "num_envs": 2560,
        "net_arch": [8],
        "buffer_size": 25_600,
        "batch_size": 16,
        "gradient_steps": 2,
        "n_eval_episodes": 8,
        "eval_freq": 25_600,
    },
    "factors": {"spawn_angle_degrees": [20, 30, 40]},
    "seeds": 2,
    "budget": {"total_timesteps": 51_200},
    "evaluate": {"episodes": 8, "conditions": {"as trained": None, "slow": {"frames_per_step": 2}}},
}
FAILING = {
    "refused": {"response_frame": 5},
    "not finite": {"collision_penalty": -3e38},
    "too large": {"buffer_size": 2_000_000_000, "observation_mode": "topdown"},
}


DRIVER = """
import sys
from jaxdodge.ablate import ablate
from jaxdodge.cli import guarded

status = guarded(ablate, sys.argv[1:])
assert "jax" not in sys.modules
sys.exit(status)
"""


class Command:
    """The command in a folder; what it compiles is kept for the next one."""

    def __init__(self, folder: Path, compiled: Path):
        self.folder = folder
        self.environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": f"{compiled}",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_LOG_COMPILES": "1",
            "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": 2}),
        }

    def start(self, study: dict, out: str, *arguments: str, program: str | None = None) -> subprocess.Popen:
        file = self.folder / "study.yaml"
        file.write_text(yaml.safe_dump(study, sort_keys=False))
        what = ["-c", program] if program else ["-m", "jaxdodge.ablate"]
        return subprocess.Popen(
            [sys.executable, *what, str(file), "--out", str(self.folder / out), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, study: dict, out: str, *arguments: str) -> tuple[int, str, str]:
        process = self.start(study, out, *arguments)
        output, errors = process.communicate(timeout=600)
        return process.returncode, output, errors

    def scores(self, out: str) -> dict:
        """results.json without times and without what depends on the machine."""
        content = json.loads((self.folder / out / "results.json").read_text())
        for cell in content["cells"]:
            cell.pop("cost", None), cell.pop("hardware", None)
            for point in (point for curve in cell.get("curves", []) for point in curve):
                del point["seconds"]
        return content

    def cells(self, out: str) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (self.folder / out / "cells").glob("*.json")}


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Command:
    return Command(tmp_path_factory.mktemp("ablate"), tmp_path_factory.getbasetemp() / "compiled")


@pytest.fixture(scope="module")
def whole(command) -> dict:
    """Scores of the study, never stopped."""
    status, output, errors = command(STUDY, "whole")
    assert (status, errors) == (0, "")
    assert output.endswith(f"report: {command.folder / 'whole' / 'report.html'}\n")
    return command.scores("whole")


def wait_until(happened, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_study_leaves_its_report_and_nothing_large(command, whole):
    folder = command.folder / "whole"
    files = {"report.html", "report.md", "results.csv", "results.json", "figures", "cells", "runs"}
    assert files <= {path.name for path in folder.iterdir()}
    assert [cell["error"] for cell in whole["cells"]] == [None] * 3
    assert [len(cell["scores"]) for cell in whole["cells"]] == [2, 2, 2]
    assert len({score for cell in whole["cells"] for score in cell["scores"]}) == 6
    for cell in whole["cells"]:
        assert [point["timesteps"] for point in cell["curves"][0]] == [25_600, 51_200]
        means = [sum(each[seed]["mean"] for each in cell["evaluations"].values()) / 2 for seed in range(2)]
        assert cell["scores"] == pytest.approx(means)
    assert not list(folder.glob("runs/*/models/checkpoints"))
    log = (folder / "log.txt").read_text()
    assert "Traceback" not in log
    for name in ("epoch", "evaluate", "_play"):
        assert log.count(f"Compiling jit({name})") == 1


def test_killed_in_the_middle_it_ends_with_the_same_scores_and_repeats_nothing(command, whole):
    process = command.start(STUDY, "killed")
    wait_until(lambda: command.cells("killed"), process)
    process.kill()
    process.communicate()
    before = command.cells("killed")
    assert 1 <= len(before) < 3
    status, output, errors = command(STUDY, "killed")
    assert (status, errors) == (0, "")
    after = command.cells("killed")
    assert {name: after[name] for name in before} == before
    assert len(re.findall("begins", output)) == 3 - len(before)
    assert command.scores("killed") == whole

    # Once more: nothing to do. Another angle, another seed, another condition: only those.
    status, output, _ = command(STUDY, "killed")
    assert (status, output.count("begins")) == (0, 0)
    assert command.cells("killed") == after
    assert command.scores("killed") == whole
    more = STUDY | {"factors": {"spawn_angle_degrees": [20, 30, 40, 50]}}
    status, output, _ = command(more, "killed")
    assert (status, re.findall("(.*): begins", output)) == (0, ["spawn_angle_degrees 50"])
    assert {name: command.cells("killed")[name] for name in after} == after
    assert command.scores("killed")["cells"][:3] == whole["cells"]


def test_ctrl_c_is_orderly_and_the_same_command_goes_on(command, whole):
    process = command.start(STUDY, "stopped")
    wait_until(lambda: list((command.folder / "stopped" / "runs").glob("*/config.yaml")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "Ctrl-C: saving and stopping\n")
    assert not (command.folder / "stopped" / "report.html").exists()
    assert command(STUDY, "stopped")[0] == 0
    assert command.scores("stopped") == whole


def test_a_cell_that_fails_is_named_and_the_others_are_as_without_it(command, whole):
    cells = {f"{angle}": {"spawn_angle_degrees": angle} for angle in (20, 30, 40)} | FAILING
    study = STUDY | {"factors": {"cell": dict(sorted(cells.items(), reverse=True))}}
    status, output, errors = command(study, "failing")
    assert (status, errors) == (1, "")
    assert output.endswith("report.html; 3 cells failed\n")
    found = {cell["levels"]["cell"]: cell for cell in command.scores("failing")["cells"]}
    alone = {cell["levels"]["spawn_angle_degrees"]: cell for cell in whole["cells"]}
    for angle, cell in alone.items():
        assert found[angle]["scores"] == cell["scores"]
    report = (command.folder / "failing" / "report.md").read_text()
    for name, start in (
        (
            "refused",
            "response_frame: invalid value 5; expected a whole number, 0 <= value <= frames_per_step (1)",
        ),
        ("not finite", "reward is not finite from environment step "),
        ("too large", "buffer_size: invalid value 2000000000; memory: "),
    ):
        assert found[name]["error"].startswith(start)
        assert f"- cell {name}: {found[name]['error']}" in report
    # What is not finite would be so again; the others could have become possible.
    status, output, _ = command(study, "failing")
    assert (status, re.findall("(.*): begins", output)) == (1, ["cell too large"])


def computing(driver: subprocess.Popen) -> list[psutil.Process]:
    """Processes of Ray that are at a task."""
    found = []
    for each in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.name().startswith("ray::_compute"):
                found.append(each)
    return found


def test_on_ray_with_a_worker_killed_the_scores_are_the_same(command, whole):
    """The worker is killed in the middle of a cell; the driver stays without JAX to the end."""
    process = command.start(STUDY, "ray", "--ray", "local", program=DRIVER)
    runs = command.folder / "ray" / "runs"
    wait_until(lambda: list(runs.glob("*/config.yaml")), process)
    wait_until(lambda: len(computing(process)) == 2, process)
    workers = computing(process)
    started = psutil.Process(process.pid).children(recursive=True)
    (training, *_) = [each for each in workers if any("jaxlib" in map.path for map in each.memory_maps())]
    training.kill()
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert command.scores("ray") == whole
    assert sorted(re.findall("(.*): finished in", output)) == [cell["name"] for cell in whole["cells"]]
    assert not psutil.wait_procs(started, timeout=60)[1]

    # Nothing is left to do, here as there; and no process of Ray's is started for that.
    status, output, _ = command(STUDY, "ray")
    assert (status, output.count("begins")) == (0, 0)


def test_a_dry_run_says_what_it_will_take_and_the_study_can_use_what_it_compiled(command, whole):
    cells = {"20": {"spawn_angle_degrees": 20}, "40": {"spawn_angle_degrees": 40}} | FAILING
    study = STUDY | {"factors": {"cell": cells}}
    status, output, errors = command(study, "dry", "--dry-run")
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines[1] == "5 cells, 2 seeds each, 2 conditions"
    found = {line.split("  ")[0]: line for line in lines[3:-1]}
    assert [*found] == [f"cell {name}" for name in cells]
    row = r"cell \d+ +([\d,]+) MB +2 +(\S.*? s) +(\S.*? s) +(\S.*? s)$"
    memory, *times = re.match(row, found["cell 20"]).groups()
    assert int(memory.replace(",", "")) > 100
    # The same program: compiled once.
    assert re.match(row, found["cell 40"]).groups() == (memory, "0.0 s", *times[1:])
    assert re.match(r"cell refused +refused: response_frame: invalid value 5; ", found["cell refused"])
    assert re.match(r"cell too large +refused: buffer_size: 2000000000 ", found["cell too large"])
    assert lines[-1].startswith("in all, one after the other: ")
    left = [path.relative_to(command.folder / "dry").parts[0] for path in (command.folder / "dry").rglob("*")]
    assert {*left} <= {"compiled"}


def test_one_process_at_a_time(command, whole):
    process = command.start(STUDY | {"seeds": 3}, "whole")
    try:
        wait_until(lambda: "begins" in process.stdout.readline(), process)
        status, output, errors = command(STUDY, "whole")
        assert (status, output) == (2, "")
        assert (
            errors
            == f"{command.folder / 'whole'}: another process is at this study; expected another --out\n"
        )
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("study", "arguments", "refusal"),
    [
        (STUDY | {"seeds": 0}, [], r"study.yaml:\d+: seeds: invalid value 0; expected a whole number"),
        (STUDY, ["--full"], r"study.yaml:1: full: there is no such section"),
        (STUDY, ["--ray", "nowhere:1"], r"ray: 'nowhere:1': "),
        (STUDY, ["--cpus-per-cell", "0"], r"cpus_per_cell: invalid value 0.0; expected a number, 0 < value"),
        (STUDY, ["--out"], r".*--out"),
    ],
)
def test_a_refusal_is_one_line(command, study, arguments, refusal):
    status, _, errors = command(study, "refused", *arguments)
    assert status == 2
    assert errors.count("\n") == 1
    assert re.search(refusal, errors)
