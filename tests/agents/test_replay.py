"""The replay: which rows a transition is made of, against a plain list; and what it costs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.replay import Row, add, empty_replay, sample
from jaxdodge.agents.train_config import TrainConfig, rows_needed
from jaxdodge.config import GameConfig

LENGTH, NUM_ENVS, MOST_STEPS = 9, 2, 32
# A half, so that discounted sums of whole rewards are exact.
GAMMA = 0.5
DRAWS = 1024
STACK_AND_STEPS = [(1, 1), (1, 3), (2, 2), (3, 1), (3, 3), (4, 2)]


def number_of(step, env):
    """What says which row it is, as its frame and its action."""
    return 1.0 + step * NUM_ENVS + env


@st.composite
def rows(draw) -> dict[str, np.ndarray]:
    """Steps of all environments [time, env]: ends of episodes anywhere, but no two in a row."""
    flags = st.lists(st.booleans(), min_size=MOST_STEPS * NUM_ENVS, max_size=MOST_STEPS * NUM_ENVS)
    ended, terminated = (np.reshape(draw(flags), (MOST_STEPS, NUM_ENVS)) for _ in range(2))
    ended[0] = False
    for step in range(1, MOST_STEPS):
        ended[step] &= ~ended[step - 1]
    # Only an action before an end can terminate; what an end itself says of it means nothing.
    terminated[:-1] &= ended[1:] | ended[:-1]
    rewards = np.random.default_rng(draw(st.integers(0, 1000))).integers(-9, 10, (MOST_STEPS, NUM_ENVS))
    return {"ended": ended, "terminated": terminated, "reward": rewards.astype(np.float32)}


@jax.jit
def filled(rows: Row, steps: jax.Array) -> Row:
    """A replay of the first `steps` rows, added one after the other."""
    example = jax.tree.map(lambda leaf: leaf[0, 0], rows)
    return jax.lax.fori_loop(
        0,
        steps,
        lambda step, replay: add(replay, jax.tree.map(lambda leaf: leaf[step], rows), step),
        empty_replay(LENGTH, NUM_ENVS, example),
    )


@partial(jax.jit, static_argnames=("frame_stack", "n_step"))
def drawn(key: jax.Array, replay: Row, steps: jax.Array, frame_stack: int, n_step: int) -> list[jax.Array]:
    """Transitions as columns of numbers; what a stack holds from before an episode is 0."""
    transition = sample(key, replay, steps, DRAWS, frame_stack=frame_stack, n_step=n_step, gamma=GAMMA)

    def columns(stack) -> list[jax.Array]:
        real = jnp.arange(frame_stack) >= frame_stack - 1 - stack.time[:, None]
        return [jnp.where(real, stack.frames, 0), stack.previous_action]

    scalars = [transition.action, transition.reward[:, None], transition.discount[:, None]]
    return [*columns(transition.stack), *scalars, *columns(transition.next_stack)]


def expected(rows, steps: int, frame_stack: int, n_step: int) -> set[tuple[float, ...]]:
    """The same columns for every transition that can be drawn."""
    ended, found = rows["ended"], set()
    past = max(frame_stack - 1, 1)
    oldest = 0 if steps <= LENGTH else steps - LENGTH + past

    def columns(env: int, start: int, now: int) -> list[float]:
        frames = [
            number_of(step, env) if step >= start else 0.0 for step in range(now - frame_stack + 1, now + 1)
        ]
        return [*frames, number_of(now - 1, env) if now > start else 0.0]

    for env in range(NUM_ENVS):
        for step in range(oldest, steps - n_step):
            # The newest waits for a step, unless an end before it leads to it.
            newest = step == steps - n_step - 1
            if ended[step, env] or (newest and not (step > oldest and ended[step - 1, env])):
                continue
            start = max((end + 1 for end in range(step) if ended[end, env]), default=0)
            count = next((n for n in range(1, n_step) if ended[step + n, env]), n_step)
            reward = sum(GAMMA**n * rows["reward"][step + n, env] for n in range(count))
            discount = 0.0 if rows["terminated"][step + count - 1, env] else GAMMA**count
            found.add(
                (
                    *columns(env, start, step),
                    number_of(step, env),
                    float(reward),
                    discount,
                    *columns(env, start, step + count),
                )
            )
    return found


@pytest.mark.parametrize(("frame_stack", "n_step"), STACK_AND_STEPS)
def test_exactly_the_whole_transitions_of_the_newest_rows_are_drawn(frame_stack, n_step):
    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(rows(), st.integers(rows_needed(frame_stack, n_step), MOST_STEPS), st.integers(0, 1000))
    def check(rows, steps, seed):
        number = number_of(np.arange(MOST_STEPS)[:, None], np.arange(NUM_ENVS)).astype(np.float32)
        replay = filled(Row(number, number[..., None], **rows), steps)
        columns = drawn(jax.random.key(seed), replay, steps, frame_stack, n_step)
        found = {tuple(row.tolist()) for row in np.concatenate(columns, axis=1)}
        assert found == expected(rows, steps, frame_stack, n_step)

    check()


@pytest.mark.parametrize(("frame_stack", "n_step"), STACK_AND_STEPS)
def test_the_fewest_rows_suffice_also_for_a_full_ring(frame_stack, n_step):
    length = rows_needed(frame_stack, n_step)
    number = number_of(np.arange(3 * length)[:, None], np.arange(NUM_ENVS)).astype(np.float32)
    no = np.zeros_like(number, bool)
    replay = empty_replay(
        length, NUM_ENVS, Row(0.0 * number[0, 0], number[0, :1], number[0, 0], no[0, 0], no[0, 0])
    )
    for step in range(3 * length):
        replay = add(replay, Row(number[step], number[step, :, None], number[step], no[step], no[step]), step)
        if step + 1 >= length:
            frames = drawn(jax.random.key(0), replay, step + 1, frame_stack, n_step)
            steps = (np.concatenate([frames[0], frames[-2]], axis=1) - 1) // NUM_ENVS
            assert steps.max() <= step
            assert steps.min() > step - length or step + 1 == length


def test_every_transition_is_as_likely_as_any_other():
    steps, draws = 5 * LENGTH, 20_000
    number = number_of(np.arange(steps)[:, None], np.arange(NUM_ENVS)).astype(np.float32)
    no = np.zeros_like(number, bool)
    replay = filled(Row(number, number[..., None], number, no, no), steps)
    key = jax.random.key(0)
    transition = sample(key, replay, jnp.int32(steps), draws, frame_stack=1, n_step=1, gamma=GAMMA)
    _, counts = np.unique(transition.reward, return_counts=True)
    # All but the newest row, the oldest, the one that waits and the one after it.
    assert len(counts) == (LENGTH - 3) * NUM_ENVS
    np.testing.assert_allclose(counts / draws, 1 / len(counts), rtol=0.1)


def test_a_million_transitions_of_images_fit_into_100_megabytes():
    game = GameConfig(
        level=2,
        spawn_angle_degrees=30.0,
        action_space_type="basic_3d",
        observation_mode="topdown",
        image_obs_width=84,
        image_obs_height=84,
        image_grayscale=True,
        frame_stack=4,
    )
    trainer = make_trainer(game, TrainConfig(buffer_size=1_000_000, num_envs=1000))
    replay = jax.eval_shape(trainer.init, jax.random.key(0), trainer.env.default_params).replay
    assert replay.reward.shape == (1000, 1000)
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(replay)) <= 100e6
