"""A run's policy as it plays: published observations in, actions out."""

from typing import Any

import jax
import numpy as np

from jaxdodge.agents.program import make_trainer
from jaxdodge.runs.folder import Run
from jaxdodge.sim.actions import action_shape
from jaxdodge.sim.spaces import published_space


class TrainedPolicy:
    """The deterministic policy of a run, for one game that publishes one observation at a time.

    It stacks observations and appends the previous action with the code of the training.

    Args:
        run: a run of one seed.
        name: best or final.

    Raises:
        ConfigError: the run is damaged, or has no such policy.
    """

    def __init__(self, run: Run, name: str = "best"):
        game, config = run.config()
        trainer = make_trainer(game, config)
        self._weights = run.load_policy(name, trainer.policy_shapes())
        self._still = np.zeros(action_shape(game.action_space_type), np.float32)
        self._frame_stack = game.frame_stack

        def act(weights: Any, stack: Any, time: Any, previous_action: Any) -> jax.Array:
            return trainer.policy(weights, trainer.env.stack(stack, time, previous_action))

        self._act = jax.jit(act)
        # Compile now, because a real-time game does not wait for the first action.
        space = published_space(game)
        nothing = np.zeros((game.frame_stack, *space.shape), space.dtype)
        self._act(self._weights, nothing, np.int32(0), self._still)
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._stack: list[np.ndarray] = []
        self._time = -1
        self._previous_action = self._still

    def act(self, published: np.ndarray) -> np.ndarray:
        """Return the action for the latest observation.

        Args:
            published: float32 (65,) or (69,), or uint8 (height, width, channels), not stacked.

        Returns:
            float32 (components,).
        """
        # Frames before the first one of an episode count as zeros, whatever stands there.
        missing = [published] * (self._frame_stack - 1 if self._time < 0 else 0)
        self._stack = [*missing, *self._stack, published][-self._frame_stack :]
        self._time += 1
        action = self._act(self._weights, np.stack(self._stack), np.int32(self._time), self._previous_action)
        self._previous_action = np.asarray(action)
        return self._previous_action
