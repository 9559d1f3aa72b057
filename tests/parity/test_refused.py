"""Files that cannot be checked: one line naming the file, and exit status 2."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from malicious_files import MALICIOUS, encrypted

from jaxdodge.parity.check import check
from jaxdodge.recordings.npz import RecordingError
from jaxdodge.recordings.recording import COMPARED, INPUTS

FRAMES = 64
COMMANDS = [
    [0, {"kind": "dance"}],
    [0, {"no kind": 1}],
    [FRAMES, {"kind": "reset"}],
    [-1, {"kind": "reset"}],
    [0.5, {"kind": "reset"}],
    [0, "reset"],
    0,
    [0, {"kind": "discrete", "action": 5}],
    [0, {"kind": "discrete", "action": -1}],
    [0, {"kind": "discrete", "action": [0, 1]}],
    [0, {"kind": "continuous", "space": "basic_7d", "action": [0, 0, 0]}],
    [0, {"kind": "continuous", "space": "basic_3d", "action": [0, 0]}],
    [0, {"kind": "continuous", "space": "basic_3d", "action": ["fast", 0, 0]}],
    [0, {"kind": "continuous", "space": "basic_3d", "action": [None, 0, 0]}],
    [0, {"kind": "configure", "fields": {"player_sped": 3}}],
    [0, {"kind": "configure", "fields": {"player_speed": -3}}],
    [0, {"kind": "configure", "fields": 3}],
    [0, {"kind": "configure"}],
    [0, {"kind": "set_level", "level": 3}],
]


def assert_refused(path, reason: str = "") -> None:
    with pytest.raises(RecordingError) as caught:
        check(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert reason in message


def put(where: str, key: str, value):
    """A change of the arrays or of meta; a callable value computes the new one from the old."""

    def change(arrays, meta):
        table = arrays if where == "arrays" else meta
        table[key] = value(table[key]) if callable(value) else value

    return change


@pytest.mark.parametrize("name", [*INPUTS, *COMPARED])
def test_a_missing_array(copy_of, name):
    path = copy_of("level1_still", FRAMES, lambda arrays, meta: arrays.pop(name))
    assert_refused(path, f"damaged: array {name} is missing")


@pytest.mark.parametrize("name", [*INPUTS, *COMPARED])
def test_an_array_of_another_type_or_shape(copy_of, name):
    other = copy_of("level1_still", FRAMES, put("arrays", name, lambda a: a.astype(np.float64)))
    assert_refused(other, f"damaged: {name} is float64[")
    if name != "dt_ns":  # It says how many frames there are.
        assert_refused(
            copy_of("level1_still", FRAMES, put("arrays", name, lambda a: a[:-1])), f"damaged: {name} is "
        )
    assert_refused(
        copy_of("level1_still", FRAMES, put("arrays", name, lambda a: a[..., None])), f"damaged: {name} is "
    )


def not_permuted(order):
    order[17, 3] = order[17, 4]
    return order


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("meta", "format", 2), "kind 'frames', format 2; readable: frames or session, format 1"),
        (put("meta", "kind", "film"), "kind 'film', format 1; readable"),
        (lambda arrays, meta: meta.pop("kind"), "no valid meta"),
        (lambda arrays, meta: meta.pop("systems"), "systems"),
        (lambda arrays, meta: meta.pop("schedule"), "schedule"),
        (lambda arrays, meta: meta.pop("commands"), "commands"),
        (put("meta", "commands", 7), "commands"),
        (put("meta", "systems", lambda names: ["dance", *names[1:]]), "systems"),
        (put("meta", "schedule", lambda names: names[:-1]), "schedule"),
        (put("arrays", "order", not_permuted), "order of frame 17 is no permutation of the 13 systems"),
        (put("arrays", "order", lambda order: order + np.uint8(1)), "order of frame 0 is no permutation"),
        (put("arrays", "dt_ns", lambda dt: -dt), "dt_ns is outside"),
        (put("arrays", "dt_ns", lambda dt: dt * 100), "dt_ns is outside"),
    ],
)
def test_a_damaged_recording(copy_of, change, reason):
    assert_refused(copy_of("level1_still", FRAMES, change), reason)


@pytest.mark.parametrize("command", COMMANDS, ids=json.dumps)
def test_a_command_that_is_none(copy_of, command):
    path = copy_of("level1_still", FRAMES, put("meta", "commands", lambda commands: [command, *commands[1:]]))
    assert_refused(path, "damaged: commands: ")


def test_commands_out_of_order(copy_of):
    path = copy_of("level1_still", FRAMES, put("meta", "commands", lambda commands: commands[::-1]))
    assert_refused(path, "damaged: commands: ")


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("image", lambda image: image.astype(np.int32), "image must be uint8[K, h, w, 1 or 3]"),
        ("image", lambda image: image[..., 0], "image must be uint8[K, h, w, 1 or 3]"),
        ("image", lambda image: image[1:], "image must be uint8[K, h, w, 1 or 3]"),
        ("image", lambda image: np.repeat(image, 3, axis=3), "is 32 x 32 x 3, configured is 32 x 32 x 1"),
        ("image", lambda image: np.repeat(image, 2, axis=1), "is 64 x 32 x 1, configured is 32 x 32 x 1"),
        ("image", lambda image: image[:, :16], "the game allows 32 to 512"),
        ("image_frame", lambda frame: frame + FRAMES, "image_frame names frames that are not there"),
        ("image_frame", lambda frame: frame - FRAMES, "image_frame names frames that are not there"),
        ("image_frame", lambda frame: frame.astype(np.int64), "an int32 image_frame[K]"),
        ("image_frame", lambda frame: frame[:, None], "an int32 image_frame[K]"),
    ],
)
def test_damaged_images(copy_of, name, change, reason):
    assert_refused(copy_of("image_32_gray", FRAMES, put("arrays", name, change)), reason)


def test_a_recording_without_frames(copy_of):
    assert_refused(copy_of("level1_still", 0), "no frames")


def test_files_that_are_no_archives(tmp_path, copy_of, parity):
    """Each is named in one line; the rest is checked all the same."""
    whole = copy_of("level1_still", FRAMES).read_bytes()
    contents = {
        "a_text.npz": b"not a recording\n",
        "b_empty.npz": b"",
        "c_half.npz": whole[: len(whole) // 2],
        "d_changed.npz": whole[:5000] + bytes(100) + whole[5100:],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "e_array.npy", np.zeros(3))
    (tmp_path / "e_array.npy").rename(tmp_path / "e_array.npz")
    np.savez(tmp_path / "f_other.npz", x=np.zeros(3))
    np.savez(tmp_path / "g_pickled.npz", meta=np.array({}, object))
    names = sorted(path.name for path in tmp_path.glob("[a-g]_*.npz"))
    status, out, err = parity("check", tmp_path)
    assert status == 2
    assert [line.split(":")[0] for line in err] == [str(tmp_path / name) for name in names]
    assert [line.split()[0] for line in out[:2]] == ["recording", "copy.npz"]
    assert out[1].endswith("  equal")


def test_paths_without_a_recording(tmp_path, parity):
    missing = tmp_path / "missing.npz"
    assert parity("check", missing) == (2, [], [f"{missing}: no such file"])
    assert parity("check", tmp_path) == (2, [], [f"{tmp_path}: no recordings (*.npz) in this folder"])


def test_a_report_that_cannot_be_written(tmp_path, parity, copy_of):
    report = tmp_path / "no" / "report.md"
    status, out, err = parity("check", copy_of("level1_still", FRAMES), "--report", report)
    assert (status, out, err) == (
        2,
        [],
        [f"report: invalid value {report}; expected a file that can be written"],
    )


def test_a_damaged_file_outweighs_a_difference(tmp_path, copy_of, parity):
    def change(arrays, meta):
        arrays["game_over"][3] ^= True

    path = copy_of("level1_still", FRAMES, change)
    assert parity("check", path)[0] == 1
    for paths in ((path, tmp_path / "missing.npz"), (tmp_path / "missing.npz", path)):
        assert parity("check", *paths)[0] == 2


def test_the_command_of_a_process_exits_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jaxdodge.parity", "check", str(tmp_path / "missing.npz")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{tmp_path / 'missing.npz'}: no such file\n"


@pytest.mark.parametrize("arguments", [("check", "--reprt", "x"), ("chek",), ()])
def test_bad_usage(parity, arguments):
    status, out, err = parity(*arguments)
    assert (status, out, len(err)) == (2, [], 1)


@pytest.mark.parametrize(("write", "reason"), MALICIOUS.values(), ids=MALICIOUS)
def test_a_malicious_file_is_one_line_and_takes_no_memory(tmp_path, write, reason):
    path = tmp_path / "recording.npz"
    write(path)
    tracemalloc.start()
    try:
        assert_refused(path, reason)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_a_good_report_stays_where_nothing_could_be_read(tmp_path, parity):
    report, path = tmp_path / "report.md", tmp_path / "recording.npz"
    report.write_text("good")
    encrypted(path)
    status, _, err = parity("check", path, path, "--report", report)
    assert (status, len(err), report.read_text()) == (2, 2, "good")
