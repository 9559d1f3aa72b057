"""What the Gymnasium environments compute, compiled: pure functions of keys and states."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import SAME_NUMBERS, GameConfig
from jaxdodge.render.topdown import draw
from jaxdodge.sim.env import DodgeEnv, EnvState
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.publish import scene
from jaxdodge.sim.state import select


def compiled_functions(config: GameConfig) -> "CompiledFunctions":
    """The functions of a configuration; configurations that differ in numbers only share them."""
    return _compiled(dataclasses.replace(config, **SAME_NUMBERS), config.thrower_slots)


class CompiledFunctions:
    """What both classes of `jaxdodge.sim.gym` do with an environment; each function compiles once.

    A key is the data of a random key, uint32 (2,), which can be pickled. "Seen" is the observation
    and the counts of a state. Nothing here starts JAX before the first call.
    """

    def __init__(self, config: GameConfig, thrower_slots: int):
        self.env = DodgeEnv(config, thrower_slots=thrower_slots)
        self.reset = jax.jit(self._reset)
        self.step = jax.jit(self._step)
        over_envs = (0, 0, 0, 0, 0, None)
        self.reset_many = jax.jit(jax.vmap(self._reset, in_axes=over_envs))
        self.step_and_reset_many = jax.jit(jax.vmap(self._step_and_restart, in_axes=(0, 0, 0, None)))
        self.step_or_reset_many = jax.jit(jax.vmap(self._step_or_restart, in_axes=(0, 0, 0, 0, None)))
        self.see_many = jax.jit(jax.vmap(self._see, in_axes=(0, None)))

    def unset(self, num_envs: int | None = None) -> tuple[Any, EnvState]:
        """Keys and states of environments that have not begun: zeros, for `reset`."""
        batch = () if num_envs is None else (num_envs,)
        state = jax.tree.map(
            lambda leaf: np.zeros((*batch, *leaf.shape), leaf.dtype), jax.eval_shape(self.env.start)
        )
        return np.zeros((*batch, 2), np.uint32), state

    def _begin(self, words: jax.Array, params: GameParams) -> tuple[jax.Array, EnvState]:
        key = jax.random.fold_in(jax.random.key(words[0]), words[1])
        key, key_reset = jax.random.split(key)
        _, state = self.env.reset(key_reset, params)
        return jax.random.key_data(key), state

    def _restart(self, data: jax.Array, state: EnvState, params: GameParams) -> tuple[jax.Array, EnvState]:
        key, key_restart = jax.random.split(jax.random.wrap_key_data(data))
        _, state = self.env.restart(key_restart, state, params)
        return jax.random.key_data(key), state

    def _reset(
        self,
        data: jax.Array,
        state: EnvState,
        words: jax.Array,
        fresh: jax.Array,
        again: jax.Array,
        params: GameParams,
    ) -> Any:
        """Begin if `fresh`, else restart if `again`, else leave the state: key, state, seen."""
        restarted = self._restart(data, state, params)
        data, state = select(fresh, self._begin(words, params), select(again, restarted, (data, state)))
        return data, state, self._see(state, params)

    def _step(self, data: jax.Array, state: EnvState, action: jax.Array, params: GameParams) -> Any:
        """Key, state, seen, (reward, terminated, truncated)."""
        key, key_step = jax.random.split(jax.random.wrap_key_data(data))
        _, state, reward, terminated, _ = self.env.step_env(key_step, state, action, params)
        flags = reward, terminated, self.env.is_truncated(state, params)
        return jax.random.key_data(key), state, self._see(state, params), flags

    def _step_and_restart(
        self, data: jax.Array, state: EnvState, action: jax.Array, params: GameParams
    ) -> Any:
        """A step, and the reset if it ended the episode. `after` is the state between the two."""
        data, after, _, flags = self._step(data, state, action, params)
        ended = flags[1] | flags[2]
        # Select the state, then observe: an image is drawn once, not once per candidate.
        data, state = select(ended, self._restart(data, after, params), (data, after))
        return data, state, self._see(state, params), flags, after

    def _step_or_restart(
        self, data: jax.Array, state: EnvState, action: jax.Array, again: jax.Array, params: GameParams
    ) -> Any:
        """A reset if `again`, with reward 0 and false flags, else a step."""
        stepped_data, stepped, _, flags = self._step(data, state, action, params)
        data, state = select(again, self._restart(data, state, params), (stepped_data, stepped))
        flags = jax.tree.map(lambda flag: jnp.where(again, flag.dtype.type(0), flag), flags)
        return data, state, self._see(state, params), flags

    def _see(self, state: EnvState, params: GameParams) -> Any:
        return self.env.observe(None, state, None, params), self.env.counts(state)


_compiled = functools.lru_cache(maxsize=16)(CompiledFunctions)


@functools.partial(jax.jit, static_argnames=("width", "height"))
def render_many(state: EnvState, width: int, height: int) -> jax.Array:
    """Top-down images of states, uint8 (num_envs, height, width, 3)."""
    return jax.vmap(lambda one: draw(scene(one.game), width=width, height=height, grayscale=False))(state)
