"""Replay a frame recording through `DodgeEnv` itself: its steps, its resets, its static frame.

An environment runs one constant order of systems, frames of one length, and one action or
reset at a time. Recordings with these properties become steps: an action and the frames until
the next command, with `frames_per_step` and `response_frame` such that every frame is
published once over all passes.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.parity.comparison import EnvironmentReplay, first_difference
from jaxdodge.recordings.recording import FrameRecording, RecordedCommand
from jaxdodge.sim.actions import COMPONENTS, DISCRETE_DIRECTIONS
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.order import SYSTEMS, UNOBSERVABLE
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.publish import publish_state


@dataclasses.dataclass(frozen=True)
class _Game:
    """A recording as an environment plays it."""

    env: DodgeEnv
    commands: list[tuple[int, RecordedCommand]]
    """With the interval that handles each; the first is a reset in interval 0."""
    throws: np.ndarray
    """float32 (intervals, 2): where the throw of each interval comes from."""
    timer: int
    """The spawn timer's elapsed time at the first publication, ns."""
    longest: int
    """Intervals from one command to the next, at most."""


def replay_by_environment(recording: FrameRecording) -> EnvironmentReplay:
    """Play a recording in an environment and compare every publication, from that of frame 1 on."""
    game = _game(recording)
    if isinstance(game, str):
        return EnvironmentReplay(inexpressible=game)
    differences, values = [], 0
    for response in range(1, game.longest + 1):
        frames, published = _play(game, response)
        for name, array in published.items():
            recorded, at = recording.arrays.get(name), frames
            if name == "image":
                shown = np.isin(frames, recording.image_frame)
                assert recording.image is not None
                recorded = recording.image[np.searchsorted(recording.image_frame, frames[shown])]
                array, at = array[shown], frames[shown]
                values += len(array)
            else:
                assert recorded is not None
                recorded = recorded[frames]
                values += recorded.size
            differences.append(first_difference(recorded, array, name, at))
    found = [difference for difference in differences if difference is not None]
    first = min(found) if found else None
    return EnvironmentReplay(values, first and (first[0], f"environment, {first[1]}"))


def _game(recording: FrameRecording) -> _Game | str:
    """The recording as an environment plays it, or why none can."""
    orders = {tuple(SYSTEMS[system] for system in order) for order in recording.arrays["order"]}
    orders = {tuple(name for name in order if name not in UNOBSERVABLE) for order in orders}
    schedule = tuple(SYSTEMS[system] for system in recording.schedule if SYSTEMS[system] not in UNOBSERVABLE)
    if orders != {schedule}:
        return "by changing orders"
    if len(set(recording.arrays["dt_ns"][1:].tolist())) > 1:
        return "by frames of different lengths"
    commands = [(frame, each) for frame, row in enumerate(recording.commands) for each in row]
    at = [frame for frame, _ in commands]
    if len({each.config for _, each in commands}) > 1 or len(set(at)) < len(at):
        return "by several configurations"
    # What a frame handles before its publication belongs to the interval before.
    late = schedule.index("publish_state") < schedule.index("handle_commands")
    commands = [(frame if late else frame - 1, each) for frame, each in commands]
    commands = [(interval, each) for interval, each in commands if 0 <= interval < recording.frames - 1]
    ends = [interval for interval, _ in commands[1:]] + [recording.frames - 1]
    idle = [
        end - interval > 1 and each.kind != "action" and following is not None and following.kind != "action"
        for (interval, each), end, following in zip(
            commands, ends, [*(each for _, each in commands[1:]), None], strict=True
        )
    ]
    if commands[0][0] != 0 or commands[0][1].kind == "action" or any(idle):
        return "by idle frames between resets"
    nanoseconds = int(recording.arrays["dt_ns"][1])
    config = dataclasses.replace(commands[0][1].config, fps=1e9 / nanoseconds)
    longest = max(end - interval for (interval, _), end in zip(commands, ends, strict=True))
    spawns_late = schedule.index("publish_state") < schedule.index("spawn_projectiles")
    throws = recording.arrays["spawn_position"]
    return _Game(
        # At one frame between commands this is the static timing of a default training.
        env=DodgeEnv(config, None if longest == 1 else 2 * longest, order=schedule),
        commands=commands,
        throws=throws[:-1] if spawns_late else throws[1:],
        # Frame 0 lasts 0 ns: a spawner that comes after its publication must
        # not advance the timer by it.
        timer=-nanoseconds if spawns_late else 0,
        longest=longest,
    )


def _play(game: _Game, response: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Frames and publications of steps that answer at most `response` frames after their action."""
    most = 1 if game.longest == 1 else 2 * game.longest
    ends = [interval for interval, _ in game.commands[1:]] + [len(game.throws)]
    rows, left = [], 0
    for (interval, command), end, following in zip(
        game.commands, ends, [*game.commands[1:], None], strict=True
    ):
        gap, resets = end - interval, command.kind != "action"
        # A reset follows only a step of which no frame is left.
        whole = following is None or following[1].kind != "action"
        answered = 1 if resets else gap if whole else min(response, gap)
        first = interval if resets else interval - left
        throws = np.zeros((most, 2), np.float32)
        throws[: interval + answered - first] = game.throws[first : interval + answered]
        rows.append(
            {
                "reset": np.bool_(resets),
                "action": _action(command, game.env.config.action_space_type),
                "frames": np.int32(interval + answered - first),
                "response": np.int32(answered),
                # The frames that a client lets pass after a reset are those that a step leaves.
                "waits": np.bool_(left > 0),
                "throws": tuple(throws.T),
                "frame": np.int32(interval + answered),
            }
        )
        left = gap - answered
    calls = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    published = jax.tree.map(np.asarray, _run(game.env, calls, game.timer))
    named = {
        "published_reward": published["reward"],
        "published_done": published["terminated"],
        "published_truncated": published["truncated"],
        "published_episode_steps": published["episode_steps"],
        "published_projectile_count": published["projectile_count"],
        ("image" if game.env.config.observation_mode == "topdown" else "published_observation"): published[
            "observation"
        ],
    }
    return calls["frame"], named


def _action(command: RecordedCommand, space: str) -> np.ndarray:
    """The action of the environment's space; zeros for a reset."""
    vx, vy, sprint, jump = command.movement
    if space == "discrete":
        return np.int32(np.argmax(np.all(np.float32([vx, vy]) == DISCRETE_DIRECTIONS, axis=1)))  # type: ignore
    numbers = {"vx": vx, "vy": vy, "sprint": sprint, "jump": jump}
    return np.array([numbers.get(name, 0) for name in COMPONENTS[space]], np.float32)


@partial(jax.jit, static_argnames=("env",))
def _run(env: DodgeEnv, calls: Any, timer: Any) -> dict[str, jax.Array]:
    params = env.default_params
    state = env.start()
    elapsed = Duration(jnp.int32(0), jnp.int32(timer))
    state = state.replace(game=state.game.replace(spawn_timer=elapsed))

    def one(state: Any, call: Any) -> Any:
        own: GameParams = params.replace(frames_per_step=call["frames"], response_frame=call["response"])
        reset = env.restart_where(True, jax.tree.map(lambda axis: axis[0], call["throws"]), state, own)
        fresh = (state.time == 0) & ~call["waits"]
        stepped, _ = env.advance(call["throws"], state, call["action"], own, fresh)
        state = jax.tree.map(lambda a, b: jnp.where(call["reset"], a, b), reset, stepped)
        observation = env.observe(None, state, None, own)
        return state, {"observation": observation, **vars(publish_state(state.game, own))}

    return jax.lax.scan(one, state, calls)[1]
