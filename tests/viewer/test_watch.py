"""The command `watch`: pages and films of runs, recordings, sessions and servers."""

import base64
import inspect
import json
import re
import stat

import jax
import numpy as np
import pytest
from PIL import Image

from jaxdodge import resources, watch
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.cli import guarded
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.parity import check_frames
from jaxdodge.parity.playback import replay
from jaxdodge.runs.folder import Run
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.viewer import from_recording, from_run
from jaxdodge.viewer.film import write_film
from jaxdodge.viewer.tracks import HIT, PLAYING

STEPS = 40
GAME = GameConfig(
    level=2,
    action_space_type="basic_3d",
    max_episode_steps=STEPS,
    frame_stack=2,
    observation_mode="topdown",
    image_obs_width=40,
    image_obs_height=32,
)
TRAIN = TrainConfig(net_arch=(8,), squint=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("results"), "run", GAME, TRAIN)
    generator = np.random.default_rng(0)
    shapes = make_trainer(GAME, TRAIN).policy_shapes()
    run.save_policy(
        "best", jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    )
    return run


@pytest.fixture(scope="module")
def played(run):
    """Three of six episodes; compiling takes longer than playing."""
    statics = ("env", "policy", "episodes", "steps", "sampled")
    fast = jax.jit(inspect.unwrap(from_run._play), static_argnames=statics)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(from_run, "_play", fast)
        yield _played(run)


def _played(run: Run):
    return from_run.replay_of_run(
        run.folder, "best", {}, episodes=6, shown=3, steps=2 * STEPS, seed=0, sampled=False
    )


def _watch(*arguments: object) -> int:
    return guarded(watch.watch, [str(argument) for argument in arguments])


def _content(page: str) -> dict:
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    return json.loads(data)


def _numbers(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def test_the_worst_episode_comes_first_and_all_are_whole(played):
    worst, median, best = played.episodes
    assert [each.name for each in played.episodes] == ["worst", "median", "best"]
    assert worst.total <= median.total <= best.total
    for episode in played.episodes:
        assert np.all(episode.ended[:-1] == PLAYING)
        assert episode.ended[-1] == HIT or len(episode) == STEPS + 1
        # The reward of a state follows from its nearest projectile.
        near = episode.track.nearest()[1:-1]
        bonus = np.maximum(GAME.dodge_bonus_threshold - near, 0) * GAME.dodge_bonus_multiplier
        np.testing.assert_allclose(episode.reward[1:-1], GAME.survival_reward + bonus, atol=1e-5)


def test_a_page_holds_everything_and_requests_nothing(run, played, monkeypatch, capsys):
    def replay(folder, policy, given, episodes, *_):
        assert (folder, policy, given, episodes) == (run.folder, "best", {}, 6)
        return played

    monkeypatch.setattr(from_run, "replay_of_run", replay)
    assert _watch(run.folder, "--episodes", 6) == 0
    path = run.folder / "replay.html"
    assert capsys.readouterr().out.splitlines()[1].startswith(f"{path}: 0.")
    page = path.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)|https?://|url\(|import |fetch\(', page)
    episode = _content(page)["episodes"][0]
    player = _numbers(episode["track"]["player"], "<i2").reshape(-1, 5)
    assert len(player) == len(_numbers(episode["reward"], "<f4"))
    assert np.all(np.abs(player[:, :2]) <= [5000, 4000])


