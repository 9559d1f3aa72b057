"""Checkpoints stay usable when a process is killed while saving, or the disk is full."""

import itertools
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from small_states import assert_same, files, small_state

from jaxdodge.runs import checkpoints
from jaxdodge.runs.checkpoints import Checkpoints

SAVE_UNTIL_KILLED = """
    import sys
    from pathlib import Path
    import jax.numpy as jnp, numpy as np
    from jaxdodge.runs.checkpoints import Checkpoints
    saved = Checkpoints(Path(sys.argv[1]))
    for step in [0, 1, 2, 3, 3] * 1000:
        state = {"large": jnp.full(2_000_000, step), "step": jnp.int32(step)}
        saved.save(step, state, {"step": step}, float(step % 3))
        print(step, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_save_leaves_whole_checkpoints(tmp_path, kills):
    template = {"large": jnp.zeros(2_000_000, jnp.int32), "step": jnp.int32(0)}
    saved, random = Checkpoints(tmp_path / "killed"), np.random.default_rng(kills)
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SAVE_UNTIL_KILLED), str(saved.folder)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        for _ in range(int(random.integers(1, 6))):
            process.stdout.readline()
        time.sleep(random.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert saved.steps()
        for step in saved.steps():
            restored, record = saved.restore(template, step, warn=pytest.fail)[1:]
            assert record == {"step": step}
            assert int(restored["step"]) == step
            assert (restored["large"] == step).all()
    saved.save(7, template, {}, 0.0)
    assert {path.name for path in saved.folder.iterdir()} == {f"{step:012d}" for step in saved.steps()}


def test_whatever_lies_there_before_a_change_of_the_disk_is_usable(pair, tmp_path, monkeypatch):
    saved = Checkpoints(shutil.copytree(pair.folder, tmp_path / "copy"))
    counter = itertools.count()

    def observed(change):
        def observe_and_change(path, *args, **kwargs):
            shutil.copytree(saved.folder, tmp_path / "seen" / str(next(counter)))
            return change(path, *args, **kwargs)

        return observe_and_change

    def remove_half(folder, **_):
        for path in files(Path(folder))[::2]:
            path.unlink()

    monkeypatch.setattr(checkpoints, "_sync", observed(checkpoints._sync))
    monkeypatch.setattr(Path, "rename", observed(Path.rename))
    half_removed, rmtree = observed(remove_half), observed(shutil.rmtree)
    monkeypatch.setattr(
        checkpoints.shutil,
        "rmtree",
        lambda *args, **kwargs: (half_removed(*args, **kwargs), rmtree(*args, **kwargs)),
    )
    saved.save(2, small_state(3), {"number": 3}, 3.0)
    saved.save(4, small_state(4), {"number": 4}, 4.0)
    monkeypatch.undo()
    seen = [Checkpoints(tmp_path / "seen" / str(number)) for number in range(next(counter))]
    template, found = small_state(0), []
    for checkpoint in seen:
        for step in checkpoint.steps():
            record = checkpoint.restore(template, step)[2]
        step, restored, newest = checkpoint.restore(template, warn=pytest.fail)
        assert_same(restored, small_state(newest["number"]))
        assert record == newest
        if found[-1:] != [record["number"]]:
            found.append(record["number"])
    assert found == [2, 1, 3, 4]


def large_state(value: float) -> dict:
    random = np.random.default_rng(0)
    return {f"{number}": jnp.array(random.normal(value, size=250_000), jnp.float32) for number in range(8)}


def assert_refused_and_the_older_stay(saved: Checkpoints, message: str) -> None:
    before = {path: path.read_bytes() for path in files(saved.folder)}
    for step in (1, 2):
        with pytest.raises(OSError, match=message) as refused:
            saved.save(step, large_state(1.0), {}, 9.0)
        assert len(str(refused.value).splitlines()) == 1
        assert {path: path.read_bytes() for path in files(saved.folder)} == before
    assert_same(saved.restore(large_state(1.0), warn=pytest.fail)[1], large_state(0.0))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 14 MB: room for one large state of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=14m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_refused_beforehand(small_disk, capfd):
    saved = Checkpoints(small_disk / "checkpoints")
    saved.save(1, large_state(0.0), {}, 0.0)
    assert_refused_and_the_older_stay(saved, r"not saved \(\d MB free, 9 MB needed\)")
    assert capfd.readouterr().err == ""


# Orbax leaves its threads behind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_fills_up_meanwhile_is_reported(small_disk, monkeypatch):
    saved = Checkpoints(small_disk / "checkpoints")
    saved.save(1, large_state(0.0), {}, 0.0)
    monkeypatch.setattr(saved, "_check_free_space", lambda needed: None)
    assert_refused_and_the_older_stay(saved, "No space left on device")


FILE_SIZE_LIMIT = """
    import resource, sys
    from pathlib import Path
    import jax.numpy as jnp, numpy as np
    from jaxdodge.runs.checkpoints import Checkpoints
    saved = Checkpoints(Path(sys.argv[1]))
    state = {"large": jnp.array(np.random.default_rng(0).normal(size=500_000))}
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        saved.save(2, state, {}, 9.0)
    except OSError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_refused_write_is_reported(pair, tmp_path):
    folder = shutil.copytree(pair.folder, tmp_path / "copy")
    before = {path: path.read_bytes() for path in files(folder)}
    command = [sys.executable, "-c", textwrap.dedent(FILE_SIZE_LIMIT), str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert len(output.splitlines()) == 1
    assert "files are limited to 100000 bytes" in output
    assert {path: path.read_bytes() for path in files(folder)} == before


def test_a_failure_after_the_arrays_leaves_the_older(saved, monkeypatch):
    saved.save(1, small_state(0), {}, 0.0)
    monkeypatch.setattr(checkpoints, "_checksums", lambda folder: 1 / 0)
    with pytest.raises(OSError, match=r"000000000001: not saved \(division by zero\)"):
        saved.save(1, small_state(1), {}, 1.0)
    monkeypatch.undo()
    assert [path.name for path in saved.folder.iterdir()] == ["000000000001"]
    assert_same(saved.restore(small_state(1))[1], small_state(0))


def test_a_record_that_json_cannot_hold_is_refused_first(saved):
    with pytest.raises(TypeError):
        saved.save(1, small_state(0), {"array": np.zeros(2)}, 0.0)
    assert not saved.folder.exists()
