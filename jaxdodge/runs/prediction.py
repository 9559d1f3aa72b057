"""What a policy scores on a server: predicted in the simulator, at the timing measured there."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax

from jaxdodge.agents.images import env_class
from jaxdodge.agents.program import make_trainer
from jaxdodge.bevy.policies import check_scripted, simulated
from jaxdodge.config import GameConfig
from jaxdodge.evaluation.episodes import Episodes
from jaxdodge.evaluation.in_turn import Clock, Policy, evaluate_in_turn
from jaxdodge.fields import ConfigError
from jaxdodge.recordings.timing_file import StepTimings
from jaxdodge.runs.folder import Run, changed_game
from jaxdodge.runs.options import DEFAULTS
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.order import SHOWING_DONE_AFTER

IN_TURN = 16
"""Episodes one after another on a simulated server."""
TIMING_FIELDS = ("frames_per_step", "response_frame", "fps")


@dataclasses.dataclass(frozen=True)
class Player:
    """Who plays in the simulator: a run's policy, or a scripted one."""

    game: GameConfig
    """That it was made for."""
    act: Callable[[int], tuple[Policy, Any]]
    """From the number of servers to a policy and its weights."""
    env_class: Callable[..., DodgeEnv] = DodgeEnv


def trained_player(run: Run, name: str, sampled: bool = False) -> Player:
    """The best or final policy of a run; raises ConfigError if there is none."""
    game, config = run.config()
    trainer = make_trainer(game, config)
    weights = run.load_policy(name, trainer.policy_shapes())

    def act(weights: Any, observation: Any, number: jax.Array, key: jax.Array) -> jax.Array:
        if sampled:
            return trainer.sampled_policy(weights, observation, key)
        return trainer.policy(weights, observation)

    return Player(game, lambda servers: (act, weights), env_class(config))


def scripted_game(given: dict[str, Any]) -> GameConfig:
    """The game of a scripted policy: that of `jaxdodge train`, with these fields changed."""
    return GameConfig.from_mapping({**DEFAULTS, **given})


def scripted_player(name: str, game: GameConfig, seed: int) -> Player:
    """A scripted policy, see `ScriptedPolicy`; raises ConfigError if it cannot play this game."""
    check_scripted(name, game)
    return Player(game, lambda servers: simulated(name, game, servers, seed))


def predict(
    player: Player, given: dict[str, Any], steps: StepTimings | None, episodes: int, seed: int
) -> Episodes:
    """Play episodes one after another at a measured timing.

    Args:
        player: who plays.
        given: fields of the game to change.
        steps: the measured steps; None for the timing of the game.
        episodes: of all simulated servers together.
        seed: of everything random.

    Raises:
        ConfigError: the policy could not play this game.
    """
    for name in TIMING_FIELDS:
        if steps is not None and name in given:
            raise ConfigError(f"{name}: invalid together with --timing, which decides it")
    game = changed_game(player.game, given if steps is None else given | steps.median())
    steps = StepTimings.constant(game) if steps is None else steps
    all_frames = steps.frames, steps.frames_before_reset, steps.frames_after_reset
    longest = max(int(frames.max(initial=1)) for frames in all_frames)
    env = player.env_class(game, longest, order=SHOWING_DONE_AFTER[steps.frames_to_done])
    servers = math.ceil(episodes / IN_TURN)
    in_turn = math.ceil(episodes / servers)
    policy, weights = player.act(servers)
    key, params, clock = jax.random.key(seed), env.default_params, Clock.of(steps)
    played = evaluate_in_turn(env, policy, weights, params, clock, key, servers, in_turn)
    first: Episodes = jax.tree.map(lambda of_all: of_all[:episodes], played)
    return first
