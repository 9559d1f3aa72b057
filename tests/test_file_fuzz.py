"""Files of strangers: configurations, studies, recordings and run folders are read or refused.

JAXDODGE_FUZZ=10000 reads ten thousand of each kind.
"""

import io
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import COMMON, mutated

from jaxdodge import yaml_text
from jaxdodge.ablation.study_file import read_study
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, read_yaml
from jaxdodge.recordings.npz import RecordingError, load
from jaxdodge.runs.checkpoints import Checkpoints, _checksums
from jaxdodge.runs.folder import Run, split

CONFIG = "level: 2\nspawn_angle_degrees: 30.0\nnet_arch: [8, 8]\nent_coef: auto_0.1\ngamma: 9e-1\n"
STUDY = "question: Which?\nbase: &b {gamma: 0.9}\nfactors:\n  frame_stack: [1, 2]\nbudget: {updates: 10}\n"
SUMMARY = '{"stopped": null, "timesteps": 4096, "hardware": {"cores": 2}}'
LARGEST_GROWTH = 300_000  # kB


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "file"


@pytest.fixture(autouse=True)
def memory():
    """No file takes much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth < LARGEST_GROWTH, f"{growth} kB"


def one_line_or_read(read, error: type[Exception]) -> None:
    message = ""
    try:
        read()
    except error as invalid:
        message = str(invalid)
    assert "\n" not in message
    assert len(message) < 5000


@COMMON
@given(mutated(CONFIG))
def test_configurations(path, content):
    path.write_bytes(content)
    one_line_or_read(lambda: split(read_yaml(path)), ConfigError)


@COMMON
@given(mutated(STUDY))
def test_studies(path, content):
    path.write_bytes(content)
    one_line_or_read(lambda: read_study(path), ConfigError)


@COMMON
@given(st.text(max_size=40) | mutated(CONFIG).map(lambda content: content.decode(errors="replace")))
def test_texts_of_the_command_line(path, text):
    value = yaml_text.read_text(text)
    one_line_or_read(lambda: GameConfig(spawn_angle_degrees=value), ConfigError)


@COMMON
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=8)), max_size=8),
    st.integers(0, 400),
    mutated('{"kind": "frames", "format": 1}'),
)
def test_recordings(path, changes, cut, meta):
    file = io.BytesIO()
    text = meta.decode(errors="replace").replace("\0", "")
    np.savez_compressed(file, meta=np.array(text), dt_ns=np.arange(9), order=np.zeros((2, 13), np.uint8))
    content = bytearray(file.getvalue())
    for place, piece in changes:
        place %= len(content)
        content[place : place + len(piece)] = piece
    path.write_bytes(content[: len(content) - cut])
    one_line_or_read(lambda: load(path), RecordingError)


@COMMON
@given(mutated(CONFIG), mutated(SUMMARY))
def test_run_folders(path, config, summary):
    folder = path.parent / "results" / "run" / "20260101_000000"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_bytes(config)
    (folder / "summary.json").write_bytes(summary)
    game, train = split({})
    Run.newest(path.parent / "results", "run", game, train)
    assert isinstance(Run(folder).finished(), bool)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, dict]:
    """A checkpoint, and the state in it."""
    folder, state = tmp_path_factory.mktemp("checkpoints"), {"a": np.arange(9.0), "b": np.int32(3)}
    Checkpoints(folder).save(1024, state, {"best": [], "seconds": 1.0}, 0.5)
    return folder / "000000001024", state


def test_the_checkpoint_can_be_restored(saved):
    folder, state = saved
    assert Checkpoints(folder.parent).restore(state)[0] == 1024


@COMMON
@given(st.data(), st.booleans())
def test_checkpoints(path, saved, data, signed):
    """Damaged anywhere; also with checksums of the damaged files."""
    whole, state = saved
    folder = path.parent / "checkpoints" / whole.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    file = data.draw(st.sampled_from([folder / "record.json", *files]))
    if file.name in ("record.json", "checksums"):
        file.write_bytes(data.draw(mutated(file.read_text())))
    else:
        content = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, max(0, len(content) - 1)))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        file.write_bytes(content)
    if signed:
        (folder / "checksums").write_text(_checksums(folder))
    warnings: list[str] = []
    one_line_or_read(lambda: Checkpoints(folder.parent).restore(state, warn=warnings.append), ConfigError)
    assert all("\n" not in line and len(line) < 5000 for line in warnings)
