"""Recordings of the real game, beside what the simulator computes for them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.parity.check_frames import first_frame_difference
from jaxdodge.parity.check_session import Followed, follow_session
from jaxdodge.parity.check_session import first_difference as first_session_difference
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.flight import flown
from jaxdodge.parity.pictures import NOWHERE, Palette, check_pictures
from jaxdodge.parity.playback import replay
from jaxdodge.recordings.npz import load
from jaxdodge.recordings.recording import FrameRecording, frame_recording
from jaxdodge.recordings.session import RESET, Session, checked_session
from jaxdodge.render.topdown import Discs
from jaxdodge.sim.actions import COMPONENTS
from jaxdodge.sim.publish import OBSERVED_PROJECTILES, STANDARD_SIZE, observed_projectiles
from jaxdodge.sim.state import PLAYER_START_HEIGHT
from jaxdodge.sim.systems import PROJECTILE_RADIUS
from jaxdodge.viewer.tracks import HIT, PLAYING, SURVIVED, Episode, Images, Replay, Track

EQUAL = "no difference"
NO_ACTION = ("vx", "vy", "sprint", "jump")


def replay_of_recording(path: Path, shown: int, steps: int) -> Replay:
    """A recording of frames or an API session; raises RecordingError.

    Args:
        path: of the file.
        shown: episodes of a session that are kept.
        steps: states of an episode at most. A longer one is cut around its first difference.
    """
    meta, arrays = load(path)
    if meta["kind"] == "session":
        return replay_of_session(checked_session(path, meta, arrays), shown, steps)
    return _replay_of_frames(frame_recording(path, meta, arrays), steps)


def _replay_of_frames(recording: FrameRecording, steps: int) -> Replay:
    simulated, _ = replay(recording)
    recorded = recording.arrays
    difference = first_frame_difference(recording, simulated)
    config = next((row[-1].config for row in recording.commands if row), GameConfig())
    commands = [row[-1] if row else None for row in recording.commands]
    action = np.array(
        [command.movement if command and command.kind == "action" else [np.nan] * 4 for command in commands],
        np.float32,
    )
    ended = np.where(recorded["published_done"], HIT, PLAYING)
    ended = np.where((ended == PLAYING) & recorded["published_truncated"], SURVIVED, ended)
    episode = Episode(
        name="recording",
        track=_track_of_frames(recorded),
        simulated=_track_of_frames(simulated),
        seconds=np.cumsum(recorded["dt_ns"]) / 1e9,
        action=action,
        reward=recorded["published_reward"],
        ended=ended,
        marks=() if difference is None else (difference,),
    )
    return Replay(
        title=recording.path.name,
        subtitle=f"{recording.frames} frames of the real game; {difference[1] if difference else EQUAL}",
        episodes=[_cut(episode, steps)],
        actions=NO_ACTION,
        spawn_angle=config.spawn_angle_degrees if config.random_spawn_position else None,
        bonus_distance=config.dodge_bonus_threshold,
        observed="every frame",
        sides=("the real game", "the simulator"),
    )


def _track_of_frames(arrays: dict[str, np.ndarray]) -> Track:
    return Track(
        player=np.concatenate([arrays["player_position"], arrays["player_velocity"]], axis=1),
        projectiles=np.concatenate([arrays["projectile_position"], arrays["projectile_velocity"]], axis=2),
        count=arrays["projectile_count"],
        throwers=arrays["thrower_position"],
        thrower_count=arrays["thrower_count"],
    )


def replay_of_session(session: Session, shown: int, steps: int, name: str = "") -> Replay:
    """An API session; each projectile also where the simulator flies it from the state before.

    Args:
        session: to show.
        shown: episodes that are kept: the one with the first difference, the worst, the median.
        steps: as for `replay_of_recording`.
        name: title, default the name of the file.
    """
    followed = follow_session(session)
    text = first_session_difference(session, followed)
    first = min((response for response, _ in followed.findings.differences), default=None)
    if text and first is None:
        first = min(followed.findings.torn)
    mark = ((first, text),) if text and first is not None else ()
    arrays, config = session.arrays, session.config
    image = config.observation_mode == "topdown"
    track, discs = _track_of_images(session) if image else (_track_of_vectors(session), None)
    discrete = arrays["action"].ndim == 1
    action = np.zeros((len(session), 0), np.float32) if discrete else arrays["action"]
    ended = np.where(arrays["done"], HIT, np.where(arrays["truncated"], SURVIVED, PLAYING))
    whole = Episode(
        name="session",
        track=track,
        simulated=None if image else _flown_track(track, followed),
        seconds=arrays["received_s"],
        # The answer to a state is sent with the next request.
        action=np.roll(action, -1, axis=0),
        reward=np.where(arrays["kind"] == RESET, 0, arrays["reward"]),
        ended=np.where(arrays["kind"] == RESET, PLAYING, ended),
        marks=mark,
        discs=discs,
    )
    size = f"{config.image_obs_width} x {config.image_obs_height} pixels"
    return Replay(
        title=name or session.path.name,
        subtitle=(
            f"{len(session)} responses of a server over {session.meta['transport']}, "
            f"{config.fps:g} fps; {text or EQUAL}"
        ),
        episodes=[_cut(episode, steps) for episode in _session_episodes(whole, arrays["kind"], shown)],
        actions=() if discrete else COMPONENTS[config.action_space_type],
        spawn_angle=config.spawn_angle_degrees if config.random_spawn_position else None,
        bonus_distance=config.dodge_bonus_threshold,
        observed=size if image else f"{arrays['observation'].shape[1]} numbers",
        images=Images(config.image_obs_width, config.image_obs_height, config.image_grayscale, 1)
        if image
        else None,
        sides=("the server", "the simulator's flight from the state before"),
    )


def _track_of_vectors(session: Session) -> Track:
    observation = session.arrays["observation"]
    thrower = observation[:, STANDARD_SIZE : STANDARD_SIZE + 3].reshape(len(session), -1, 3)
    return Track(
        player=observation[:, :5],
        projectiles=observed_projectiles(observation),
        count=np.clip(session.arrays["projectile_count"], 0, OBSERVED_PROJECTILES),
        throwers=thrower,
        thrower_count=np.any(thrower != 0, axis=(1, 2)).astype(int),
    )


def _flown_track(track: Track, followed: Followed) -> Track | None:
    """Where the simulator's own frames lead each projectile from the response before."""
    flights, time = followed.flights, followed.time
    if flights is None or time is None:
        return None
    arrival, _ = flown(flights, time)
    projectiles, count = np.zeros_like(track.projectiles), np.zeros_like(track.count)
    for end, row in zip(flights.end, arrival, strict=True):
        if np.isfinite(row).all():
            projectiles[end, count[end]] = row
            count[end] += 1
    return dataclasses.replace(track, projectiles=projectiles, count=count)


