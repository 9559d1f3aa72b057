"""Episodes one after another at measured steps: against the plain evaluation, and by hand."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge import evaluate
from jaxdodge.bevy.policies import PERIOD, TURN, ScriptedPolicy, simulated
from jaxdodge.cli import guarded
from jaxdodge.config import GameConfig
from jaxdodge.evaluation.episodes import evaluate as play
from jaxdodge.evaluation.in_turn import Clock, evaluate_in_turn
from jaxdodge.fields import ConfigError
from jaxdodge.recordings.timing_file import StepTimings, read_options, read_steps, write_timing
from jaxdodge.runs.prediction import predict, scripted_player
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.publish import observe_vector

GAME = GameConfig(
    level=2,
    action_space_type="basic_3d",
    spawn_angle_degrees=20.0,
    projectile_spawn_interval=0.1,
    frames_per_step=2,
    response_frame=0,
    max_episode_steps=60,
)
# The first throw hits who stands still, so the time between two hits is that between two throws.
STILL = GameConfig(level=1, action_space_type="basic_3d", projectile_spawn_interval=3.0, fps=20)
WHOLE = np.int32


def act(weights, observation, number=None, key=None):
    """Timid moves that depend on the observation."""
    return weights * jnp.tanh(observation[:, 3:6] + observation[:, 10:13])


def in_turn(game: GameConfig, steps: StepTimings, servers: int, episodes: int, policy=act, weights=0.2):
    env = DodgeEnv(game, int(steps.frames.max()))
    key = jax.random.key(3)
    played = evaluate_in_turn(
        env, policy, weights, env.default_params, Clock.of(steps), key, servers, episodes
    )
    return jax.device_get(played)


@pytest.mark.slow
def test_one_timing_and_one_episode_each_are_the_plain_evaluation():
    env = DodgeEnv(GAME)
    plain = jax.device_get(play(env, act, 0.2, env.default_params, jax.random.key(3), 16))
    played = in_turn(GAME, StepTimings.constant(GAME), 16, 1)
    for one, other in zip(jax.tree.leaves(played), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    assert len(np.unique(plain.lengths)) > 4


@pytest.mark.slow
def test_the_spawn_timer_goes_on_from_one_episode_to_the_next():
    """The first episode begins at any time before a throw, every later one when one has hit."""
    policy, weights = simulated("still", STILL, 8, 0)
    lengths = in_turn(STILL, StepTimings.constant(STILL), 8, 3, policy, weights).lengths.reshape(8, 3)
    assert np.ptp(lengths[:, 0]) > 10
    assert np.ptp(lengths[:, 1:]) <= 1


@pytest.mark.slow
def test_steps_are_played_in_their_order():
    policy, weights = simulated("still", STILL, 4, 0)
    frames, ms = np.array([1, 3, 0, 2], WHOLE), np.array([40, 50, 1, 60], WHOLE)
    steps = StepTimings(frames, ms * 1_000_000, *(np.zeros(size, WHOLE) for size in (4, 0, 0)))
    lengths = in_turn(STILL, steps, 4, 9, policy, weights).lengths.reshape(4, 9)[:, 1:]
    # A step lasts 77.5 ms on average.
    assert lengths.mean() == pytest.approx(3 / 0.0775, rel=0.05)
    assert np.ptp(lengths) <= 4


@pytest.mark.slow
def test_before_and_after_a_reset_as_many_frames_pass_as_were_measured():
    policy, weights = simulated("still", STILL, 4, 0)
    lengths = [
        in_turn(
            STILL,
            dataclasses.replace(
                StepTimings.constant(STILL), frames=np.array([1, 9], WHOLE), frame_ns=np.full(2, 50_000_000),
                response_frame=np.zeros(2, WHOLE), frames_before_reset=np.array([before], WHOLE),
                frames_after_reset=np.array([after], WHOLE)
            ),
            4, 3, policy, weights,
        ).lengths.reshape(4, 3)[:, 1:].mean()
        for before, after in ((0, 1), (0, 9), (8, 1))
    ]  # fmt: skip
    assert lengths[0] - lengths[1] == pytest.approx(8 / 5, abs=1)
    assert lengths[0] - lengths[2] == pytest.approx(8 / 5, abs=1)


@pytest.mark.slow
def test_a_late_reset_is_the_same_as_frames_without_a_reset():
    """By hand: the episode's end, some frames, the reset, some frames; no throw is random."""
    before, after, episodes = 7, 2, 4
    game = dataclasses.replace(STILL, projectile_spawn_interval=0.35, frames_per_step=1, response_frame=0)
    steps = dataclasses.replace(
        StepTimings.constant(game),
        frames_before_reset=np.array([before], WHOLE), frames_after_reset=np.array([after], WHOLE),
    )  # fmt: skip
    at_once = dataclasses.replace(
        steps, frames_before_reset=np.array([0], WHOLE), frames_after_reset=np.array([before + after], WHOLE)
    )
    policy, weights = simulated("strafe", game, 1, 0)
    env = DodgeEnv(game, before + after)
    key = jax.random.split(jax.random.key(3))[1]
    clocks = Clock.of(steps), Clock.of(at_once)
    played, without_wait = (
        evaluate_in_turn(env, policy, weights, env.default_params, clock, jax.random.key(3), 1, episodes)
        for clock in clocks
    )

    @jax.jit
    def frames(state, action, number):
        params = env.default_params.replace(frames_per_step=number, response_frame=0)
        return env.step_env(key, state, action, params)[:4]

    observation, state = jax.jit(env.reset)(jax.random.split(key, 1)[0])
    number, lengths = after, []
    for _ in range(episodes):
        length, done = 0, False
        while not done:
            (action,) = policy(weights, observation[None], jnp.int32(0), key)
            observation, state, _, done = frames(state, action, number)
            number, length = 1, length + 1
        lengths.append(length)
        # The player runs on as before until the reset.
        _, state, *_ = frames(state, jnp.zeros(3), before)
        observation, state = jax.jit(env.restart)(key, state)
        number = after
    assert played.lengths.tolist() == lengths
    assert without_wait.lengths.tolist() != lengths


