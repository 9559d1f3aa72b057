"""`jaxdodge evaluate RUN|POLICY`: play a run's policy, also in other games, with intervals.

Exit status: 0 played, 1 the server failed, 2 bad input, 130 stopped by Ctrl-C or, with --server,
143 by SIGTERM (the CSV file or the session has what was played until then).
"""

import dataclasses
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from jaxdodge.agents.train_config import DomainRandomization, TrainConfig
from jaxdodge.cli import guarded
from jaxdodge.config import GameConfig
from jaxdodge.evaluation.episode_csv import episode_csv
from jaxdodge.evaluation.statistics import histogram
from jaxdodge.evaluation.tables import FIGURES, column_widths, figures, line, matrix, over_seeds
from jaxdodge.fields import ConfigError, Name, Number
from jaxdodge.hardware import keep_compiled
from jaxdodge.recordings.timing_file import read_steps
from jaxdodge.runs.conditions import Condition, conditions_of, read_grid
from jaxdodge.runs.folder import POLICIES, SCRIPTED, Run, common_config
from jaxdodge.runs.options import parse_options

if TYPE_CHECKING:
    from jaxdodge.evaluation.episodes import Episodes

DEFAULT_EPISODES = 128
DEFAULT_SERVER_EPISODES = 10


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Play episodes with the policy of a run; print return, interquartile mean (IQM) and survival.

    Intervals are 95 % intervals: bootstrap for the IQM, Wilson's formula for the survival rate.
    Options of the game change it for the evaluation; without them it is the game of the training.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, results/NAME/TIME. If it holds seed_0, seed_1, ..., all are played.
    Or a scripted policy: random, still, strafe (from side to side; needs vectors) or circle."""
    episodes: int | None = None
    """Episodes to play: 128, all at once; on a server 10, one after the other, in real time."""
    policy: str = "best"
    """best or final."""
    sampled: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Sample the actions from the policy's distribution instead of taking its mean."""
    seed: int = 0
    """Seed of the simulator's throws, of sampled actions and of a scripted policy: the actions of
    random, where circle begins, and strafe's first side."""
    grid: tuple[str, ...] = ()
    """Settings to play in all combinations, such as frames_per_step=6,7,8 response_frame=0,full."""
    robustness: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also play with domain randomization: frame time, frames per step, response frame, throws."""
    csv: Path | None = None
    """CSV file to write or replace, with a row for each episode in each setting."""
    timing: Path | None = None
    """File written by `jaxdodge parity timing --out`: predict the score on that server, with the
    measured steps, and episodes one after another."""
    server: str | None = None
    """Play on a server, and compare with the simulator at the timing measured there:
    http://HOST:PORT, grpc://HOST:PORT or unix:///PATH. --fps is then that of the server."""
    record: Path | None = None
    """With --server: file to write the API session to."""
    think_seconds: float | None = None
    """With --server: pause after each step; default: for the training's frames per step."""
    timeout: float = 30.0
    """With --server: seconds to wait for a response."""

    def __post_init__(self) -> None:
        if self.episodes is not None:
            Number(int, 1, 1_000_000).check("episodes", self.episodes)
        Number(int, 0, 2**32 - 1).check("seed", self.seed)
        Name(POLICIES).check("policy", self.policy)
        if self.think_seconds is not None:
            Number(float, 0).check("think_seconds", self.think_seconds)
        for name in ("record", "think_seconds"):
            if self.server is None and getattr(self, name) is not None:
                raise ConfigError(f"{name}: expected with --server")


def evaluate(arguments: list[str]) -> int:
    """Parse, play, print, and return the exit status."""
    options, given = parse_options(Evaluate, (GameConfig,), "jaxdodge evaluate", arguments)
    if options.server is not None:
        return _evaluate_on_server(options, options.server, given)
    if options.timing is not None or str(options.run) in SCRIPTED:
        return _predict(options, given)
    runs = Run.open_seeds(options.run)
    trained, config = common_config(runs)
    axes = read_grid(options.grid)
    conditions = conditions_of(trained, given, axes, options.robustness)
    several = runs[0].folder != options.run
    options, runs = _what_is_there(options, runs)
    labels = [
        [condition.labels | ({"folder": run.folder.name} if several else {}) for run in runs]
        for condition in conditions
    ]
    fixed = {name: conditions[0].labels[name] for name in given if name not in axes}
    columns = [*axes, *(name for name in labels[0][0] if name not in given | axes)]
    widths = column_widths(columns, [row for rows in labels for row in rows])
    summaries = []
    with episode_csv(options.csv, [*labels[0][0]]) as write:
        print(_title(options, len(runs) if several else None, fixed))
        print(line({name: name for name in columns}, widths, FIGURES), flush=True)
        outcomes = _play(options, runs, trained, config, conditions)
        for rows, episodes_of_runs in zip(labels, outcomes, strict=True):
            for row, episodes in zip(rows, episodes_of_runs, strict=True):
                write(row, episodes)
            summaries.append([episodes.summary() for episodes in episodes_of_runs])
            for row, summary in zip(rows, summaries[-1], strict=True):
                print(line(row, widths, figures(summary)), flush=True)
            if several:
                print(over_seeds(summaries[-1]), flush=True)
    if len(conditions) == 1 and not several:
        print(f"\nmedian return {summaries[0][0]['median']:.1f}; returns:")
        print(*histogram(episodes_of_runs[0].returns), sep="\n")
    if len(axes) == 2 and not options.robustness:
        for title, name, form in (("IQM", "iqm", ".1f"), ("survival", "survival", ".1%")):
            means = [np.mean([summary[name] for summary in of_runs]) for of_runs in summaries]
            print(*matrix(title, axes, [f"{mean:{form}}" for mean in means]), sep="\n")
    return 0


