"""`jaxdodge watch`: a replay of a run, a recording or a server, as a page or a film.

Exit status: 0 written, 1 the server failed, 2 bad input, 130 stopped by Ctrl-C.
"""

import contextlib
import dataclasses
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxdodge.cli import guarded
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, Name, Number
from jaxdodge.hardware import keep_compiled
from jaxdodge.runs.folder import POLICIES
from jaxdodge.runs.options import parse_options

if TYPE_CHECKING:
    from jaxdodge.viewer.tracks import Replay

SUFFIXES = (".html", ".gif", ".mp4")
DEFAULT_SERVER_STEPS = 500
PLAYED: dict[str, Any] = {
    "level": 2,
    "spawn_angle_degrees": 30.0,
    "action_space_type": "basic_4d_jump",
    "max_episode_steps": 1_000_000,
}


@dataclasses.dataclass(frozen=True)
class Watch:
    """Write a replay to watch: a page for the browser in one file, or a film.

    WHAT is a run, whose policy plays in the simulator; or a recording or a session of the real
    game, with the simulator beside it. With --server, the run plays on the server; without a run,
    random actions do. Options of the game change it, as in evaluate. --play lets you play.
    """

    what: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of a run of one seed, or a recording (.npz)."""
    out: Path | None = None
    """File to write or replace: .html, .gif or .mp4 (needs ffmpeg). Default: replay.html in the
    folder of the run, else in this folder."""
    show: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Open it in the browser."""
    play: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Play the game with the keyboard, in real time, in a page on this machine. Level 2 at angle 30
    with jumps, unless options of the game say otherwise."""
    port: int = 0
    """With --play: port of the page; 0 for any free one."""
    episodes: int = 32
    """Episodes of a run to play, all at once."""
    shown: int = 3
    """Episodes to show: the worst, the median, the best, then others from the worst on."""
    episode: int = 1
    """Films: which of the shown episodes, from 1."""
    seconds: float = 10.0
    """Films: length. They show the end of an episode that was hit, else its closest passes."""
    policy: str = "best"
    """best or final."""
    sampled: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Sample the actions from the policy's distribution instead of taking its mode."""
    seed: int = 0
    """Seed of the throws, and of sampled and random actions."""
    steps: int | None = None
    """States of an episode at most: 3000. With --server, steps to play: 500."""
    server: str | None = None
    """Play on a server first: http://HOST:PORT, grpc://HOST:PORT or unix:///PATH."""

    def __post_init__(self) -> None:
        Number(int, 1, 10_000).check("episodes", self.episodes)
        Number(int, 1, 100).check("shown", self.shown)
        Number(int, 1, self.shown).check("episode", self.episode)
        Number(float, 0, 3600, above_low=True).check("seconds", self.seconds)
        Number(int, 0, 2**32 - 1).check("seed", self.seed)
        Number(int, 0, 65_535).check("port", self.port)
        Name(POLICIES).check("policy", self.policy)
        if self.steps is not None:
            Number(int, 2, 100_000).check("steps", self.steps)


def watch(arguments: list[str]) -> int:
    """Parse, play or replay, write, and return the exit status."""
    options, given = parse_options(Watch, (GameConfig,), "jaxdodge watch", arguments)
    if options.play:
        return _play(options, given)
    if options.what is None and options.server is None:
        raise ConfigError("what: missing; expected the folder of a run or a recording, or --server")
    if options.out is not None and options.out.suffix not in SUFFIXES:
        raise ConfigError(f"out: invalid value '{options.out}'; expected a file {', '.join(SUFFIXES)}")
    is_run = options.what is not None and options.what.is_dir()
    out = options.out or (options.what if is_run and options.what else Path()) / "replay.html"
    replay = _replay(options, given, is_run)
    if replay is None:
        print("nothing was recorded", file=sys.stderr)
        return 1
    if out.suffix == ".html":
        from jaxdodge.viewer.page import write_page

        write_page(replay, out)
    else:
        from jaxdodge.viewer.film import write_film

        if options.episode > len(replay.episodes):
            raise ConfigError(
                f"episode: invalid value {options.episode}; expected at most {len(replay.episodes)}"
            )
        write_film(replay, replay.episodes[options.episode - 1], options.seconds, out)
    shown = ", ".join(f"{each.name} ({each.total:.1f})" for each in replay.episodes)
    print(f"{replay.subtitle}\n{out}: {out.stat().st_size / 1e6:.1f} MB; {shown}")
    if options.show:
        webbrowser.open(out.resolve().as_uri())
    return 0


def _play(options: Watch, given: dict[str, Any]) -> int:
    """Serve the page of the game until Ctrl-C."""
    for name in ("what", "server", "out"):
        if getattr(options, name) is not None:
            raise ConfigError(f"{name}: invalid together with --play")
    for name in ("frames_per_step", "response_frame", "frame_stack"):
        if name in given:
            raise ConfigError(f"{name}: invalid together with --play, which plays every frame")
    config = GameConfig(**PLAYED | given)
    if config.action_space_type == "discrete":
        raise ConfigError(
            "action_space_type: invalid value 'discrete' with --play; expected a continuous one"
        )
    print("compiling", flush=True)
    from jaxdodge.viewer.keyboard import Game, PlayServer

    with PlayServer(Game(config, options.seed), options.port) as server:
        print(f"play at {server.url} (Ctrl-C ends it)", flush=True)
        if options.show:
            webbrowser.open(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _replay(options: Watch, given: dict[str, Any], is_run: bool) -> "Replay | None":
    from jaxdodge.recordings.npz import RecordingError

    steps = options.steps or 3000
    try:
        if options.server is not None:
            from jaxdodge.viewer.from_recording import replay_of_session
            from jaxdodge.viewer.from_server import session_of_server

            session = session_of_server(
                options.server,
                options.what,
                options.policy,
                given,
                options.steps or DEFAULT_SERVER_STEPS,
                options.seed,
            )
            if session is None:
                return None
            return replay_of_session(session, options.shown, len(session), options.server)
        assert options.what is not None
        if is_run:
            from jaxdodge.viewer.from_run import replay_of_run

            return replay_of_run(
                options.what,
                options.policy,
                given,
                options.episodes,
                options.shown,
                steps,
                options.seed,
                options.sampled,
            )
        if given:
            raise ConfigError(f"{next(iter(given))}: invalid together with a recording, whose game is fixed")
        from jaxdodge.viewer.from_recording import replay_of_recording

        return replay_of_recording(options.what, options.shown, steps)
    except RecordingError as error:
        raise ConfigError(f"{error}") from None


if __name__ == "__main__":
    keep_compiled()
    sys.exit(guarded(watch, sys.argv[1:]))
