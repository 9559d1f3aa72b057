"""Films of an episode: GIF with Pillow, MP4 with ffmpeg."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxdodge.fields import ConfigError
from jaxdodge.files import atomic_open, error_line
from jaxdodge.render.topdown import PLAYER_RADIUS, PROJECTILE_RADIUS, THROWER_RADIUS
from jaxdodge.sim.params import SPAWN_DISTANCE
from jaxdodge.sim.systems import PLAY_ZONE_X, PLAY_ZONE_Y
from jaxdodge.viewer.tracks import HIT, PLAYING, Episode, Replay, Track

CAMERA = {"eye": (0.0, -12.5, 7.5), "target": (0.0, 2.6, 0.4), "focal": 1.42}
"""Of the page and of films: positions in metres, and the focal length in heights of the picture."""
SIZE = 640, 360
# Drawn larger and averaged down, which smooths edges.
OVERSAMPLED = 2
FRAMES_PER_SECOND = {".gif": 15, ".mp4": 30}
TRAIL_SECONDS = 0.45
COLOURS = {
    "sky": (17, 20, 30),
    "grid": (33, 38, 54),
    "zone": (201, 184, 63),
    "floor": (28, 30, 36),
    "arc": (120, 72, 18),
    "shadow": (9, 10, 14),
    "player": (63, 150, 255),
    "projectile": (232, 62, 50),
    "light": (255, 176, 160),
    "light_player": (150, 202, 255),
    "thrower": (255, 140, 0),
    "text": (232, 234, 242),
    "hit": (255, 90, 82),
    "survived": (79, 216, 196),
}


def write_film(replay: Replay, episode: Episode, seconds: float, path: Path) -> None:
    """Write the most exciting seconds of an episode as .gif or .mp4, by the suffix of the path.

    Raises:
        ConfigError: ffmpeg is missing, or has failed.
        OSError: the file cannot be written.
    """
    rate = FRAMES_PER_SECOND[path.suffix]
    start, end = window(episode, replay.bonus_distance, seconds)
    times = np.arange(start, end + 0.5 / rate, 1 / rate)
    # The last picture of an ended episode stays for a moment.
    times = np.append(times, np.full(rate // 2, times[-1])) if end >= episode.seconds[-1] else times
    frames = (_frame(replay, episode, float(time)) for time in times)
    if path.suffix == ".gif":
        _write_gif(frames, rate, path)
    else:
        _write_mp4(frames, rate, path)


def window(episode: Episode, near: float, seconds: float) -> tuple[float, float]:
    """Start and end, in seconds, of a part: the end if it was hit, else the closest passes."""
    last = float(episode.seconds[-1])
    if last <= seconds:
        return 0.0, last
    if episode.ended[-1] == HIT:
        return last - seconds, last
    close = np.maximum(near - np.minimum(episode.track.nearest(), near), 0)
    summed = np.concatenate([[0], np.cumsum(close)])
    firsts = np.flatnonzero(episode.seconds <= last - seconds)
    lasts = np.searchsorted(episode.seconds, episode.seconds[firsts] + seconds)
    best = firsts[int(np.argmax(summed[lasts] - summed[firsts]))]
    start = float(episode.seconds[best])
    return start, start + seconds


def _write_gif(frames: Iterator[Image.Image], rate: int, path: Path) -> None:
    # One palette for all pictures, without dithering: equal parts then stay equal and small.
    first = next(frames)
    rest = list(frames)
    sample = Image.new("RGB", (first.width, 3 * first.height))
    for place, index in enumerate((0, len(rest) // 2, len(rest) - 1)):
        sample.paste(rest[index] if rest else first, (0, place * first.height))
    palette = sample.quantize(64, method=Image.Quantize.MEDIANCUT)
    pictures = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in (first, *rest)]
    with atomic_open(path, "wb") as file:
        pictures[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 / rate),
            loop=0,
            optimize=True,
        )


def _write_mp4(frames: Iterator[Image.Image], rate: int, path: Path) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise ConfigError(f"{path}: needs ffmpeg, which is not installed; expected .html or .gif without it")
    size = f"{SIZE[0]}x{SIZE[1]}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{rate}", "-i", "-"]
    # yuv420p is what browsers play.
    target = ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-loglevel", "error", "-y", f"{path}"]
    with subprocess.Popen(
        [ffmpeg, *source, *target], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            for frame in frames:
                process.stdin.write(frame.tobytes())
            process.stdin.close()
        except BrokenPipeError:
            pass
        message = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise ConfigError(f"{path}: ffmpeg failed: {error_line(RuntimeError(message), 200)}")


def _frame(replay: Replay, episode: Episode, time: float) -> Image.Image:
    """The picture at a time."""
    state = int(np.searchsorted(episode.seconds, time + 1e-6, side="right")) - 1
    after = min(state + 1, len(episode) - 1)
    passed = episode.seconds[after] - episode.seconds[state]
    share = (time - episode.seconds[state]) / passed if passed else 0.0
    picture = _Picture()
    picture.ground(replay.spawn_angle)
    track = episode.track
    player = track.player[state, :3] + share * (track.player[after, :3] - track.player[state, :3])
    picture.things(player, _moving(track, state, after, share, passed), track, state)
    ended = episode.ended[state]
    word = "" if ended == PLAYING else "hit" if ended == HIT else "survived"
    reward = float(np.sum(episode.reward[: state + 1], dtype=np.float64))
    picture.caption(f"{episode.seconds[state]:6.1f} s    return {reward:7.1f}", word)
    return picture.finished()


def _moving(track: Track, state: int, after: int, share: float, passed: float) -> np.ndarray:
    """Positions (count, 3) between two states: each flies on, and falls to the later height."""
    rows = track.projectiles[state, : track.count[state]]
    positions = rows[:, :3].copy()
    positions[:, :2] += rows[:, 3:5] * share * passed
    later = track.projectiles[after, : track.count[after]]
    for index, row in enumerate(rows):
        distance = np.hypot(*(later[:, :2] - row[:2] - row[3:5] * passed).T)
        if len(distance) and distance.min() < 0.75:
            positions[index, 2] += share * (later[int(distance.argmin()), 2] - row[2])
    return positions


class _Picture:
    """The arena in perspective, as the page draws it."""

    def __init__(self) -> None:
        self.width, self.height = SIZE[0] * OVERSAMPLED, SIZE[1] * OVERSAMPLED
        self.image = Image.new("RGB", (self.width, self.height), COLOURS["sky"])
        self.draw = ImageDraw.Draw(self.image)
        eye, target = np.array(CAMERA["eye"]), np.array(CAMERA["target"])
        ahead = (target - eye) / np.linalg.norm(target - eye)
        right = np.cross(ahead, [0, 0, 1])
        right /= np.linalg.norm(right)
        self.eye, self.axes = eye, np.array([right, np.cross(right, ahead), ahead])

    def project(self, point: Any) -> tuple[float, float, float] | None:
        """Column, row, and pixels per metre; None behind the eye."""
        across, up, depth = self.axes @ (np.asarray(point, float) - self.eye)
        if depth < 0.3:
            return None
        scale = CAMERA["focal"] * self.height / depth  # type: ignore[operator]
        return self.width / 2 + scale * across, self.height / 2 - scale * up, scale

    def line(self, points: Any, colour: str, width: int) -> None:
        """A line through points on the way; those behind the eye are left out."""
        seen = [at[:2] for point in points if (at := self.project(point))]
        if len(seen) > 1:
            self.draw.line(seen, COLOURS[colour], width * OVERSAMPLED, joint="curve")

    def disc(self, at: tuple[float, float], radius: float, colour: Any, squeeze: float = 1.0) -> None:
        """A filled disc or ellipse; pixels."""
        x, y = at
        box = (x - radius, y - radius * squeeze, x + radius, y + radius * squeeze)
        self.draw.ellipse(box, COLOURS.get(colour, colour) if isinstance(colour, str) else colour)

    def ground(self, spawn_angle: float | None) -> None:
        """Grid, play zone, and the arc of throws."""
        for at in range(-22, 23, 2):
            along = np.arange(-22, 23)
            self.line([(at, k, 0) for k in along], "grid", 1)
            self.line([(k, at, 0) for k in along], "grid", 1)
        x, y = float(PLAY_ZONE_X), float(PLAY_ZONE_Y)
        zone = [(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0), (-x, -y, 0)]
        corners = [corner[:2] for point in zone if (corner := self.project(point))]
        self.draw.polygon(corners, COLOURS["floor"])
        self.line(zone, "zone", 2)
        if spawn_angle is not None:
            angles = np.radians(np.linspace(-spawn_angle, spawn_angle, 60))
            distance = float(SPAWN_DISTANCE)
            self.line([(distance * np.sin(a), distance * np.cos(a), 0) for a in angles], "arc", 2)

    def things(self, player: np.ndarray, projectiles: np.ndarray, track: Track, state: int) -> None:
        """Shadows and trails, then what throws, flies and dodges, the farthest first."""
        for position, radius in [
            (player, PLAYER_RADIUS),
            *((each, PROJECTILE_RADIUS) for each in projectiles),
        ]:
            if on := self.project((position[0], position[1], 0)):
                self.disc(on[:2], radius * on[2], "shadow", 0.35)
        velocities = track.projectiles[state, : len(projectiles), 3:]
        for position, velocity in zip(projectiles, velocities, strict=True):
            back = position - velocity * TRAIL_SECONDS / 2
            if (on := self.project(position)) and (off := self.project([*back[:2], max(back[2], 0.3)])):
                width = max(1, round(PROJECTILE_RADIUS * on[2] / 2))
                self.draw.line([off[:2], on[:2]], (96, 40, 42), width)
        for position in track.throwers[state, : track.thrower_count[state]]:
            if on := self.project(position):
                self.disc(on[:2], THROWER_RADIUS * on[2], "thrower")
        drawn: list[tuple[float, np.ndarray]] = [
            (float(np.linalg.norm(each - self.eye)), each) for each in projectiles
        ]
        own = float(np.linalg.norm(player - self.eye))
        for _, position in sorted((each for each in drawn if each[0] >= own), key=lambda e: -e[0]):
            self.ball(position)
        self.capsule(player)
        for _, position in sorted((each for each in drawn if each[0] < own), key=lambda e: -e[0]):
            self.ball(position)

    def ball(self, position: np.ndarray) -> None:
        """A projectile."""
        if on := self.project(position):
            radius = max(1.5 * OVERSAMPLED, PROJECTILE_RADIUS * on[2])
            self.disc(on[:2], radius, "projectile")
            self.disc((on[0] - radius / 3, on[1] - radius / 3), radius / 3, "light")

    def capsule(self, position: np.ndarray) -> None:
        """The player: two balls, and what is between them."""
        x, y, z = position
        low, high = self.project((x, y, z - 0.5)), self.project((x, y, z + 0.5))
        if low and high:
            radius = PLAYER_RADIUS * low[2]
            self.draw.line([low[:2], high[:2]], COLOURS["player"], round(2 * radius))
            self.disc(low[:2], radius, "player")
            self.disc(high[:2], radius, "player")
            self.disc((high[0] - radius / 3, high[1] - radius / 4), radius / 3.5, "light_player")

    def caption(self, text: str, word: str) -> None:
        """A line at the bottom, and the end of an episode at the top."""
        font: Any = ImageFont.load_default(15 * OVERSAMPLED)
        self.draw.text((12 * OVERSAMPLED, self.height - 28 * OVERSAMPLED), text, COLOURS["text"], font)
        if word:
            large: Any = ImageFont.load_default(28 * OVERSAMPLED)
            width = self.draw.textlength(word.upper(), large)
            at = ((self.width - width) / 2, 16 * OVERSAMPLED)
            self.draw.text(at, word.upper(), COLOURS[word], large)

    def finished(self) -> Image.Image:
        """The picture in its size."""
        return self.image.resize(SIZE, Image.Resampling.BOX)
