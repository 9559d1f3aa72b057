"""What the networks see of arenas, what the replay keeps of it, and the inputs of a batch from that."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

from jaxdodge.agents.networks import random_shift
from jaxdodge.agents.replay import Stack, Transition
from jaxdodge.agents.sac_agent import Batch


class View:
    """What a network sees of an arena.

    Args:
        env: with `observe`, `entry` and `assemble`, see `DodgeEnv`.
        features: from an observation of `env`, batched or not, to the inputs of the networks.
        keeps_inputs: the replay keeps the inputs themselves, not the entries that they can be made from:
            right where those are no smaller, and `env` stacks no frames.
    """

    def __init__(self, env: Any, features: Callable[[Any], Any], keeps_inputs: bool = False):
        self.env = env
        self.features = features
        self.keeps_inputs = keeps_inputs

    def seen(self, env_state: Any, params: Any) -> Any:
        """The inputs of all arenas, from their states and parameters."""
        observe = jax.vmap(partial(self.env.observe, None, action=None))
        return self.features(observe(state=env_state, params=params))

    def entries(self, env_state: Any, params: Any) -> Any:
        """What the replay keeps of all arenas."""
        return (self.seen if self.keeps_inputs else jax.vmap(self.env.entry))(env_state, params)

    def inputs(self, stacks: Stack) -> Any:
        """Of a batch of stacks, which may be longer than this view's."""
        frames = self.env.config.frame_stack
        entries = jax.tree.map(lambda array: array[:, -frames:], stacks.entries)
        if self.keeps_inputs:
            return jax.tree.map(lambda array: array[:, 0], entries)
        return self.features(jax.vmap(self.env.assemble)(entries, stacks.time, stacks.previous_action))


def make_batch(
    keys: Sequence[jax.Array], drawn: Transition, view: View, critic_view: View | None, shift_images: bool
) -> Batch:
    """The transitions as the networks see them.

    Args:
        keys: of the random shifts, one for each image of a transition.
        drawn: of entries by name, "actor", and "critic" if critics have a view of their own.
        view: of the actor.
        critic_view: None if critics see what the actor sees.
        shift_images: whether images are shifted (DrQ, Kostrikov et al. 2020).
    """
    key_shift, key_next = keys

    def of(view: View | None, name: str, stack: Stack) -> Any:
        return view and view.inputs(dataclasses.replace(stack, entries=stack.entries[name]))

    def shifted(key: jax.Array, inputs: Any) -> Any:
        if not (isinstance(inputs, dict) and shift_images):
            return inputs
        return inputs | {"image": random_shift(key, inputs["image"])}

    return Batch(
        inputs=shifted(key_shift, of(view, "actor", drawn.stack)),
        critic_inputs=of(critic_view, "critic", drawn.stack),
        action=drawn.action,
        reward=drawn.reward,
        discount=drawn.discount,
        next_inputs=shifted(key_next, of(view, "actor", drawn.next_stack)),
        next_critic_inputs=of(critic_view, "critic", drawn.next_stack),
    )
