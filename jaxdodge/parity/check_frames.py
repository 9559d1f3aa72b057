"""Compare a replay with its recording: equality of bits, or the first difference."""

import jax
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.parity.comparison import Result, first_difference
from jaxdodge.parity.environment_replay import replay_by_environment
from jaxdodge.parity.playback import replay
from jaxdodge.recordings.npz import RecordingError, bits
from jaxdodge.recordings.recording import COMPARED, FrameRecording
from jaxdodge.render.topdown import Scene, draw
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.systems import spawn_position

IMAGES_PER_CALL = 16
LARGEST_SPAWN_ULP = 2


def check_frames(recording: FrameRecording, by_environment: bool = False) -> Result:
    """Replay a frame recording and compare everything it stores; raises RecordingError.

    Args:
        recording: to check.
        by_environment: replay it through `DodgeEnv` too, where an environment can express it.
    """
    arrays, scenes = replay(recording)
    images = _draw_images(recording, scenes)
    spawn_ulp, spawn_difference = _spawn_differences(recording)
    differences = [first_frame_difference(recording, arrays)]
    if recording.image is not None and images is not None:
        differences.append(first_difference(recording.image, images, "image", recording.image_frame))
    differences.append(spawn_difference)
    outcome = replay_by_environment(recording) if by_environment else None
    if outcome is not None:
        differences.append(outcome.difference)
    found = [difference for difference in differences if difference is not None]
    return Result(
        path=recording.path,
        frames=recording.frames,
        values=sum(recording.arrays[name].size for name in COMPARED),
        images=len(recording.image_frame),
        agreement="equal",
        spawn_ulp=spawn_ulp,
        difference=min(found)[1] if found else "",
        environment=outcome,
    )


def first_frame_difference(
    recording: FrameRecording, simulated: dict[str, np.ndarray]
) -> tuple[int, str] | None:
    """Frame and text of the first difference, images aside; None if all bits are equal."""
    found = [first_difference(recording.arrays[name], simulated[name], name) for name in COMPARED]
    return min((difference for difference in found if difference is not None), default=None)


def _draw_images(recording: FrameRecording, scenes: Scene) -> np.ndarray | None:
    """The images of the frames whose image was recorded, drawn from the replayed scenes."""
    if recording.image is None:
        return None
    _, height, width, channels = recording.image.shape
    for frame in recording.image_frame:
        _check_size(recording, int(frame), height, width, channels)
    picked = jax.tree.map(lambda array: array[recording.image_frame], scenes)
    drawn = []
    for start in range(0, len(recording.image_frame), IMAGES_PER_CALL):
        part = jax.tree.map(
            lambda array, start=start: np.resize(
                array[start : start + IMAGES_PER_CALL], (IMAGES_PER_CALL, *array.shape[1:])
            ),
            picked,
        )
        drawn.append(np.asarray(_draw(part, width=width, height=height, grayscale=channels == 1)))
    return np.concatenate(drawn)[: len(recording.image_frame)] if drawn else None


_draw = jax.jit(draw, static_argnames=("width", "height", "grayscale"))


def _check_size(recording: FrameRecording, frame: int, height: int, width: int, channels: int) -> None:
    """An image must have the size that was configured, before or in its frame."""
    sizes = set()
    for at in (frame - 1, frame):
        config = _config_after(recording, at)
        sizes.add((config.image_obs_height, config.image_obs_width, 1 if config.image_grayscale else 3))
    if (height, width, channels) not in sizes:
        raise RecordingError(
            f"{recording.path}: damaged: image of frame {frame} is {height} x {width} x {channels}, "
            f"configured is {' x '.join(map(str, sorted(sizes)[0]))}"
        )


def _config_after(recording: FrameRecording, frame: int) -> GameConfig:
    """The configuration after the commands of a frame; before frame 0
    that of the server's start.
    """
    for commands in reversed(recording.commands[: frame + 1]):
        if commands:
            return commands[-1].config
    return GameConfig()


def _spawn_differences(recording: FrameRecording) -> tuple[int, tuple[int, str] | None]:
    """Largest distance of the recorded spawn positions from the sampling
    formula, and the first too large.

    A configuration may change in the frame of a throw, before or after
    it; then the nearer one counts.
    """
    arrays = recording.arrays
    frames = np.flatnonzero(~np.isnan(arrays["spawn_u"]))
    largest, first = 0, None
    for frame in frames:
        recorded = arrays["spawn_position"][frame]
        configs = {_config_after(recording, int(frame) - 1), _config_after(recording, int(frame))}
        candidates = [np.stack(_spawn(arrays["spawn_u"][frame], _numbers(config))) for config in configs]
        distances = [int(np.max(_ulp(recorded, candidate))) for candidate in candidates]
        distance = min(distances)
        largest = max(largest, distance)
        if distance > LARGEST_SPAWN_ULP and first is None:
            formula = candidates[distances.index(distance)]
            first = int(frame), f"frame {frame}, spawn_position: recorded {recorded}, formula {formula}"
    return largest, first


_spawn = jax.jit(spawn_position)
_cache: dict[GameConfig, GameParams] = {}


def _numbers(config: GameConfig) -> GameParams:
    if config not in _cache:
        _cache[config] = game_params(config)
    return _cache[config]


def _ulp(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of float32 numbers counted in representable numbers."""
    signed = [bits(np.asarray(x, np.float32)).view(np.int32).astype(np.int64) for x in (a, b)]
    ordered = [np.where(x < 0, -(x & 0x7FFFFFFF), x) for x in signed]
    return np.abs(ordered[0] - ordered[1])