def _what_is_there(options: Evaluate, runs: list[Run]) -> tuple[Evaluate, list[Run]]:
    """The policy and the seeds that can be played while the training still runs, with a line each.

    Raises:
        ConfigError: there is no policy yet.
    """
    if not any((run.folder / "models" / options.policy).is_file() for run in runs):
        other = "best" if options.policy == "final" else "final"
        if not any((run.folder / "models" / other).is_file() for run in runs):
            runs[0].policy_path(options.policy)
        print(f"{options.run}: no {options.policy} policy yet; the {other} one plays", file=sys.stderr)
        options = dataclasses.replace(options, policy=other)
    there = [run for run in runs if (run.folder / "models" / options.policy).is_file()]
    for run in runs:
        if run not in there:
            print(f"{run.folder}: no {options.policy} policy yet; left out", file=sys.stderr)
    return options, there


def _title(options: Evaluate, seeds: int | None, fixed: dict[str, Any]) -> str:
    """The line that says what is played; `seeds` is None for a run without folders of seeds."""
    policy = f"{options.run}: {options.policy} policy" + (f" of {seeds} seeds" if seeds else "")
    episodes = f"{options.episodes or DEFAULT_EPISODES} episodes each"
    actions = "sampled" if options.sampled else "deterministic"
    return ", ".join([policy, episodes, actions, *(f"{name} {value}" for name, value in fixed.items())])


def _play(
    options: Evaluate, runs: list[Run], trained: GameConfig, config: TrainConfig, conditions: list[Condition]
) -> Iterator[list["Episodes"]]:
    """The episodes of each run, condition by condition; raises ConfigError before the first."""
    import jax

    from jaxdodge.agents.images import env_class
    from jaxdodge.agents.program import make_trainer
    from jaxdodge.agents.randomization import draw_params, randomized_env
    from jaxdodge.evaluation.episodes import evaluate as play

    # The networks observe the trained game, whichever game they play.
    trainer = make_trainer(trained, config)
    policy = trainer.sampled_policy if options.sampled else trainer.policy
    policies = [run.load_policy(options.policy, trainer.policy_shapes()) for run in runs]
    key, episodes = jax.random.key(options.seed), options.episodes or DEFAULT_EPISODES
    for condition in conditions:
        randomization = condition.randomization
        env = randomized_env(condition.game, randomization, env_class(config))
        fixed = randomization == DomainRandomization()
        draw = None if fixed else partial(draw_params, randomization=randomization)
        params = env.default_params
        yield [
            play(env, policy, weights, params, key, episodes, options.sampled, draw) for weights in policies
        ]


def _predict(options: Evaluate, given: dict[str, Any]) -> int:
    """Play one episode after another, as on a server, at a measured timing or that of the game."""
    from jaxdodge.runs.prediction import predict, scripted_game, scripted_player, trained_player

    for name in ("grid", "robustness"):
        if getattr(options, name):
            raise ConfigError(f"{name}: invalid for a scripted policy, and together with --timing")
    steps = None if options.timing is None else read_steps(options.timing)
    if str(options.run) in SCRIPTED:
        players, names = [scripted_player(str(options.run), scripted_game(given), options.seed)], [""]
    else:
        options, runs = _what_is_there(options, Run.open_seeds(options.run))
        players = [trained_player(run, options.policy, options.sampled) for run in runs]
        names = [run.folder.name for run in runs]
    episodes = options.episodes or DEFAULT_EPISODES
    with episode_csv(options.csv, ["folder", *given]) as write:
        who = "scripted" if str(options.run) in SCRIPTED else options.policy
        at = "" if options.timing is None else f", at the timing of {options.timing}"
        print(f"{options.run}: {who} policy, {episodes} episodes, one after another{at}")
        print(line({"folder": ""}, {"folder": len(names[0])}, FIGURES), flush=True)
        for name, player in zip(names, players, strict=True):
            played = predict(player, given, steps, episodes, options.seed)
            write({"folder": name, **given}, played)
            print(line({"folder": name}, {"folder": len(name)}, figures(played.summary())), flush=True)
    return 0


def _evaluate_on_server(options: Evaluate, url: str, given: dict[str, Any]) -> int:
    from jaxdodge.parity.server_evaluation import evaluate_on_server

    if options.timing is not None:
        raise ConfigError("timing: invalid together with --server, where it is measured")
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


if __name__ == "__main__":
    keep_compiled()
    sys.exit(guarded(evaluate, sys.argv[1:]))
