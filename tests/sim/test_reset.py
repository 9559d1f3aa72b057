"""Resets: the server's reset command, and an environment's first state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from played_envs import DENSE, FRAME, key_of, states_of_play

import jaxdodge
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.state import Vector


@pytest.mark.parametrize("mode", ["standard", "with_thrower"])
def test_restart_keeps_the_timers_phase_and_a_pending_throw(mode):
    """Also while a projectile that the reset removes has just left the world."""
    env, params = jaxdodge.make(**DENSE, observation_mode=mode)
    _, state = env.reset(key_of(0), params)
    slots = env.config.projectile_slots
    spawn = state.game.spawned_projectile.replace(
        due=jnp.asarray(True),
        position=Vector(*jnp.float32([3, 9, 1.5])),
        velocity=Vector(*jnp.float32([1, -2, 3])),
    )
    game = state.game.replace(
        spawn_timer=Duration.from_nanoseconds(30_000_000),
        spawned_projectile=spawn,
        projectiles=state.game.projectiles.replace(
            count=jnp.int32(3), outside=jnp.zeros(slots, bool).at[1].set(True)
        ),
        game_over=jnp.asarray(True),
        episode_steps=jnp.int32(7),
        player=state.game.player.replace(position=Vector(*jnp.float32([2, 1, 1.4])), velocity=Vector.zeros()),
    )
    observation, after = jax.jit(env.restart)(key_of(1), state.replace(game=game), params)
    timer = after.game.spawn_timer
    assert (int(timer.seconds), int(timer.nanoseconds)) == (0, 30_000_000 + FRAME)
    assert (int(after.game.episode_steps), bool(after.game.game_over), int(after.time)) == (0, False, 0)
    assert int(after.game.projectiles.count) == 1
    np.testing.assert_array_equal(observation[:5], [0, 0, 1, 0, 0])
    falling = 3 - 9.8 / 60
    np.testing.assert_allclose(
        observation[5:11], [3 + 1 / 60, 9 - 2 / 60, 1.5 + falling / 60, 1, -2, falling], rtol=1e-6
    )
    np.testing.assert_array_equal(observation[11:], 0)


@pytest.mark.parametrize("mode", ["standard", "with_thrower"])
def test_restart_removes_also_what_has_just_left_the_world(mode):
    """Two systems then ask for the same removal."""
    env, params = jaxdodge.make(**DENSE, observation_mode=mode)
    _, state = env.reset(key_of(0), params)
    table = state.game.projectiles
    table = table.replace(count=jnp.int32(3), outside=table.outside.at[1].set(True))
    game = state.game.replace(projectiles=table, spawn_timer=Duration.from_nanoseconds(0))
    _, after = jax.jit(env.restart)(key_of(1), state.replace(game=game), params)
    assert int(after.game.projectiles.count) == 0


@pytest.mark.slow
def test_restart_keeps_pending_indicators(with_thrower):
    env, params = with_thrower
    num_envs = 8
    states = states_of_play(env, params, num_envs, 40)
    restart = jax.jit(jax.vmap(env.restart, in_axes=(0, 0, None)))
    _, after = restart(jax.random.split(key_of(0), num_envs), states, params)
    before, throwers = jax.device_get((states.game.throwers, after.game.throwers))
    kept = 0
    for row in range(num_envs):
        for slot in range(before.count[row]):
            elapsed = before.elapsed.nanoseconds[row, slot]
            if elapsed < 300_000_000 - 2 * FRAME:
                kept += 1
                same = throwers.position.x[row] == before.position.x[row, slot]
                same &= throwers.elapsed.nanoseconds[row] == elapsed + FRAME
                assert same[: throwers.count[row]].any()
    assert kept > 8


@pytest.mark.parametrize("seconds", [0.5, 1.6, 2.0])
def test_reset_draws_the_spawn_timers_phase_uniformly(dense, seconds):
    env, params = dense
    interval = round(seconds * 1e9)
    params = params.replace(spawn_interval=Duration.from_nanoseconds(interval))
    num_envs = 4000
    _, states = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key_of(3), num_envs), params)
    timer = states.game.spawn_timer
    phase = np.asarray(timer.seconds, np.int64) * 10**9 + np.asarray(timer.nanoseconds)
    assert phase.min() >= 0
    assert phase.max() < interval
    counts, _ = np.histogram(phase, 10, (0, interval))
    # Chi-squared with 9 degrees of freedom: above 27.9 in one of a thousand samples.
    assert ((counts - num_envs / 10) ** 2 / (num_envs / 10)).sum() < 27.9