def test_the_page_draws_what_the_policy_observes(played):
    """The page's recipe for an image, followed here, gives the environment's image."""
    content, episode = played.content(), played.episodes[0]
    images = content["images"]
    env = DodgeEnv(GAME)
    expected = np.asarray(
        jax.vmap(lambda discs: env.assemble(discs, 1, None))(
            jax.tree.map(lambda array: np.stack([array[:-1], array[1:]], axis=1), episode.discs)
        )
    )
    for state in (0, len(episode) - 2):
        image = _numbers(images["background"], "u1").reshape(32, 40, 3).copy()
        for layer, which in zip(images["layers"], images["order"], strict=True):
            centres = _numbers(content["episodes"][0]["discs"][which], "<i2")
            columns, rows = centres.reshape(len(episode), 2, layer["slots"])[state + 1]
            for column, row in zip(columns, rows, strict=True):
                for down, right in layer["offsets"]:
                    if 0 <= row + down < 32 and 0 <= column + right < 40:
                        image[row + down, column + right] = layer["colour"]
        np.testing.assert_array_equal(image, expected[state][..., 3:])


def test_a_projectile_keeps_its_number_while_it_flies(played):
    episode = max(played.episodes, key=len)
    ids = episode.track.identities(episode.seconds)
    for state in range(1, len(episode)):
        before = dict(zip(ids[state - 1].tolist(), episode.track.projectiles[state - 1], strict=True))
        used = ids[state][: episode.track.count[state]]
        assert len(set(used.tolist())) == len(used)
        for number, row in zip(used.tolist(), episode.track.projectiles[state], strict=False):
            if number in before:
                assert np.hypot(*(row - before[number])[:2]) < 1


@pytest.mark.slow
def test_a_recording_is_shown_beside_the_simulator_and_its_first_difference_marked(tmp_path, monkeypatch):
    path = resources.recordings() / "level1_still.npz"

    def wrong(recording):
        arrays, scenes = replay(recording)
        arrays["player_position"] = arrays["player_position"].copy()
        arrays["player_position"][700, 1] += 1
        return arrays, scenes

    shown = from_recording.replay_of_recording(path, shown=3, steps=400)
    assert shown.episodes[0].simulated is not None
    assert shown.episodes[0].marks == ()
    assert shown.subtitle.endswith("no difference")
    monkeypatch.setattr(from_recording, "replay", wrong)
    monkeypatch.setattr(check_frames, "replay", wrong)
    (episode,) = from_recording.replay_of_recording(path, shown=3, steps=400).episodes
    ((state, text),) = episode.marks
    assert len(episode) == 400
    assert text.startswith("frame 700, player_position[1]: recorded ")
    assert episode.simulated.player[state, 1] - episode.track.player[state, 1] == 1


@pytest.mark.parametrize(
    "name", [pytest.param("api_grpc60_discrete", marks=pytest.mark.slow), "api_http60_image48_gray"]
)
def test_a_session_is_shown(name, tmp_path):
    path = resources.recordings() / f"{name}.npz"
    assert _watch(path, "--out", tmp_path / "page.html", "--steps", 30) == 0
    content = _content((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert content["subtitle"].endswith("no difference")
    assert all(len(_numbers(each["reward"], "<f4")) <= 30 for each in content["episodes"])


def test_films(played, tmp_path, monkeypatch):
    episode = played.episodes[0].part(slice(0, 25))
    write_film(played, episode, 0.4, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames > 3
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with pytest.raises(ConfigError, match=r"film.mp4: needs ffmpeg, which is not installed; expected .html"):
        write_film(played, episode, 0.4, tmp_path / "film.mp4")
    # It gets whole pictures, one after the other.
    fake = tmp_path / "ffmpeg"
    fake.write_text('#!/bin/sh\nfor last; do :; done\n/bin/cat > "$last"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    write_film(played, episode, 0.1, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").stat().st_size % (640 * 360 * 3) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "what: missing; expected the folder of a run or a recording, or --server"),
        (["x.npz"], "x.npz: no such file"),
        (["--nosuch"], "--nosuch: no such option (--help lists all)"),
        (["x.npz", "--out", "x.avi"], "out: invalid value 'x.avi'; expected a file .html, .gif, .mp4"),
        (["x.npz", "--fps", "30"], "fps: invalid together with a recording, whose game is fixed"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(arguments, message, capsys):
    assert _watch(*arguments) == 2
    assert capsys.readouterr().err == f"{message}\n"
