"""`python -m jaxdodge.train`: train an agent. Without arguments: level 2, angle 30, at the original's timing.

Exit status: 0 finished, 1 the training diverged or could not be saved at its end, 2 bad input, 130 or 143
stopped by Ctrl-C or SIGTERM (everything is saved).
"""

import contextlib
import dataclasses
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.cli import Interrupt, guarded
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, check_names, read_yaml
from jaxdodge.hardware import keep_compiled
from jaxdodge.runs.folder import Run, check_place, split
from jaxdodge.runs.options import DEFAULTS, parse_options
from jaxdodge.runs.original import ignored_line, is_original, translate

# What a measured timing may set.
TIMING = (
    "frames_per_step",
    "response_frame",
    "fps",
    "frame_time_jitter",
    "frames_per_step_jitter",
    "response_frame_jitter",
)


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a SAC agent. Results go to RESULTS/<name of the configuration file, or "default">/<time>/.

    Ctrl-C and SIGTERM save everything and end with status 130 and 143; --resume goes on from there, and also
    after a crash, with the same bits as a run that was never stopped.
    """

    config: Path | None = None
    """YAML file, a flat mapping of the options below, or a training file of the original project; the command
    line wins over it."""
    timing: Path | None = None
    """YAML file that `python -m jaxdodge.parity timing --out` wrote: the timing of a real server. It wins
    over --config, as a whole; the command line wins over it."""
    results: Path = Path("results")
    """Folder for the folders of runs."""
    resume: str | None = None
    """Folder of a run to go on with; or of one of its checkpoints, from which a new run branches off; or auto
    for the newest unfinished run of the same configuration, if there is one."""
    devices: int = 1
    """Devices that share the arenas, their replay and each batch; on a machine without accelerators, as many
    parts of its processor. A run may go on with another number."""
    processes: int = 1
    """Processes of this run, on one machine or several, each started with this same command line but for
    --process, and each with its part of the devices. They share the folder of results."""
    process: int = 0
    """Number of this process, from 0, which is the one that writes results."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where the processes meet."""


def train(arguments: list[str]) -> int:
    """Parse, train, and return the exit status."""
    options, given = parse_options(Train, (GameConfig, TrainConfig), "jaxdodge.train", arguments, DEFAULTS)
    from_file = read_yaml(options.config) if options.config else {}
    measured = _measured(options.timing) if options.timing else {}
    ignored: list[str] = []
    if is_original(from_file):
        from_file, ignored = translate(from_file)
    name = options.config.stem if options.config else "default"
    game, config = split({**DEFAULTS, **from_file, **measured, **given})
    if ignored:
        print(ignored_line(ignored))
    source = checkpoint = None
    if options.resume == "auto":
        source = Run.newest(options.results, name, game, config)
    elif options.resume is not None:
        if given or options.config or options.timing:
            raise ConfigError("resume: a run goes on with its own configuration; expected no other options")
        source, checkpoint = _to_resume(Path(options.resume))
        game, config = source.config()
        name = source.folder.resolve().parent.name
        if checkpoint is None and source.finished():
            print(f"{source.folder}: finished already")
            return 0
        if checkpoint is None:
            source.refuse_locked()
    if source is None or checkpoint is not None:
        check_place(options.results, name)

    from jaxdodge.agents.devices import Cluster

    cluster = Cluster(options.devices, options.processes, options.process, options.coordinator)
    cluster.check(config)
    cluster.join()

    from jaxdodge.runs.checkpoints import Checkpoints
    from jaxdodge.runs.loop import DivergedError, NotSavedError, Training

    apart = _apart() if options.process else contextlib.nullcontext(options.results)
    with apart as results, contextlib.ExitStack() as held:
        goes_on = source is not None and checkpoint is None and not options.process
        if source and goes_on:
            held.enter_context(source.locked())
        interrupt = Interrupt()
        training = Training(game, config, options.devices)
        if source and Checkpoints(source.checkpoints).steps():
            training.resume(source, checkpoint)
        else:
            training.start()
        run = source if source and goes_on else Run.create(results, name, game, config)
        if not goes_on:
            held.enter_context(run.locked())
        # Process 0 may be writing to the logs of the run that all go on with.
        if source and not goes_on and not options.process:
            run.copy_logs(source, config)
        print(f"run: {run.folder}", flush=True)
        if training.timesteps:
            print(f"resumed at {training.timesteps:,} steps", flush=True)
        try:
            stopped = training.learn(run, interrupt.reason)
        except (DivergedError, NotSavedError) as error:
            print(error, file=sys.stderr)
            return 1
        return 128 + (interrupt.signal or signal.SIGTERM) if stopped else 0


@contextlib.contextmanager
def _apart() -> Iterator[Path]:
    """For a process beside process 0, which says and writes what all come to."""
    with tempfile.TemporaryDirectory(prefix="jaxdodge-") as folder, contextlib.redirect_stdout(None):
        yield Path(folder)


def _measured(path: Path) -> dict:
    """The timing that was measured; raises ConfigError."""
    values = read_yaml(path)
    check_names(values, dict.fromkeys(TIMING, ""), f"a timing ({path})")
    if "frames_per_step" not in values:
        raise ConfigError(f"{path}: frames_per_step is missing; expected what parity timing --out wrote")
    # What could not be measured is the clean one, not that of our default or of another timing.
    jitters = {name: 0 for name in TIMING if name.endswith("_jitter")}
    return {"response_frame": None, **jitters, **values}


def _to_resume(path: Path) -> tuple[Run, int | None]:
    """The run of a folder; or the run of a checkpoint in it, with its environment steps."""
    whole = path.resolve()
    if whole.parent.name == "checkpoints" and whole.name.isdigit() and whole.is_dir():
        return Run.open(whole.parents[2]), int(whole.name)
    run = Run.open(path)
    if whole.name.startswith("seed_") and (whole.parent / "config.yaml").is_file():
        raise ConfigError(f"{path}: one seed of a run; expected {path.parent}, to go on with all of them")
    return run, None


if __name__ == "__main__":
    keep_compiled()
    sys.exit(guarded(train, sys.argv[1:]))
