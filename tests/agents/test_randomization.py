"""The numbers of an episode: which are drawn, within which bounds, and an
environment with room for them.
"""

import dataclasses
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.agents.randomization import draw_params, most_frames_per_step, randomized_env
from jaxdodge.agents.train_config import DomainRandomization
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.sim.params import GameParams, frame_seconds, game_params

EPISODES = 4000
EVERYTHING = DomainRandomization(
    frame_time_jitter=0.3,
    frames_per_step_jitter=2,
    response_frame_jitter=1,
    spawn_interval_jitter=0.5,
    spawn_angle_jitter=0.5,
    shortest_episode=0.1,
)


def drawn(config: GameConfig, randomization: DomainRandomization) -> GameParams:
    """Of many episodes, as NumPy arrays with a leading axis."""
    draw = jax.jit(jax.vmap(partial(draw_params, randomization=randomization), in_axes=(0, None)))
    return jax.device_get(draw(jax.random.split(jax.random.key(0), EPISODES), game_params(config)))


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    counts, _ = np.histogram(values, 10, (low, high))
    assert counts.sum() == EPISODES
    # Chi-squared with 9 degrees of freedom: above 27.9 in one of a thousand samples.
    assert ((counts - EPISODES / 10) ** 2 / (EPISODES / 10)).sum() < 27.9


def counted(values: np.ndarray) -> dict[int, float]:
    """The share of every whole number."""
    numbers, counts = np.unique(values, return_counts=True)
    return dict(zip(numbers.tolist(), (counts / EPISODES).tolist(), strict=True))


def differing(config: GameConfig, randomization: DomainRandomization) -> set[str]:
    """The parameters that are not the configuration's, bit for bit."""
    names = set()
    expected = jax.tree_util.tree_leaves_with_path(game_params(config))
    for (path, leaf), got in zip(expected, jax.tree.leaves(drawn(config, randomization)), strict=True):
        assert got.dtype == leaf.dtype
        if (got != np.asarray(leaf)).any():
            names.add(jax.tree_util.keystr(path[:1]).strip("."))
    return names


def test_no_jitter_leaves_every_number_as_it_is():
    config = GameConfig(level=2, frames_per_step=7, response_frame=0, fps=7, spawn_angle_degrees=180)
    assert differing(config, DomainRandomization()) == set()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("frame_time_jitter", {"frame_nanoseconds", "frame_seconds"}),
        ("frames_per_step_jitter", {"frames_per_step"}),
        ("response_frame_jitter", {"response_frame"}),
        ("spawn_interval_jitter", {"spawn_interval"}),
        ("spawn_angle_jitter", {"spawn_angle"}),
        ("shortest_episode", {"max_steps_in_episode"}),
    ],
)
def test_a_jitter_changes_its_own_number_only(name, changes):
    config = GameConfig(level=2, frames_per_step=7, response_frame=3)
    alone = dataclasses.replace(DomainRandomization(), **{name: getattr(EVERYTHING, name)})
    assert differing(config, alone) == changes
    both, single = drawn(config, EVERYTHING), drawn(config, alone)
    for change in changes:
        np.testing.assert_array_equal(
            *(jax.tree.leaves(getattr(params, change))[-1] for params in (both, single))
        )


@pytest.mark.parametrize(("fps", "shortest", "longest"), [(60, 0.7, 1.3), (4, 0.7, 1.0), (1000, 1.0, 1.3)])
def test_frame_times(fps, shortest, longest):
    config = GameConfig(fps=fps)
    params = drawn(config, DomainRandomization(frame_time_jitter=0.3))
    nanoseconds = params.frame_nanoseconds
    np.testing.assert_array_equal(params.frame_seconds, frame_seconds(nanoseconds))
    share = nanoseconds / config.frame_nanoseconds
    # Float32 keeps durations of this size to 16 ns.
    assert share.min() > shortest - 1e-6
    assert share.max() < longest + 1e-6
    assert nanoseconds.min() >= 1_000_000
    assert nanoseconds.max() <= 250_000_000
    if (shortest, longest) == (0.7, 1.3):
        assert_uniform(share, 0.7, 1.3)


