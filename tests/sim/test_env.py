"""The environment through its public interface: spaces, contract, stacking, parameters."""

from collections import deque

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.environment import Environment
from played_envs import (
    DENSE,
    MODES,
    SMALL_IMAGE,
    THROW,
    assert_same,
    described,
    key_of,
    random_actions,
)

import jaxdodge
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.order import ALWAYS, SHOWING_DONE_AFTER

# The contract


# Every two of them together.
@pytest.mark.parametrize(
    ("previous", "stack", "actions"),
    [(False, 1, "discrete"), (False, 3, "full_6d"), (True, 1, "full_6d"), (True, 3, "discrete")],
)
@pytest.mark.parametrize("mode", MODES)
def test_spaces_and_types(mode, previous, stack, actions):
    env, params = jaxdodge.make(
        observation_mode=mode,
        observe_previous_action=previous,
        frame_stack=stack,
        action_space_type=actions,
        **SMALL_IMAGE,
    )
    size = 5 if actions == "discrete" else 6
    if mode == "topdown":
        expected = [("", (32, 40, 3 * stack), jnp.uint8)]
        if previous:
            expected = [("['image']", *expected[0][1:]), ("['previous_action']", (size,), jnp.float32)]
    else:
        expected = [("", (MODES[mode] * stack + size * previous,), jnp.float32)]
    space = env.observation_space(params)
    spaces = {f"['{name}']": inner for name, inner in space.spaces.items()} if expected[0][0] else {"": space}
    assert [(name, inner.shape, inner.dtype) for name, inner in spaces.items()] == expected

    observation, state = jax.eval_shape(env.reset, key_of(0), params)
    action = jax.eval_shape(env.action_space(params).sample, key_of(0))
    step = jax.eval_shape(env.step, key_of(0), state, action, params)
    after, after_state, reward, terminated, truncated, info = step
    assert described(observation) == described(after) == described(info["final_observation"]) == expected
    assert described(state) == described(after_state)
    assert described((reward, terminated, truncated)) == [
        ("[0]", (), jnp.float32),
        ("[1]", (), bool),
        ("[2]", (), bool),
    ]
    assert set(info) == {"discount", "terminated", "truncated", "final_observation"}
    assert described(info["discount"]) == [("", (), jnp.float32)]
    names = {"episode_steps", "projectile_count", "dropped_projectiles", "dropped_throwers"}
    counts = jax.eval_shape(env.counts, state)
    assert {name: leaf.dtype for name, leaf in counts.items()} == dict.fromkeys(names, jnp.int32)


def test_made_by_gymnax():
    env, params = gymnax.make("jaxdodge/Dodge-v0", level=2)
    assert isinstance(env, DodgeEnv)
    assert isinstance(env, Environment)
    assert_same(params, env.default_params)
    with pytest.raises(jaxdodge.ConfigError, match="level: invalid value 7"):
        gymnax.make("jaxdodge/Dodge-v0", level=7)


