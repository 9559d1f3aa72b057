"""The game to play: a page with the arena, and a local server that steps the game in real time.

The page posts the keys that are held, and reads one state per frame from a stream of events.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.sim.actions import COMPONENTS
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.viewer.film import CAMERA
from jaxdodge.viewer.page import rendered
from jaxdodge.viewer.tracks import HIT, PLAYING, SURVIVED

# What each key does to the components of an action.
KEYS = {
    "left": {"vx": -1.0},
    "right": {"vx": 1.0},
    "up": {"vy": 1.0},
    "down": {"vy": -1.0},
    "sprint": {"sprint": 2.0},
    "jump": {"jump": 2.0},
}
AT_REST = {"sprint": -1.0, "jump": -1.0}
RESTART = "restart"
LONGEST_BODY = 200
# After a longer break the game goes on from now instead of catching up, s.
LONGEST_LAG = 0.25
# How long the end of an episode is shown, s.
END_SECONDS = 1.2


class Game:
    """One game that is stepped frame by frame, and the keys that are held.

    Args:
        config: of the game; a step is a frame.
        seed: of the throws.
    """

    def __init__(self, config: GameConfig, seed: int):
        self.config = config
        self.components = COMPONENTS[config.action_space_type]
        self.held: frozenset[str] = frozenset()
        self._env = DodgeEnv(config)
        self._params = self._env.default_params
        self._key = jax.random.key(seed)
        self._step = jax.jit(self._stepped)
        self._restart = jax.jit(lambda key, state: self._env.restart(key, state, self._params)[1])
        _, self._state = self._env.reset(self._key)
        self.total, self.steps, self.ended = 0.0, 0, PLAYING
        # Compiled before the first frame.
        self._step(self._key, self._state, jnp.zeros(len(self.components)))
        self._restart(self._key, self._state)

    def action(self) -> np.ndarray:
        """float32 (components,): what the held keys ask for."""
        wanted = {name: AT_REST.get(name, 0.0) for name in self.components}
        for key in self.held & KEYS.keys():
            for name, value in KEYS[key].items():
                if name in wanted:
                    wanted[name] += value
        return np.array([*wanted.values()], np.float32)

    def restart(self) -> None:
        """Begin the next episode."""
        self._key, key = jax.random.split(self._key)
        self._state = self._restart(key, self._state)
        self.total, self.steps, self.ended = 0.0, 0, PLAYING

    def step(self) -> dict[str, Any]:
        """Advance by a frame; what the page draws."""
        self._key, self._state, packed, projectiles, throwers = self._step(
            self._key, self._state, self.action()
        )
        reward, ended, count, pending, *player = np.asarray(packed).tolist()
        self.total, self.steps, self.ended = self.total + reward, self.steps + 1, int(ended)
        return {
            "player": [round(value, 3) for value in player],
            "projectiles": np.round(np.asarray(projectiles)[: int(count)], 3).tolist(),
            "throwers": np.round(np.asarray(throwers)[: int(pending)], 3).tolist(),
            "total": round(self.total, 1),
            "seconds": round(self.steps / self.config.fps, 2),
            "ended": self.ended,
        }

    def _stepped(self, key: jax.Array, state: Any, action: jax.Array) -> Any:
        key, key_step = jax.random.split(key)
        _, state, reward, terminated, _ = self._env.step_env(key_step, state, action, self._params)
        truncated = self._env.is_truncated(state, self._params)
        ended = jnp.where(terminated, HIT, jnp.where(truncated, SURVIVED, PLAYING))
        game = state.game
        player, balls, throwers = game.player, game.projectiles, game.throwers

        def rows(*vectors: Any) -> list[jax.Array]:
            return [axis for vector in vectors for axis in (vector.x, vector.y, vector.z)]

        own = rows(player.position, player.velocity)[:5]
        packed = jnp.stack([jnp.float32(each) for each in (reward, ended, balls.count, throwers.count, *own)])
        projectiles = jnp.stack(rows(balls.position, balls.velocity), axis=-1)
        return key, state, packed, projectiles, jnp.stack(rows(throwers.position), axis=-1)


def frames(
    game: Game, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Iterator[dict[str, Any]]:
    """States of a game in real time, forever: one per frame, each at its time."""
    due = clock()
    while True:
        if RESTART in game.held or game.ended != PLAYING:
            if game.ended != PLAYING:
                sleep(END_SECONDS)
            game.restart()
            due = clock()
        yield game.step()
        due += 1 / game.config.fps
        now = clock()
        if due < now - LONGEST_LAG:
            due = now
        elif due > now:
            sleep(due - now)


class Handler(BaseHTTPRequestHandler):
    """Answers for one game: the page, the stream of states, and the keys."""

    def __init__(self, game: Game, *arguments: Any):
        self.game = game
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(page(self.game.config).encode(), "text/html; charset=utf-8")
        elif self.path == "/states":
            self._stream()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if self.path != "/keys" or not size.isdigit() or int(size) > LONGEST_BODY:
            self.send_error(400)
            return
        names = self.rfile.read(int(size)).decode(errors="replace").split()
        self.game.held = frozenset(names) & {*KEYS, RESTART}
        self._answer(b"", "text/plain")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if not self.server.playing.acquire(blocking=False):  # type: ignore[attr-defined]
            self.wfile.write(b'data: {"busy": true}\n\n')
            return
        try:
            self.game.held = frozenset()
            self.game.restart()
            for state in frames(self.game):
                self.wfile.write(b"data: %s\n\n" % json.dumps(state, separators=(",", ":")).encode())
        except OSError:  # the page was closed
            pass
        finally:
            self.server.playing.release()  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""


class PlayServer(ThreadingHTTPServer):
    """Serves one game on this machine, for one page at a time.

    Args:
        game: to play.
        port: 0 for any free one.
    """

    daemon_threads = True

    def __init__(self, game: Game, port: int = 0):
        super().__init__(("127.0.0.1", port), partial(Handler, game))
        self.playing = threading.Lock()

    def handle_error(self, *arguments: Any) -> None:
        """A page that leaves within an answer is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(*arguments)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_address[1]}/"


def page(config: GameConfig) -> str:
    """The page's HTML."""
    angle = f", angle {config.spawn_angle_degrees:g}" if config.random_spawn_position else ""
    jump = "jump" in COMPONENTS[config.action_space_type]
    return rendered(
        "play.j2",
        {
            "camera": CAMERA,
            "spawn_angle": config.spawn_angle_degrees if config.random_spawn_position else None,
            "fps": config.fps,
        },
        ("style.css", "arena.js", "play.js"),
        subtitle=f"Level {config.level}{angle}, {config.fps:g} frames per second",
        jump=jump,
    )
