"""The environment through its public interface: spaces, timing, resets, stacking, parameters."""

from collections import deque

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdodge
from jaxdodge.sim.actions import movement
from jaxdodge.sim.draws import draw_uniform
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.frame import frame, reset_where
from jaxdodge.sim.publish import observe_vector, publish_state
from jaxdodge.sim.state import Vector
from jaxdodge.sim.systems import Command, Inputs, spawn_position

FRAME = 16_666_667
# Throws that come often enough to kill within a second.
DENSE = {"level": 2, "spawn_angle_degrees": 30.0, "projectile_spawn_interval": 0.1}
SMALL_IMAGE = {"image_obs_width": 40, "image_obs_height": 32}
# Where a throw of the last frame comes from, which differs between two draws.
THROW = tuple(f"[1].game.spawned_projectile.{of}.{axis}" for of in ("position", "velocity") for axis in "xyz")
MODES = {"standard": 65, "with_thrower": 69, "topdown": None}


def key_of(*numbers: int) -> jax.Array:
    key = jax.random.key(numbers[0])
    for number in numbers[1:]:
        key = jax.random.fold_in(key, number)
    return key


def assert_same(one, other, but: tuple[str, ...] = ()) -> None:
    """All leaves equal, bit for bit."""
    one, other = (jax.tree_util.tree_leaves_with_path(tree) for tree in (one, other))
    for (path, mine), (its_path, its) in zip(one, other, strict=True):
        assert path == its_path
        name = jax.tree_util.keystr(path)
        if name not in but:
            np.testing.assert_array_equal(mine, its, err_msg=name)