def test_step_is_step_env_then_the_reset_command(dense):
    """As gymnax's own step, except for which reset it is."""
    env, params = dense
    params = params.replace(max_steps_in_episode=jnp.int32(60))
    step_env, restart = jax.jit(env.step_env), jax.jit(env.restart)
    _, state = env.reset(key_of(1), params)
    ends = []
    for number in range(160):
        key, action = key_of(2, number), jnp.float32([0, 0, -1])
        final, after, reward, terminated, info = step_env(key, state, action, params)
        truncated = env.is_truncated(after, params)
        observation, state, *values, step_info = env.step(key, state, action, params)
        done = bool(terminated | truncated)
        expected = restart(key, after, params) if done else (final, after)
        assert_same((observation, state), expected, but=THROW if done else ())
        assert_same(values, [reward, terminated, truncated])
        flags = {"terminated": terminated, "truncated": truncated, "final_observation": final}
        assert info["discount"] == 1 - terminated
        assert_same(step_info, {"discount": info["discount"], **flags})
        if done:
            ends.append((bool(terminated), bool(truncated)))
            assert observation[:5].tolist() == [0, 0, 1, 0, 0]
    assert len(ends) >= 2


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    ("over", "late"),
    [(False, False), (False, True), (True, False), (True, True)],
    ids=["neither", "truncated", "terminated", "both"],
)
def test_truth_table_of_terminated_and_truncated(dense, over, late, batched):
    env, params = dense
    _, state = env.reset(key_of(0), params)
    game = state.game.replace(game_over=jnp.asarray(over), episode_steps=jnp.int32(999 if late else 998))
    state, step = state.replace(game=game, time=jnp.int32(10)), env.step
    key, action = key_of(1), jnp.zeros(3)
    if batched:
        key, state, action = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), (key, state, action))
        step = jax.vmap(step, in_axes=(0, 0, 0, None))
    _, after, reward, terminated, truncated, info = jax.tree.map(
        lambda leaf: leaf[1] if batched else leaf, step(key, state, action, params)
    )
    assert (bool(terminated), bool(truncated)) == (over, late)
    assert (bool(info["terminated"]), bool(info["truncated"])) == (over, late)
    assert reward == (-100 if over else 1)
    assert info["discount"] == (0 if over else 1)
    assert after.time == (0 if over or late else 11)
    assert not after.game.game_over
    assert after.game.episode_steps == (0 if over or late else 999)


# Randomness, compilation, parameters


def test_the_key_decides(dense):
    env, params = dense
    first = env.reset(key_of(5), params)
    assert_same(first, env.reset(key_of(5), params))
    ways = []
    for seed in (0, 0, 1):
        state = first[1]
        for number in range(20):
            observation, state, *_ = env.step(key_of(seed, number), state, jnp.zeros(3), params)
        ways.append(observation)
    assert_same(ways[0], ways[1])
    assert not np.array_equal(ways[0], ways[2])


def test_step_is_traced_once(monkeypatch):
    traces = []
    advance = DodgeEnv.advance
    monkeypatch.setattr(DodgeEnv, "advance", lambda self, *args: traces.append(1) or advance(self, *args))
    env, params = jaxdodge.make(**DENSE, action_space_type="basic_3d", max_episode_steps=3)
    _, state = env.reset(key_of(0), params)
    for number in range(8):
        action = np.zeros(3, np.float32) if number % 2 else jnp.ones(3)
        state = env.step(key_of(number), state, action, params)[1]
        params = params.replace(player_speed=jnp.float32(number + 1), spawn_angle=jnp.float32(0.1))
    assert len(traces) == 1


def test_parameters_are_swept_with_vmap(dense):
    env, params = dense
    speeds = jnp.float32([1, 2, 10])
    swept = jax.vmap(lambda speed: params.replace(player_speed=speed))(speeds)
    _, state = env.reset(key_of(0), params)
    step = jax.vmap(env.step, in_axes=(None, None, None, 0))
    observations = step(key_of(1), state, jnp.float32([1, -1, -1]), swept)[0]
    np.testing.assert_array_equal(observations[:, 3:5], jnp.stack([speeds, -speeds], axis=1))


@pytest.mark.slow
def test_overflowing_slots_are_counted():
    counts = []
    for slots in (40, 2):
        env, params = jaxdodge.make(**DENSE, action_space_type="basic_3d", projectile_slots=slots)
        _, state = env.reset(key_of(0), params)
        step = jax.jit(env.step_env)
        for number in range(40):
            _, state, _, _, info = step(key_of(1, number), state, jnp.zeros(3), params)
        counts.append((int(info["projectile_count"]), int(info["dropped_projectiles"])))
    thrown = counts[0][0]
    assert thrown > 4
    assert counts == [(thrown, 0), (2, thrown - 2)]


