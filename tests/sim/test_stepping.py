"""`DodgeEnv.step` against `ordered_frame`: every timing, whole episodes, frame by frame."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compilation import users_jit
from played_envs import DENSE, SMALL_IMAGE, assert_same, key_of

import jaxdodge
from jaxdodge.config import GameConfig
from jaxdodge.render.topdown import draw
from jaxdodge.sim.actions import action_shape, movement
from jaxdodge.sim.draws import draw_uniform
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.frame import ordered_frame
from jaxdodge.sim.order import SIMULATOR, as_indices
from jaxdodge.sim.params import game_params
from jaxdodge.sim.publish import publish
from jaxdodge.sim.state import server_start
from jaxdodge.sim.systems import Command, Inputs, spawn_position

TIMINGS = [(frames, response) for frames in (1, 2, 4, 7) for response in range(frames + 1)]
SPACES = {"standard": "full_6d", "with_thrower": "basic_4d_jump", "topdown": "discrete"}
PHASE = Duration.from_nanoseconds(30_000_000)
ENVS, STEPS, SLOTS = 2, 60, 24
ROWS = 7 * STEPS + 40


def configuration(mode: str, frames: int, response: int) -> GameConfig:
    return GameConfig(
        **DENSE,
        **SMALL_IMAGE,
        observation_mode=mode,
        action_space_type=SPACES[mode],
        thrower_delay_seconds=0.25,
        frames_per_step=frames,
        response_frame=response,
        observe_previous_action=False,
        # After about as many frames as the first throw needs to arrive.
        max_episode_steps=52 // frames,
        projectile_slots=SLOTS,
    )


def random_play(mode: str):
    """Keys and actions (ENVS, STEPS, ...), timid enough to reach the time limit now and then."""
    space = SPACES[mode]
    shape = (ENVS, STEPS, *action_shape(space))
    keys = jax.random.split(key_of(3), (ENVS, STEPS))
    if space == "discrete":
        return keys, jnp.where(jax.random.bernoulli(key_of(4), 0.2, shape), 4, 0)
    return keys, 0.6 * jax.random.uniform(key_of(5), shape, minval=-1, maxval=1)


def play(env: DodgeEnv, params, keys, actions):
    """The first observation and what every step gives, (envs, steps, ...)."""

    def one(params, keys, actions):
        state = env.start()
        state = state.replace(game=state.game.replace(spawn_timer=PHASE))
        observation, state = env.restart(key_of(2), state, params)

        def step(state, now):
            observation, state, *rest = env.step(now[0], state, now[1], params)
            return state, (observation, *rest)

        return observation, jax.lax.scan(step, state, (keys, actions))[1]

    return jax.device_get(users_jit(jax.vmap(one))(params, keys, actions))


class Frames:
    """The frames behind an environment's steps, from `frames_per_step` and `response_frame`."""

    def __init__(self, config: GameConfig, done: np.ndarray):
        k, m = config.frames_per_step, config.response_frame
        self.rows: list[tuple[str, int, int, int]] = [("reset", 0, -1, 0)]
        """Command (none, reset, act), whose action, and step and number of the frame's draw."""
        self.response: list[int] = []
        """By step: the frame whose publication answers it."""
        self.first: dict[int, int] = {}
        """By step that ended an episode: the frame of the next one's first observation."""
        last = None
        for step, over in enumerate(done):
            none = [("none", 0, step, number) for number in range(k)]
            if m == 0:
                # The action before is applied after its response.
                self.rows += none if last is None else [("act", last, step, 0), *none[1:]]
            else:
                self.rows += [] if last is None else none[: k - m]
                self.rows += [("act", step, step, k - m), *none[k - m + 1 :]]
            self.response.append(len(self.rows) - 1)
            last = step
            if over:
                self.first[step] = len(self.rows)
                self.rows.append(("reset", 0, step, k))
                last = None

    def inputs(self, params, keys, actions, space: str):
        """Order and inputs, (ROWS, ...): half a frame at the start, then whole ones."""
        after = as_indices(SIMULATOR[SIMULATOR.index("publish_state") + 1 :])
        orders = np.tile(np.array(as_indices(SIMULATOR), np.int32), (ROWS, 1))
        orders[0] = [*after, *as_indices(["apply_tilt"]) * (13 - len(after))]
        kind, of, step, number = (np.array(column) for column in zip(*self.rows, strict=True))
        rest = ROWS - len(kind)
        drawn = np.asarray(draws(jnp.concatenate([keys, key_of(2)[None]]), params))
        spawn = drawn[:, step, number]
        moves = jax.device_get(movements(np.asarray(actions), space))
        moves = jax.tree.map(lambda part: part[of], moves)
        commands = Command(
            move=jax.tree.map(lambda part: np.pad(part, (0, rest)), moves),
            step=np.pad(kind == "act", (0, rest)),
            reset=np.pad(kind == "reset", (0, rest)),
            restart_timer=np.zeros(ROWS, bool),
        )
        # A frame ends with the commands of the interval that its publication begins.
        throws = tuple(np.pad(axis, (1, rest - 1)) for axis in spawn)
        times = (np.full(ROWS, time) for time in (params.frame_nanoseconds, params.frame_seconds))
        return orders, Inputs(*times, throws, (commands,))