def _track_of_images(session: Session) -> tuple[Track, Discs]:
    """What images show: no heights, and discs on a grid of pixels."""
    pictures, palette = check_pictures(session, Findings())
    seen = [picture.projectiles if picture else np.zeros((0, 2), int) for picture in pictures]
    apart = [_apart(centres, 0.4 / float(palette.metres.min())) for centres in seen]
    slots = max(1, *(len(centres) for centres in apart))
    projectiles = np.zeros((len(session), slots, 6), np.float32)
    player = np.zeros((len(session), 5), np.float32)
    player[:, 2] = PLAYER_START_HEIGHT
    nowhere: list[Any] = [
        np.full((len(session), 2, slots), NOWHERE, np.int16) for slots in (1, max(1, *map(len, seen)), 1)
    ]
    # Arrays of NumPy, because they are filled in here.
    discs: Any = Discs(*nowhere)
    for state, (picture, centres) in enumerate(zip(pictures, apart, strict=True)):
        if picture is not None:
            player[state, :2] = _metres(picture.player, palette)
            discs.player[state, :, 0] = picture.player
            discs.projectiles[state, :, : len(seen[state])] = seen[state].T
        projectiles[state, : len(centres), :2] = _metres(centres, palette)
        projectiles[state, : len(centres), 2] = PROJECTILE_RADIUS
    count = np.array([len(centres) for centres in apart])
    nothing = np.zeros((len(session), 1, 3), np.float32)
    return Track(player, projectiles, count, nothing, np.zeros(len(session), int)), discs


def _apart(centres: np.ndarray, pixels: float) -> np.ndarray:
    """One of the centres of each disc: several may fit what is seen of it."""
    kept: list[Any] = []
    for centre in centres:
        if all(np.hypot(*(centre - other)) > pixels for other in kept):
            kept.append(centre)
    return np.array(kept, int).reshape(-1, 2)


def _metres(centres: np.ndarray, palette: Palette) -> np.ndarray:
    return (centres - palette.size / 2) * palette.metres * [1, -1]


def _session_episodes(whole: Episode, kind: np.ndarray, shown: int) -> list[Episode]:
    """The episodes between resets: the one with the mark first, then the worst and the median."""
    starts = np.flatnonzero((kind == RESET) & (np.roll(kind, -1) != RESET))
    starts = np.unique(np.append(0, starts))
    ends = np.append(starts[1:], len(whole))
    episodes = [
        dataclasses.replace(whole.part(slice(start, end)), name=f"episode {number + 1} of {len(starts)}")
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
        if end - start > 1
    ]
    by_total = sorted(episodes, key=lambda episode: episode.total)
    if not by_total:
        return [whole]
    order = [*(each for each in episodes if each.marks), by_total[0], by_total[len(by_total) // 2], *by_total]
    return list({id(episode): episode for episode in order}.values())[:shown]


def _cut(episode: Episode, steps: int) -> Episode:
    """At most so many states, around the first mark."""
    if len(episode) <= steps:
        return episode
    middle = episode.marks[0][0] if episode.marks else 0
    first = min(max(0, middle - steps // 2), len(episode) - steps)
    name = f"{episode.name}, states {first} to {first + steps - 1} of {len(episode)}"
    return dataclasses.replace(episode.part(slice(first, first + steps)), name=name)
