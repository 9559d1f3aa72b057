"""How a training starts: as a new run, by resuming a run, or as a branch from a checkpoint."""

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdodge import resources
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, check_names, read_yaml
from jaxdodge.recordings.timing_file import read_options
from jaxdodge.runs.folder import Run, check_results_folder, split
from jaxdodge.runs.options import DEFAULTS
from jaxdodge.runs.original import ignored_line, is_original, translate
from jaxdodge.runs.original_sb3 import check_for_sac
from jaxdodge.runs.parent import Parent, check_same_networks, continued, continued_game
from jaxdodge.runs.servers import Servers, with_server_defaults

if TYPE_CHECKING:
    from jaxdodge.runs.loop import Training

# Fields that a file of a measured timing may set.
TIMING_FIELDS = (
    "frames_per_step",
    "response_frame",
    "fps",
    "frame_time_jitter",
    "frames_per_step_jitter",
    "response_frame_jitter",
)


@dataclasses.dataclass(frozen=True)
class New:
    """A new run in `results/name/<time>/`."""

    results: Path
    name: str
    game: GameConfig
    config: TrainConfig
    servers: Servers | None = dataclasses.field(default=None, kw_only=True)
    """Where the transitions come from; None for the simulator."""

    def check(self) -> None:
        """Raises ConfigError if no run can be written there."""
        check_results_folder(self.results, self.name)

    def load(self, training: "Training") -> None:
        """Put a training into its first state."""
        training.start()

    @contextlib.contextmanager
    def begin(self, devices: int) -> Iterator[tuple["Training", Run]]:
        """The training and its run, whose folder is locked until the block ends.

        The folder is created last, so that a training that does not fit into memory leaves nothing.

        Args:
            devices: number of devices to train on.

        Raises:
            ConfigError: it does not fit into memory, or cannot be written.
        """
        training = _training(self, devices)
        run = Run.create(self.results, self.name, self.game, self.config)
        if self.servers:
            self.servers.save(run.folder)
        with run.locked():
            yield training, run


@dataclasses.dataclass(frozen=True)
class Resume:
    """Continue a run in its own folder, from its newest usable checkpoint or from the beginning."""

    run: Run
    name: str
    game: GameConfig
    config: TrainConfig
    found: bool = False
    """Whether the run was found and not named: then it begins again without usable checkpoints."""
    servers: Servers | None = dataclasses.field(default=None, kw_only=True)
    """As `New.servers`."""

    def check(self) -> None:
        """Raises ConfigError if another process trains in the folder."""
        self.run.check_unlocked()

    def load(self, training: "Training") -> None:
        """Put a training into the state of the newest usable checkpoint."""
        from jaxdodge.runs.checkpoints import Checkpoints, UnusableError

        try:
            if Checkpoints(self.run.checkpoints).steps():
                return training.resume(self.run)
        except UnusableError as error:
            if not self.found:
                raise
            print(f"{error}; begins again", file=sys.stderr)
        parent = Parent.of(self.run)
        if parent:
            return parent.load(training)
        training.start()

    @contextlib.contextmanager
    def begin(self, devices: int) -> Iterator[tuple["Training", Run]]:
        """As `New.begin`, but the folder is locked before its checkpoints are read."""
        with self.run.locked():
            if self.servers:
                self.servers.save(self.run.folder)
            yield _training(self, devices), self.run


@dataclasses.dataclass(frozen=True)
class Branch(New):
    """A new run that continues another one."""

    parent: Parent

    def load(self, training: "Training") -> None:
        """Put a training into the state that the parent left."""
        self.parent.load(training)

    @contextlib.contextmanager
    def begin(self, devices: int) -> Iterator[tuple["Training", Run]]:
        """As `New.begin`; the new run names its parent, and continues its logs."""
        with super().begin(devices) as (training, run):
            self.parent.save(run)
            if self.parent.whole:
                run.copy_logs(self.parent.run, self.config)
            yield training, run


