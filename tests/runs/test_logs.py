"""Logs: everything is written twice, a run that goes back takes back what it will write again."""

import contextlib
import json
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.runs.folder import Run
from jaxdodge.runs.logs import Log, plot

GAME = GameConfig(action_space_type="basic_3d")


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path, "name", GAME, TrainConfig())


def write(run: Run, steps: list[int], start: int = 0, value: float = 0.5) -> None:
    log = Log(run, start)
    for step in steps:
        log.write({"timesteps": step, "mean": step / 2, "std": 1.0}, {"training/value": value})
    log.close()


def lines(run: Run) -> list[dict]:
    return [json.loads(line) for line in metrics(run).read_text().splitlines()]


def metrics(run: Run) -> Path:
    return run.folder / "logs" / "metrics.jsonl"


def events(run: Run) -> list[Event]:
    """Of all TensorBoard files, oldest first. A record is its length (8 bytes), 4, itself, 4."""
    found = []
    for path in sorted((run.folder / "logs").glob("events.*")):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def test_an_evaluation_is_written_as_a_line_and_for_tensorboard(run):
    write(run, [100, 200])
    assert lines(run)[1] == {
        "timesteps": 200,
        "evaluation/mean": 100.0,
        "evaluation/std": 1.0,
        "training/value": 0.5,
    }
    scalars = {
        (event.step, value.tag): value.simple_value for event in events(run) for value in event.summary.value
    }
    assert scalars == {
        (step, tag): value
        for step in (100, 200)
        for tag, value in (("evaluation/mean", step / 2), ("evaluation/std", 1.0), ("training/value", 0.5))
    }


def test_what_came_after_the_start_is_taken_back(run):
    write(run, [100, 200, 300])
    write(run, [300, 400], start=200, value=0.7)
    assert [(line["timesteps"], line["training/value"]) for line in lines(run)] == [
        (100, 0.5),
        (200, 0.5),
        (300, 0.7),
        (400, 0.7),
    ]
    # TensorBoard forgets what came from this step on when it reads that a run has started there.
    starts = [event.step for event in events(run) if event.session_log.status == SessionLog.START]
    assert starts[-1] == 201
    assert [path.name for path in (run.folder / "logs").glob("*.partial")] == []


def test_a_line_that_a_killed_process_left_unfinished_is_dropped(run):
    write(run, [100, 200, 300])
    metrics(run).write_text(metrics(run).read_text()[:-10])
    write(run, [], start=300)
    assert [line["timesteps"] for line in lines(run)] == [100, 200]
    write(run, [300], start=200)
    assert [line["timesteps"] for line in lines(run)] == [100, 200, 300]


def test_a_run_that_starts_anew_forgets_everything(run):
    write(run, [100])
    write(run, [])
    assert lines(run) == []


def test_a_run_that_branches_off_has_the_log_up_to_there(run, tmp_path):
    write(run, [100, 200, 300])
    before = metrics(run).read_bytes()
    branch = Run.create(tmp_path, "name", GAME, TrainConfig())
    branch.copy_logs(run, TrainConfig())
    write(branch, [300], start=200, value=0.9)
    assert [(line["timesteps"], line["training/value"]) for line in lines(branch)] == [
        (100, 0.5),
        (200, 0.5),
        (300, 0.9),
    ]
    assert metrics(run).read_bytes() == before


def test_curves_are_drawn_of_one_run_and_of_several(tmp_path):
    config = TrainConfig(seeds=3)
    run = Run.create(tmp_path, "name", GAME, config)
    parts = run.seed_runs(config)
    for part, steps in zip(parts, ([100, 200, 300], [100, 200], [100, 200]), strict=True):
        write(part, steps)
    plot(parts, run)
    for each in (run, *parts):
        image = matplotlib.image.imread(each.folder / "plots" / "learning_curves.png")
        assert image[..., :3].std() > 0


def test_without_an_evaluation_nothing_is_drawn(run):
    write(run, [])
    assert list((run.folder / "plots").iterdir()) == []


def test_what_a_full_disk_refuses_is_written_when_there_is_space_again(run):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = Log(run)
    for step in range(1, 6):
        space = limits[0] if step == 5 else 10
        resource.setrlimit(resource.RLIMIT_FSIZE, (space, limits[1]))
        try:
            with contextlib.nullcontext() if step == 5 else pytest.raises(OSError, match="File too large"):
                log.write({"timesteps": step, "mean": 0.5, "std": 1.0}, {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.close()
    assert [line["timesteps"] for line in lines(run)] == [1, 2, 3, 4, 5]
    assert [event.step for event in events(run) if event.summary.value] == [1, 2, 3, 4, 5]


def test_weights_and_biases_gets_the_same_figures_and_a_resumed_run_goes_on(run, monkeypatch):
    started, logged = [], []

    class FakeRun:
        def log(self, figures, step):
            logged.append((step, figures))

        def finish(self):
            logged.append("finished")

    def init(**options):
        started.append(options)
        return FakeRun()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for step in (100, 200):
        log = Log(run, step - 100, wandb="project")
        log.write({"timesteps": step, "mean": 1.0, "std": 1.0}, {"training/value": 0.5})
        log.close()
    figures = {"evaluation/mean": 1.0, "evaluation/std": 1.0, "training/value": 0.5}
    assert logged == [(100, figures), "finished", (200, figures), "finished"]
    first, second = ({**each, "config": None} for each in started)
    assert first == second
    assert (first["project"], first["resume"], first["name"]) == (
        "project",
        "allow",
        f"name-{run.folder.name}",
    )
    assert started[0]["config"]["level"] == 1

    def fail(**options):
        raise RuntimeError("no login\nsee the manual")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=fail))
    with pytest.raises(ConfigError, match=r"^wandb: .*no login"):
        Log(run, 0, wandb="project")
