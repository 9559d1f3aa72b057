"""What the networks observe, from states of the environment and from stored frames."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdodge.agents.losses import Batch
from jaxdodge.agents.replay import FrameStack, Transition


class Observer:
    """What a network observes of an environment, and what the replay stores of it.

    Args:
        env: with `observe`, `stored_frame`, `assemble` and `config`, see `DodgeEnv`.
        features: from an observation of `env`, batched or not, to that of the networks.
        store_features: store the result of `features`, not the frame that an observation is made
            from. This is right where it is no larger, and `env` stacks no frames.
    """

    def __init__(self, env: Any, features: Callable[[Any], Any], store_features: bool = False):
        self.env = env
        self.features = features
        self.store_features = store_features

    def observe(self, env_state: Any, env_params: Any) -> Any:
        """The observations of all environments, from their states and parameters."""
        observe = jax.vmap(partial(self.env.observe, None, action=None))
        return self.features(observe(state=env_state, params=env_params))

    def frames(self, env_state: Any, env_params: Any) -> Any:
        """The stored frames of all environments."""
        return (self.observe if self.store_features else jax.vmap(self.env.stored_frame))(
            env_state, env_params
        )

    def from_stacks(self, stacks: FrameStack) -> Any:
        """The observations of a batch of frame stacks, which may be longer than those of `env`."""
        count = self.env.config.frame_stack
        frames = jax.tree.map(lambda array: array[:, -count:], stacks.frames)
        if self.store_features:
            return jax.tree.map(lambda array: array[:, 0], frames)
        return self.features(jax.vmap(self.env.assemble)(frames, stacks.time, stacks.previous_action))


class Observers(NamedTuple):
    """Of the actor and of the critics; the same object where both observe the same."""

    actor: Observer
    critic: Observer

    @property
    def same(self) -> bool:
        """Whether the critics observe what the actor observes."""
        return self.critic is self.actor

    def frames(self, env_state: Any, env_params: Any) -> dict[str, Any]:
        """What the replay stores of all environments; what both observe only once."""
        frames = {"actor": self.actor.frames(env_state, env_params)}
        return frames if self.same else frames | {"critic": self.critic.frames(env_state, env_params)}


def make_batch(
    keys: Sequence[jax.Array], transitions: Transition, observers: Observers, shift_images: bool
) -> Batch:
    """Transitions as the agent takes them.

    Args:
        keys: two random keys, for the shifts of the observations and of the next ones.
        transitions: with stacks of what `Observers.frames` gives.
        observers: of the training.
        shift_images: whether images are shifted, see `random_shift`.
    """

    def observations(key: jax.Array, stacks: FrameStack) -> tuple[Any, Any]:
        """`actor_obs` and `critic_obs`."""
        actor_obs = observers.actor.from_stacks(stacks.replace(frames=stacks.frames["actor"]))
        if shift_images and isinstance(actor_obs, dict):
            actor_obs = actor_obs | {"image": random_shift(key, actor_obs["image"])}
        if observers.same:
            return actor_obs, actor_obs
        return actor_obs, observers.critic.from_stacks(stacks.replace(frames=stacks.frames["critic"]))

    actor_obs, critic_obs = observations(keys[0], transitions.stack)
    next_actor_obs, next_critic_obs = observations(keys[1], transitions.next_stack)
    return Batch(
        actor_obs=actor_obs,
        critic_obs=critic_obs,
        action=transitions.action,
        reward=transitions.reward,
        discount=transitions.discount,
        next_actor_obs=next_actor_obs,
        next_critic_obs=next_critic_obs,
    )


def shift_pixels(height: int, width: int) -> int:
    """The largest shift of images of a size: 4 pixels at 84, in proportion below, at least 1."""
    return max(1, min(4, round(4 * min(height, width) / 84)))


def random_shift(key: jax.Array, images: jax.Array) -> jax.Array:
    """Shift each image by a few pixels, repeating its edge; all frames of a stack by the same.

    Source: Kostrikov et al. 2020 (DrQ, arXiv 2004.13649), section 3.

    Args:
        key: random key.
        images: (batch, height, width, channels).
    """
    batch, height, width, _ = images.shape
    reach = shift_pixels(height, width)
    shifts = jax.random.randint(key, (2, batch, 1), -reach, reach + 1, jnp.int32)
    rows = jnp.clip(jnp.arange(height, dtype=jnp.int32) + shifts[0], 0, height - 1)
    columns = jnp.clip(jnp.arange(width, dtype=jnp.int32) + shifts[1], 0, width - 1)
    return jax.vmap(lambda image, row, column: image[row][:, column])(images, rows, columns)
