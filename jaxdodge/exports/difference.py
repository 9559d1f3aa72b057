"""How far an exported policy is from the policy itself, on observations of its own play."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdodge.agents.trainer import Trainer
from jaxdodge.config import GameConfig
from jaxdodge.sim.env import DodgeEnv

STEPS = 100


def largest_difference(
    trainer: Trainer, game: GameConfig, weights: Any, act: Callable[[Any], np.ndarray], count: int
) -> float:
    """The largest difference of a component of an action.

    Args:
        trainer: of the policy.
        game: that it was trained for.
        weights: of the policy.
        act: the exported policy: from observations (n, ...) to actions (n, components).
        count: observations to compare, rounded up to whole episodes' parts of STEPS.
    """
    env = DodgeEnv(game)
    params = env.default_params
    key_reset, key_steps = jax.random.split(jax.random.key(0))
    keys = jax.random.split(key_reset, -(-count // STEPS))
    observation, state = jax.vmap(env.reset, in_axes=(0, None))(keys, params)

    @jax.jit
    def step(key: jax.Array, observation: Any, state: Any) -> Any:
        action = trainer.policy(weights, observation)
        keys = jax.random.split(key, len(action))
        following = jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, state, action, params)
        return action, following[0], following[1]

    largest = 0.0
    for key in jax.random.split(key_steps, STEPS):
        seen = jax.tree.map(np.asarray, observation)
        expected, observation, state = step(key, observation, state)
        largest = max(largest, float(np.abs(act(seen) - np.asarray(expected)).max()))
    return largest
