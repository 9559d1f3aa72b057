"""Does a response fit together: reward, flags and counts, computed from its observation."""

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import step_limit_reached
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.simulated import flying, map_rows
from jaxdodge.recordings.npz import bits
from jaxdodge.recordings.session import RESET, Session
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.publish import (
    OBSERVED_PROJECTILES,
    STANDARD_SIZE,
    observe_vector,
    observed_projectiles,
    publish_state,
)
from jaxdodge.sim.state import Vector

LONGEST_FRAME = 2.0
"""Nominal frames; how much a frame may last where a torn response is explained by it."""


def check_publications(session: Session, findings: Findings) -> tuple[np.ndarray, np.ndarray]:
    """Compare what every response of a vector session says of its own observation.

    Returns:
        The observed projectiles, position and velocity: float32 (N, 10, 6); and how many there
        are, in the first rows: int (N,).
    """
    arrays = session.arrays
    observation, recorded_count = arrays["observation"][:, :STANDARD_SIZE], arrays["projectile_count"]
    table = observed_projectiles(observation)
    visible = _visible(table, recorded_count, findings)
    states = (observation, visible, arrays["done"], arrays["episode_steps"])
    rewards, observed = map_rows(_published, states, game_params(session.config))
    steps = np.flatnonzero(arrays["kind"] != RESET)
    findings.values += observed.size + 2 * len(steps)
    for response, slot in np.argwhere(bits(observed) != bits(observation)):
        recorded, simulated = observation[response, slot], observed[response, slot]
        findings.add(response, f"observation[{slot}]", recorded, simulated)
    check_truncated(session, findings)
    _check_rewards(session, steps, table, visible, rewards, findings)
    return table, visible


def check_truncated(session: Session, findings: Findings) -> None:
    """Compare the flag of the step limit with the count of steps."""
    arrays, limit = session.arrays, session.config.max_episode_steps
    is_step, recorded, steps = arrays["kind"] != RESET, arrays["truncated"], arrays["episode_steps"]
    simulated = step_limit_reached(steps, limit)
    findings.values += int(is_step.sum())
    for response in np.flatnonzero(is_step & (recorded != simulated)):
        # A torn response has the count of the next frame.
        near = abs(steps[response] - limit) <= 1
        findings.add(response, "truncated", recorded[response], simulated[response], torn=near)


def _visible(table: np.ndarray, recorded_count: np.ndarray, findings: Findings) -> np.ndarray:
    """The number of projectiles in each observation, which should be the published one."""
    used = np.any(table != 0, axis=2)
    # A gap among the rows shows when the observation is made anew from the first ones.
    visible = np.where(used.any(axis=1), used.shape[1] - np.argmax(used[:, ::-1], axis=1), 0)
    expected = np.minimum(recorded_count, OBSERVED_PROJECTILES)
    findings.values += len(table)
    for response in np.flatnonzero(visible != expected).tolist():
        # The count of a torn response is that of the publication before or after.
        seen, recorded, near = int(visible[response]), int(recorded_count[response]), set[int]()
        counts = [seen]
        for other in (response - 1, response + 1):
            outside = not 0 <= other < len(table)
            lost, gained = (seen, 1) if outside else _exchanged(table[response], table[other])
            counts += [seen - lost, seen + gained]
            near |= set() if outside else {int(expected[other])}
        adjacent = abs(seen - int(expected[response])) == 1 or seen in near
        adjacent &= min(counts) <= recorded <= max(counts)
        text = f"{seen} in the observation"
        findings.add(response, "projectile_count", recorded, text, torn=adjacent)
    return visible


def _exchanged(here: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Projectiles (10, 6) of one response that another one may lack, and the reverse.

    They keep their horizontal velocity, until they bounce.
    """
    one, two = (Counter(tuple(row[3:5]) for row in table if np.any(row)) for table in (here, other))
    return (one - two).total(), (two - one).total()


def check_done(session: Session, handled: Handled, findings: Findings) -> None:
    """An episode that has ended stays so until a reset is handled."""
    done, is_step = session.arrays["done"], session.arrays["kind"] != RESET
    findings.values += len(done) - 1
    # The flags of a reset's response are not read.
    back = done[:-1] & ~done[1:] & is_step[:-1] & is_step[1:]
    for response in (1 + np.flatnonzero(back)).tolist():
        if not handled.reset_around(response - 1, response):
            findings.add(response, "done", False, "True until a reset")


def _check_rewards(
    session: Session,
    steps: np.ndarray,
    table: np.ndarray,
    visible: np.ndarray,
    simulated: np.ndarray,
    findings: Findings,
) -> None:
    arrays, config = session.arrays, session.config
    recorded, done = arrays["reward"], arrays["done"]
    # A projectile that is not observed can only be nearer.
    most = config.survival_reward + config.dodge_bonus_threshold * config.dodge_bonus_multiplier
    nearer = (arrays["projectile_count"] > OBSERVED_PROJECTILES) & ~done
    nearer &= (recorded >= simulated) & (recorded <= most + 1e-5)
    different = bits(recorded) != bits(simulated)
    neighbours = done | np.roll(done, 1) | np.roll(done, -1)
    for response in steps[(different & ~nearer)[steps]]:
        # In a frame the nearest projectile comes nearer, or goes away, as
        # fast as the fastest at most.
        flown = table[response, : visible[response]].astype(float)
        player = arrays["observation"][response, :5].astype(float)
        away = np.sqrt(np.sum((flown[:, :3] - player[:3]) ** 2, axis=1)).min(initial=np.inf)
        speed = np.sqrt(np.sum(flown[:, 3:] ** 2, axis=1)).max(initial=0) + np.hypot(*player[3:])
        way = (speed + 1) * LONGEST_FRAME / config.fps
        bonus = config.dodge_bonus_multiplier * np.maximum(
            config.dodge_bonus_threshold - np.array([away + way, away - way]), 0
        )
        low, high = config.survival_reward + bonus
        explained = low <= recorded[response] <= min(high, most + 1e-5)
        explained |= neighbours[response] and recorded[response] == np.float32(config.collision_penalty)
        findings.add(response, "reward", recorded[response], simulated[response], torn=explained)


def _published(row: Any, params: GameParams) -> tuple[jax.Array, jax.Array]:
    """Reward and observation that the simulator publishes of an observed state."""
    observation, count, game_over, steps = row
    state = flying(observed_projectiles(observation), count)
    x, y, z, vx, vy = observation[:5]
    player = state.player.replace(position=Vector(x, y, z), velocity=Vector(vx, vy, jnp.float32(0)))
    state = state.replace(player=player, game_over=game_over, episode_steps=steps)
    return publish_state(state, params).reward, observe_vector(state, params, with_thrower=False)
