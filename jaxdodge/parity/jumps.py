"""The player's height: it stands, or it flies the one arc that a jump gives."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.recordings.session import Session
from jaxdodge.sim.actions import movement
from jaxdodge.sim.params import game_params
from jaxdodge.sim.state import player_start, server_start
from jaxdodge.sim.systems import JUMP_SPEED, PLAYER_GRAVITY, Command, Inputs, apply_gravity, handle_commands

FINEST_FRAME = 5e-4
"""Seconds of a frame; a longer one makes an arc lower, not higher."""
BEGAN = np.linspace(0, 1, 401)
"""Seconds ago that a jump may have begun when it is first seen."""


def check_heights(session: Session, handled: Handled, clock: Clock, findings: Findings) -> None:
    """Check the player's height in every response."""
    height = session.arrays["observation"][:, 2].astype(float)
    ground = float(player_start().z)
    findings.values += len(height)
    highest = _arc(FINEST_FRAME).max()
    for odd in np.flatnonzero((height < ground) | (height > highest)):
        findings.add(odd, "observation[2]", height[odd], f"{ground} to {highest}")
    jumps = handled.jumps
    if np.all(height == ground) and not jumps.any():
        return
    arc = np.append(ground, _arc(clock.frame_seconds))
    in_the_air = float(np.argmax(arc[1:] <= ground)) * clock.frame_seconds
    times = np.arange(len(arc)) * clock.frame_seconds

    def handled_jump(response: int) -> bool:
        # Commands of the last frame may have been published before one of them moved the player,
        # and two responses may be of one publication.
        first = max(int(handled.least[max(response - 3, 0)]) - 1, 0)
        return bool(np.any(jumps[first : handled.count[response]]))

    # Seconds ago that the jump may have begun, and the response that showed it first.
    began, start = np.zeros(0), 0
    for response in range(1, len(session)):
        reset = handled.reset_between(response - 1, response)
        if height[response] <= ground or reset:
            began, start = np.zeros(0), response
            handles = handled.count[response] > handled.count[response - 1]
            stands = not reset and height[response - 1] <= ground
            if handles and stands and jumps[handled.count[response] - 1]:
                _check_jump_happens(height, ground, response, in_the_air, handled, clock, findings)
            continue
        if height[response - 1] <= ground and not handled_jump(response):
            text = f"{ground}: no jump was sent"
            findings.add(response, "observation[2]", height[response], text)
        low, high = clock.between(response - 1, response)
        frame = clock.longest_near(start - 2, response) + high - low
        if len(began):
            landed = began.max() + high + 2 * frame > in_the_air and handled_jump(response)
            began = np.concatenate([began + (low + high) / 2, BEGAN if landed else []])
        else:
            began, start = BEGAN, response
        # A frame early or late, and lower the longer the frames are.
        slack = 2 * frame * float(JUMP_SPEED) + float(PLAYER_GRAVITY) * frame * in_the_air
        off = np.abs(np.interp(began, times, arc) - height[response])
        began = began[off <= slack]
        if not len(began):
            text = f"{off.min():.3g} m off a jump's arc"
            findings.add(response, "observation[2]", height[response], text)


def _check_jump_happens(
    height: np.ndarray,
    ground: float,
    response: int,
    in_the_air: float,
    handled: Handled,
    clock: Clock,
    findings: Findings,
) -> None:
    """Whoever stands and has just jumped is in the air two frames later."""
    later = response + 1
    while later < len(height) and clock.between(response, later)[0] < 1.5 * clock.longest_frame:
        later += 1
    if later == len(height) or handled.reset_between(max(response - 2, 0), later):
        return
    soon = clock.between(response - 1, later)[1] < in_the_air - 2 * clock.longest_frame
    if soon and height[later] <= ground:
        findings.add(later, "observation[2]", height[later], "in the air after a jump")


def _arc(frame_seconds: float) -> np.ndarray:
    """Heights after each frame of a jump from the ground, metres, for 1.5 s."""
    return np.asarray(_fly_arc(jnp.float32(frame_seconds), round(1.5 / frame_seconds)), float)


@partial(jax.jit, static_argnames=("frames",))
def _fly_arc(frame_seconds: jax.Array, frames: int) -> jax.Array:
    state, params = server_start(1, 1), game_params(GameConfig())
    inputs = Inputs(jnp.int32(0), frame_seconds, (jnp.float32(0), jnp.float32(0)))
    up = movement(jnp.array([0, 0, -1, 1], jnp.float32), "basic_4d_jump")
    state = handle_commands(state, params, inputs.replace(commands=(Command(move=up),)))

    def one(state: Any, _: None) -> Any:
        state = apply_gravity(state, params, inputs)
        return state, state.player.position.z

    return jax.lax.scan(one, state, None, length=frames)[1]
