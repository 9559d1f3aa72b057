"""Episodes of a trained policy in the simulator, with all their states."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.agents.images import env_class
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.randomization import randomized_env
from jaxdodge.agents.train_config import DomainRandomization
from jaxdodge.render.topdown import locate
from jaxdodge.runs.folder import Run, changed_game
from jaxdodge.sim.actions import COMPONENTS
from jaxdodge.sim.publish import scene
from jaxdodge.sim.spaces import published_space
from jaxdodge.viewer.tracks import HIT, PLAYING, SURVIVED, Episode, Images, Replay, Track


def replay_of_run(
    folder: Path,
    policy_name: str,
    given: dict[str, Any],
    episodes: int,
    shown: int,
    steps: int,
    seed: int,
    sampled: bool,
) -> Replay:
    """Play a run's policy and keep some episodes: the worst, the median and the best first.

    Args:
        folder: of a run of one seed.
        policy_name: best or final.
        given: fields of the game that differ from the training.
        episodes: how many are played, all at once.
        shown: how many are kept.
        steps: of an episode at most; a longer one is cut.
        seed: of the throws and of sampled actions.
        sampled: sample the actions.

    Raises:
        ConfigError: bad input.
    """
    run = Run.open_one(folder)
    trained, config = run.config()
    game = changed_game(trained, given)
    trainer = make_trainer(trained, config)
    weights = run.load_policy(policy_name, trainer.policy_shapes())
    env = randomized_env(game, DomainRandomization(), env_class(config))
    policy = trainer.sampled_policy if sampled else trainer.policy
    steps = min(steps, game.max_episode_steps + 1)
    recorded = jax.tree.map(
        np.asarray, _play(env, policy, weights, jax.random.key(seed), episodes, steps, sampled)
    )
    lengths, returns = _outcomes(recorded)
    kept = _ranks(returns, shown)
    survived = np.mean([recorded["ended"][length - 1, i] != HIT for i, length in enumerate(lengths)])
    image = game.observation_mode == "topdown"
    pixels = f"{game.image_obs_width} x {game.image_obs_height} pixels"
    channels = "gray" if game.image_grayscale else "colour"
    averaged = f", averaged in blocks of {config.squint} x {config.squint}" if config.squint > 1 else ""
    seen = f"{pixels}, {channels}{averaged}" if image else f"{published_space(game).shape[0]} numbers"
    stacked = f", {game.frame_stack} stacked" if game.frame_stack > 1 else ""
    return Replay(
        title=f"{folder.parent.name}/{folder.name}" if folder.parent.name else f"{folder}",
        subtitle=(
            f"{policy_name} policy, {episodes} episodes{', sampled' if sampled else ''}: return "
            f"{np.mean(returns):.1f} ± {np.std(returns):.1f}, survival {survived:.1%}; level {game.level}"
            f"{f', angle {game.spawn_angle_degrees:g}' if game.random_spawn_position else ''}, "
            f"{game.frames_per_step} frames per step at {game.fps:g} fps"
        ),
        episodes=[
            _episode(name, recorded, index, int(lengths[index]), game.frames_per_step / game.fps, image)
            for name, index in kept
        ],
        actions=COMPONENTS[game.action_space_type],
        spawn_angle=game.spawn_angle_degrees if game.random_spawn_position else None,
        bonus_distance=game.dodge_bonus_threshold,
        observed=f"{seen}{stacked}",
        frame_stack=game.frame_stack,
        images=Images(game.image_obs_width, game.image_obs_height, game.image_grayscale, config.squint)
        if image
        else None,
    )


@partial(jax.jit, static_argnames=("env", "policy", "episodes", "steps", "sampled"))
def _play(
    env: Any,
    policy: Callable[..., jax.Array],
    weights: Any,
    key: jax.Array,
    episodes: int,
    steps: int,
    sampled: bool,
) -> dict[str, Any]:
    """States, actions, rewards and ends, arrays (steps, episodes, ...); what follows an end too."""
    params, config = env.default_params, env.config
    size = {"width": config.image_obs_width, "height": config.image_obs_height}
    key, key_reset = jax.random.split(key)
    _, state = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key_reset, episodes), params)

    def step(carry: Any, _: Any) -> Any:
        key, state, reward, ended = carry
        key, key_step, key_action = jax.random.split(key, 3)
        observation = jax.vmap(lambda state: env.observe(None, state, None, params))(state)
        action = policy(weights, observation, *((key_action,) if sampled else ()))
        game = state.game
        record = {
            "player": game.player,
            "projectiles": game.projectiles,
            "throwers": game.throwers,
            "action": action,
            "reward": reward,
            "ended": ended,
        }
        if config.observation_mode == "topdown":
            record["discs"] = jax.vmap(lambda game: locate(scene(game), **size))(game)
        keys = jax.random.split(key_step, episodes)
        _, state, reward, terminated, _ = jax.vmap(env.step_env, in_axes=(0, 0, 0, None))(
            keys, state, action, params
        )
        truncated = jax.vmap(env.is_truncated, in_axes=(0, None))(state, params)
        ended = jnp.where(terminated, HIT, jnp.where(truncated, SURVIVED, PLAYING))
        return (key, state, reward, ended), record

    start = key, state, jnp.zeros(episodes), jnp.full(episodes, PLAYING)
    return jax.lax.scan(step, start, None, length=steps + 1)[1]


def _outcomes(recorded: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Number of states and return of every episode."""
    ended = recorded["ended"] != PLAYING
    lengths = np.where(ended.any(axis=0), ended.argmax(axis=0) + 1, len(ended))
    within = np.arange(len(ended))[:, None] < lengths
    return lengths, np.where(within, recorded["reward"], 0).sum(axis=0, dtype=np.float64)


def _ranks(returns: np.ndarray, shown: int) -> list[tuple[str, int]]:
    """Names and numbers of episodes: worst, median, best, then others from the worst on."""
    order = np.argsort(returns, kind="stable")
    named = {0: "worst", len(order) // 2: "median", len(order) - 1: "best"}
    places = dict.fromkeys([0, len(order) // 2, len(order) - 1, *range(len(order))])
    return [(named.get(place, f"rank {place + 1} of {len(order)}"), int(order[place])) for place in places][
        :shown
    ]


def _episode(
    name: str, recorded: dict[str, Any], index: int, length: int, seconds: float, image: bool
) -> Episode:
    own = jax.tree.map(lambda array: array[:length, index], recorded)
    player, projectiles, throwers = own["player"], own["projectiles"], own["throwers"]
    action = own["action"].astype(np.float32)
    if own["ended"][-1] != PLAYING:
        action[-1] = np.nan
    return Episode(
        name=name,
        track=Track(
            player=_rows(player.position, player.velocity)[:, :5],
            projectiles=_rows(projectiles.position, projectiles.velocity),
            count=projectiles.count,
            throwers=_rows(throwers.position),
            thrower_count=throwers.count,
        ),
        seconds=seconds * np.arange(length),
        action=action,
        reward=own["reward"],
        ended=own["ended"],
        discs=own["discs"] if image else None,
    )


def _rows(*vectors: Any) -> np.ndarray:
    """Components of vectors as a last axis."""
    return np.stack([axis for vector in vectors for axis in (vector.x, vector.y, vector.z)], axis=-1)
