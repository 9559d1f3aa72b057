"""Replay a frame recording with the simulator's own systems, free-running from the server's start.

The order of the systems is data (`ordered_frame`), so recordings of the same shape share one
compilation however often their order changes.
"""

import math
from typing import Any

import jax
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.recordings.recording import FrameRecording, RecordedCommand
from jaxdodge.render.topdown import Scene
from jaxdodge.sim import systems
from jaxdodge.sim.actions import Movement
from jaxdodge.sim.duration import NANOSECONDS_PER_SECOND
from jaxdodge.sim.frame import ordered_frame
from jaxdodge.sim.params import frame_seconds, game_params
from jaxdodge.sim.publish import publish
from jaxdodge.sim.state import server_start

FRAMES_PER_CALL = 256


@jax.jit
def _frames(carry: Any, frames: Any, schedule: jax.Array) -> Any:
    def frame(carry: Any, frame: Any) -> Any:
        order, inputs = frame
        carry = ordered_frame(carry, order, schedule, inputs)
        return carry, carry

    return jax.lax.scan(frame, carry, frames)


def replay(recording: FrameRecording) -> tuple[dict[str, np.ndarray], Scene]:
    """What the simulator computes for a recording: its COMPARED arrays by name, and scenes."""
    arrays = recording.arrays
    projectile_slots = _roomy(arrays["projectile_position"].shape[1] + 2, 16, 16)
    thrower_slots = _roomy(arrays["thrower_position"].shape[1] + 1, 8, 4)
    state, params = server_start(projectile_slots, thrower_slots), game_params(GameConfig())
    carry = (state, params, jax.jit(publish)(state, params))
    inputs = _inputs(recording)
    results = []
    for start in range(0, recording.frames, FRAMES_PER_CALL):
        part = slice(start, start + FRAMES_PER_CALL)
        frames = jax.tree.map(lambda a, part=part: _padded(a[part]), (arrays["order"], inputs))
        carry, result = _frames(carry, frames, recording.schedule)
        results.append(jax.tree.map(np.asarray, result))
    state, params, published = jax.tree.map(lambda *a: np.concatenate(a)[: recording.frames], *results)
    return _named(state, params, published, inputs, arrays), published["scene"]


def _roomy(needed: int, least: int, factor: int) -> int:
    """A power of `factor` times `least`: few different shapes mean few compilations."""
    return least * factor ** max(0, math.ceil(math.log(needed / least, factor)))


def _padded(array: np.ndarray) -> np.ndarray:
    """The last call's frames, filled up by repeating the last; what they compute is dropped."""
    return np.pad(array, [(0, FRAMES_PER_CALL - len(array))] + [(0, 0)] * (array.ndim - 1), mode="edge")


def _inputs(recording: FrameRecording) -> systems.Inputs:
    """The inputs of all frames, arrays of NumPy with a leading axis of frames."""
    most = _roomy(max(len(commands) for commands in recording.commands), 4, 4)
    config, known = GameConfig(), dict[GameConfig, int]()
    configs, flags, moves = [], [], []
    for commands in recording.commands:
        for position in range(most):
            command = commands[position] if position < len(commands) else RecordedCommand("none", config)
            config = command.config
            configs.append(known.setdefault(config, len(known)))
            resets = command.kind in ("reset", "configure")
            flags.append((command.kind == "action", resets, command.restart_timer))
            moves.append(command.movement)
    table = jax.tree.map(lambda *leaves: np.stack(leaves), *map(game_params, known))

    def column(position: int) -> systems.Command:
        own = slice(position, None, most)
        step, reset, restart_timer = np.array(flags[own]).T
        move = Movement(*np.array(moves[own], np.float32).T)
        params = jax.tree.map(lambda leaf: leaf[configs[own]], table)
        return systems.Command(move=move, step=step, reset=reset, restart_timer=restart_timer, params=params)

    nanoseconds = recording.arrays["dt_ns"]
    return systems.Inputs(
        frame_nanoseconds=nanoseconds.astype(np.int32),  # type: ignore[arg-type]
        frame_seconds=frame_seconds(nanoseconds),  # type: ignore[arg-type]
        spawn_position=tuple(recording.arrays["spawn_position"].T),
        commands=tuple(map(column, range(most))),
    )


def _named(state: Any, params: Any, published: dict, inputs: Any, recorded: dict) -> dict[str, np.ndarray]:
    """The replayed arrays under the recording's names and in its shapes."""
    player, projectiles, throwers = state.player, state.projectiles, state.throwers

    def table(array: np.ndarray, count: np.ndarray, name: str) -> np.ndarray:
        """(frames, slots, ...) in the recording's number of slots, zeros after the count."""
        used = np.arange(array.shape[1]) < count[:, None]
        array = np.where(used.reshape(used.shape + (1,) * (array.ndim - 2)), array, array.dtype.type(0))
        return array[:, : recorded[name].shape[1]]

    def stacked(vector: Any) -> np.ndarray:
        return np.stack([vector.x, vector.y, vector.z], axis=-1)

    named = {
        "dt": np.asarray(inputs.frame_seconds),
        "player_position": stacked(player.position),
        "player_velocity": stacked(player.velocity)[:, :2],
        "player_vertical_velocity": player.velocity.z,
        "player_on_ground": player.on_ground,
        "projectile_count": projectiles.count,
        "thrower_count": throwers.count,
        "spawn_timer_elapsed_ns": _nanoseconds(state.spawn_timer),
        "spawn_timer_duration_ns": _nanoseconds(params.spawn_interval),
        "game_over": state.game_over,
        "episode_steps": state.episode_steps,
        **{name: array for name, array in published.items() if name != "scene"},
    }
    named["published_observation"] = published["published_observation"][
        :, : recorded["published_observation"].shape[1]
    ]
    for name, array in (
        ("projectile_position", stacked(projectiles.position)),
        ("projectile_velocity", stacked(projectiles.velocity)),
    ):
        named[name] = table(array, projectiles.count, name)
    for name, array in (
        ("thrower_position", stacked(throwers.position)),
        ("thrower_velocity", stacked(throwers.velocity)),
        ("thrower_elapsed_ns", _nanoseconds(throwers.elapsed)),
        ("thrower_duration_ns", _nanoseconds(throwers.duration)),
    ):
        named[name] = table(array, throwers.count, name)
    return named


def _nanoseconds(duration: Any) -> np.ndarray:
    return duration.seconds.astype(np.int64) * NANOSECONDS_PER_SECOND + duration.nanoseconds
