"""The command `watch --play`: the game in real time, the keys, the page and its server."""

import json
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest

from jaxdodge import watch
from jaxdodge.cli import guarded
from jaxdodge.config import GameConfig
from jaxdodge.viewer import keyboard as play
from jaxdodge.viewer.tracks import HIT, PLAYING

CONFIG = GameConfig(**watch.PLAYED)


class FakeGame:
    """A game whose episodes are three frames long."""

    config = CONFIG

    def __init__(self) -> None:
        self.held: frozenset[str] = frozenset()
        self.restarts = self.steps = 0
        self.ended = PLAYING

    def restart(self) -> None:
        self.restarts, self.steps, self.ended = self.restarts + 1, 0, PLAYING

    def step(self) -> dict:
        self.steps += 1
        self.ended = HIT if self.steps == 3 else PLAYING
        return {"steps": self.steps, "held": sorted(self.held)}


@pytest.fixture
def server():
    with play.PlayServer(FakeGame()) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_frames_come_at_the_frame_rate_and_late_ones_are_not_all_made_up_for():
    clock = SimpleNamespace(now=0.0)
    game = FakeGame()
    game.step = lambda: {}  # type: ignore[method-assign]

    def sleep(seconds: float) -> None:
        clock.now += seconds

    states = play.frames(game, lambda: clock.now, sleep)  # type: ignore[arg-type]
    for _ in range(61):
        next(states)
    assert clock.now == pytest.approx(1)
    clock.now += 0.1
    for _ in range(60):
        next(states)
    assert clock.now == pytest.approx(2)
    clock.now += 10
    for _ in range(61):
        next(states)
    assert clock.now == pytest.approx(13, abs=0.05)


def test_an_ended_episode_is_shown_for_a_moment_and_the_next_one_begins():
    slept: list[float] = []
    game = FakeGame()
    states = play.frames(game, lambda: 0.0, slept.append)  # type: ignore[arg-type]
    assert [next(states)["steps"] for _ in range(4)] == [1, 2, 3, 1]
    assert slept.count(play.END_SECONDS) == 1
    assert game.restarts == 1


def test_the_held_keys_become_an_action():
    game = SimpleNamespace(components=("vx", "vy", "sprint", "jump"), held=frozenset())
    np.testing.assert_array_equal(play.Game.action(game), [0, 0, -1, -1])  # type: ignore[arg-type]
    game.held = frozenset({"left", "up", "sprint", "jump"})
    np.testing.assert_array_equal(play.Game.action(game), [-1, 1, 1, 1])  # type: ignore[arg-type]
    game.held = frozenset({"left", "right", "restart"})
    np.testing.assert_array_equal(play.Game.action(game), [0, 0, -1, -1])  # type: ignore[arg-type]


def test_the_server_gives_the_page_the_states_and_takes_keys(server):
    with urllib.request.urlopen(server.url) as answer:
        text = answer.read().decode()
    assert "Level 2, angle 30, 60 frames per second" in text
    assert "space: jump" in text
    with urllib.request.urlopen(f"{server.url}states") as stream:
        assert json.loads(stream.readline().removeprefix(b"data: ")) == {"steps": 1, "held": []}
        keys = urllib.request.Request(f"{server.url}keys", b"left sprint nonsense", method="POST")
        with urllib.request.urlopen(keys):
            pass
        held = [
            json.loads(stream.readline()[6:] or b"{}").get("held") if stream.readline() else 0
            for _ in range(9)
        ]
        assert ["left", "sprint"] in held
        with urllib.request.urlopen(f"{server.url}states") as second:
            assert json.loads(second.readline()[6:]) == {"busy": True}
    for path, body in (("nothing", None), ("keys", b"x" * 1000)):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{server.url}{path}", body)


@pytest.mark.slow
def test_the_game_moves_the_player_and_ends_with_a_hit():
    game = play.Game(CONFIG, seed=0)
    game.held = frozenset({"left"})
    states = [game.step() for _ in range(12)]
    assert states[-1]["player"][0] == pytest.approx(-1, abs=0.1)
    assert states[-1]["seconds"] == 0.2
    game.held = frozenset()
    while game.ended == PLAYING:
        last = game.step()
        assert last["seconds"] < 60
    assert (last["ended"], last["projectiles"] != []) == (HIT, True)
    game.restart()
    assert game.step()["seconds"] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["absent"], "what: invalid together with --play"),
        (["--frames-per-step", "7"], "frames_per_step: invalid together with --play"),
        (["--action-space-type", "discrete"], "action_space_type: invalid value 'discrete'"),
    ],
)
def test_what_cannot_be_played_is_an_error(arguments, text, capsys):
    assert guarded(watch.watch, ["--play", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(text)
