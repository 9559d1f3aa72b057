"""Timing from the parameters: the same bits as the static timing, and
parameters that change at a reset.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from played_envs import DENSE, SMALL_IMAGE, assert_same, key_of

from jaxdodge.config import GameConfig
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.params import game_params

STEPS, NUM_ENVS = 220, 4


def configuration(mode: str, frames: int, response: int) -> GameConfig:
    return GameConfig(
        **DENSE,
        **SMALL_IMAGE,
        observation_mode=mode,
        action_space_type="basic_4d_jump",
        frames_per_step=frames,
        response_frame=response,
        observe_previous_action=True,
        frame_stack=2,
        max_episode_steps=24,
    )


def play(env: DodgeEnv, params, keys):
    """Everything that random play with auto-reset gives, (num_envs,
    steps, ...); `params` per env.
    """

    def one_arena(key, params):
        def step(state, key):
            key_action, key_step = jax.random.split(key)
            # Timid enough to reach the time limit now and then.
            action = 0.3 * jax.random.uniform(key_action, (4,), minval=-1, maxval=1)
            result = env.step(key_step, state, action, params)
            return result[1], result

        key_reset, key_steps = jax.random.split(key)
        first = env.reset(key_reset, params)
        return first, jax.lax.scan(step, first[1], jax.random.split(key_steps, STEPS))[1]

    return jax.jit(jax.vmap(one_arena))(keys, params)


# Pairs of frames_per_step and response_frame, which play side by side.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "most", "timings"),
    [
        ("standard", 5, [(1, 0), (3, 3), (5, 4)]),
        ("standard", 3, [(1, 1), (3, 0)]),
        ("with_thrower", 4, [(3, 1)]),
        ("topdown", 4, [(4, 0), (3, 2)]),
    ],
)
def test_timing_from_the_parameters_is_the_static_timing(mode, most, timings):
    configs = [configuration(mode, *timing) for timing in timings]
    params = jax.tree.map(
        lambda *leaves: jnp.repeat(jnp.stack(leaves), NUM_ENVS, 0), *map(game_params, configs)
    )
    keys = jax.random.split(key_of(1), len(timings) * NUM_ENVS)
    # The timing of its own configuration is none of those played.
    varying = jax.device_get(play(DodgeEnv(configuration(mode, 2, 1), most), params, keys))
    for number, config in enumerate(configs):
        rows = slice(number * NUM_ENVS, (number + 1) * NUM_ENVS)
        alone = play(DodgeEnv(config), *jax.tree.map(lambda leaf, rows=rows: leaf[rows], (params, keys)))
        assert_same(jax.tree.map(lambda leaf, rows=rows: leaf[rows], varying), jax.device_get(alone))
    terminated, truncated = varying[1][3:5]
    assert terminated.any(axis=1).mean() >= 0.5
    assert (truncated & ~terminated).any()


@pytest.mark.slow
def test_static_timing_ignores_the_parameters():
    config = configuration("standard", 2, 1)
    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), game_params(config))
    params = params.replace(frames_per_step=jnp.int32([2, 1, 9]), response_frame=jnp.int32([1, 0, 9]))
    played = play(DodgeEnv(config), params, jnp.stack([key_of(2)] * 3))
    for row in (1, 2):
        assert_same(*(jax.tree.map(lambda leaf, one=one: leaf[one], played) for one in (0, row)))


@pytest.mark.slow
def test_step_without_reset_has_the_timing_of_the_parameters():
    env = DodgeEnv(configuration("standard", 1, 1), 5)
    params = env.default_params.replace(frames_per_step=jnp.int32(5), response_frame=jnp.int32(2))
    static = DodgeEnv(configuration("standard", 5, 2))
    _, state = env.reset(key_of(0), params)
    for number in range(3):
        arguments = key_of(1, number), state, jnp.full(4, 0.5), params
        result = jax.jit(env.step_env)(*arguments)
        assert_same(result, jax.jit(static.step_env)(*arguments))
        state = result[1]


@pytest.mark.parametrize(("before", "after"), [(2.0, 0.3), (3.9, 1.2), (60.0, 0.01), (0.3, 2.0)])
def test_a_restart_with_another_interval_keeps_the_spawn_timer_within_it(before, after):
    num_envs = 4000
    env = DodgeEnv(GameConfig(level=2, projectile_spawn_interval=before, fps=1000))
    others = game_params(GameConfig(level=2, projectile_spawn_interval=after, fps=1000))
    keys = jax.random.split(key_of(5), num_envs)
    _, states = jax.vmap(env.reset, in_axes=(0, None))(keys, env.default_params)
    _, restarted = jax.jit(jax.vmap(env.restart, in_axes=(0, 0, None)))(keys, states, others)

    def seconds(timer: Duration) -> np.ndarray:
        assert (timer.nanoseconds >= 0).all()
        assert (timer.nanoseconds < 10**9).all()
        return np.asarray(timer.seconds) + np.asarray(timer.nanoseconds) / 1e9

    phase, phase_before = seconds(restarted.game.spawn_timer), seconds(states.game.spawn_timer)
    assert (phase < after).all()
    kept = phase_before + 0.001 < after
    np.testing.assert_allclose(phase[kept], phase_before[kept] + 0.001, rtol=1e-6)
    counts, _ = np.histogram(phase, 10, (0, min(before, after)))
    # Chi-squared with 9 degrees of freedom: above 27.9 in one of a thousand samples.
    assert ((counts - num_envs / 10) ** 2 / (num_envs / 10)).sum() < 27.9


def test_timing_that_differs_from_step_to_step():
    """Against a queue of commands: a frame handles all that have arrived, the latest moves."""
    env = DodgeEnv(GameConfig(level=1, action_space_type="basic_3d", projectile_spawn_interval=60.0), 4)
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 5, 40)
    responses = np.minimum(generator.integers(0, 3, 40), frames)
    frames[0], responses[0], frames[-1], responses[-1] = 2, 0, 3, 1
    actions = np.float32(generator.uniform(-0.2, 0.2, (40, 3)))
    actions[:, 2] = -1  # no sprint
    params = env.default_params

    def step(state, now):
        key, action, frames, response = now
        own = params.replace(frames_per_step=frames, response_frame=response)
        state, _ = env.step_env(key, state, action, own)[1:3]
        return state, (state.game.player.position.x, state.game.player.velocity.x, state.game.episode_steps)

    _, state = env.reset(key_of(0), params)
    given = jax.random.split(key_of(1), 40), actions, jnp.int32(frames), jnp.int32(responses)
    state, (x, velocity, counted) = jax.jit(lambda state: jax.lax.scan(step, state, given))(state)
    expected, at, speed, waiting, handled = [], 0.0, 0.0, [], 0
    for action, count, response in zip(actions, frames, responses, strict=True):
        for frame in range(count):
            if response and frame == count - response:
                waiting.append(action)
            if waiting:
                handled, speed, waiting = handled + len(waiting), 5 * float(waiting[-1][0]), []
            at += speed / 60
        waiting += [] if response else [action]
        expected.append((at, speed, handled))
    np.testing.assert_allclose(np.stack([x, velocity], axis=1), np.array(expected)[:, :2], atol=1e-4)
    np.testing.assert_array_equal(counted, np.array(expected)[:, 2])
    assert state.game.episode_steps == state.time == 40
