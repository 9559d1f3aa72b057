"""Policies that play on a server: the interface, and scripted ones."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.sim.actions import ABSENT, COMPONENTS, DISCRETE_DIRECTIONS

# Period of strafe and circle, in steps.
PERIOD = 40


class Policy(Protocol):
    """What `jaxdodge.bevy.play.play` asks of a policy."""

    def reset(self) -> None:
        """Begin an episode."""

    def act(self, published: np.ndarray) -> np.ndarray:
        """Return the action, int32 () or float32 (components,), for the latest observation."""


class ScriptedPolicy:
    """A policy that ignores observations.

    random draws uniform actions; still stands; strafe runs right and left in turn; circle runs in a
    circle.

    Args:
        name: random, still, strafe or circle.
        space: canonical name of the action space.
        seed: seed of the draws, and of the phase in which strafe and circle begin.
    """

    def __init__(self, name: str, space: str, seed: int):
        self._name, self._space = name, space
        self._generator = np.random.default_rng(seed)
        self._steps = int(self._generator.integers(PERIOD))

    def reset(self) -> None:
        """Begin an episode; the phase of strafe and circle is kept."""

    def act(self, published: np.ndarray) -> np.ndarray:
        """Return the next action: int32 () or float32 (components,)."""
        self._steps += 1
        discrete = self._space == "discrete"
        if self._name == "random":
            if discrete:
                return np.array(self._generator.integers(len(DISCRETE_DIRECTIONS)), np.int32)
            return self._generator.uniform(-1, 1, len(COMPONENTS[self._space])).astype(np.float32)
        direction = self._direction()
        if discrete:
            # The nearest direction; action 0 stands still.
            return np.array(np.argmax(DISCRETE_DIRECTIONS @ direction), np.int32)
        values = {"vx": direction[0], "vy": direction[1], "sprint": ABSENT, "jump": ABSENT}
        return np.array([values.get(name, 0) for name in COMPONENTS[self._space]], np.float32)

    def _direction(self) -> np.ndarray:
        """Direction of movement, of length 0 or 1."""
        angle = 2 * np.pi * self._steps / PERIOD
        if self._name == "circle":
            return np.array([np.cos(angle), np.sin(angle)], np.float32)
        right = 1 if self._steps % PERIOD < PERIOD // 2 else -1
        return np.array([right if self._name == "strafe" else 0, 0], np.float32)


def simulated(name: str, space: str, servers: int, seed: int) -> tuple[Callable[..., jax.Array], Any]:
    """`ScriptedPolicy` on many simulated servers: a policy for `evaluate_in_turn`, and its weights.

    Args:
        name, space: as for `ScriptedPolicy`.
        servers: in parallel.
        seed: of the phases in which strafe and circle begin.
    """
    one = ScriptedPolicy(name, space, 0)
    one._steps = -1
    cycle = np.stack([one.act(np.zeros(0)) for _ in range(PERIOD)])
    phases = np.random.default_rng(seed).integers(PERIOD, size=servers)
    return _uniform if name == "random" else _cycled, (jnp.asarray(cycle), jnp.asarray(phases))


def _cycled(weights: Any, observation: Any, number: jax.Array, key: jax.Array) -> jax.Array:
    cycle, phases = weights
    actions: jax.Array = cycle[(phases + number) % PERIOD]
    return actions


def _uniform(weights: Any, observation: Any, number: jax.Array, key: jax.Array) -> jax.Array:
    cycle, phases = weights
    shape = len(phases), *cycle.shape[1:]
    if cycle.dtype == jnp.int32:
        return jax.random.randint(key, shape, 0, len(DISCRETE_DIRECTIONS))
    return jax.random.uniform(key, shape, minval=-1, maxval=1)
