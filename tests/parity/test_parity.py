"""The simulator is the real game: recordings replay with equal bits,
and one changed bit is found.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdodge.parity import playback as replay
from jaxdodge.parity.__main__ import parity
from jaxdodge.parity.check import check
from jaxdodge.parity.environment_replay import replay_by_environment
from jaxdodge.recordings.npz import load
from jaxdodge.recordings.recording import COMPARED, frame_recording
from jaxdodge.sim import systems

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.name for path in (ROOT / "parity" / "recordings").glob("*.npz"))
SESSIONS = [name for name in NAMES if name.startswith("api_")]
# Several indicators pending, jumps, projectiles that bounce, a collision.
BUSY = ("thrower_odd_delay", 256)
CONTENT = {"published_truncated": ("truncation", 1280), "image": ("image_32_gray", 256)}
FIELDS = [*COMPARED, "image"]


def command(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "jaxdodge.parity", "check", *map(str, arguments)],
        cwd=ROOT,
        # Optimised, as users run it.
        env={name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


# The static timing of a default training; images, with commands before the publication; indicators.
BY_ENVIRONMENT = ("crowd_faster_than_frames", "image_32_gray", "thrower_level2")
INEXPRESSIBLE = {
    "level2_full6d": "by changing orders",
    "level1_tilt5d_jitter": "by frames of different lengths",
    "reconfigured": "by several configurations",
    "level1_still": "by idle frames between resets",
}


def recorded(path: Path):
    return frame_recording(path, *load(path))


@pytest.mark.slow
def test_the_training_environment_replays_recordings(capsys):
    """In this process, which compiles fast; a test below runs them all as users do."""
    paths = [ROOT / "parity" / "recordings" / f"{name}.npz" for name in (*BY_ENVIRONMENT, *INEXPRESSIBLE)]
    assert parity("check", ["--simulator", *map(str, paths)]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert output.splitlines()[-1] == (
        "3 of 3 equal through the training environment: 133680 values; 4 not expressible: "
        + ", ".join(f"1 {reason}" for reason in INEXPRESSIBLE.values())
    )


@pytest.mark.slow
@pytest.mark.nightly
def test_the_training_environment_replays_all_that_it_can_express():
    done = command(
        "--simulator", *(ROOT / "parity" / "recordings" / name for name in set(NAMES) - set(SESSIONS))
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "18 of 18 equal through the training environment: 1602998 values; 12 not" in done.stdout


def test_one_changed_bit_is_named_by_the_environment(copy_of):
    def change(arrays, meta):
        flip_lowest_bit(arrays["published_reward"], (200,))

    outcome = replay_by_environment(recorded(copy_of("crowd_faster_than_frames", 250, change)))
    assert outcome.difference[0] == 200
    assert outcome.difference[1].startswith("environment, frame 200, published_reward: recorded ")


def test_an_environment_of_another_order_is_noticed(copy_of):
    """The same systems and throws, but what leaves is removed before
    the next projectile appears.
    """

    def change(arrays, meta):
        exchanged("cleanup_projectiles", "spawn_projectiles")(arrays, meta)
        names = {"cleanup_projectiles": "spawn_projectiles", "spawn_projectiles": "cleanup_projectiles"}
        meta["schedule"] = [names.get(name, name) for name in meta["schedule"]]

    recording = recorded(copy_of("crowd_faster_than_frames", 250, change))
    assert replay_by_environment(recording).difference is not None


def test_all_recordings_are_equal(tmp_path):
    report = tmp_path / "report.md"
    done = command("--report", report)
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows, summary, summary_of_sessions = done.stdout.splitlines()
    assert header.split() == ["recording", "frames", "values", "images", "spawn", "ulp", "seconds", "result"]
    assert [row.split()[0] for row in rows] == NAMES
    assert all(("  equal" in row) is not row.startswith("api_") for row in rows)
    assert summary.startswith("30 of 30 equal: 45250 frames, ")
    assert summary_of_sessions.startswith("32 of 32 sessions agree: ")
    lines = report.read_text().splitlines()
    table = [line.strip("|").split("|") for line in lines if line.startswith("| ")][1:]
    assert [cells[0].strip() for cells in table] == NAMES
    assert {cells[-1].strip() for cells in table if cells[0].strip() not in SESSIONS} == {"equal"}


def middle(array: np.ndarray) -> tuple[int, ...]:
    """A place in the middle of what is not zero."""
    places = np.argwhere(array)
    assert len(places), "the array has no content to change"
    return tuple(map(int, places[len(places) // 2]))


def flip_lowest_bit(array: np.ndarray, place: tuple[int, ...]) -> None:
    array.view({1: np.uint8, 4: np.uint32, 8: np.uint64}[array.itemsize])[place] ^= 1


@pytest.mark.parametrize("field", FIELDS)
def test_one_changed_bit_is_named(copy_of, field):
    name, frames = CONTENT.get(field, BUSY)
    expected = []

    def change(arrays, meta):
        array = arrays[field]
        place = middle(array)
        before = array[place]
        flip_lowest_bit(array, place)
        frame = arrays["image_frame"][place[0]] if field == "image" else place[0]
        slot = "".join(f"[{number}]" for number in place[1:])
        expected.append(f"frame {frame}, {field}{slot}: recorded {array[place]!s}, simulated {before!s}")

    assert check(copy_of(name, frames, change)).difference == expected[0]


@pytest.mark.parametrize("name", [BUSY, *CONTENT.values()])
def test_the_copies_are_equal_as_long_as_nothing_is_changed(copy_of, name):
    result = check(copy_of(*name))
    assert (result.difference, result.frames) == ("", name[1])
    assert result.values > 50 * result.frames
    assert (result.images > 0) is name[0].startswith("image")


def test_slots_beyond_the_count_are_compared_too(copy_of):
    def change(arrays, meta):
        assert arrays["projectile_count"][200] < arrays["projectile_position"].shape[1]
        flip_lowest_bit(arrays["projectile_position"], (200, -1, 2))

    assert check(copy_of(*BUSY, change)).difference.startswith("frame 200, projectile_position[7][2]: ")


@pytest.mark.parametrize(
    ("field", "value", "difference"),
    [
        ("player_vertical_velocity", -0.0, "recorded -0.0, simulated 0.0"),
        ("published_reward", np.nan, "recorded nan, simulated 1.0"),
    ],
)
def test_negative_zero_and_nan_are_other_values(copy_of, field, value, difference):
    def change(arrays, meta):
        arrays[field][5] = value

    assert check(copy_of("level2_discrete", 256, change)).difference == f"frame 5, {field}: {difference}"


def test_the_first_of_several_differences_is_named(copy_of):
    def change(arrays, meta):
        for frame, field in ((90, "player_position"), (80, "published_reward"), (85, "game_over")):
            flip_lowest_bit(arrays[field], (frame, 0) if field == "player_position" else (frame,))

    assert check(copy_of(*BUSY, change)).difference.startswith("frame 80, published_reward: ")


def test_the_command_exits_1_on_a_difference(copy_of, capsys):
    good = copy_of(*BUSY, file="good.npz")
    bad = copy_of(*BUSY, lambda arrays, meta: flip_lowest_bit(arrays["episode_steps"], (7,)), file="bad.npz")
    assert parity("check", [f"{bad}", f"{good}"]) == 1
    output, errors = capsys.readouterr()
    assert errors == ""
    _, of_bad, of_good, summary = output.splitlines()
    assert of_bad.startswith("bad.npz ")
    assert of_bad.endswith("  frame 7, episode_steps: recorded 2, simulated 3")
    assert of_good.endswith("  equal")
    assert summary.startswith("1 of 2 equal: 512 frames, ")


# The sampling formula


@pytest.mark.parametrize("name", ["level2_360", "level1_discrete"])
def test_draws_off_the_sampling_formula_are_reported(copy_of, name):
    frames = []

    def change(arrays, meta):
        frames.append(int(np.flatnonzero(~np.isnan(arrays["spawn_u"]))[1]))
        arrays["spawn_u"][frames[0]] += np.float32(2**-16)

    result = check(copy_of(name, 256, change))
    assert result.difference.startswith(f"frame {frames[0]}, spawn_position: recorded [")
    assert "formula [" in result.difference
    assert result.spawn_ulp > 2
    assert check(copy_of(name)).spawn_ulp <= 2


# The order of the systems


def shuffled(arrays, meta):
    generator = np.random.default_rng(0)
    arrays["order"] = generator.permuted(arrays["order"], axis=1)


def exchanged(first: str, second: str):
    """Two systems change places in the order of every frame."""

    def change(arrays, meta):
        one, other = meta["systems"].index(first), meta["systems"].index(second)
        order = arrays["order"].copy()
        arrays["order"][order == one], arrays["order"][order == other] = other, one

    return change


def renamed(arrays, meta):
    """The same recording, its systems counted in another order."""
    new = np.random.default_rng(1).permutation(13)
    meta["systems"] = [meta["systems"][place] for place in np.argsort(new)]
    arrays["order"] = new.astype(np.uint8)[arrays["order"]]


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        (renamed, True),
        (exchanged("apply_tilt", "check_out_of_bounds"), True),
        (exchanged("move_projectiles", "publish_state"), False),
        (exchanged("handle_commands", "publish_state"), False),
        (shuffled, False),
    ],
    ids=["renamed", "unobservable", "projectiles", "commands", "shuffled"],
)
def test_the_order_is_data_and_matters(copy_of, change, equal):
    check(copy_of(*BUSY))
    compiled = replay._frames._cache_size()
    assert (check(copy_of(*BUSY, change)).difference == "") is equal
    assert replay._frames._cache_size() == compiled, "another order must not compile again"


def test_recordings_of_similar_sizes_share_a_compilation(copy_of):
    check(copy_of(*BUSY))
    compiled = replay._frames._cache_size()
    for name in ("level2_discrete", "level1_basic3d_circle", "thrower_odd_delay"):
        assert check(copy_of(name)).difference == ""
    assert replay._frames._cache_size() == compiled


# Another game


@pytest.fixture
def other_game(monkeypatch):
    def change(constant: str, value: float) -> None:
        monkeypatch.setattr(systems, constant, np.float32(value))
        jax.clear_caches()

    yield change
    monkeypatch.undo()
    jax.clear_caches()


@pytest.mark.parametrize(
    ("constant", "value", "field"),
    [
        ("PROJECTILE_GRAVITY", 9.81, "thrower_velocity[0][2]"),
        pytest.param("RESTITUTION", 0.69, "projectile_velocity[0][2]", marks=pytest.mark.slow),
        pytest.param("FRICTION", 1.0, "projectile_velocity[0][0]", marks=pytest.mark.slow),
        ("JUMP_SPEED", np.nextafter(np.float32(7), np.float32(8)), "player_vertical_velocity"),
    ],
)
def test_another_game_is_noticed(copy_of, other_game, constant, value, field):
    other_game(constant, value)
    assert f", {field}: recorded " in check(copy_of(*BUSY)).difference
