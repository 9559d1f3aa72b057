"""`python -m jaxdodge.evaluate RUN`: play a run's policy, also in other games, with intervals.

Exit status: 0 played, 1 the server failed, 2 bad input, 130 or 143 stopped by Ctrl-C or SIGTERM (the CSV file
or the session has what was played until then).
"""

import contextlib
import csv
import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
import yaml

from jaxdodge.agents.train_config import Jitter, TrainConfig
from jaxdodge.cli import guarded
from jaxdodge.config import GAME_FIELDS, GameConfig
from jaxdodge.evaluation.statistics import histogram
from jaxdodge.evaluation.tables import FIGURES, figures, line, matrix, over_seeds
from jaxdodge.fields import ConfigError, Name, Number, check_names
from jaxdodge.files import atomic_open
from jaxdodge.hardware import keep_compiled
from jaxdodge.runs.folder import POLICIES, Run, changed_game
from jaxdodge.runs.options import parse_options

if TYPE_CHECKING:
    from jaxdodge.evaluation.episodes import Episodes

DEFAULT_EPISODES = 128
DEFAULT_SERVER_EPISODES = 10
# Columns of the CSV file after those of the setting.
OUTCOMES = ["episode", "return", "responses", "survived"]
# What `--robustness` draws anew for every episode.
ROBUSTNESS = {
    "nothing": Jitter(),
    "frame time 5 %": Jitter(frame_time_jitter=0.05),
    "frame time 15 %": Jitter(frame_time_jitter=0.15),
    "frames per step 1": Jitter(frames_per_step_jitter=1),
    "response frame 1": Jitter(response_frame_jitter=1),
    "spawn interval 10 %": Jitter(spawn_interval_jitter=0.1),
    "spawn angle 10 %": Jitter(spawn_angle_jitter=0.1),
    "all of these": Jitter(
        frame_time_jitter=0.15,
        frames_per_step_jitter=1,
        response_frame_jitter=1,
        spawn_interval_jitter=0.1,
        spawn_angle_jitter=0.1,
    ),
}


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Play episodes with the policy of a run; print return, interquartile mean (IQM) and survival rate.

    Intervals are 95 % ones: the IQM's by bootstrap, the survival rate's by Wilson's formula. The options of
    the game change it for the evaluation; without them it is the one of the training.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, results/NAME/TIME. If it holds seed_0, seed_1 and so on, all of them are played."""
    episodes: int | None = None
    """Episodes to play: 128, all at once; on a server 10, one after the other, in real time."""
    policy: str = "best"
    """best or final."""
    sampled: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Draw the actions from the policy's distribution, instead of taking its mean."""
    seed: int = 0
    """Seed of the throws, and of drawn actions."""
    grid: tuple[str, ...] = ()
    """Settings to play in all combinations, such as frames_per_step=6,7,8 response_frame=0,full."""
    robustness: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Play under other numbers in every episode too: frame time, frames per step, response frame, throws."""
    csv: Path | None = None
    """CSV file to write or replace, with a row for each episode in each setting."""
    server: str | None = None
    """Play on a server, and compare with the simulator at the timing measured there: http://HOST:PORT,
    grpc://HOST:PORT or unix:///PATH. --fps is then what the server was started with."""
    record: Path | None = None
    """With --server: file to write the API session to."""
    think_seconds: float | None = None
    """With --server: pause after each step; default: for as many frames per step as in the training."""
    timeout: float = 30.0
    """With --server: seconds to wait for a response."""

    def __post_init__(self) -> None:
        if self.episodes is not None:
            Number(int, 1, 1_000_000).check("episodes", self.episodes)
        Number(int, 0, 2**32 - 1).check("seed", self.seed)
        Name(POLICIES).check("policy", self.policy)
        if self.think_seconds is not None:
            Number(float, 0).check("think_seconds", self.think_seconds)
        if self.server is None and (self.record or self.think_seconds is not None):
            raise ConfigError("record and think_seconds are refused without --server")


def evaluate(arguments: list[str]) -> int:
    """Parse, play, print, and return the exit status."""
    options, given = parse_options(Evaluate, (GameConfig,), "jaxdodge.evaluate", arguments, {})
    if options.server is not None:
        return _evaluate_on_server(options, options.server, given)
    episodes = options.episodes or DEFAULT_EPISODES
    runs = _runs(options.run)
    trained, config = _common_config(runs)
    axes = _axes(options.grid)
    combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    varied = ROBUSTNESS if options.robustness else {"nothing": Jitter()}
    conditions = [
        (changed_game(trained, given | combination), name) for combination in combinations for name in varied
    ]
    for run in runs:
        run.policy_path(options.policy)
    folders = [{"folder": run.folder.name} if run.folder != options.run else {} for run in runs]
    names = [*(given | axes)]
    # Of each condition, of each run: what tells it from the others.
    labels = [
        [
            {name: getattr(game, name) for name in names}
            | ({"varied": what} if options.robustness else {})
            | folder
            for folder in folders
        ]
        for game, what in conditions
    ]
    widths = {
        name: max(len(name), *(len(str(row[name])) for rows in labels for row in rows))
        for name in [*axes, *(["varied"] if options.robustness else []), *folders[0]]
    }
    summaries = []
    with _csv_file(options.csv, [*labels[0][0], *OUTCOMES]) as add_rows:
        how = "sampled" if options.sampled else "deterministic"
        constant = [f"{name} {getattr(conditions[0][0], name)}" for name in given if name not in axes]
        what = f"{options.run}: {options.policy} policy" + (f" of {len(runs)} seeds" if folders[0] else "")
        print(", ".join([what, f"{episodes} episodes each", how, *constant]))
        print(line({name: name for name in widths}, widths, FIGURES), flush=True)
        played = _play(options, runs, trained, config, conditions)
        for rows, outcomes in zip(labels, played, strict=True):
            add_rows(_csv_rows(rows, outcomes))
            summaries.append([episodes.summary() for episodes in outcomes])
            for row, summary in zip(rows, summaries[-1], strict=True):
                print(line(row, widths, figures(summary)), flush=True)
            if folders[0]:
                print(over_seeds(summaries[-1]), flush=True)
    if len(conditions) == 1 and not folders[0]:
        print(f"\nmedian return {summaries[0][0]['median']:.1f}; returns:")
        print(*histogram(outcomes[0].returns), sep="\n")
    if len(axes) == 2 and not options.robustness:
        for title, name, form in (("IQM", "iqm", ".1f"), ("survival", "survival", ".1%")):
            cells = [f"{np.mean([summary[name] for summary in of_runs]):{form}}" for of_runs in summaries]
            print(*matrix(title, axes, cells), sep="\n")
    return 0