@pytest.mark.parametrize("space", ["basic_3d", "discrete"])
def test_the_simulated_policies_are_the_scripted_ones(space):
    game, key = dataclasses.replace(GAME, action_space_type=space), jax.random.key(0)
    for name in ("still", "circle"):
        policy, weights = simulated(name, game, 3, 1)
        actions = np.stack([policy(weights, None, jnp.int32(at), key) for at in range(PERIOD)])
        scripted = ScriptedPolicy(name, game, 0)
        one = np.stack([scripted.act(np.zeros(0)) for _ in range(PERIOD)])
        for server in range(3):
            assert any(
                np.allclose(np.roll(actions[:, server], by, 0), one, atol=1e-6) for by in range(PERIOD)
            )
    policy, weights = simulated("random", game, 500, 1)
    drawn = policy(weights, None, jnp.int32(0), key)
    assert drawn.shape == ((500,) if space == "discrete" else (500, 3))
    if space == "discrete":
        assert np.unique(drawn).tolist() == [0, 1, 2, 3, 4]
    else:
        assert np.ptp(drawn, axis=0) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("space", ["basic_3d", "discrete"])
@pytest.mark.parametrize("frame_stack", [1, 3])
def test_the_simulated_strafe_is_the_scripted_one(space, frame_stack):
    game = dataclasses.replace(GAME, action_space_type=space, frame_stack=frame_stack)
    published = np.zeros((5, frame_stack, 65), np.float32)
    published[:, -1, 0], published[:, -1, 3] = [0, 3.6, 3.4, -3.6, -3.4], [5, 5, -5, -5, 5]
    policy, weights = simulated("strafe", game, 5, 1)
    actions = policy(weights, published.reshape(5, -1), jnp.int32(0), jax.random.key(0))
    scripted = ScriptedPolicy("strafe", game, 0)
    np.testing.assert_array_equal(actions, [scripted.act(each[-1]) for each in published])
    _, weights = simulated("strafe", game, 40, 1)
    standing = np.zeros((40, 65 * frame_stack), np.float32)
    assert len(np.unique(policy(weights, standing, jnp.int32(0), jax.random.key(0)), axis=0)) == 2


WAYS_TO_OBSERVE = [*itertools.product(["standard", "with_thrower"], [1, 3], [False, True])]


@pytest.mark.parametrize(
    ("mode", "frame_stack", "previous_action"),
    [*(pytest.param(*each, marks=pytest.mark.slow) for each in WAYS_TO_OBSERVE[:-1]), WAYS_TO_OBSERVE[-1]],
)
def test_strafe_turns_in_the_environment(mode, frame_stack, previous_action):
    game = GameConfig(
        level=1,
        action_space_type="basic_3d",
        observation_mode=mode,
        frame_stack=frame_stack,
        observe_previous_action=previous_action,
        projectile_spawn_interval=60.0,
        frames_per_step=6,
    )
    env = DodgeEnv(game)
    policy, weights = simulated("strafe", game, 1, 1)
    scripted, key = ScriptedPolicy("strafe", game, 1), jax.random.key(0)
    observation, state = env.reset(key)
    way = []
    for at in range(60):
        action = policy(weights, observation[None], jnp.int32(at), key)[0]
        published = observe_vector(state.game, env.default_params, mode == "with_thrower")
        np.testing.assert_array_equal(action, scripted.act(np.asarray(published)))
        observation, state, *_ = env.step(key, state, action)
        way.append(float(state.game.player.position.x))
    # A step is 0.5 m long.
    beyond = np.abs(way) > TURN
    assert np.abs(way).max() < TURN + 0.51
    assert not (beyond[1:] & beyond[:-1]).any()
    assert {*np.sign(np.array(way)[beyond])} == {-1, 1}


