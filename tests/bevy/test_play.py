"""Playing on a server whose frames are slow."""

import dataclasses

import numpy as np
import pytest
from served import running

from jaxdodge.bevy import play
from jaxdodge.bevy.client import BadResponseError, UnreachableError
from jaxdodge.bevy.policies import ScriptedPolicy
from jaxdodge.bevy.responses import Response
from jaxdodge.config import GameConfig

STALE = Response(np.zeros(65, np.float32), None, episode_steps=5, projectile_count=1)


def test_an_episode_begins_with_the_first_answer_that_shows_it():
    answers = [STALE, STALE, dataclasses.replace(STALE, episode_steps=0)]
    assert play.begin_episode(lambda: answers.pop(0), "http://a:1").episode_steps == 0
    assert answers == []


def test_a_server_that_never_resets_is_named(monkeypatch):
    monkeypatch.setattr(play, "RESET_SECONDS", 0.05)
    with pytest.raises(BadResponseError, match=r"^http://a:1: in step 5 of an episode after 0\.05 s"):
        play.begin_episode(lambda: STALE, "http://a:1")


def test_a_server_that_is_just_starting_is_waited_for(monkeypatch, capsys):
    answers = [UnreachableError("http://a:1: configure: Connection refused")] * 2

    def configure(*_):
        if answers:
            raise answers.pop()

    monkeypatch.setattr(play, "configure", configure)
    game = GameConfig(action_space_type="basic_3d")
    policy = ScriptedPolicy("still", game, 0)
    played = play.play("http://127.0.0.1:1", 1.0, game, policy, 0.0, lambda _: True)
    assert (played.status, answers) == (0, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "http://a:1: configure: Connection refused; waiting up to 5 s"


@pytest.mark.slow
def test_no_episode_is_seen_to_end_twice_where_a_reset_is_shown_late(tmp_path):
    """At 20 fps a reset over gRPC is answered before the frame that handles it."""
    game = GameConfig(level=2, action_space_type="basic_3d", spawn_angle_degrees=5.0, fps=20)
    with running(tmp_path, "--grpc-port", 0, "--fps", 20, "--order", "simulator", "--seed", 1) as server:
        url = server.addresses("grpc")[0]
        played = play.play(
            url, 10.0, game, ScriptedPolicy("still", game, 0), 0.0, lambda log: len(log.episodes) == 2
        )
    assert (played.status, played.stopped) == (0, None)
    # A throw takes 0.8 s to come.
    assert all(episode.responses > 5 for episode in played.log.episodes)


def test_an_episode_whose_count_stands_still_is_an_error():
    clock = play.EpisodeClock("http://a:1")
    for steps in [*range(50), *[50] * play.STILL_STEPS]:
        clock.check(dataclasses.replace(STALE, episode_steps=steps))
    with pytest.raises(BadResponseError, match=r"^http://a:1: in step 50 of an episode after 100 further"):
        clock.check(dataclasses.replace(STALE, episode_steps=50))
