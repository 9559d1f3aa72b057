"""Checkpoints: the bits come back, a damage is noticed, and the best and the newest stay."""

import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdodge.agents import checkpoints
from jaxdodge.agents.checkpoints import Checkpoints
from jaxdodge.fields import ConfigError


@pytest.fixture
def saved(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "models" / "checkpoints")


def small_state(seed: int) -> dict:
    """Of every dtype, with the bit patterns that arithmetic would change."""
    random = np.random.default_rng(seed)

    def bits(size: int, dtype: type) -> jax.Array:
        return jnp.array(np.frombuffer(random.bytes(size), dtype))

    key = jax.random.key(seed)
    params = {"kernel": bits(4 * 60, np.float32).reshape(5, 12), "bias": jnp.array([-0.0, jnp.nan, jnp.inf])}
    return {
        "params": params,
        "optimizer": optax.adam(optax.linear_schedule(1.0, 0, 9)).init(params),
        "replay": [bits(300, np.uint8), bits(80, np.int16), bits(64, jnp.bfloat16), bits(64, jnp.float16)],
        "flags": (bits(64, np.uint8) > 127, bits(40, np.int32), bits(40, np.uint32), bits(40, np.int8)),
        "scalar": jnp.int32(seed),
        "nothing": (None, jnp.zeros((0, 3), jnp.int16), ()),
        "keys": (key, jax.random.split(key, 3), jax.random.key(seed, impl="rbg"), jax.random.PRNGKey(seed)),
        "a/b": {"c.d": jnp.ones(2), "['e']": jnp.zeros(2)},
    }


def raw(leaf: jax.Array) -> tuple:
    """All there is to know about a leaf, as something that compares by bits."""
    data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return str(leaf.dtype), leaf.shape, np.asarray(data).tobytes()


def assert_same(state, expected) -> None:
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert [raw(leaf) for leaf in jax.tree.leaves(state)] == [raw(leaf) for leaf in jax.tree.leaves(expected)]


def shapes(state):
    return jax.eval_shape(lambda: state)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_all_bits_come_back(saved):
    state, record = small_state(0), {"best": None, "wall_seconds": 1.5, "history": [1, "two"]}
    saved.save(12, state, record, score=1.0)
    for template in (shapes(state), small_state(1)):
        step, restored, read = saved.restore(template)
        assert (step, read) == (12, record)
        assert_same(restored, state)
    assert [path.name for path in saved.folder.iterdir()] == ["000000000012"]


def test_checksums_are_those_of_sha256sum(saved):
    saved.save(1, small_state(0), {}, math.nan)
    command = ["sha256sum", "--check", "--strict", "checksums"]
    if shutil.which(command[0]) is None:
        pytest.skip("no sha256sum")
    subprocess.run(command, cwd=saved.folder / "000000000001", check=True, stdout=subprocess.DEVNULL)


def test_the_state_can_be_donated_before_and_after(saved, monkeypatch):
    written, write = {}, checkpoints._write
    monkeypatch.setattr(
        checkpoints,
        "_write",
        lambda folder, arrays, text: (written.update(arrays), write(folder, arrays, text)),
    )
    advance = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    state = advance({"large": jnp.arange(300_000.0), "small": jnp.arange(7)})
    address = state["large"].unsafe_buffer_pointer()
    saved.save(1, state, {}, 0.0)
    expected = jax.tree.map(np.array, state)
    after = advance(state)
    assert state["large"].is_deleted()
    assert after["large"].unsafe_buffer_pointer() == address
    assert [array.tobytes() for array in written.values()] == [
        array.tobytes() for array in jax.tree.leaves(expected)
    ]
    restored = saved.restore(shapes(after))[1]
    assert_same(restored, jax.tree.map(jnp.array, expected))
    assert_same(advance(restored), after)
    assert_same(saved.restore(after)[1], jax.tree.map(jnp.array, expected))


NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([1], [0]),
        ([1, 2], [0, 1]),
        ([1, 2, 3, 4], [2, 3]),
        ([5, 4, 3, 2, 1], [0, 3, 4]),
        ([5, 4, NAN, NAN, NAN], [0, 3, 4]),
        ([NAN, NAN, NAN], [1, 2]),
        ([NAN, 1, NAN, NAN], [1, 2, 3]),
        ([1, 7, NAN, 7, 2, 3, NAN], [3, 5, 6]),
        ([3, 3, 3, 3], [2, 3]),
        ([-math.inf, NAN, NAN, NAN], [0, 2, 3]),
        ([1, math.inf, 2, 3, 4], [1, 3, 4]),
    ],
)
def test_the_newest_two_and_the_best_stay(saved, monkeypatch, scores, kept):
    monkeypatch.setattr(checkpoints, "_write", write_without_arrays)
    for step, score in enumerate(scores):
        saved.save(step, {}, {}, score)
    assert saved.steps() == kept
    assert len(list(saved.folder.iterdir())) == len(kept)


def write_without_arrays(folder: Path, arrays: dict, text: str) -> None:
    folder.mkdir()
    (folder / "record.json").write_text(text)


def test_a_step_is_replaced_and_later_ones_go(saved):
    states = [small_state(seed) for seed in range(4)]
    for seed in range(3):
        saved.save(100 * seed, states[seed], {}, -seed)
    saved.save(100, states[3], {"again": True}, 0.5)
    assert saved.steps() == [0, 100]
    step, restored, record = saved.restore(states[0])
    assert (step, record) == (100, {"again": True})
    assert_same(restored, states[3])


