"""Timing: frames_per_step and response_frame against a frame-by-frame loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arenas import DENSE, assert_same, inputs_of, key_of, random_actions

import jaxdodge
from jaxdodge.sim.actions import movement
from jaxdodge.sim.draws import draw_uniform
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.frame import frame
from jaxdodge.sim.publish import observe_vector, publish_state
from jaxdodge.sim.systems import Command


@jax.jit
def plain_frame(game, draw, params):
    return frame(game, params, inputs_of(draw, params), False)


@jax.jit
def frame_with_action(game, draw, params, action):
    command = Command(step=True, move=movement(action, "basic_3d"))
    return frame(game, params, inputs_of(draw, params, command), False)


@jax.jit
def frame_with_reset(game, draw, params):
    return frame(game, params, inputs_of(draw, params, Command(reset=True)), False)


def frame_by_frame(env, params, game, keys, actions):
    """The responses of a server whose client's action and answer are this many frames apart.

    Yields observation, reward, terminated, truncated, episode_steps, projectile_count, and whether
    the player died in a frame after the last response. `game` is as of the first observation.
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
        published = publish_state(game, params)
        yield (
            (
                observe_vector(game, params, False),
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
    expected = frame_by_frame(env, params, state.game, keys, actions)
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
