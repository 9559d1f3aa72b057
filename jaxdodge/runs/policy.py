"""A run's policy, ready to act: observations in, actions out."""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from jaxdodge.agents.program import make_trainer
from jaxdodge.fields import Number
from jaxdodge.runs.folder import Run
from jaxdodge.sim.actions import action_size
from jaxdodge.sim.spaces import observation_space, published_space

if TYPE_CHECKING:
    from jaxdodge.agents.sac_agent import PolicyParams
    from jaxdodge.sim.gymnax import GymnaxDodgeEnv


class Memory(NamedTuple):
    """What a policy remembers of an episode; with a leading axis (n,) for many."""

    frames: Any
    """The latest publications, (frame_stack, ...), oldest first."""
    time: Any
    """int32: publications since the start, minus one."""
    previous_action: Any
    """float32 (components,)."""


class Agent:
    """A trained policy, ready to act. `jaxdodge.load` makes one.

    `act` takes observations of two kinds, told apart by their shape:

    - of `env`, as `reset` and `step` return them: with their frame stack and previous action.
    - as a server publishes them: one frame, float32 (65,) or (69,), or uint8 (height, width,
      channels). The agent then keeps the frame stack and the previous action, with the code of the
      training, until `reset`.

    `policy(params, observation)` and `sampled_policy(params, observation, key)` are the pure
    functions for `jit` and `vmap`: from observations of `env`, one or a batch, to actions.

    Args:
        run: a run of one seed.
        policy: best or final.
        seed: of sampled actions.

    Raises:
        ConfigError: the run is damaged, has no such policy, or its weights are not finite.
    """

    def __init__(self, run: Run, policy: str = "best", seed: int = 0):
        Number(int, 0).check("seed", seed)
        self.run = run
        self.game, config = run.config()
        self._trainer = make_trainer(self.game, config)
        self._params = run.load_policy(policy, self._trainer.policy_shapes())
        self.policy = self._trainer.policy
        self.sampled_policy = self._trainer.sampled_policy
        self._generator = np.random.default_rng(seed)
        # A list of arrays passes into a compiled function faster than a tree of dataclasses.
        self._weights, self._structure = jax.tree.flatten(jax.device_put(self._params))
        self._respond = jax.jit(self._response)
        self._respond_to_published = jax.jit(self._response_to_published)
        space, observed = published_space(self.game), observation_space(self.game)
        self._dtype, self._published_shape = space.dtype, space.shape
        # An image and the previous action are a dictionary.
        self._is_dict = isinstance(observed, spaces.Dict)
        self._observed_shape = (observed["image"] if isinstance(observed, spaces.Dict) else observed).shape
        self._memory: Memory | None = None
        # Compile now, because a real-time game does not wait for the first action.
        self.act(np.zeros(space.shape, space.dtype))
        self.reset()

    @property
    def params(self) -> "PolicyParams":
        """The parameters of the policy, for the pure functions."""
        return self._params

    @functools.cached_property
    def env(self) -> "GymnaxDodgeEnv":
        """The environment that the policy was trained for, without domain randomization."""
        from jaxdodge.sim.gymnax import GymnaxDodgeEnv

        return GymnaxDodgeEnv(self.game)

    def reset(self, ended: Any = None) -> None:
        """Forget the frames and the previous action: an episode begins.

        Args:
            ended: with many published observations, bool (n,): where an episode begins; default
                everywhere.
        """
        if ended is None or self._memory is None:
            self._memory = None
            return
        ended = jnp.asarray(ended)
        frames, time, previous_action = self._memory
        # Frames before the first one of an episode count as zeros, whatever stands there.
        self._memory = Memory(
            frames, jnp.where(ended, -1, time), jnp.where(ended[..., None], 0, previous_action)
        )

    def act(self, observation: Any, sampled: bool = False) -> Any:
        """Return the action for the latest observation, or for each of many.

        Args:
            observation: NumPy or JAX, of one of the two kinds that the class describes; many have a
                leading axis (n,).
            sampled: sample from the policy's distribution instead of taking its mode.

        Returns:
            float32 (components,) or (n, components) in [-1, 1]: of NumPy if the observation is,
            else of JAX.

        Raises:
            ValueError: an observation of another shape or dtype, or one that is not finite.
        """
        frames = observation["image"] if isinstance(observation, dict) else observation
        words = self._generator.integers(2**32, size=2, dtype=np.uint32) if sampled else None
        is_whole = self._is_whole(observation, frames)
        # An action of NaN would be remembered, and make all that follow NaN.
        if not (self._dtype == np.uint8 or isinstance(frames, jax.core.Tracer) or np.isfinite(frames).all()):
            raise ValueError("observation: invalid value, not finite; expected finite numbers")
        if is_whole:
            action = self._respond(self._weights, observation, words)
        else:
            action = self._act_on_published(frames, words)
        return action if isinstance(frames, jax.Array) else np.array(action)

    def _is_whole(self, observation: Any, frames: Any) -> bool:
        """Whether the observation is one of `env`; raises ValueError if it is of neither kind."""
        shape, dtype = np.shape(frames), getattr(frames, "dtype", type(frames).__name__)
        rank, is_dict = len(self._published_shape), isinstance(observation, dict)
        if len(shape) - rank in (0, 1) and (dtype == self._dtype or self._dtype != np.uint8):
            if shape[-rank:] == self._observed_shape and is_dict == self._is_dict:
                return True
            if shape[-rank:] == self._published_shape and not is_dict:
                return False
        shapes = " or ".join(dict.fromkeys(map(str, (self._published_shape, self._observed_shape))))
        raise ValueError(
            f"observation: invalid value of {dtype} {shape}; expected {self._dtype} {shapes}, one or many"
        )

    def _act_on_published(self, published: Any, words: Any) -> jax.Array:
        batch = np.shape(published)[: -len(self._published_shape)]
        if self._memory is None:
            stack = (*batch, self.game.frame_stack, *self._published_shape)
            self._memory = Memory(
                np.zeros(stack, self._dtype),
                np.full(batch, -1, np.int32),
                np.zeros((*batch, action_size(self.game.action_space_type)), np.float32),
            )
        elif np.shape(self._memory.time) != batch:
            before = (*np.shape(self._memory.time), *self._published_shape)
            raise ValueError(
                f"observation: invalid value of shape {np.shape(published)}; expected {before} as before "
                "(reset() begins anew)"
            )
        action, self._memory = self._respond_to_published(self._weights, self._memory, published, words)
        return action

    def _response(self, weights: list[jax.Array], observation: Any, words: Any) -> jax.Array:
        params = jax.tree.unflatten(self._structure, weights)
        if words is None:
            return self.policy(params, observation)
        key = jax.random.fold_in(jax.random.key(words[0]), words[1])
        return self.sampled_policy(params, observation, key)

    def _response_to_published(
        self, weights: list[jax.Array], memory: Memory, published: Any, words: Any
    ) -> tuple[jax.Array, Memory]:
        def remember(memory: Memory, published: Any) -> tuple[Any, Any, Any]:
            frames = jnp.concatenate([memory.frames[1:], jnp.asarray(published, self._dtype)[None]])
            time = memory.time + 1
            return frames, time, self._trainer.env.stack(frames, time, memory.previous_action)

        if jnp.ndim(memory.time):
            remember = jax.vmap(remember)
        frames, time, observation = remember(memory, published)
        action = self._response(weights, observation, words)
        return action, Memory(frames, time, action)