def _evaluate_on_server(options: Evaluate, url: str, given: dict[str, Any]) -> int:
    from jaxdodge.parity.server_evaluation import evaluate_on_server

    for name in ("grid", "robustness", "sampled", "csv"):
        if getattr(options, name):
            raise ConfigError(
                f"{name}: invalid together with --server, which is played with the deterministic policy"
            )
    return evaluate_on_server(
        options.run,
        url,
        given,
        policy_name=options.policy,
        episodes=options.episodes or DEFAULT_SERVER_EPISODES,
        seed=options.seed,
        timeout=options.timeout,
        think_seconds=options.think_seconds,
        record=options.record,
    )


def _runs(folder: Path) -> list[Run]:
    """The run in a folder, or those of its seeds in the order of their numbers; raises ConfigError."""
    if not (folder / "seed_0" / "config.yaml").is_file():
        return [Run.open(folder)]
    numbers = [path.name.removeprefix("seed_") for path in folder.glob("seed_*")]
    return [Run.open(folder / f"seed_{number}") for number in sorted(filter(str.isdecimal, numbers), key=int)]


def _common_config(runs: list[Run]) -> tuple[GameConfig, TrainConfig]:
    """The configuration of all runs; raises ConfigError where more than the seed differs."""
    game, config = runs[0].config()
    for run in runs[1:]:
        other_game, other = run.config()
        if (other_game, dataclasses.replace(other, seed=config.seed)) != (game, config):
            raise ConfigError(f"{run.folder}: differs from {runs[0].folder} in more than the seed")
    return game, config


def _axes(grid: tuple[str, ...]) -> dict[str, list[Any]]:
    """The values of each NAME=VALUE,VALUE ... by name; raises ConfigError."""
    axes: dict[str, list[Any]] = {}
    for axis in grid:
        name, equals, values = axis.partition("=")
        name = name.replace("-", "_")
        if not equals or name in axes:
            raise ConfigError(f"grid: invalid value {axis!r}; expected NAME=VALUE,VALUE ..., each name once")
        try:
            axes[name] = [yaml.safe_load(value) for value in values.split(",")]
        except yaml.YAMLError:
            raise ConfigError(f"grid: invalid value {axis!r}; its values are not valid YAML") from None
    check_names(axes, GAME_FIELDS, "the game")
    return axes


def _play(
    options: Evaluate,
    runs: list[Run],
    trained: GameConfig,
    config: TrainConfig,
    conditions: list[tuple[GameConfig, str]],
) -> Iterator[list["Episodes"]]:
    """For one condition after the other, the episodes of each run; raises ConfigError before the first."""
    import jax

    from jaxdodge.agents.randomization import draw_params, randomized_env
    from jaxdodge.agents.setup import make_sac
    from jaxdodge.evaluation.episodes import evaluate as play

    # What the networks see is that of the training: a policy does not know what game it is put into.
    sac = make_sac(trained, config)
    policy = sac.sampled_policy if options.sampled else sac.policy
    policies = [run.load_policy(options.policy, sac.policy_shapes()) for run in runs]
    key = jax.random.key(options.seed)
    for game, name in conditions:
        jitter = ROBUSTNESS[name]
        env = randomized_env(game, jitter)
        draw = None if jitter == Jitter() else partial(draw_params, jitter=jitter)
        yield [
            play(
                env,
                policy,
                weights,
                env.default_params,
                key,
                options.episodes or DEFAULT_EPISODES,
                options.sampled,
                draw,
            )
            for weights in policies
        ]


@contextlib.contextmanager
def _csv_file(path: Path | None, header: list[str]) -> Iterator[Callable[[list[list[Any]]], None]]:
    """A function that adds rows to a CSV file, or drops them if there is none.

    The file appears, or is replaced, when the block ends, also by an interruption; but not without rows.

    Raises:
        OSError: it cannot be written.
    """
    if path is None:
        yield lambda rows: None
        return
    interruption = None
    with atomic_open(path) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        start = file.tell()
        try:
            yield writer.writerows
        except BaseException as error:
            if file.tell() == start:
                raise
            interruption = error
    if interruption:
        raise interruption


def _csv_rows(labels: list[dict[str, Any]], outcomes: list["Episodes"]) -> list[list[Any]]:
    """A row for each episode of each run."""
    return [
        [*row.values(), index, *outcome]
        for row, episodes in zip(labels, outcomes, strict=True)
        for index, outcome in enumerate(
            zip(
                np.asarray(episodes.returns),
                np.asarray(episodes.lengths),
                np.asarray(episodes.survived, int),
                strict=True,
            )
        )
    ]


if __name__ == "__main__":
    keep_compiled()
    sys.exit(guarded(evaluate, sys.argv[1:]))