def described(tree) -> list:
    return [
        (jax.tree_util.keystr(path), leaf.shape, leaf.dtype)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


@pytest.fixture(scope="module")
def dense():
    return jaxdodge.make(**DENSE, action_space_type="basic_3d")


@pytest.fixture(scope="module")
def with_thrower():
    return jaxdodge.make(**DENSE, observation_mode="with_thrower", thrower_delay_seconds=0.3)


def random_actions(env: DodgeEnv, seed: int, steps: int):
    if env.config.action_space_type == "discrete":
        return jax.random.randint(key_of(seed), (steps,), 0, 5)
    return jax.random.uniform(key_of(seed), (steps, env.num_actions), minval=-1, maxval=1)


def states_of_play(env: DodgeEnv, params, arenas: int, steps: int):
    """States (arenas, ...) after random play without reset, dead ones among them."""

    def play(key):
        _, state = env.reset(key, params)
        actions = jax.random.uniform(key, (steps, env.num_actions), minval=-1, maxval=1)
        keys = jax.random.split(key, steps)
        return jax.lax.scan(
            lambda s, x: (env.step_env(x[0], s, x[1], params)[1], None), state, (keys, actions)
        )[0]

    return jax.jit(jax.vmap(play))(jax.random.split(key_of(9), arenas))


# The contract


@pytest.mark.parametrize("actions", ["discrete", "full_6d"])
@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("previous", [False, True])
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
    counts = ("episode_steps", "projectile_count", "dropped_projectiles", "dropped_throwers")
    assert [info[name].dtype for name in counts] == [jnp.int32] * 4
    assert set(info) == {*counts, "terminated", "truncated", "final_observation"}


def test_made_by_gymnax():
    env, params = gymnax.make("jaxdodge/Dodge-v0", level=2)
    assert isinstance(env, DodgeEnv)
    assert_same(params, env.default_params)
    with pytest.raises(jaxdodge.ConfigError, match="level: 7 is refused"):
        gymnax.make("jaxdodge/Dodge-v0", level=7)


def test_step_is_step_env_then_the_reset_command(dense):
    """As gymnax's own step, except for which reset it is."""
    env, params = dense
    params = params.replace(max_episode_steps=jnp.int32(60))
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
        assert_same(step_info, {**info, **flags})
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
    assert info["episode_steps"] == (1000 if late else 999)
    assert after.time == (0 if over or late else 11)
    assert not after.game.game_over
    assert after.game.episode_steps == (0 if over or late else 999)


# Timing


def inputs_of(draw, params, *commands) -> Inputs:
    throw = spawn_position(draw, params)
    return Inputs(params.frame_nanoseconds, params.frame_seconds, throw, commands)


@jax.jit
def plain_frame(game, draw, params):
    return frame(game, inputs_of(draw, params), False)


@jax.jit
def frame_with_action(game, draw, params, action):
    command = Command(step=True, move=movement(action, "basic_3d"))
    return frame(game, inputs_of(draw, params, command), False)


@jax.jit
def frame_with_reset(game, draw, params):
    return frame(game, inputs_of(draw, params, Command(reset=True)), False)


def frame_by_frame(env, params, game, keys, actions):
    """The responses of a server whose client's action and answer are this many frames apart.

    Yields observation, reward, terminated, truncated, episode_steps, projectile_count, and whether the
    player died in a frame after the last response. `game` is as of the first observation.
    """
    frames, response = env.config.frames_per_step, env.config.response_frame
    last_action = None
    for key, action in zip(keys, actions, strict=True):
        draws = draw_uniform(key, frames + 1)
        late_death = False
        if response == 0:
            # The frames of the step before, whose action waited until after its response.
            for number in range(frames):
                if number == 0 and last_action is not None:
                    game = frame_with_action(game, draws[0], params, last_action)
                else:
                    game = plain_frame(game, draws[number], params)
        else:
            if last_action is not None:
                for number in range(frames - response):
                    game = plain_frame(game, draws[number], params)
                late_death = bool(game.game_over)
            game = frame_with_action(game, draws[frames - response], params, action)
            for number in range(frames - response + 1, frames):
                game = plain_frame(game, draws[number], params)
        published = publish_state(game)
        yield (
            (
                observe_vector(game, False),
                published.reward,
                published.terminated,
                published.truncated,
                published.episode_steps,
                published.projectile_count,
            ),
            late_death,
        )
        last_action = action
        if published.terminated or published.truncated:
            game, last_action = frame_with_reset(game, draws[frames], params), None


# The limits end an episode after about as many frames as the first throw needs to arrive.
@pytest.mark.parametrize(
    ("frames", "response", "limit"), [(1, 1, 47), (4, 4, 12), (4, 2, 13), (4, 1, 13), (4, 0, 11), (7, 0, 6)]
)
def test_timing_is_that_of_a_frame_by_frame_loop(frames, response, limit):
    env, params = jaxdodge.make(
        **DENSE,
        action_space_type="basic_3d",
        frames_per_step=frames,
        response_frame=response,
        observe_previous_action=False,
        max_episode_steps=limit,
    )
    steps, late_deaths, ends = 600 // frames, 0, np.zeros(2, int)
    keys = jax.random.split(key_of(frames, response), steps)
    actions = 0.2 * random_actions(env, response, steps)
    _, state = env.reset(key_of(4), params)
    game = env.arena(state, params)
    expected = frame_by_frame(env, params, game, keys, actions)
    for number, (values, late_death) in enumerate(expected):
        _, state, reward, terminated, truncated, info = env.step(keys[number], state, actions[number], params)
        got = (
            info["final_observation"],
            reward,
            terminated,
            truncated,
            info["episode_steps"],
            info["projectile_count"],
        )
        assert_same(got, values)
        late_deaths += late_death
        ends += [bool(terminated), bool(truncated)]
    assert (ends > 0).all(), "the run must see deaths and time limits"
    assert (late_deaths > 0) == (0 < response < frames)


@pytest.mark.parametrize(
    ("frames", "response", "responses"), [(1, 1, 20), (3, 3, 20), (3, 1, 20), (3, 0, 21)]
)
def test_responses_of_a_full_episode(frames, response, responses):
    env, params = jaxdodge.make(
        frames_per_step=frames, response_frame=response, max_episode_steps=20, projectile_spawn_interval=60
    )
    _, state = env.reset(key_of(0), params)
    state = state.replace(game=state.game.replace(spawn_timer=Duration.from_nanoseconds(0)))
    published, truncated = [], []
    for number in range(2 * responses):
        _, state, _, _, over, info = env.step(key_of(number), state, jnp.zeros(5), params)
        published.append(int(info["episode_steps"]))
        truncated.append(bool(over))
    assert truncated == ([False] * (responses - 1) + [True]) * 2
    assert published == list(range(21 - responses, 21)) * 2


# Resets


def random_vector(generator, largest: float, *shape: int) -> Vector:
    return Vector(*(jnp.asarray(generator.uniform(-largest, largest, shape), jnp.float32) for _ in range(3)))


def test_reset_where_is_the_frame_that_begins_with_a_reset(dense):
    """Bit for bit, for states with removals and throws pending; slots that are not in use do not count."""
    env, params = dense
    arenas, slots = 256, env.config.projectile_slots
    generator = np.random.default_rng(0)
    states = states_of_play(env, params, arenas, 130)
    game = states.game
    in_use = jnp.arange(slots) < game.projectiles.count[:, None]
    due, condition = (jnp.asarray(generator.random(arenas) < 0.5) for _ in range(2))
    outside = jnp.asarray(generator.random((arenas, slots)) < 0.2) & in_use
    game = game.replace(
        projectiles=game.projectiles.replace(outside=outside),
        spawned_projectile=game.spawned_projectile.replace(
            due=due,
            position=random_vector(generator, 5, arenas),
            velocity=random_vector(generator, 9, arenas),
        ),
    )
    states = states.replace(game=game)
    collision = jnp.asarray(generator.random(arenas) < 0.5)
    draws = jnp.asarray(generator.random(arenas), jnp.float32)

    def both(condition, state, collision, draw):
        game = env.arena(state, params).replace(collision=collision)
        inputs = inputs_of(draw, params, Command(reset=True))
        return game, frame(game, inputs, False), reset_where(condition, game, inputs, False)

    before, after, selected = jax.jit(jax.vmap(both))(condition, states, collision, draws)

    def used(game, condition):
        """With zeros in the slots that are not in use, and nothing where the condition does not hold."""
        table = game.projectiles
        unused = jnp.arange(slots) >= table.count[:, None]
        hidden = {
            name: jax.tree.map(lambda array: jnp.where(unused, 0, array), getattr(table, name))
            for name in ("position", "velocity", "outside")
        }
        game = game.replace(projectiles=table.replace(**hidden))
        return jax.tree.map(lambda array: np.asarray(array)[np.asarray(condition)], game)

    np.testing.assert_array_equal(selected.projectiles.count[condition], due[condition])
    assert_same(used(selected, condition), used(after, condition))
    assert_same(used(selected, ~condition), used(before, ~condition))
    assert selected.game_over.any()
    assert game.projectiles.count.min() > 3


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


def test_restart_keeps_pending_indicators(with_thrower):
    env, params = with_thrower
    arenas = 8
    states = states_of_play(env, params, arenas, 40)
    restart = jax.jit(jax.vmap(env.restart, in_axes=(0, 0, None)))
    _, after = restart(jax.random.split(key_of(0), arenas), states, params)
    before, throwers = jax.device_get((states.game.throwers, after.game.throwers))
    kept = 0
    for arena in range(arenas):
        for slot in range(before.count[arena]):
            elapsed = before.elapsed.nanoseconds[arena, slot]
            if elapsed < 300_000_000 - 2 * FRAME:
                kept += 1
                same = throwers.position.x[arena] == before.position.x[arena, slot]
                same &= throwers.elapsed.nanoseconds[arena] == elapsed + FRAME
                assert same[: throwers.count[arena]].any()
    assert kept > 8


@pytest.mark.parametrize("seconds", [0.5, 1.6, 2.0])
def test_reset_draws_the_spawn_timers_phase_uniformly(dense, seconds):
    env, params = dense
    interval = round(seconds * 1e9)
    params = params.replace(spawn_interval=Duration.from_nanoseconds(interval))
    arenas = 4000
    _, states = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key_of(3), arenas), params)
    timer = states.game.spawn_timer
    phase = np.asarray(timer.seconds, np.int64) * 10**9 + np.asarray(timer.nanoseconds)
    assert phase.min() >= 0
    assert phase.max() < interval
    counts, _ = np.histogram(phase, 10, (0, interval))
    # Chi-squared with 9 degrees of freedom: above 27.9 in one of a thousand samples.
    assert ((counts - arenas / 10) ** 2 / (arenas / 10)).sum() < 27.9


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
    advance = DodgeEnv._advance
    monkeypatch.setattr(DodgeEnv, "_advance", lambda self, *args: traces.append(1) or advance(self, *args))
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


@pytest.mark.parametrize("mode", MODES)
def test_frames_are_stacked(mode):
    """Oldest first, zeros before the first, none from another episode; the previous action only once."""
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
