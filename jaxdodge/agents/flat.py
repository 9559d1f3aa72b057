"""The networks of a learner as one vector each: on a GPU every array costs kernels of its own.

The same update then computes the optimizer's step and the averages of a network in one kernel.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from jaxdodge.agents.network_kernel import kernel_module
from jaxdodge.agents.networks import Params, SACNetworks
from jaxdodge.agents.sac_agent import LearnerState, SACAgent


@dataclasses.dataclass(frozen=True)
class FlatModule:
    """A Flax module whose parameters are one vector."""

    module: Any
    unravel: Callable[[jax.Array], Params]

    def apply(self, vector: jax.Array, *arguments: Any) -> Any:
        return self.module.apply(self.unravel(vector), *arguments)


def flat(
    agent: SACAgent, learner: LearnerState, kernels: bool
) -> tuple[SACAgent, LearnerState, Callable[[LearnerState], LearnerState]]:
    """An agent and a learner with the parameters of each network in one vector.

    Args:
        agent: of `learner`.
        learner: its optimizers' states are flattened too.
        kernels: whether actor and critics become kernels where they can, see `NetworkKernel`.

    Returns:
        The agent, the learner, and a function that makes a learner as before of one like it.
    """
    networks = agent.networks
    params = learner.policy.encoder, learner.policy.actor, learner.critic_params
    modules = networks.encoder, networks.actor, networks.critics
    structures = [jax.tree.structure(one) for one in params]
    flat_modules: list[Any] = [
        FlatModule(module, ravel_pytree(one)[1]) for module, one in zip(modules, params, strict=True)
    ]
    if kernels:
        flat_modules[1:] = map(kernel_module, modules[1:], params[1:], flat_modules[1:])
    flat_agent = copy.copy(agent)
    flat_agent.networks = SACNetworks(*flat_modules)

    def is_network(tree: Any) -> bool:
        return jax.tree.structure(tree) in structures

    structure: Any
    parts, structure = jax.tree.flatten(learner, is_leaf=is_network)
    unravels = [ravel_pytree(part)[1] if is_network(part) else lambda leaf: leaf for part in parts]

    def unflatten(learner: LearnerState) -> LearnerState:
        vectors = structure.flatten_up_to(learner)
        return structure.unflatten([unravel(one) for unravel, one in zip(unravels, vectors, strict=True)])

    vectors = [ravel_pytree(part)[0] if is_network(part) else part for part in parts]
    return flat_agent, structure.unflatten(vectors), unflatten
