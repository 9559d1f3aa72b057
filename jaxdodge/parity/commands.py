"""How many of the commands sent had been handled when a response was published.

Velocity and count of steps say so exactly: they are those of the last command handled.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.parity.findings import Findings
from jaxdodge.recordings.npz import bits
from jaxdodge.recordings.session import RESET, STEP, Session
from jaxdodge.sim.actions import Movement, movement
from jaxdodge.sim.params import game_params
from jaxdodge.sim.state import server_start
from jaxdodge.sim.systems import Command, Inputs, handle_commands

CHUNK = 256
ROUND = 1024
"""Arrays of all responses are padded to multiples of it: few lengths mean few compilations."""
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
    episode_steps: np.ndarray
    """int32 (N + 1,)."""
    resets: np.ndarray
    """int (N + 1,): resets among that many commands."""
    steps_sent: np.ndarray
    """int (N,): steps since the last reset, up to and with the one that the response answers."""

    def reset_between(self, first: int, last: int) -> bool:
        """Whether a reset was handled after one response was published and before another was."""
        return bool(self.resets[self.count[last]] > self.resets[self.count[first]])

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
    kind, steps = session.arrays["kind"], session.arrays["episode_steps"]
    velocity, episode_steps = _after_commands(session)
    observed = session.arrays["observation"][:, 3:5]
    seen = observed.shape[1] == 2
    findings.values += len(session) * (3 if seen else 1)
    least = np.zeros(len(session), int)
    lowest = 0
    for response in range(len(session)):
        possible = np.arange(lowest, response + 2)
        by_steps = possible[episode_steps[possible] == steps[response]]
        by_velocity = by_steps
        if seen:
            same = bits(velocity[possible]) == bits(observed[response])
            by_velocity = possible[np.all(same, axis=1)]
        both = np.intersect1d(by_steps, by_velocity)
        if len(both):
            lowest = both[0]
        elif len(by_steps) and _near(by_steps, by_velocity):
            lowest = min(by_steps[0], by_velocity[0])
            after = velocity[by_steps[0]]
            findings.torn_response(response, "observation[3:5]", observed[response], after)
        elif len(by_steps):
            lowest = by_steps[0]
            findings.difference(response, "observation[3:5]", observed[response], velocity[by_steps[-1]])
        else:
            text = " or ".join(map(str, sorted(set(episode_steps[possible]))[-MOST_PER_FRAME:]))
            findings.difference(response, "episode_steps", steps[response], text)
        least[response] = lowest
    return Handled(
        count=_latest(least, episode_steps, velocity, steps, observed if seen else None),
        least=least,
        velocity=velocity,
        episode_steps=episode_steps,
        resets=np.concatenate([[0], np.cumsum(kind == RESET)]),
        steps_sent=episode_steps[1:],
    )


def _near(some: np.ndarray, others: np.ndarray) -> bool:
    return len(others) > 0 and int(np.min(np.abs(some[:, None] - others))) <= MOST_PER_FRAME


def _latest(
    least: np.ndarray,
    episode_steps: np.ndarray,
    velocity: np.ndarray,
    steps: np.ndarray,
    observed: np.ndarray | None,
) -> np.ndarray:
    """Where several numbers fit, as after a reset that changes nothing, the largest."""
    count, highest = least.copy(), len(least)
    for response in range(len(least) - 1, -1, -1):
        possible = np.arange(least[response], min(highest, response + 1) + 1)
        fits = episode_steps[possible] == steps[response]
        if observed is not None:
            fits &= np.all(bits(velocity[possible]) == bits(observed[response]), axis=1)
        if fits.any():
            count[response] = possible[fits][-1]
        highest = count[response]
    return count


def _after_commands(session: Session) -> tuple[np.ndarray, np.ndarray]:
    """Velocity (N + 1, 2) and steps (N + 1,) after 0, 1, ... N commands, from the simulator."""
    kind, moves = session.arrays["kind"], moves_of(session)
    state, params = server_start(1, 1), game_params(session.config)
    rows = []
    for first in range(0, len(kind), CHUNK):
        part = np.minimum(np.arange(first, first + CHUNK), len(kind) - 1)
        part_of_moves = jax.tree.map(lambda array, part=part: array[part], moves)
        state, after = _handle_all(state, params, part_of_moves, kind[part] == STEP, kind[part] == RESET)
        rows.append(np.stack([np.asarray(each) for each in after], axis=1)[: len(kind) - first])
    table = np.concatenate([np.zeros((1, 3), np.float32), *rows])
    return table[:, :2], table[:, 2].astype(np.int32)


def moves_of(session: Session) -> Movement:
    """What the commands' actions ask for; arrays (N,) of NumPy, of no meaning for resets."""
    kind, action = session.arrays["kind"], session.arrays["action"]
    safe = np.where(kind == RESET, 0, action) if action.ndim == 1 else np.nan_to_num(action)
    padded = np.pad(safe, [(0, -len(safe) % ROUND)] + [(0, 0)] * (safe.ndim - 1))
    moves = _moves(padded, session.config.action_space_type)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(safe)], moves)


@partial(jax.jit, static_argnames=("space",))
def _moves(actions: jax.Array, space: str) -> Movement:
    return jax.vmap(lambda action: movement(action, space))(actions)


@jax.jit
def _handle_all(state: Any, params: Any, moves: Any, steps: Any, resets: Any) -> Any:
    def one(state: Any, command: Any) -> Any:
        move, step, reset = command
        command = Command(move=move, step=step, reset=reset)
        inputs = Inputs(jnp.int32(0), jnp.float32(0), (jnp.float32(0), jnp.float32(0)), (command,))
        state = handle_commands(state, params, inputs)
        velocity = state.player.velocity
        return state, (velocity.x, velocity.y, state.episode_steps.astype(jnp.float32))

    return jax.lax.scan(one, state, (moves, steps, resets))
