"""Does a response fit together: reward, flags and counts, computed from its observation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.parity.commands import ROUND
from jaxdodge.parity.findings import Findings
from jaxdodge.recordings.npz import bits
from jaxdodge.recordings.session import RESET, Session
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.publish import OBSERVED_PROJECTILES, STANDARD_SIZE, observe_vector, publish_state
from jaxdodge.sim.state import State, Vector, server_start

LONGEST_FRAME = 2.0
"""Nominal frames; how much a frame may last where a torn response is explained by it."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """The observed projectiles of all responses."""

    table: np.ndarray
    """float32 (N, 10, 6): position and velocity."""
    visible: np.ndarray
    """int (N,): how many there are, in the first rows."""

    def of(self, response: int) -> np.ndarray:
        """float32 (visible, 6)."""
        return self.table[response, : self.visible[response]]


def check_publications(session: Session, findings: Findings) -> Rows:
    """Compare what every response of a vector session says of its own observation."""
    arrays = session.arrays
    observation, recorded_count = arrays["observation"][:, :STANDARD_SIZE], arrays["projectile_count"]
    table = observation[:, 5:].reshape(-1, OBSERVED_PROJECTILES, 6)
    visible = _visible(table, recorded_count, findings)
    published, observed = _published(observation, visible, arrays, session)
    steps = np.flatnonzero(arrays["kind"] != RESET)
    findings.values += observed.size + 3 * len(steps)
    for response, slot in np.argwhere(bits(observed) != bits(observation)):
        findings.difference(
            response, f"observation[{slot}]", observation[response, slot], observed[response, slot]
        )
    for response in steps[arrays["truncated"][steps] != published.truncated[steps]]:
        # The flag follows from the count of steps, which a torn response has of the next frame.
        near = np.abs(arrays["episode_steps"][response] - session.config.max_episode_steps) <= 1
        note = findings.torn_response if near else findings.difference
        note(response, "truncated", arrays["truncated"][response], published.truncated[response])
    rows = Rows(table, visible)
    _check_rewards(session, steps, rows, published.reward, findings)
    return rows


def _visible(table: np.ndarray, recorded_count: np.ndarray, findings: Findings) -> np.ndarray:
    """The number of projectiles in each observation, which should be the published one."""
    used = np.any(table != 0, axis=2)
    # A gap among the rows shows when the observation is made anew from the first ones.
    visible = np.where(used.any(axis=1), used.shape[1] - np.argmax(used[:, ::-1], axis=1), 0)
    expected = np.minimum(recorded_count, OBSERVED_PROJECTILES)
    findings.values += len(table)
    for response in np.flatnonzero(visible != expected):
        near = {int(expected[max(response - 1, 0)]), int(expected[min(response + 1, len(table) - 1)])}
        seen = int(visible[response])
        adjacent = abs(seen - int(expected[response])) == 1 or seen in near
        note = findings.torn_response if adjacent else findings.difference
        note(response, "projectile_count", recorded_count[response], f"{seen} in the observation")
    return visible


def _check_rewards(
    session: Session, steps: np.ndarray, rows: Rows, simulated: np.ndarray, findings: Findings
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
        flying, player = rows.of(response).astype(float), arrays["observation"][response, :5].astype(float)
        away = np.sqrt(np.sum((flying[:, :3] - player[:3]) ** 2, axis=1)).min(initial=np.inf)
        speed = np.sqrt(np.sum(flying[:, 3:] ** 2, axis=1)).max(initial=0) + np.hypot(*player[3:])
        way = (speed + 1) * LONGEST_FRAME / config.fps
        bonus = config.dodge_bonus_multiplier * np.maximum(
            config.dodge_bonus_threshold - np.array([away + way, away - way]), 0
        )
        low, high = config.survival_reward + bonus
        explained = low <= recorded[response] <= min(high, most + 1e-5)
        explained |= neighbours[response] and recorded[response] == np.float32(config.collision_penalty)
        note = findings.torn_response if explained else findings.difference
        note(response, "reward", recorded[response], simulated[response])


def _published(observation: Any, visible: Any, arrays: dict[str, np.ndarray], session: Session) -> Any:
    """What the simulator publishes for the observed states: `Published` and observation, NumPy."""
    size = len(observation)
    padded = -size % ROUND
    inputs = [observation, visible, arrays["done"], arrays["episode_steps"]]
    inputs = [np.pad(array, [(0, padded)] + [(0, 0)] * (array.ndim - 1)) for array in inputs]
    return jax.tree.map(lambda a: np.asarray(a)[:size], _publish_all(*inputs, game_params(session.config)))


@jax.jit
def _publish_all(
    observation: Any, visible: Any, done: jax.Array, episode_steps: jax.Array, params: GameParams
) -> Any:
    def one(observation: Any, count: jax.Array, game_over: jax.Array, steps: jax.Array) -> Any:
        state = observed_state(observation, count).replace(game_over=game_over, episode_steps=steps)
        return publish_state(state, params), observe_vector(state, params, with_thrower=False)

    return jax.vmap(one)(observation, visible.astype(jnp.int32), done, episode_steps)


def observed_state(observation: Any, count: jax.Array) -> State:
    """The state that an observation shows; jittable.

    Args:
        observation: float32 (65,).
        count: int32, its projectiles.
    """
    x, y, z, vx, vy, vz = observation[5:STANDARD_SIZE].reshape(OBSERVED_PROJECTILES, 6).T
    state = server_start(OBSERVED_PROJECTILES, 1)
    return state.replace(
        player=state.player.replace(
            position=Vector(*observation[:3]), velocity=Vector(observation[3], observation[4], jnp.float32(0))
        ),
        projectiles=state.projectiles.replace(
            position=Vector(x, y, z), velocity=Vector(vx, vy, vz), count=count
        ),
    )