# Stacking and the previous action


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=() if mode == "topdown" else pytest.mark.slow) for mode in MODES]
)
def test_frames_are_stacked(mode):
    """Oldest first, zeros before the first, none from another episode;
    the previous action only once.
    """
    fields = {
        **DENSE,
        **SMALL_IMAGE,
        "observation_mode": mode,
        "action_space_type": "basic_3d",
        "max_episode_steps": 9,
        "observe_previous_action": True,
    }
    single, params = jaxdodge.make(**fields)
    stacked, _ = jaxdodge.make(**fields, frame_stack=3)
    actions = random_actions(single, 0, 25)

    def split(observation):
        """The part that is stacked, and the previous action."""
        if mode == "topdown":
            return observation["image"], observation["previous_action"]
        return observation[:-3], observation[-3:]

    observation, state = single.reset(key_of(6), params)
    stack, stacked_state = stacked.reset(key_of(6), params)
    first = split(observation)[0]
    entries = deque([jnp.zeros_like(first)] * 2 + [first], maxlen=3)
    previous = jnp.zeros(3)
    for number, action in enumerate(actions):
        assert_same(split(stack), (jnp.concatenate(list(entries), axis=-1), previous))
        key = key_of(number)
        observation, state, _, terminated, truncated, info = single.step(key, state, action, params)
        stack, stacked_state, *_, stacked_info = stacked.step(key, stacked_state, action, params)
        entries.append(split(info["final_observation"])[0])
        assert_same(
            split(stacked_info["final_observation"]), (jnp.concatenate(list(entries), axis=-1), action)
        )
        previous = action
        if terminated or truncated:
            first = split(observation)[0]
            entries.extend([jnp.zeros_like(first)] * 2 + [first])
            previous = jnp.zeros(3)
    assert number > 18


def test_previous_action_of_discrete_actions():
    env, params = jaxdodge.make(
        action_space_type="discrete", observe_previous_action=True, max_episode_steps=4
    )
    observation, state = env.reset(key_of(0), params)
    assert observation[65:].tolist() == [0] * 5
    for action in (0, 3, 4):
        observation, state, *_ = env.step(key_of(1), state, jnp.int32(action), params)
        assert observation[65:].tolist() == np.eye(5)[action].tolist()
    observation, _, *_, info = env.step(key_of(1), state, jnp.int32(1), params)
    assert info["final_observation"][65:].tolist() == np.eye(5)[1].tolist()
    assert observation[65:].tolist() == [0] * 5


def test_continuous_actions_are_clipped(dense):
    env, params = dense
    _, state = env.reset(key_of(0), params)
    assert_same(
        env.step(key_of(1), state, jnp.float32([3, -7, -2]), params),
        env.step(key_of(1), state, jnp.float32([1, -1, -1]), params),
    )


def test_an_action_of_another_shape_is_refused(dense):
    env, params = dense
    _, state = env.reset(key_of(0), params)
    with pytest.raises(AssertionError, match="shape"):
        env.step(key_of(1), state, jnp.zeros(4), params)


@pytest.mark.parametrize("part", range(3))
def test_an_action_that_is_not_a_number_ends_the_episode_and_leaves_no_trace(dense, part):
    env, params = dense
    _, state = env.reset(key_of(0), params)
    observation, _, reward, terminated, truncated, info = env.step(
        key_of(1), state, jnp.zeros(3).at[part].set(jnp.nan), params
    )
    assert (bool(terminated), bool(truncated), float(reward)) == (True, False, -100.0)
    assert np.isfinite(observation).all()
    assert np.isfinite(info["final_observation"]).all()


def test_a_discrete_action_is_an_integer():
    env, params = jaxdodge.make(action_space_type="discrete")
    _, state = jax.eval_shape(env.reset, key_of(0), params)
    with pytest.raises(AssertionError):
        jax.eval_shape(env.step, key_of(1), state, jnp.float32(0.5), params)


def test_the_order_decides_when_a_hit_is_published():
    """Nothing else changes: the first throw hits who stands still, and `done` comes later."""
    key, still, lengths = key_of(0), jnp.zeros(5), []
    for order in SHOWING_DONE_AFTER:
        assert all(order.index(earlier) < order.index(later) for earlier, later in ALWAYS)
        env = DodgeEnv(jaxdodge.GameConfig(level=1, fps=20, frames_per_step=1), order=order)
        _, state = env.reset(key)
        step, terminated, length = jax.jit(env.step_env), False, 0
        while not terminated:
            _, state, _, terminated, _ = step(key, state, still, env.default_params)
            length += 1
        lengths.append(length)
    assert np.diff(lengths).tolist() == [1, 1]
