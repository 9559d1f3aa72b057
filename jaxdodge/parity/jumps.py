"""The player's height: it stands, or it flies the one arc that a jump gives."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.recordings.session import RESET, Session
from jaxdodge.sim.actions import movement, wants_jump
from jaxdodge.sim.params import game_params
from jaxdodge.sim.state import server_start
from jaxdodge.sim.systems import Command, Inputs, apply_gravity, handle_commands

POINTS = 4096
FINEST_FRAME = 5e-4
"""Seconds of a frame; a real one makes an arc lower, not higher."""

BEGAN = np.linspace(0, 1, 401)
"""Seconds ago that a jump may have begun when it is first seen."""


def check_heights(session: Session, handled: Handled, clock: Clock, findings: Findings) -> None:
    """Check the player's height in every response."""
    height = session.arrays["observation"][:, 2]
    ground = np.float32(server_start(game_params(GameConfig()), 1, 1).player.position.z)
    findings.values += len(height)
    jumps = _jumps(session)
    arc = _arc(clock.frame_seconds)
    highest = float(_arc(FINEST_FRAME).max())
    speed = float(np.max(np.abs(np.diff(arc)))) / clock.frame_seconds
    for odd in np.flatnonzero((height < ground) | (height > highest)):
        findings.difference(odd, "observation[2]", height[odd], f"{ground} to {highest}")

    def handled_jump(response: int) -> bool:
        # Commands of the last frame may have been published before one of them moved the player, and two
        # responses may be of one publication.
        first = max(int(handled.least[max(response - 3, 0)]) - 1, 0)
        return bool(np.any(jumps[first : handled.count[response]]))

    start = None
    for response in range(1, len(session)):
        if height[response] <= ground or handled.reset_between(response - 1, response):
            start = None
            continue
        if height[response - 1] <= ground:
            if not handled_jump(response):
                findings.difference(
                    response, "observation[2]", height[response], f"{ground}: no jump was sent"
                )
                continue
            start = response
        if start is None or not clock.steady(start, response):
            continue
        passed = np.array([clock.between(start, each)[0] for each in range(start, response + 1)])
        off = _off_arc(arc, clock.frame_seconds, passed, height[start : response + 1])
        if np.min(off[:, -1]) <= speed * clock.longest_frame:
            continue
        # It may have landed meanwhile, and have jumped again.
        before = off[:, -2] <= speed * clock.longest_frame if response > start else np.zeros(len(off), bool)
        time = BEGAN + passed[-1] + 2 * clock.longest_frame
        if np.any(before & (time > _seconds_in_the_air(arc, ground, clock))) and handled_jump(response):
            start = response
            continue
        text = f"{np.min(off[:, -1]):.3g} m off a jump's arc"
        findings.difference(response, "observation[2]", height[response], text)
        start = None
    _check_jumps_happen(height, ground, jumps, handled, clock, findings)


def _check_jumps_happen(height, ground, jumps, handled: Handled, clock: Clock, findings: Findings) -> None:
    """Whoever stands and has just jumped is in the air two frames later."""
    in_the_air = _seconds_in_the_air(_arc(clock.frame_seconds), ground, clock)
    stands = height == ground
    for response in range(1, len(height)):
        handles = handled.count[response] > handled.count[response - 1]
        if not (handles and stands[response - 1] and stands[response] and jumps[handled.count[response] - 1]):
            continue
        later = response + 1
        while later < len(height) and clock.between(response, later)[0] < 1.5 * clock.longest_frame:
            later += 1
        if later == len(height) or handled.reset_between(max(response - 2, 0), later):
            continue
        soon = clock.between(response - 1, later)[1] < in_the_air - 2 * clock.longest_frame
        if soon and stands[later]:
            findings.difference(later, "observation[2]", height[later], "in the air after a jump")


def _jumps(session: Session) -> np.ndarray:
    """bool (N,): commands that ask for a jump."""
    kind, action = session.arrays["kind"], session.arrays["action"]
    safe = np.where(kind == RESET, 0, action) if action.ndim == 1 else np.nan_to_num(action)
    space = session.config.action_space_type
    wants = jax.vmap(lambda each: wants_jump(movement(each, space)))(jnp.asarray(safe))
    return np.asarray(wants) & (kind != RESET)


def _arc(frame_seconds: float) -> np.ndarray:
    """Heights after each frame of a jump from the ground, metres (POINTS,)."""
    return np.asarray(_fly_arc(jnp.float32(frame_seconds)), float)


@jax.jit
def _fly_arc(frame_seconds):
    state = server_start(game_params(GameConfig()), 1, 1)
    inputs = Inputs(jnp.int32(0), frame_seconds, (jnp.float32(0), jnp.float32(0)))
    up = movement(jnp.array([0, 0, -1, 1], jnp.float32), "basic_4d_jump")
    state = handle_commands(state, inputs.replace(commands=(Command(move=up),)))

    def one(state, _):
        state = apply_gravity(state, inputs)
        return state, state.player.position.z

    return jax.lax.scan(one, state, None, length=POINTS)[1]


def _off_arc(arc: np.ndarray, frame_seconds: float, passed: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Metres off an arc that began BEGAN earlier, the most until each response: (BEGAN, responses)."""
    time = (BEGAN[:, None] + passed) / frame_seconds
    expected = np.interp(time, np.arange(POINTS + 1), np.concatenate([arc[-1:], arc]))
    return np.maximum.accumulate(np.abs(expected - height), axis=1)


def _seconds_in_the_air(arc: np.ndarray, ground, clock: Clock) -> float:
    return float(np.count_nonzero(arc > ground)) * clock.frame_seconds
