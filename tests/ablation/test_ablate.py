"""The command `ablate` with real trainings; the slow tier interrupts and kills its processes."""

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

from jaxdodge.ablate import ablate
from jaxdodge.ablation import dry_run
from jaxdodge.cli import guarded
from jaxdodge.locks import locked

# All cells share one program, which is compiled once for all tests.
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
    "factors": {"spawn_angle_degrees": [20, 30]},
    "seeds": 2,
    "budget": {"total_timesteps": 51_200},
    "evaluate": {"episodes": 8, "conditions": {"as trained": None, "slow": {"frames_per_step": 2}}},
}
FAILING = {
    "refused": {"response_frame": 5},
    "not finite": {"collision_penalty": -3e38},
    "too large": {"buffer_size": 1_000_000_000, "observation_mode": "topdown"},
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
    """Runs the command in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = os.environ | {
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
        """results.json without times and hardware."""
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
    return Command(tmp_path_factory.mktemp("ablate"))


def in_this_process(command: Command, study: dict, out: str, *arguments: str) -> int:
    """The exit status of the command, run without a process of its own."""
    file = command.folder / "study.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    return guarded(ablate, [str(file), "--out", str(command.folder / out), *arguments])


CELLS = {f"{angle}": {"spawn_angle_degrees": angle} for angle in STUDY["factors"]["spawn_angle_degrees"]}
WITH_FAILURES = STUDY | {"factors": {"cell": dict(sorted((CELLS | FAILING).items(), reverse=True))}}


@pytest.fixture(scope="module")
def failing(command) -> tuple[str, dict]:
    """Output and results of a study in which three of five cells fail."""
    status, output, errors = command(WITH_FAILURES, "failing")
    assert (status, errors) == (1, "")
    return output, command.scores("failing")


@pytest.fixture(scope="module")
def whole(command) -> dict:
    """Results of the study without interruption."""
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


@pytest.mark.slow
def test_a_study_writes_its_report_and_keeps_no_checkpoints(command, failing):
    folder = command.folder / "failing"
    files = {"report.html", "report.md", "results.csv", "results.json", "figures", "cells", "runs"}
    assert files <= {path.name for path in folder.iterdir()}
    cells = [cell for cell in failing[1]["cells"] if cell["error"] is None]
    assert [len(cell["scores"]) for cell in cells] == [2, 2]
    assert len({score for cell in cells for score in cell["scores"]}) == 4
    for cell in cells:
        assert [point["timesteps"] for point in cell["curves"][0]] == [0, 25_600, 51_200]
        means = [sum(each[seed]["mean"] for each in cell["evaluations"].values()) / 2 for seed in range(2)]
        assert cell["scores"] == pytest.approx(means)
        assert not list(folder.glob(f"runs/{cell['key']}.*/models/checkpoints"))
    log = (folder / "log.txt").read_text()
    assert "Traceback" not in log
    for name in ("epoch", "evaluate", "_play"):
        assert log.count(f"Compiling jit({name})") == 1


@pytest.mark.slow
def test_failed_cells_are_named(command, failing):
    output, results = failing
    assert output.endswith("report.html; 3 cells failed\n")
    errors = {cell["levels"]["cell"]: cell["error"] for cell in results["cells"]}
    assert [name for name, error in errors.items() if error is None] == ["30", "20"]
    report = (command.folder / "failing" / "report.md").read_text()
    for name, start in (
        (
            "refused",
            "response_frame: invalid value 5; expected a whole number, 0 <= value <= frames_per_step (1)",
        ),
        ("not finite", "reward is not finite from environment step "),
        ("too large", "buffer_size: invalid value 1000000000; memory: "),
    ):
        assert errors[name].startswith(start)
        assert f"- cell {name}: {errors[name]}" in report


@pytest.mark.slow
def test_finished_cells_are_not_computed_again(command, failing, capsys):
    """The same cells under other names, and one of them with a result that diverged."""
    factors = {"angle": CELLS | {"not finite": FAILING["not finite"]}}
    before = command.cells("failing")
    assert in_this_process(command, STUDY | {"factors": factors}, "failing") == 1
    assert capsys.readouterr().out.count("started") == 0
    assert command.cells("failing") == before
    scores = [cell.get("scores") for cell in command.scores("failing")["cells"]]
    own = {cell["levels"]["cell"]: cell.get("scores") for cell in failing[1]["cells"]}
    assert scores == [own["20"], own["30"], None]


def test_one_process_at_a_time(command, capsys):
    with locked(command.folder / "locked", ""):
        assert in_this_process(command, STUDY, "locked") == 2
    expected = f"{command.folder / 'locked'}: in use by another process; expected another --out\n"
    assert capsys.readouterr() == ("", expected)


@pytest.mark.slow
@pytest.mark.nightly
def test_scores_do_not_depend_on_the_other_cells(failing, whole):
    alone = {cell["levels"]["spawn_angle_degrees"]: cell["scores"] for cell in whole["cells"]}
    found = {cell["levels"]["cell"]: cell.get("scores") for cell in failing[1]["cells"]}
    assert {name: found[name] for name in alone} == alone


@pytest.mark.slow
def test_only_failures_that_may_have_passed_are_tried_again(command, failing):
    """A divergence would repeat; memory may have become available."""
    status, output, _ = command(WITH_FAILURES, "failing")
    assert (status, re.findall("(.*): started", output)) == (1, ["cell too large"])


@pytest.mark.slow
def test_a_killed_study_resumes_with_the_same_scores(command, whole):
    """It resumes with a further cell."""
    process = command.start(STUDY, "killed")
    wait_until(lambda: command.cells("killed"), process)
    process.kill()
    process.communicate()
    before = command.cells("killed")
    assert len(before) == 1
    more = STUDY | {"factors": {"spawn_angle_degrees": [20, 30, 50]}}
    status, output, errors = command(more, "killed")
    assert (status, errors) == (0, "")
    after = command.cells("killed")
    assert {name: after[name] for name in before} == before
    assert len(re.findall("started", output)) == 2
    assert command.scores("killed")["cells"][:2] == whole["cells"]


@pytest.mark.slow
@pytest.mark.nightly
def test_a_study_stopped_by_ctrl_c_resumes_with_the_same_scores(command, whole):
    process = command.start(STUDY, "stopped")
    wait_until(lambda: list((command.folder / "stopped" / "runs").glob("*/config.yaml")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "Ctrl-C: saving and stopping\n")
    assert not (command.folder / "stopped" / "report.html").exists()
    assert command(STUDY, "stopped")[0] == 0
    assert command.scores("stopped") == whole


def computing(driver: subprocess.Popen) -> list[psutil.Process]:
    """Processes of Ray that compute a task."""
    found = []
    for each in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.name().startswith("ray::_compute"):
                found.append(each)
    return found


@pytest.mark.slow
@pytest.mark.nightly
def test_on_ray_with_a_killed_worker_the_scores_are_the_same(command, whole):
    """The driver never imports JAX."""
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


def test_a_dry_run_estimates_and_leaves_nothing(command):
    study = STUDY | {"factors": {"cell": CELLS | FAILING}}
    status, output, errors = command(study, "dry", "--dry-run")
    assert status == 0, errors
    lines = output.splitlines()
    assert lines[1] == "5 cells, 2 seeds each, 2 conditions"
    found = {line.split("  ")[0]: line for line in lines[3:-2]}
    assert [*found] == [f"cell {name}" for name in (*CELLS, *FAILING)]
    row = r"cell \d+ +~([\d,]+) MB +2 +~(\S.*? s) +~(\S.*? s)$"
    memory, training, evaluation = re.match(row, found["cell 20"]).groups()
    assert int(memory.replace(",", "")) > 100
    # The same program: its compilation is counted once.
    again = re.match(row, found["cell 30"]).groups()
    assert (again[0], again[2]) == (memory, evaluation)
    assert float(training.split()[0]) - float(again[1].split()[0]) == pytest.approx(dry_run.COMPILING)
    assert re.match(r"cell refused +invalid: response_frame: invalid value 5; ", found["cell refused"])
    assert re.match(
        r"cell too large +invalid: buffer_size: invalid value 1000000000", found["cell too large"]
    )
    assert lines[-2].startswith("total, one cell after another: ~")
    assert lines[-1] == dry_run.NOTE
    assert not (command.folder / "dry").exists()


@pytest.mark.parametrize(
    ("study", "arguments", "message"),
    [
        (STUDY | {"seeds": 0}, [], r"study.yaml:\d+: seeds: invalid value 0; expected a whole number"),
        (STUDY, ["--full"], r"study.yaml:1: full: no such section"),
        pytest.param(STUDY, ["--ray", "nowhere:1"], r"ray: 'nowhere:1': ", marks=pytest.mark.slow),
        (STUDY, ["--cpus-per-cell", "0"], r"cpus_per_cell: invalid value 0.0; expected a number, 0 < value"),
        (STUDY, ["--out"], r"out: missing; expected a value"),
    ],
)
def test_an_error_is_one_line(command, study, arguments, message, capsys):
    try:
        status = in_this_process(command, study, "invalid", *arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert re.search(message, errors)
