"""`python -m jaxdodge.evaluate RUN`: play a run's policy deterministically, also in other games.

Exit status: 0 played, 2 bad input.
"""

import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml

from jaxdodge.agents.options import parse_options
from jaxdodge.agents.runs import POLICIES, Run
from jaxdodge.cli import guarded
from jaxdodge.config import GAME_FIELDS, LEVELS, GameConfig
from jaxdodge.fields import ConfigError, Name, Number, check_names


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Play episodes with the policy of a run and print mean, standard deviation and survival rate.

    The options of the game change it for the evaluation; without them it is the one of the training.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, results/NAME/TIME."""
    episodes: int = 128
    """Episodes to play, all at once."""
    policy: str = "best"
    """best or final."""
    seed: int = 0
    """Seed of the throws."""
    grid: tuple[str, ...] = ()
    """Settings to play in all combinations, such as frames_per_step=6,7,8 response_frame=0,full."""

    def __post_init__(self) -> None:
        Number(int, 1, 1_000_000).check("episodes", self.episodes)
        Number(int, 0, 2**32 - 1).check("seed", self.seed)
        Name(POLICIES).check("policy", self.policy)


def evaluate(arguments: list[str]) -> int:
    """Parse, play, print, and return the exit status."""
    options, given = parse_options(Evaluate, (GameConfig,), "jaxdodge.evaluate", arguments, {})
    run = Run.open(options.run)
    trained, config = run.config()
    settings = [given | combination for combination in _combinations(options.grid)]
    games = [_changed(trained, setting) for setting in settings]
    path = run.policy_path(options.policy)

    import jax

    from jaxdodge.agents.evaluation import evaluate as play
    from jaxdodge.agents.game import make_sac

    print(f"{path}: {options.episodes} episodes each, deterministic", flush=True)
    for setting, game in zip(settings, games, strict=True):
        sac = make_sac(game, config)
        weights = run.load_policy(options.policy, sac.actor_shapes())
        key = jax.random.key(options.seed)
        summary = play(sac.env, sac.policy, weights, sac.env.default_params, key, options.episodes).summary()
        changes = ", ".join(f"{name} {getattr(game, name)}" for name in setting)
        print(
            f"return {summary['mean']:7.1f} ± {summary['std']:5.1f}  survival {summary['survival']:6.1%}  "
            f"responses {summary['length']:6.1f}  {changes}".rstrip(),
            flush=True,
        )
    return 0


def _combinations(grid: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every combination of the values of NAME=VALUE,VALUE ...; raises ConfigError."""
    axes = {}
    for axis in grid:
        name, equals, values = axis.partition("=")
        if not equals:
            raise ConfigError(f"grid: {axis!r} is refused; accepted: NAME=VALUE,VALUE ...")
        axes[name.replace("-", "_")] = [yaml.safe_load(value) for value in values.split(",")]
    check_names(axes, GAME_FIELDS, "the game")
    return (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))


def _changed(trained: GameConfig, setting: dict[str, Any]) -> GameConfig:
    """The game of the training with other settings, with what follows from those derived anew."""
    derived = {"projectile_slots", *(LEVELS[1] if "level" in setting else ())}
    kept = {name: value for name, value in dataclasses.asdict(trained).items() if name not in derived}
    if setting.get("response_frame") == "full":
        setting = setting | {"response_frame": None}
    game = GameConfig(**kept | setting)
    for name in ("action_space_type", "observation_mode", "frame_stack", "observe_previous_action"):
        if getattr(game, name) != getattr(trained, name):
            raise ConfigError(
                f"{name}: {getattr(game, name)!r} is refused; accepted: {getattr(trained, name)!r}, "
                "which the policy was trained with"
            )
    return game


if __name__ == "__main__":
    sys.exit(guarded(evaluate, sys.argv[1:]))