@partial(jax.jit, static_argnames="space")
def movements(actions, space: str):
    return jax.vmap(lambda action: movement(action, space))(actions)


@jax.jit
def draws(keys, params):
    """x and y (2, keys, 8) of what a step's key draws."""
    return jnp.stack(jax.vmap(lambda key: spawn_position(draw_uniform(key, 8), params))(keys), 0)


@users_jit
def replay(params, orders, inputs):
    """All publications of frames in the simulator's order, which is data; `orders` (frames, 13)."""
    start = server_start(SLOTS, 8)
    start = start.replace(spawn_timer=PHASE)

    def one(carry, now):
        order, inputs = now
        carry = ordered_frame(carry, order, jnp.asarray(as_indices(SIMULATOR)), inputs)
        return carry, carry[2]

    carry = start, params, jax.tree.map(jnp.zeros_like, publish(start, params))
    return jax.lax.scan(one, carry, (orders, inputs))[1]


def check(mode: str, config: GameConfig, params, played, keys, actions) -> np.ndarray:
    """Steps of one environment against its frames' publications; counts deaths and time limits."""
    first, (observation, reward, terminated, truncated, info) = played
    frames = Frames(config, terminated | truncated)
    published = jax.device_get(replay(params, *frames.inputs(params, keys, actions, SPACES[mode])))
    # The first row is half a frame, so the publication of frame i is in row i + 1.
    rows = np.array(frames.response) + 1
    names = ("reward", "done", "truncated", "episode_steps", "projectile_count")
    got = (reward, terminated, truncated, info["episode_steps"], info["projectile_count"])
    assert_same(got, tuple(published[f"published_{name}"][rows] for name in names))
    assert_same(info["final_observation"], observed(mode, published, rows))
    firsts = np.array([*frames.first.values()], int) + 1
    again = [*frames.first]
    assert_same(first, observed(mode, published, np.array([1]))[0])
    assert_same(observation[again], observed(mode, published, firsts))
    return np.array([terminated.sum(), (truncated & ~terminated).sum()])


pictures = jax.jit(partial(draw, width=40, height=32, grayscale=False))


def observed(mode: str, published, rows):
    if mode == "topdown":
        return np.asarray(pictures(published["scene"]))[rows]
    return published["published_observation"][rows, : {"standard": 65, "with_thrower": 69}[mode]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    ["standard", "with_thrower", "topdown"],
)
def test_every_timing_from_the_parameters_is_that_of_single_frames(mode):
    """All timings side by side, as training with frames_per_step_jitter plays them."""
    configs = [configuration(mode, *timing) for timing in TIMINGS]
    params = jax.tree.map(lambda *leaves: jnp.repeat(jnp.stack(leaves), ENVS, 0), *map(game_params, configs))
    keys, actions = (jnp.tile(array, (len(TIMINGS), *[1] * (array.ndim - 1))) for array in random_play(mode))
    played = play(DodgeEnv(configuration(mode, 2, 1), 7), params, keys, actions)
    ends = np.zeros(2, int)
    for number, config in enumerate(configs):
        for env in range(number * ENVS, (number + 1) * ENVS):
            one = jax.tree.map(lambda leaf, env=env: leaf[env], (params, played, keys, actions))
            ends += check(mode, config, *one)
    assert (ends > 0).all(), "the episodes must see deaths and time limits"


STATIC = [("standard", 1, 1), ("standard", 7, 0), ("with_thrower", 4, 2), ("topdown", 7, 7)]
DEEP = [("standard", *timing) for timing in TIMINGS if ("standard", *timing) not in STATIC]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "frames", "response"),
    [*STATIC, *(pytest.param(*deep, marks=pytest.mark.nightly) for deep in DEEP)],
)
def test_static_timing_is_that_of_single_frames(mode, frames, response):
    config = configuration(mode, frames, response)
    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * ENVS), game_params(config))
    keys, actions = random_play(mode)
    played = play(DodgeEnv(config), params, keys, actions)
    ends = np.zeros(2, int)
    for env in range(ENVS):
        ends += check(
            mode, config, *jax.tree.map(lambda leaf, env=env: leaf[env], (params, played, keys, actions))
        )
    assert ends.sum() > 0


@pytest.mark.parametrize(
    ("frames", "response", "responses"),
    [(1, 1, 20), (3, 1, 20), (3, 0, 21), pytest.param(3, 3, 20, marks=pytest.mark.slow)],
)
def test_responses_of_a_full_episode(frames, response, responses):
    env, params = jaxdodge.make(
        frames_per_step=frames, response_frame=response, max_episode_steps=20, projectile_spawn_interval=60
    )
    _, state = env.reset(key_of(0), params)
    state = state.replace(game=state.game.replace(spawn_timer=Duration.from_nanoseconds(0)))
    published, truncated = [], []
    for number in range(2 * responses):
        _, state, _, _, over, info = DodgeEnv.step(env, key_of(number), state, jnp.zeros(5), params)
        published.append(int(info["episode_steps"]))
        truncated.append(bool(over))
    assert truncated == ([False] * (responses - 1) + [True]) * 2
    assert published == list(range(21 - responses, 21)) * 2