def test_leftovers_count_for_nothing_and_only_ours_are_deleted(saved):
    state = small_state(0)
    saved.save(1, state, {}, 0.0)
    for name in ("000000000001.removed", "000000000002.partial", "mine.partial", "000000000003.mine"):
        shutil.copytree(saved.folder / "000000000001", saved.folder / name)
    assert saved.steps() == [1]
    assert saved.restore(state)[0] == 1
    saved.save(2, state, {}, 0.0)
    assert sorted(path.name for path in saved.folder.iterdir()) == [
        "000000000001",
        "000000000002",
        "000000000003.mine",
        "mine.partial",
    ]


def flip(path: Path, random: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[random.integers(len(content))] ^= 1 << random.integers(8)
    path.write_bytes(content)


def truncate(path: Path, random: np.random.Generator) -> None:
    os.truncate(path, random.integers(path.stat().st_size))


def remove(path: Path, random: np.random.Generator) -> None:
    path.unlink()


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Checkpoints:
    """Two checkpoints, to be copied."""
    saved = Checkpoints(tmp_path_factory.mktemp("pair"))
    saved.save(1, small_state(1), {"number": 1}, 1.0)
    saved.save(2, small_state(2), {"number": 2}, 2.0)
    return saved


@pytest.mark.parametrize("damage", [flip, truncate, remove])
def test_a_damage_of_any_file_is_noticed(pair, tmp_path, damage):
    random, template = np.random.default_rng(0), shapes(small_state(0))
    newest = files(pair.folder / "000000000002")
    assert {path.name for path in newest} >= {"record.json", "checksums", "manifest.ocdbt", "_METADATA"}
    for number, original in enumerate(newest * 2):
        folder = shutil.copytree(pair.folder, tmp_path / str(number))
        path = folder / original.relative_to(pair.folder)
        damage(path, random)
        before = {path: path.read_bytes() for path in files(folder)}
        lines: list[str] = []
        step, restored, record = Checkpoints(folder).restore(template, warn=lines.append)
        assert (step, record) == (1, {"number": 1})
        assert_same(restored, small_state(1))
        assert len(lines) == 1
        assert lines[0].startswith(f"{folder}/000000000002: damaged (")
        assert "\n" not in lines[0]
        assert {path: path.read_bytes() for path in files(folder)} == before


def test_nothing_usable_is_refused_in_one_line(pair, tmp_path, capsys):
    template = small_state(0)
    with pytest.raises(ConfigError, match="no usable checkpoint"):
        Checkpoints(tmp_path / "absent").restore(template)
    folder = shutil.copytree(pair.folder, tmp_path / "copy")
    saved = Checkpoints(folder)
    with pytest.raises(ConfigError, match=r"000000000003: no such checkpoint; accepted steps: \[1, 2\]"):
        saved.restore(template, step=3)
    (folder / "000000000002" / "record.json").unlink()
    with pytest.raises(ConfigError, match=r"000000000002: damaged \(.*record.json\)$"):
        saved.restore(template, step=2)
    assert saved.restore(template, step=1)[0] == 1
    shutil.rmtree(folder / "000000000001" / "arrays")
    with pytest.raises(ConfigError, match="no usable checkpoint"):
        saved.restore(template)
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert saved.steps() == [1, 2]


@pytest.mark.parametrize(
    ("path", "leaf", "message"),
    [
        ("scalar", jnp.zeros(3, jnp.int32), r"\['scalar'\] is int32\[\], not int32\[3\]"),
        ("scalar", jnp.float32(0), r"\['scalar'\] is int32\[\], not float32\[\]"),
        ("scalar", (), r"\['scalar'\] is int32\[\], not absent"),
        ("more", jnp.zeros(2), r"\['more'\] is absent, not float32\[2\]"),
        ("keys", (jax.random.key(0, impl="rbg"),), r"\['keys'\]\[0\] is key<fry>\[\], not key<rbg>\[\]"),
    ],
)
def test_another_configuration_is_refused_and_is_no_damage(pair, path, leaf, message):
    with pytest.raises(ConfigError, match=message) as refused:
        pair.restore(small_state(0) | {path: leaf}, warn=pytest.fail)
    assert "\n" not in str(refused.value)


SAVE_UNTIL_KILLED = """
    import sys
    from pathlib import Path
    import jax.numpy as jnp, numpy as np
    from jaxdodge.agents.checkpoints import Checkpoints
    saved = Checkpoints(Path(sys.argv[1]))
    for step in [0, 1, 2, 3, 3] * 1000:
        state = {"large": jnp.full(2_000_000, step), "step": jnp.int32(step)}
        saved.save(step, state, {"step": step}, float(step % 3))
        print(step, flush=True)
"""


def test_a_killed_save_leaves_whole_checkpoints(tmp_path):
    template = {"large": jnp.zeros(2_000_000, jnp.int32), "step": jnp.int32(0)}
    saved, random = Checkpoints(tmp_path / "killed"), np.random.default_rng(0)
    for _ in range(4):
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
    monkeypatch.setattr(saved, "_refuse_full_disk", lambda needed: None)
    assert_refused_and_the_older_stay(saved, "No space left on device")


FILE_SIZE_LIMIT = """
    import resource, sys
    from pathlib import Path
    import jax.numpy as jnp, numpy as np
    from jaxdodge.agents.checkpoints import Checkpoints
    saved = Checkpoints(Path(sys.argv[1]))
    state = {"large": jnp.array(np.random.default_rng(0).normal(size=500_000))}
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        saved.save(2, state, {}, 9.0)
    except OSError as error:
        print(error)
"""


def test_a_refused_write_is_reported(pair, tmp_path):
    folder = shutil.copytree(pair.folder, tmp_path / "copy")
    before = {path: path.read_bytes() for path in files(folder)}
    command = [sys.executable, "-c", textwrap.dedent(FILE_SIZE_LIMIT), str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert len(output.splitlines()) == 1
    assert "File too large" in output
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