@pytest.fixture
def timing(tmp_path):
    steps = StepTimings(
        *(np.array(values, WHOLE) for values in ([2, 1, 3], [16_000_000, 17_000_000, 18_000_000])),
        np.array([0, 1, 0], WHOLE),
        np.array([1], WHOLE),
        np.array([2], WHOLE),
        frames_to_done=1,
    )
    path = tmp_path / "timing.json"
    write_timing(path, {"frames_per_step": 2, "response_frame": 0}, steps, ["a line"])
    return path, steps


def test_what_is_written_is_read(timing):
    path, steps = timing
    for name, values in dataclasses.asdict(read_steps(path)).items():
        np.testing.assert_array_equal(values, getattr(steps, name), strict=True)
    assert read_options(path) == {"frames_per_step": 2, "response_frame": 0}
    assert steps.median() == {"frames_per_step": 2, "response_frame": 0, "fps": pytest.approx(6000 / 103)}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("frames", [2, 1], "invalid steps; expected columns of one length"),
        ("frames", [2, 1, -1], "invalid frames; expected whole numbers from 0 to 1000"),
        ("frames", [2, 1, 1.5], "invalid frames; expected whole numbers"),
        ("frame_ns", [0, 1, 2], "invalid frame_ns; expected whole numbers from 100000 to 250000000"),
        ("response_frame", [0, 2, 0], "invalid steps; expected columns of one length"),
        ("frames", None, "invalid frames; expected whole numbers"),
    ],
)
def test_damaged_steps_are_refused(timing, name, value, reason):
    path, _ = timing
    content = json.loads(path.read_text())
    content["steps"][name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=f"{path}: {reason}"):
        read_steps(path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("frames_before_reset", [1, 2], "invalid frames_before_reset; expected as many as frames_after_re"),
        ("frames_before_reset", [-1], "invalid frames_before_reset; expected whole numbers from 0 to 1000"),
        ("frames_after_reset", 3, "invalid frames_after_reset; expected whole numbers from 0 to 1000"),
        ("frames_to_done", 3, "invalid frames_to_done 3; expected 0 to 2"),
        ("frames_to_done", [0], r"invalid frames_to_done \[0\]; expected 0 to 2"),
    ],
)
def test_damaged_resets_are_refused(timing, name, value, reason):
    path, _ = timing
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {name: value}))
    with pytest.raises(ConfigError, match=f"{path}: {reason}"):
        read_steps(path)
    del content[name]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=f"{path}: {name} is missing; expected what this version's"):
        read_steps(path)


@pytest.mark.slow
def test_a_prediction_has_the_measured_resets_and_ends():
    """Who stands still is hit by the first throw, so an episode lasts from a reset to a throw."""
    player = scripted_player("still", dataclasses.replace(STILL, frames_per_step=1, response_frame=0), 0)
    steps = dataclasses.replace(
        StepTimings.constant(player.game),
        frames_before_reset=np.array([4], WHOLE), frames_after_reset=np.array([1], WHOLE),
    )  # fmt: skip
    others = [
        steps,
        dataclasses.replace(steps, frames_before_reset=np.array([19], WHOLE)),
        dataclasses.replace(steps, frames_to_done=2),
    ]
    base, waited, late = (predict(player, {}, each, 64, 0).lengths.reshape(-1, 16) for each in others)
    assert base[:, 2:].mean() - waited[:, 2:].mean() == pytest.approx(15, abs=0.5)
    np.testing.assert_array_equal(late[:, 0] - base[:, 0], 2)


def test_the_command_plays_a_scripted_policy(timing, tmp_path, capsys):
    path, csv = timing[0], tmp_path / "episodes.csv"
    game = ("--spawn-angle-degrees", "20", "--projectile-spawn-interval", "0.1", "--max-episode-steps", "30")
    status = guarded(
        evaluate.evaluate, ["strafe", "--timing", str(path), "--episodes", "5", "--csv", str(csv), *game]
    )
    out = capsys.readouterr().out.splitlines()
    assert (status, out[0]) == (
        0,
        f"strafe: scripted policy, 5 episodes, one after another, at the timing of {path}",
    )
    assert len(out) == 3
    assert len(csv.read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--frames-per-step", "2"), "frames_per_step: invalid together with --timing"),
        (("--grid", "fps=1,2"), "grid: invalid for a scripted policy, and together with --timing"),
        (("--server", "grpc://127.0.0.1:1"), "timing: invalid together with --server"),
    ],
)
def test_refusals_are_one_line(timing, capsys, options, reason):
    assert guarded(evaluate.evaluate, ["still", "--timing", str(timing[0]), *options]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(reason)
