"""What the networks see: from what the replay holds of arenas to the inputs of a batch."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxdodge.agents.learner import Batch
from jaxdodge.agents.networks import random_shift
from jaxdodge.agents.replay import Stack, Transition


class View:
    """What a network sees of an arena: entries are kept, stacks of them become its inputs.

    Args:
        env: with `entry` and `assemble`, see `DodgeEnv`.
        features: from an observation of `env`, batched or not, to the inputs of the networks.
    """

    def __init__(self, env: Any, features: Callable[[Any], Any]):
        self.env = env
        self.features = features

    def inputs(self, stacks: Stack) -> Any:
        """Of a batch of stacks, which may be longer than this view's."""
        frames = self.env.config.frame_stack
        entries = jax.tree.map(lambda array: array[:, -frames:], stacks.entries)
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