@dataclasses.dataclass(frozen=True)
class From(New):
    """A new run on servers that begins with the networks of another run."""

    source: Run
    keep_replay: bool
    """Also with its replay."""

    def load(self, training: "Training") -> None:
        """Put a training into its first state, with what the source has learned."""
        training.start()
        training.adopt(self.source, self.keep_replay)  # type: ignore[attr-defined]


Start = New | Resume | Branch | From


def headline(start: Start) -> str:
    """What is about to be trained, in one line."""
    game, config = start.game, start.config
    angle = f", angle {game.spawn_angle_degrees:g}" if game.random_spawn_position else ""
    often = "every frame" if game.frames_per_step == 1 else f"every {game.frames_per_step} frames"
    colour = "gray" if game.image_grayscale else "colour"
    seen = {
        "standard": "65 numbers",
        "with_thrower": "69 numbers",
        "topdown": f"{game.image_obs_width} x {game.image_obs_height} {colour} images",
    }[game.observation_mode]
    stacked = f", {game.frame_stack} stacked" if game.frame_stack > 1 else ""
    seeds = f", {config.seeds} seeds" if config.seeds > 1 else ""
    return (
        f"{start.name}: level {game.level}{angle}, an action {often}, {seen}{stacked}; "
        f"{config.total_timesteps:,} steps{seeds}"
    )


def read_start(
    results: Path,
    config: str | None,
    timing: Path | None,
    resume: str | None,
    given: dict[str, Any],
    servers: Servers | None = None,
    source: Path | None = None,
    keep_replay: bool = False,
) -> Start:
    """How the command line says that a training starts. Nothing is written.

    Prints the names in a training file of the original project that have no effect.

    Args:
        results: folder for the folders of runs.
        config: a YAML file, or the name of a preset.
        timing: a YAML file with a measured timing.
        resume: a run's folder, the folder of one of its checkpoints, or "auto".
        given: fields of game and training from the command line, unchecked.
        servers: to train on; None for the simulator, or for those of the resumed run.
        source: a run, or in the simulator also one of its checkpoints, that a new run continues
            with other options, or whose networks a run on servers begins with.
        keep_replay: on servers: and its replay.

    Raises:
        ConfigError: bad input, in one line.
    """
    if source is not None:
        if resume is not None:
            raise ConfigError("resume: invalid together with --from, which starts a new run")
        if servers is None and keep_replay:
            raise ConfigError("keep_replay: expected with --servers or --server-command")
        if servers is None:
            parent, timesteps = _run_and_checkpoint(source)
            values = _read_values(config, timing)[1] | given
            return Branch(results, parent.folder.resolve().parent.name, *continued(parent, timesteps, values))
        if config:
            raise ConfigError("config: invalid together with --from and servers")
        run = Run.open_one(source)
        game, train = _continued(run, timing, given, servers)
        if keep_replay and game.observe_previous_action != run.config()[0].observe_previous_action:
            raise ConfigError(
                "keep_replay: invalid, because the transitions lack the previous action; expected none"
            )
        return From(results, run.folder.resolve().parent.name, game, train, run, keep_replay, servers=servers)
    if keep_replay:
        raise ConfigError("keep_replay: expected with --from")
    if resume is None or resume == "auto":
        name, game, train = _read_config(config, timing, given, servers)
        if resume:
            found = Run.newest(results, name, game, train)
            if found:
                return Resume(found, name, game, train, found=True, servers=servers)
            other = next(Run.unfinished(results, name), None)
            print(
                f"resume: no unfinished run of this configuration in {results / name}; a new one begins"
                + (f" (the newest of another configuration: {other.folder})" if other else "")
            )
        return New(results, name, game, train, servers=servers)
    run, timesteps = _run_and_checkpoint(Path(resume))
    if given or config or timing:
        raise ConfigError(
            "resume: a run goes on with its own configuration; expected no other options (--from takes them)"
        )
    name, (game, train) = run.folder.resolve().parent.name, run.config()
    before = Servers.load(run.folder)
    if servers and (before is None or before.count != servers.count):
        raise ConfigError(f"servers: invalid value; expected {before.count if before else 0}, as the run had")
    servers = servers or before
    if timesteps is None:
        return Resume(run, name, game, train, servers=servers)
    return Branch(results, name, game, train, Parent(run, timesteps, whole=True), servers=servers)