@pytest.mark.parametrize("seconds", [1e-9, 0.01, 0.5, 0.9999, 1.0, 2.0, 60.0])
def test_spawn_intervals(seconds):
    config = GameConfig(projectile_spawn_interval=seconds)
    interval = drawn(config, DomainRandomization(spawn_interval_jitter=0.9)).spawn_interval
    assert interval.nanoseconds.min() >= 0
    assert interval.nanoseconds.max() < 10**9
    nanoseconds = interval.seconds.astype(np.int64) * 10**9 + interval.nanoseconds
    assert nanoseconds.min() >= 1
    if seconds > 1e-9:
        assert_uniform(nanoseconds / (seconds * 1e9), 0.1 - 1e-6, 1.9 + 1e-6)


def test_spawn_angles_end_at_half_a_turn():
    narrow = drawn(
        GameConfig(spawn_angle_degrees=30), DomainRandomization(spawn_angle_jitter=0.5)
    ).spawn_angle
    assert_uniform(np.degrees(narrow), 15 - 1e-4, 45 + 1e-4)
    wide = drawn(GameConfig(spawn_angle_degrees=180), DomainRandomization(spawn_angle_jitter=0.5)).spawn_angle
    assert wide.min() > np.radians(89.9)
    assert wide.max() == game_params(GameConfig(spawn_angle_degrees=180)).spawn_angle
    assert 0.45 < (wide == wide.max()).mean() < 0.55


def test_frames_per_step_are_equally_frequent():
    params = drawn(
        GameConfig(frames_per_step=7, response_frame=0), DomainRandomization(frames_per_step_jitter=1)
    )
    assert counted(params.frames_per_step) == pytest.approx({6: 1 / 3, 7: 1 / 3, 8: 1 / 3}, abs=0.03)
    assert (params.response_frame == 0).all()


def test_a_step_has_at_least_one_frame():
    params = drawn(GameConfig(frames_per_step=1), DomainRandomization(frames_per_step_jitter=2))
    assert counted(params.frames_per_step) == pytest.approx({1: 3 / 5, 2: 1 / 5, 3: 1 / 5}, abs=0.03)


def test_a_response_with_the_last_frame_stays_the_last():
    params = drawn(GameConfig(frames_per_step=4), DomainRandomization(frames_per_step_jitter=3))
    np.testing.assert_array_equal(params.response_frame, params.frames_per_step)
    params = drawn(
        GameConfig(frames_per_step=4), DomainRandomization(frames_per_step_jitter=3, response_frame_jitter=1)
    )
    late = counted(params.frames_per_step - params.response_frame)
    assert late == pytest.approx({0: 2 / 3, 1: 1 / 3}, abs=0.03)


@pytest.mark.parametrize(
    ("response", "expected"),
    [(0, {0: 2 / 3, 1: 1 / 3}), (2, {1: 1 / 3, 2: 1 / 3, 3: 1 / 3}), (4, {3: 1 / 3, 4: 2 / 3})],
)
def test_response_frames(response, expected):
    params = drawn(
        GameConfig(frames_per_step=4, response_frame=response), DomainRandomization(response_frame_jitter=1)
    )
    assert (params.frames_per_step == 4).all()
    assert counted(params.response_frame) == pytest.approx(expected, abs=0.03)


def test_a_response_is_never_later_than_the_step():
    config = GameConfig(frames_per_step=3, response_frame=2)
    params = drawn(config, DomainRandomization(frames_per_step_jitter=2, response_frame_jitter=2))
    assert (params.response_frame <= params.frames_per_step).all()
    assert params.response_frame.min() == 0
    assert params.frames_per_step.max() == 5


