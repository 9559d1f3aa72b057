"""The player's horizontal motion against the actions sent.

Between two responses the player goes straight with each velocity commanded. For how long with each follows
from where it arrives; all of it must be the time that passed, but for a frame: the published position is one
frame old.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.recordings.session import Session
from jaxdodge.sim.params import game_params
from jaxdodge.sim.state import Vector, server_start
from jaxdodge.sim.systems import PLAY_ZONE_X, PLAY_ZONE_Y, Inputs, apply_velocity

BOUND = 2e-5
"""Metres that rounding may leave between two responses."""
ZONE = np.array([PLAY_ZONE_X, PLAY_ZONE_Y], float)


@dataclasses.dataclass(frozen=True)
class Moved:
    """How long the player moved between a response and the one before, where that can be told; seconds."""

    response: int
    total: float
    with_last: float
    """With the velocity that the later response shows."""
    commands: int
    """Different velocities since the response before."""


def check_motion(session: Session, handled: Handled, clock: Clock, findings: Findings) -> list[Moved]:
    """Check where the player is in every response, from where it was in the one before."""
    position = session.arrays["observation"][:, :2].astype(float)
    findings.values += position.size
    together = [r for r in range(1, len(session)) if not handled.reset_between(r - 1, r)]
    velocities = [_velocities(handled, response) for response in together]
    times = [clock.between(response - 1, response) for response in together]
    _check_reach(position, together, velocities, times, clock, findings)
    moved = []
    drift, since = 0.0, None
    for response, commands, (low, high) in zip(together, velocities, times, strict=True):
        split = _split(position[response - 1], position[response], commands, high + clock.longest_frame)
        if split is None:
            drift, since = 0.0, None
            continue
        seconds, slack, aside = split
        total = float(seconds.sum())
        frame = max(clock.longest_frame_before(response - 1), clock.longest_frame_before(response))
        early, late = low - frame - slack, high + frame + slack
        if aside > BOUND or np.any(seconds < -slack) or not early <= total <= late:
            way = f"{np.round(seconds, 5)} s with {commands.tolist()}, {aside:.3g} m aside"
            findings.difference(response, "player position", way, f"{low:.5f} to {high:.5f} s")
            continue
        moved.append(Moved(response, total, float(seconds[-1]), len(commands)))
        # One publication is a frame late, and so is the next: over many responses nothing adds up.
        steady = clock.steady(response - 1, response)
        drift = drift + total - low if steady and since == response - 1 else 0.0
        since = response if steady else None
        if abs(drift) > 2 * clock.longest_frame:
            findings.difference(
                response, "time that the player moved", f"{drift:.4f} s more", "as much as all"
            )
            drift = 0.0
    return moved


def _velocities(handled: Handled, response: int) -> np.ndarray:
    """The velocities commanded since the response before, and the one it shows; float64 (n, 2)."""
    commands = handled.velocity[handled.count[response - 1] : handled.count[response] + 1]
    changes = np.any(commands[1:] != commands[:-1], axis=1)
    return commands[np.concatenate([[True], changes])].astype(float)


def _split(before, after, velocities, longest: float) -> tuple[np.ndarray, float, float] | None:
    """Seconds with each velocity, how far off they may be, and metres off the way; None if unknown."""
    walls = [before, after, before + velocities[0] * longest]
    if np.any(np.abs(walls) >= ZONE - BOUND):
        return None
    way = after - before
    speeds = np.hypot(*velocities.T)
    if len(velocities) == 1 and speeds[0] > 0.1:
        unit = velocities[0] / speeds[0]
        along, aside = float(way @ unit), float(abs(way[0] * unit[1] - way[1] * unit[0]))
        return np.array([along / speeds[0]]), BOUND / speeds[0], aside
    if len(velocities) == 2 and speeds.min() > 0.1:
        determinant = float(np.linalg.det(velocities))
        if abs(determinant) > 0.05 * speeds[0] * speeds[1]:
            slack = BOUND * speeds.max() / abs(determinant)
            return np.linalg.solve(velocities.T, way), slack, 0.0
    return None


def _check_reach(position, together, velocities, times, clock: Clock, findings: Findings) -> None:
    """No further than the slowest and the fastest of the velocities lead, inside the play zone."""
    if not together:
        return
    frames = [max(map(clock.longest_frame_before, (response - 1, response))) for response in together]
    shortest = np.maximum(np.array(times)[:, :1] - np.array(frames)[:, None], 0)
    longest = np.array(times)[:, 1:] + np.array(frames)[:, None]
    least = np.array([each.min(axis=0) for each in velocities])
    largest = np.array([each.max(axis=0) for each in velocities])
    before = position[np.array(together) - 1]
    low = _moved(before, np.where(least < 0, least * longest, least * shortest)) - BOUND
    high = _moved(before, np.where(largest > 0, largest * longest, largest * shortest)) + BOUND
    after = position[together]
    for at in np.flatnonzero(np.any((after < low) | (after > high), axis=1)):
        text = f"between {low[at]} and {high[at]}"
        findings.difference(together[at], "player position", after[at], text)


def _moved(position: np.ndarray, way: np.ndarray) -> np.ndarray:
    """(n, 2): where `apply_velocity` leads in a second at that velocity."""
    padded = [np.pad(array, ((0, -len(array) % 256), (0, 0))).astype(np.float32) for array in (position, way)]
    return np.asarray(_moved_all(*padded), float)[: len(position)]


@jax.jit
def _moved_all(position, way):
    state = server_start(game_params(GameConfig()), 1, 1)

    def one(position, way):
        at = Vector(position[0], position[1], jnp.float32(1))
        player = state.player.replace(position=at, velocity=Vector(way[0], way[1], jnp.float32(0)))
        inputs = Inputs(jnp.int32(0), jnp.float32(1), (jnp.float32(0), jnp.float32(0)))
        moved = apply_velocity(state.replace(player=player), inputs).player.position
        return jnp.stack([moved.x, moved.y])

    return jax.vmap(one)(position, way)
