"""`jaxdodge train`: train an agent.

Without arguments: level 2, angle 30, at the original's timing. Exit status: 0 finished, 1 the
training diverged or could not be saved at its end, 2 bad input, 129, 130 or 143 stopped by
SIGHUP, Ctrl-C or SIGTERM (everything is saved).
"""

import dataclasses
import importlib.util
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import tyro

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.cli import Interrupt, guarded
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.hardware import keep_compiled
from jaxdodge.resources import presets
from jaxdodge.runs.cluster import Cluster
from jaxdodge.runs.folder import Run
from jaxdodge.runs.options import DEFAULTS, parse_options
from jaxdodge.runs.servers import Servers
from jaxdodge.runs.start import Resume, follow, headline, read_start


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a SAC agent. Results go to RESULTS/<name of the configuration, or "default">/<time>/.

    Ctrl-C, SIGTERM and SIGHUP save everything and end with status 130, 143 and 129. --resume
    continues from there, also after a crash, with the same bits as a run that was never stopped.
    """

    config: str | None = None
    """A preset by its name, such as angle60 or original/sac_level2_vector_angle30; or a YAML file:
    a flat mapping of the options below, or a training file of the original project. The command
    line wins over it."""
    timing: Path | None = None
    """File written by `jaxdodge parity timing --out`: the measured timing of a real server. Its
    options replace the timing of --config; the command line wins over it."""
    results: Path = Path("results")
    """Folder for the folders of runs."""
    resume: str | None = None
    """Folder of a run to continue; or of one of its checkpoints, from which a new run branches off;
    or auto for the newest unfinished run of the same configuration, if there is one."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Folder of a run, or of one of its checkpoints, that a new run continues. With a larger
    --total-timesteps it is trained longer. With other options of the game or the training, or on
    servers, a new training starts with its networks."""
    wandb: str | None = None
    """Project of Weights & Biases to log to as well (pip install 'jaxdodge[wandb]')."""
    devices: int = 1
    """Devices that share the environments, their replay and each batch; on a machine without
    accelerators, virtual CPU devices. A run may be resumed with another number."""
    processes: int = 1
    """Processes of this run, on one machine or several, each started with this same command line
    except for --process, and each with its part of the devices. They share the folder of
    results."""
    process: int = 0
    """Number of this process, from 0. Process 0 writes the results."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where the processes meet."""
    servers: str | None = None
    """URL,URL,...: train on these running servers, not in the simulator."""
    server_command: str | None = None
    """Train on servers that this command starts, such as "jaxdodge serve --http --port {port}"."""
    num_servers: int | None = None
    """How many."""
    think_seconds: float | None = None
    """Servers: pause after each step. Default: as many frames per step as --frames-per-step says;
    for a server that waits for its client (lockstep) give 0."""
    timeout: float = 5.0
    """Servers: seconds to wait for a response."""
    max_restarts: int = 20
    """Servers: restarts of each within ten minutes; with one more the training ends."""
    keep_replay: bool = False
    """Servers: begin also with the replay of the run that --from names."""

    def fleet(self) -> Servers | None:
        """The servers to train on; raises ConfigError."""
        if self.servers is None and self.server_command is None:
            for name in ("num_servers", "think_seconds"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"{name}: expected with --servers or --server-command")
            return None
        urls = tuple(self.servers.split(",")) if self.servers is not None else ()
        command, number = self.server_command, self.num_servers
        return Servers(urls, command, number, self.think_seconds, self.timeout, self.max_restarts)


def train(arguments: list[str]) -> int:
    """Parse, train, and return the exit status."""
    # Before anything slow is imported. Until the training is set up, there is nothing to save.
    with Interrupt(orderly=False, answer="stopping after this epoch; again to stop now") as interrupt:
        return _train(arguments, interrupt)


def _train(arguments: list[str], interrupt: Interrupt) -> int:
    configs, notes = (GameConfig, TrainConfig), f"Presets: {', '.join(presets())}."
    options, given = parse_options(Train, configs, "jaxdodge train", arguments, DEFAULTS, notes)
    start = read_start(
        options.results,
        options.config,
        options.timing,
        options.resume,
        given,
        options.fleet(),
        options.source,
        options.keep_replay,
    )
    if isinstance(start, Resume) and start.run.finished():
        folder, longer = shlex.quote(f"{start.run.folder}"), 2 * start.config.total_timesteps
        print(
            f"{start.run.folder}: finished already; train longer: "
            f"jaxdodge train --from {folder} --total-timesteps {longer}"
        )
        return 0
    if options.wandb is not None and importlib.util.find_spec("wandb") is None:
        raise ConfigError("wandb: not installed; expected pip install 'jaxdodge[wandb]'")
    start.check()
    cluster = Cluster(options.devices, options.processes, options.process, options.coordinator)
    if start.servers:
        start.servers.check(start.game, start.config, options.devices * options.processes)
    cluster.check(start.config)
    if not options.process:
        print(headline(start), flush=True)

    cluster.join()
    # From here on the other processes would wait for one that ends on its own.
    interrupt.orderly = cluster.processes > 1

    from jaxdodge.bevy.fleet import FleetError
    from jaxdodge.runs.loop import DivergedError, NotSavedError

    began = follow(start, options.devices) if options.process else start.begin(options.devices)
    with began as (training, run):
        interrupt.orderly = True
        print(f"run: {run.folder}", flush=True)
        if training.timesteps:
            print(f"resumed at {training.timesteps:,} steps", flush=True)
        try:
            stopped = training.learn(run, interrupt.reason, wandb=None if options.process else options.wandb)
        except (DivergedError, NotSavedError, FleetError) as error:
            print(error, file=sys.stderr)
            return 1
        print(ending(run, training.timesteps, training.seconds, training.config.seeds, stopped), flush=True)
    return 128 + (interrupt.signal or signal.SIGTERM) if stopped else 0


def ending(run: Run, timesteps: int, seconds: float, seeds: int, stopped: str | None) -> str:
    """The last lines: where everything is, and the next command."""
    folder, seed = shlex.quote(f"{run.folder}"), "/seed_0" if seeds > 1 else ""
    if stopped:
        outcome, then = f"saved at {timesteps:,} steps", f"jaxdodge train --resume {folder}"
    else:
        outcome = f"finished after {seconds:.0f} s"
        then = f"jaxdodge watch {folder}{seed} --show, or jaxdodge evaluate {folder}"
    curve = run.folder / "plots" / "learning_curves.png"
    return f"{outcome}: {run.folder}\nlearning curve: {curve}\nnext: {then}"


if __name__ == "__main__":
    keep_compiled()
    sys.exit(guarded(train, sys.argv[1:]))
