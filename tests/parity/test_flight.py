"""Flights of known frames: T and S are recovered, and no flight is further off than its bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compilation import users_jit

from jaxdodge.config import GameConfig
from jaxdodge.parity.flight import VELOCITY, Flights, fit_time, flown
from jaxdodge.sim import systems
from jaxdodge.sim.params import game_params
from jaxdodge.sim.state import Vector, server_start
from jaxdodge.sim.systems import Inputs, move_projectiles

INTERVALS = 2000
ROWS = 3


@users_jit
def moved(start, lengths):
    """Rows (rows, 6) after frames of lengths (frames, rows)."""
    state, params = server_start(start.shape[0], 1), game_params(GameConfig())
    x, y, z, vx, vy, vz = start.T
    projectiles = state.projectiles.replace(position=Vector(x, y, z), velocity=Vector(vx, vy, vz))

    def one(projectiles, length):
        inputs = Inputs(jnp.int32(0), length, (jnp.float32(0), jnp.float32(0)))
        return move_projectiles(state.replace(projectiles=projectiles), params, inputs).projectiles, None

    last, _ = jax.lax.scan(one, projectiles, lengths)
    return jnp.stack([*jax.tree.leaves(last.position), *jax.tree.leaves(last.velocity)], axis=-1)


def known_flights(seed: int, rows: int, frames: int, fps: float, jitter: float):
    """Flights, some with a bounce, and the lengths of their frames (frames, INTERVALS)."""
    generator = np.random.default_rng(seed)
    number = generator.integers(1, frames + 1, INTERVALS)
    lengths = (1 + jitter * np.abs(generator.normal(size=(frames, INTERVALS)))) / fps
    lengths *= np.arange(frames)[:, None] < number
    way, angle = generator.uniform(8, 32, (2, INTERVALS * rows)) * [[1], [0.2]]
    start = np.column_stack(
        [
            *generator.uniform(-20, 20, (2, INTERVALS * rows)),
            generator.uniform(0.5, 4, INTERVALS * rows),
            way * np.cos(angle),
            way * np.sin(angle),
            generator.uniform(-7, 7, INTERVALS * rows),
        ]
    ).astype(np.float32)
    lengths = lengths.astype(np.float32)
    finish = np.asarray(moved(start, np.repeat(lengths, rows, axis=1)))
    velocity, bounces = start[:, VELOCITY], np.full(len(start), -1)
    for count in range(20):
        bounces[(bounces < 0) & np.all(velocity == finish[:, VELOCITY], axis=1)] = count
        velocity = velocity * systems.FRICTION
    assert bounces.min() == 0
    row = np.tile(np.arange(rows), INTERVALS)
    flights = Flights(np.repeat(np.arange(INTERVALS), rows), row, row, bounces, start, finish)
    return flights, lengths.astype(float)


@pytest.mark.parametrize("rows", [1, ROWS])
@pytest.mark.parametrize(
    ("frames", "fps", "jitter"),
    [(12, 60, 0.1), (12, 240, 0.2), (60, 240, 0.1), (12, 30, 0.02), (200, 240, 0.2)],
)
def test_flights_of_known_frames_stay_within_the_bound(rows, frames, fps, jitter):
    flights, lengths = known_flights(frames + rows, rows, frames, fps, jitter)
    time = fit_time(flights, INTERVALS, fps)
    known = ~np.isnan(time.seconds)
    assert known.sum() > INTERVALS / 2
    seconds, squares = lengths.sum(axis=0), (lengths**2).sum(axis=0)
    assert np.all(np.abs(time.seconds - seconds)[known] <= time.error[known])
    told = ~np.isnan(time.squares)
    assert np.all(np.abs(time.squares - squares)[told] <= time.squares_error[told])
    _, ratio = flown(flights, time)
    assert np.count_nonzero(flights.bounces == 1) > 100 or frames <= 12
    assert 0 < ratio.max() < 1