@contextlib.contextmanager
def follow(start: Start, devices: int) -> Iterator[tuple["Training", Run]]:
    """The same training in a process other than process 0, which alone prints and writes results.

    It prints nothing and writes to a temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="jaxdodge-") as folder, contextlib.redirect_stdout(None):
        training = _training(start, devices)
        yield training, Run.create(Path(folder), start.name, start.game, start.config)


def _training(start: Start, devices: int) -> "Training":
    """A training in its first state. JAX is imported here, after the processes have met."""
    from jaxdodge.runs.loop import Training
    from jaxdodge.runs.online import OnlineTraining

    print("compiling", flush=True)
    training = (
        OnlineTraining(start.game, start.config, start.servers)
        if start.servers
        else Training(start.game, start.config, devices)
    )
    start.load(training)
    return training


def _continued(
    run: Run, timing: Path | None, given: dict[str, Any], servers: Servers
) -> tuple[GameConfig, TrainConfig]:
    """The configuration of a run on servers that begins with another run's networks."""
    game, train = run.config()
    training = {field.name for field in dataclasses.fields(TrainConfig)}
    values = with_server_defaults(given, servers)
    measured = _read_timing(timing) if timing else {}
    changed = {name: value for name, value in (measured | given).items() if name not in training}
    kept = dataclasses.asdict(train)
    kept |= {name: value for name, value in values.items() if name in training}
    new = split(dataclasses.asdict(continued_game(game, changed)) | kept)
    check_same_networks(new, (game, train), run.folder)
    return new


def _read_config(
    config: str | None, timing: Path | None, given: dict[str, Any], servers: Servers | None
) -> tuple[str, GameConfig, TrainConfig]:
    """Name and configuration of a new run; raises ConfigError."""
    name, values, ignored = _read_values(config, timing)
    values = {**DEFAULTS, **values, **given}
    game, train = split(with_server_defaults(values, servers) if servers else values)
    if ignored:
        print(ignored_line(ignored))
    return name, game, train


def _read_values(config: str | None, timing: Path | None) -> tuple[str, dict[str, Any], list[str]]:
    """Name, fields and ignored names of the files; raises ConfigError."""
    file = resources.preset(config) if config is not None else None
    values = read_yaml(file) if file else {}
    ignored: list[str] = []
    check_for_sac(values, config)
    if is_original(values):
        values, ignored = translate(values)
    measured = _read_timing(timing) if timing else {}
    return file.stem if file else "default", {**values, **measured}, ignored


def _read_timing(path: Path) -> dict[str, Any]:
    """The fields of a measured timing; raises ConfigError."""
    values = read_options(path)
    check_names(values, dict.fromkeys(TIMING_FIELDS, ""), f"a timing ({path})")
    if "frames_per_step" not in values:
        raise ConfigError(f"{path}: frames_per_step is missing; expected what parity timing --out wrote")
    # What was not measured has its neutral value, not that of the preset.
    jitters = {name: 0 for name in TIMING_FIELDS if name.endswith("_jitter")}
    return {"response_frame": None, **jitters, **values}


def _run_and_checkpoint(path: Path) -> tuple[Run, int | None]:
    """The run of a folder; for a checkpoint's folder also the checkpoint's environment steps."""
    absolute = path.resolve()
    if absolute.parent.name == "checkpoints" and absolute.name.isdigit() and absolute.is_dir():
        return Run.open(absolute.parents[2]), int(absolute.name)
    run = Run.open(path)
    if absolute.name.startswith("seed_") and (absolute.parent / "config.yaml").is_file():
        raise ConfigError(f"{path}: one seed of a run; expected {path.parent}, to go on with all of them")
    return run, None