def test_lengths_of_episodes():
    steps = drawn(
        GameConfig(max_episode_steps=1_000_000), DomainRandomization(shortest_episode=0.02)
    ).max_steps_in_episode
    assert steps.min() >= 20_000
    assert steps.max() <= 1_000_000
    # So that of the time played, as much goes into each octave of lengths.
    assert_uniform(1 / steps, 1 / 1_000_000, 1 / 20_000)


def test_the_key_decides():
    params = game_params(GameConfig(level=2, frames_per_step=7))
    one, same, other = (
        jax.tree.leaves(draw_params(jax.random.key(seed), params, EVERYTHING)) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize("mode", [pytest.param("standard", marks=pytest.mark.slow), "with_thrower"])
def test_the_environment_has_room_for_every_draw(mode):
    """At the shortest interval, the shortest frames and the widest angle nothing is dropped."""
    config = GameConfig(
        level=2,
        observation_mode=mode,
        action_space_type="basic_3d",
        spawn_angle_degrees=44,
        projectile_spawn_interval=0.2,
        thrower_delay_seconds=0.5,
    )
    randomization = DomainRandomization(
        spawn_interval_jitter=0.6, spawn_angle_jitter=0.02, frame_time_jitter=0.5
    )
    env = randomized_env(config, randomization)
    assert env.config.projectile_slots > config.projectile_slots
    shortest = game_params(config.configure(projectile_spawn_interval=0.08, fps=120))

    def dropped(env, params):
        def step(state, key):
            return env.step_env(key, state, jnp.zeros(3), params)[1], None

        _, state = env.reset(jax.random.key(0), params)
        state = jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 1200))[0]
        return state.game.dropped_projectiles, state.game.dropped_throwers

    assert jax.jit(partial(dropped, env))(shortest) == (0, 0)
    if mode == "with_thrower":
        assert jax.jit(partial(dropped, randomized_env(config, DomainRandomization())))(shortest)[1] > 0


def test_without_jitter_the_environment_is_the_configurations():
    config = GameConfig(level=2, projectile_slots=7, frames_per_step=3)
    assert randomized_env(config, DomainRandomization()).config == config
    assert most_frames_per_step(config, DomainRandomization(frame_time_jitter=0.5)) is None
    assert most_frames_per_step(config, DomainRandomization(response_frame_jitter=1)) == 3
    assert most_frames_per_step(config, DomainRandomization(frames_per_step_jitter=2)) == 5
    params = randomized_env(config, EVERYTHING).default_params
    assert jax.tree.leaves(params) == jax.tree.leaves(game_params(config))


def test_episodes_of_all_kinds_side_by_side():
    """Draws are valid timings: the steps count, and its longest step fits."""
    config = GameConfig(level=2, frames_per_step=3, response_frame=2, action_space_type="basic_3d")
    env, num_envs = randomized_env(config, EVERYTHING), 64
    keys = jax.random.split(jax.random.key(3), num_envs)
    params = jax.vmap(partial(draw_params, randomization=EVERYTHING), in_axes=(0, None))(
        keys, env.default_params
    )
    _, state = jax.jit(jax.vmap(env.reset))(keys, params)
    step = jax.jit(jax.vmap(env.step_env))
    for number in range(1, 4):
        _, state, _, _, info = step(keys, state, jnp.zeros((num_envs, 3)), params)
        queued = params.response_frame == 0
        np.testing.assert_array_equal(info["episode_steps"], number - queued)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frame_time_jitter", 1.0),
        ("frames_per_step_jitter", -1),
        ("response_frame_jitter", 0.5),
        ("spawn_interval_jitter", 0.95),
        ("spawn_angle_jitter", "wide"),
        ("shortest_episode", 0),
    ],
)
def test_refused_jitter(field, value):
    with pytest.raises(ConfigError, match=f"^{field}: invalid value .*"):
        DomainRandomization(**{field: value})


def test_jitter_of_a_configuration_with_more_fields():
    config = types.SimpleNamespace(seed=0, **dataclasses.asdict(EVERYTHING))
    assert DomainRandomization.of(config) == EVERYTHING
