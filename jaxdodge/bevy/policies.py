"""Policies that play on a server: what they see is its responses."""

from typing import Any, Protocol

import jax
import numpy as np

from jaxdodge.agents.setup import make_sac
from jaxdodge.bevy.client import Response
from jaxdodge.runs.folder import Run
from jaxdodge.sim.actions import ABSENT, COMPONENTS, DISCRETE_DIRECTIONS, action_shape
from jaxdodge.sim.spaces import published_space

# Steps after which strafe and circle come round again.
PERIOD = 40


class Policy(Protocol):
    """Something that plays."""

    def reset(self) -> None:
        """An episode begins."""

    def act(self, response: Response) -> np.ndarray:
        """The action after a response: int32 () or float32 (components,)."""


class ScriptedPolicy:
    """random: uniform draws; still: stands; strafe: right and left in turn; circle: in a circle.

    Args:
        name: one of those.
        space: canonical name of the action space.
        seed: of the draws, and of the place where strafe and circle begin.
    """

    def __init__(self, name: str, space: str, seed: int):
        self._name, self._space = name, space
        self._generator = np.random.default_rng(seed)
        self._steps = int(self._generator.integers(PERIOD))

    def reset(self) -> None:
        """An episode begins; the rhythm goes on."""

    def act(self, response: Response) -> np.ndarray:
        """The action after a response: int32 () or float32 (components,)."""
        self._steps += 1
        discrete = self._space == "discrete"
        if self._name == "random":
            if discrete:
                return np.array(self._generator.integers(len(DISCRETE_DIRECTIONS)), np.int32)
            return self._generator.uniform(-1, 1, len(COMPONENTS[self._space])).astype(np.float32)
        direction = self._direction()
        if discrete:
            # The nearest one; the first, which stands, if there is no direction.
            return np.array(np.argmax(DISCRETE_DIRECTIONS @ direction), np.int32)
        values = {"vx": direction[0], "vy": direction[1], "sprint": ABSENT, "jump": ABSENT}
        return np.array([values.get(name, 0) for name in COMPONENTS[self._space]], np.float32)

    def _direction(self) -> np.ndarray:
        """Of the movement, at most 1 long."""
        angle = 2 * np.pi * self._steps / PERIOD
        if self._name == "circle":
            return np.array([np.cos(angle), np.sin(angle)], np.float32)
        right = 1 if self._steps % PERIOD < PERIOD // 2 else -1
        return np.array([right if self._name == "strafe" else 0, 0], np.float32)


class TrainedPolicy:
    """The deterministic policy of a run.

    A server's responses become its observations by the code of the training: stacked, with the previous
    action where it was trained with it.

    Args:
        run: of one seed.
        name: best or final.

    Raises:
        ConfigError: the run is damaged, or has no such policy.
    """

    def __init__(self, run: Run, name: str = "best"):
        game, config = run.config()
        sac = make_sac(game, config)
        self._weights = run.load_policy(name, sac.policy_shapes())
        self._still = np.zeros(action_shape(game.action_space_type), np.float32)
        self._frame_stack = game.frame_stack
        self._image = game.observation_mode == "topdown"

        def act(weights: Any, published: Any, time: Any, previous_action: Any) -> jax.Array:
            return sac.policy(weights, sac.env.stack(published, time, previous_action))

        self._act = jax.jit(act)
        # Compiled now: a server does not wait.
        space = published_space(game)
        nothing = np.zeros((game.frame_stack, *space.shape), space.dtype)
        self._act(self._weights, nothing, np.int32(0), self._still)
        self.reset()

    def reset(self) -> None:
        """An episode begins."""
        self._published: list[Any] = []
        self._time = -1
        self._previous_action = self._still

    def act(self, response: Response) -> np.ndarray:
        """The action after a response: float32 (components,)."""
        published = response.image if self._image else response.observation
        # What stands before the first response of an episode counts as zeros.
        missing = [published] * (self._frame_stack - 1 if self._time < 0 else 0)
        self._published = [*missing, *self._published, published][-self._frame_stack :]
        self._time += 1
        stack = np.stack(self._published)
        action = self._act(self._weights, stack, np.int32(self._time), self._previous_action)
        self._previous_action = np.asarray(action)
        return self._previous_action
