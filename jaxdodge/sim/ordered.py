"""A frame in any order of its systems, the order being data.

A frame is a scan whose body switches over the systems, so frames of all orders share one compilation.
`jaxdodge.sim.frame` is the same for the simulator's own order, and faster.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.sim import systems
from jaxdodge.sim.frame import DEFERRED
from jaxdodge.sim.order import SYSTEMS, UNOBSERVABLE
from jaxdodge.sim.publish import STANDARD_SIZE, WITH_THROWER_SIZE, observe_vector, publish_state, scene
from jaxdodge.sim.state import State
from jaxdodge.sim.systems import Inputs, spawn_position

OBSERVATION_SIZE = np.array([STANDARD_SIZE, WITH_THROWER_SIZE, 0], np.int32)  # by observation mode
SPAWNERS = ("spawn_projectiles", "spawn_thrower_indicators")


def publish(state: State) -> dict:
    """Everything that `publish_state` publishes, in every mode at once."""
    published = publish_state(state)
    size = jnp.asarray(OBSERVATION_SIZE)[state.params.observation_mode]
    observation = observe_vector(state, with_thrower=True)
    return {
        "published_observation_size": size,
        "published_observation": jnp.where(jnp.arange(WITH_THROWER_SIZE) < size, observation, 0),
        "published_reward": published.reward,
        "published_done": published.terminated,
        "published_truncated": published.truncated,
        "published_episode_steps": published.episode_steps,
        "published_projectile_count": published.projectile_count,
        "scene": scene(state),
    }


def ordered_frame(carry, order, schedule, inputs: Inputs, draw=None):
    """One whole frame.

    Args:
        carry: the state and what `publish` last gave.
        order: int (systems,): indices into SYSTEMS, in the order in which they run.
        schedule: the same, the order in which deferred changes are applied at the end.
        inputs: of the frame.
        draw: None, or the frame's uniform draw, float32: a throw then comes from where the configuration of
            the moment says, instead of from `inputs.spawn_position`.

    Returns:
        the new carry.
    """

    def run(carry, system):
        return jax.lax.switch(system, [_runs(name, draw) for name in SYSTEMS], carry, inputs), None

    def run_deferred(state, system):
        return jax.lax.switch(system, RUN_DEFERRED, state), None

    (state, published), _ = jax.lax.scan(run, carry, order)
    state, _ = jax.lax.scan(run_deferred, state, schedule)
    return state, published


def _runs(name: str, draw):
    def run(carry, inputs):
        state, published = carry
        if name == "publish_state":
            return state, publish(state)
        if name in UNOBSERVABLE:
            return carry
        if name in SPAWNERS and draw is not None:
            inputs = inputs.replace(spawn_position=spawn_position(draw, state.params))
        return getattr(systems, name)(state, inputs), published

    return run


def _runs_deferred(name: str):
    deferred = {system.__name__: run for system, run in DEFERRED.items()}
    return deferred.get(name, lambda state: state)


RUN_DEFERRED = [_runs_deferred(name) for name in SYSTEMS]
