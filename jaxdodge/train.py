"""`python -m jaxdodge.train`: train an agent. Without arguments: level 2, angle 30, at the original's timing.

Exit status: 0 finished, 1 the training diverged, 2 bad input, 130 or 143 stopped by Ctrl-C or SIGTERM
(everything is saved).
"""

import dataclasses
import signal
import sys
from pathlib import Path
from typing import Any

from jaxdodge.agents.config import TrainConfig
from jaxdodge.agents.options import parse_options
from jaxdodge.agents.original import ignored_line, is_original, translate
from jaxdodge.agents.runs import Run, check_place, split
from jaxdodge.cli import guarded
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, read_yaml

# The timing that the original project really trained with: an action every 7 frames, and the answer to one
# shows the arena just before it is applied.
DEFAULTS = {
    "level": 2,
    "spawn_angle_degrees": 30.0,
    "action_space_type": "basic_3d",
    "frames_per_step": 7,
    "response_frame": 0,
}


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a SAC agent. Results go to RESULTS/<name of the configuration file, or "default">/<time>/.

    Ctrl-C and SIGTERM save everything and end with status 130 and 143; --resume goes on from there, and also
    after a crash, with the same bits as a run that was never stopped.
    """

    config: Path | None = None
    """YAML file, a flat mapping of the options below, or a training file of the original project; the command
    line wins over it."""
    results: Path = Path("results")
    """Folder for the folders of runs."""
    resume: str | None = None
    """Folder of a run to go on with; or of one of its checkpoints, from which a new run branches off; or auto
    for the newest unfinished run of the same configuration, if there is one."""


class Interrupt:
    """The first Ctrl-C or SIGTERM asks for an orderly end; a second one ends at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        for number in self.SIGNALS:
            signal.signal(number, self._request)

    def reason(self) -> str | None:
        """What asked for the end, if anything did."""
        if self.signal is None:
            return None
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name

    def _request(self, number: int, _: Any) -> None:
        self.signal = signal.Signals(number)
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # A terminal shows ^C where the line would begin.
        start = "\n" if sys.stderr.isatty() else ""
        print(f"{start}{self.reason()}: saving and stopping", file=sys.stderr, flush=True)


def train(arguments: list[str]) -> int:
    """Parse, train, and return the exit status."""
    options, given = parse_options(Train, (GameConfig, TrainConfig), "jaxdodge.train", arguments, DEFAULTS)
    from_file = read_yaml(options.config) if options.config else {}
    ignored: list[str] = []
    if is_original(from_file):
        from_file, ignored = translate(from_file)
    name = options.config.stem if options.config else "default"
    game, config = split({**DEFAULTS, **from_file, **given})
    if ignored:
        print(ignored_line(ignored))
    source = checkpoint = None
    if options.resume == "auto":
        source = Run.newest(options.results, name, game, config)
    elif options.resume is not None:
        if given or options.config:
            raise ConfigError("resume: a run goes on with its own configuration; accepted: no other options")
        source, checkpoint = _to_resume(Path(options.resume))
        game, config = source.config()
        name = source.folder.resolve().parent.name
        if checkpoint is None and source.finished():
            print(f"{source.folder}: finished already")
            return 0
    goes_on = source is not None and checkpoint is None
    if not goes_on:
        check_place(options.results, name)

    from jaxdodge.agents.checkpoints import Checkpoints
    from jaxdodge.agents.training import DivergedError, Training

    interrupt = Interrupt()
    training = Training(game, config)
    if source and Checkpoints(source.checkpoints).steps():
        training.resume(source, checkpoint)
    else:
        training.start()
    run = source if source and goes_on else Run.create(options.results, name, game, config)
    if source and not goes_on:
        run.copy_logs(source, config)
    print(f"run: {run.folder}", flush=True)
    if training.timesteps:
        print(f"resumed at {training.timesteps:,} steps", flush=True)
    try:
        stopped = training.learn(run, interrupt.reason)
    except DivergedError as error:
        print(error, file=sys.stderr)
        return 1
    return 128 + interrupt.signal if stopped and interrupt.signal else 0


def _to_resume(path: Path) -> tuple[Run, int | None]:
    """The run of a folder; or the run of a checkpoint in it, with its environment steps."""
    whole = path.resolve()
    if whole.parent.name == "checkpoints" and whole.name.isdigit() and whole.is_dir():
        return Run.open(whole.parents[2]), int(whole.name)
    run = Run.open(path)
    if whole.name.startswith("seed_") and (whole.parent / "config.yaml").is_file():
        raise ConfigError(f"{path}: one seed of a run; accepted: {path.parent}, to go on with all of them")
    return run, None


if __name__ == "__main__":
    sys.exit(guarded(train, sys.argv[1:]))
