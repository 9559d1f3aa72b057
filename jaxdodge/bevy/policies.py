"""Policies that play on a server: the interface, and scripted ones."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.sim.actions import ABSENT, COMPONENTS, DISCRETE_DIRECTIONS
from jaxdodge.sim.publish import OBSERVATION_SIZES

# Period of circle, in steps.
PERIOD = 40
# Where strafe turns, metres from the middle.
TURN = 3.5
# Places of the player's x and of its velocity in an observation.
X, VX = 0, 3


class Policy(Protocol):
    """What `jaxdodge.bevy.play.play` asks of a policy."""

    def reset(self) -> None:
        """Begin an episode."""

    def act(self, published: np.ndarray) -> np.ndarray:
        """Return the action, int32 () or float32 (components,), for the latest observation."""


class ScriptedPolicy:
    """A policy that has learned nothing.

    random draws uniform actions; still stands; strafe runs from side to side and turns at the
    first response beyond 3.5 m from the middle, as in the recording `level2_basic3d_strafe`; circle
    runs in a circle.

    Args:
        name: random, still, strafe or circle.
        game: that it plays; strafe needs vectors, which tell where the player is.
        seed: seed of the draws, of the phase in which circle begins, and of strafe's first side.

    Raises:
        ConfigError: the policy cannot play this game.
    """

    def __init__(self, name: str, game: GameConfig, seed: int):
        check_scripted(name, game)
        self._name, self._space = name, game.action_space_type
        self._generator = np.random.default_rng(seed)
        self._steps = int(self._generator.integers(PERIOD))
        self._right = self._steps < PERIOD // 2

    def reset(self) -> None:
        """Begin an episode; the phase of circle is kept."""

    def act(self, published: np.ndarray) -> np.ndarray:
        """Return the next action: int32 () or float32 (components,)."""
        self._steps += 1
        if self._name == "random":
            if self._space == "discrete":
                return np.array(self._generator.integers(len(DISCRETE_DIRECTIONS)), np.int32)
            return self._generator.uniform(-1, 1, len(COMPONENTS[self._space])).astype(np.float32)
        if self._name == "circle":
            angle = 2 * np.pi * self._steps / PERIOD
            return _running(self._space, np.cos(angle), np.sin(angle))
        if self._name == "still":
            return _running(self._space, 0, 0)
        right = runs_right(published[X], published[VX], self._right)
        return _running(self._space, 1 if right else -1, 0)


def runs_right(x: Any, vx: Any, right: Any) -> Any:
    """Whether strafe runs to the right, bool of the shape of the arguments.

    Args:
        x: of the player, metres.
        vx: its velocity; 0 at the start of an episode.
        right: whether it begins so.
    """
    return (x < -TURN) | ((x <= TURN) & ((vx > 0) | ((vx == 0) & right)))


def check_scripted(name: str, game: GameConfig) -> None:
    """Raise ConfigError if a scripted policy cannot play this game."""
    if name == "strafe" and game.observation_mode == "topdown":
        raise ConfigError(
            "observation_mode: invalid value 'topdown' for strafe, which reads where the player is; "
            "expected standard or with_thrower"
        )


def _running(space: str, x: float, y: float) -> np.ndarray:
    """The action that runs into this direction, of length 0 or 1."""
    if space == "discrete":
        # The nearest direction; action 0 stands still.
        return np.array(np.argmax(DISCRETE_DIRECTIONS @ np.array([x, y], np.float32)), np.int32)
    values = {"vx": x, "vy": y, "sprint": ABSENT, "jump": ABSENT}
    return np.array([values.get(name, 0) for name in COMPONENTS[space]], np.float32)


def simulated(name: str, game: GameConfig, servers: int, seed: int) -> tuple[Callable[..., jax.Array], Any]:
    """`ScriptedPolicy` on many simulated servers: a policy for `evaluate_in_turn`, and its weights.

    Args:
        name, game: as for `ScriptedPolicy`.
        servers: in parallel.
        seed: of the phases in which circle begins, and of strafe's first sides.

    Raises:
        ConfigError: as `ScriptedPolicy`.
    """
    one = ScriptedPolicy(name, game, 0)
    phases = jnp.asarray(np.random.default_rng(seed).integers(PERIOD, size=servers))
    space = game.action_space_type
    if name == "strafe":
        sides = jnp.asarray(np.stack([_running(space, -1, 0), _running(space, 1, 0)]))
        # The newest observation is the last of a stack.
        newest = OBSERVATION_SIZES[game.observation_mode] * (game.frame_stack - 1)
        return _strafing, (sides, phases < PERIOD // 2, newest)
    one._steps = -1
    cycle = np.stack([one.act(np.zeros(0)) for _ in range(PERIOD)])
    return _uniform if name == "random" else _cycled, (jnp.asarray(cycle), phases)


def _strafing(weights: Any, observation: Any, number: jax.Array, key: jax.Array) -> jax.Array:
    sides, right, newest = weights
    x, vx = observation[:, newest + X], observation[:, newest + VX]
    actions: jax.Array = sides[runs_right(x, vx, right).astype(jnp.int32)]
    return actions


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
