"""How many of the commands sent had been handled when a response was published.

Velocity and count of steps say so exactly: they are those of the last command handled.
"""

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np

from jaxdodge.parity.findings import Findings
from jaxdodge.parity.simulated import a_frame, map_rows
from jaxdodge.recordings.npz import bits
from jaxdodge.recordings.session import RESET, Session
from jaxdodge.sim.actions import movement, wants_jump
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.state import server_start
from jaxdodge.sim.systems import Command, handle_commands

MOST_PER_FRAME = 3
"""Commands that a frame handles, as far as two parts of a torn response may lie apart."""


@dataclasses.dataclass(frozen=True)
class Handled:
    """The commands handled, N responses to N commands."""

    count: np.ndarray
    """int (N,): most commands that had been handled when response i was published."""
    least: np.ndarray
    """int (N,): the same, at least."""
    velocity: np.ndarray
    """float32 (N + 1, 2): the player's, after that many commands."""
    jumps: np.ndarray
    """bool (N,): commands that ask for a jump."""
    resets: np.ndarray
    """int (N + 1,): resets among that many commands."""

    def reset_between(self, first: Any, last: Any) -> Any:
        """Whether a reset was handled after one response was published and before another was.

        Both may be arrays of responses.
        """
        return self.resets[self.count[last]] > self.resets[self.count[first]]

    def reset_around(self, first: int, last: int) -> bool:
        """Whether a reset may have been handled in the time or shortly before.

        That is, in the frame whose publication is the first response, or before the one
        that precedes it: removals are deferred to the end of a frame, and two responses
        may be of the same publication.
        """
        before = self.least[first - 2] if first >= 2 else 0
        return bool(self.resets[self.count[last]] > self.resets[before])


def handled_commands(session: Session, findings: Findings) -> Handled:
    """Find out for every response; responses that fit no number of commands become findings."""
    steps, observed = session.arrays["episode_steps"], session.arrays["observation"][:, 3:5]
    reset = session.arrays["kind"] == RESET
    velocity, jumps = _after_commands(session)
    number = np.arange(len(session) + 1)
    episode_steps = number - np.maximum.accumulate(np.where(np.insert(reset, 0, False), number, 0))
    # Images show no velocity, so that every one fits.
    after, now = bits(velocity[:, : observed.shape[1]]), bits(observed)
    findings.values += len(session) * (1 + observed.shape[1])

    def fitting(response: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of commands, by their steps, by their velocity, and by both."""
        possible = number[first : last + 1]
        by_steps = episode_steps[possible] == steps[response]
        by_velocity = np.all(after[possible] == now[response], axis=1)
        return possible[by_steps], possible[by_velocity], possible[by_steps & by_velocity]

    least, lowest = np.zeros(len(session), int), 0
    for response in range(len(session)):
        by_steps, by_velocity, both = fitting(response, lowest, response + 1)
        if len(both):
            lowest = both[0]
        elif len(by_steps):
            apart = np.abs(by_steps[:, None] - by_velocity).min(initial=MOST_PER_FRAME + 1)
            torn = apart <= MOST_PER_FRAME
            simulated = velocity[by_steps[0 if torn else -1]]
            findings.add(response, "player velocity, observation[3:5]", observed[response], simulated, torn)
            lowest = min(by_steps[0], by_velocity[0]) if torn else by_steps[0]
        else:
            text = " or ".join(map(str, np.unique(episode_steps[lowest : response + 2])[-MOST_PER_FRAME:]))
            findings.add(response, "episode_steps", steps[response], text)
        least[response] = lowest
    # Where several numbers fit, as after a reset that changes nothing, the largest.
    count, highest = least.copy(), len(session)
    for response in reversed(range(len(session))):
        both = fitting(response, least[response], min(highest, response + 1))[2]
        highest = count[response] = both[-1] if len(both) else least[response]
    return Handled(count, least, velocity, jumps, np.insert(np.cumsum(reset), 0, 0))


def _after_commands(session: Session) -> tuple[np.ndarray, np.ndarray]:
    """The velocity (N + 1, 2) after 0, 1, ... N commands, and which (N,) ask for a jump."""
    reset, action = session.arrays["kind"] == RESET, session.arrays["action"]
    # The actions of resets have no meaning.
    action = np.where(reset, 0, action) if action.ndim == 1 else np.nan_to_num(action)
    rule = _handled_alone(session.config.action_space_type)
    x, y, jumps = map_rows(rule, (action, reset), game_params(session.config))
    return np.insert(np.stack([x, y], axis=1), 0, 0, axis=0), jumps & ~reset


@cache
def _handled_alone(space: str) -> Callable[[Any, GameParams], Any]:
    def rule(row: Any, params: GameParams) -> tuple[jax.Array, jax.Array, jax.Array]:
        action, reset = row
        move = movement(action, space)
        command = Command(move=move, step=~reset, reset=reset)
        velocity = handle_commands(server_start(1, 1), params, a_frame(0.0, command)).player.velocity
        return velocity.x, velocity.y, wants_jump(move)

    return rule
