"""Checkpoints: the bits come back, a damage is noticed, and the best and the newest stay."""

import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_states import assert_same, files, small_state

from jaxdodge.fields import ConfigError
from jaxdodge.runs import checkpoints
from jaxdodge.runs.checkpoints import Checkpoints


def shapes(state):
    return jax.eval_shape(lambda: state)


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


def test_an_array_of_another_shape_than_its_record_says_is_damaged(saved):
    saved.save(1, {"a": jnp.arange(4.0)}, {}, 0.0)
    folder = saved.folder / "000000000001"
    record = (folder / "record.json").read_text()
    forged = re.sub(r"\[\s*4\s*\]", "[3]", record)
    assert forged != record
    (folder / "record.json").write_text(forged)
    (folder / "checksums").write_text(checkpoints._checksums(folder))
    with pytest.raises(ConfigError, match=r"damaged \(\['a'\] is float32\[4\]\)"):
        saved.restore({"a": jnp.arange(3.0)}, 1)


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
    with pytest.raises(ConfigError, match=r"000000000003: no such checkpoint; expected one of \[1, 2\]"):
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


@pytest.mark.parametrize("name", ["angle30[v2]", "*", "a?b{c,d}", "100%", "~", "s3:", "\n", "\u00e4"])
def test_every_character_of_a_path_is_one(tmp_path, name):
    saved = Checkpoints(tmp_path / name / "checkpoints")
    saved.save(1, {"a": jnp.arange(3)}, {}, 0.0)
    step, state, _ = saved.restore({"a": jnp.zeros(3, jnp.int32)})
    assert (step, state["a"].tolist()) == (1, [0, 1, 2])


def test_a_checkpoint_under_another_number_is_damaged(pair, tmp_path):
    shutil.copytree(pair.folder, tmp_path / "copy")
    saved = Checkpoints(tmp_path / "copy")
    (saved.folder / "000000000002").rename(saved.folder / "999999999999")
    warnings = []
    assert saved.restore(shapes(small_state(0)), warn=warnings.append)[0] == 1
    assert "renamed: it was saved at 2 environment steps" in warnings[0]
    (saved.folder / "000000000001").rename(saved.folder / "000000000003")
    with pytest.raises(checkpoints.UnusableError, match="no usable checkpoint"):
        saved.restore(shapes(small_state(0)), warn=warnings.append)


def test_a_limit_on_files_is_one_line(saved, monkeypatch):
    monkeypatch.setattr(checkpoints.resource, "getrlimit", lambda _: (1000, 1000))
    with pytest.raises(OSError, match=r"not saved .files are limited to 1000 bytes, 1000012 needed"):
        saved.save(1, {"a": jnp.arange(3)}, {}, 0.0)
