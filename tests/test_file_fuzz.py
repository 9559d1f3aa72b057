"""Files of strangers: configurations, studies, recordings and run folders are read or refused.

JAXDODGE_FUZZ=10000 reads ten thousand of each kind.
"""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxdodge import yaml_text
from jaxdodge.ablation.study_file import read_study
from jaxdodge.config import GAME_FIELDS, GameConfig
from jaxdodge.fields import ConfigError, read_yaml
from jaxdodge.recordings.npz import RecordingError, load
from jaxdodge.runs.folder import Run, split

COUNT = int(os.environ.get("JAXDODGE_FUZZ", "100"))
CONFIG = "level: 2\nspawn_angle_degrees: 30.0\nnet_arch: [8, 8]\nent_coef: auto_0.1\ngamma: 9e-1\n"
STUDY = "question: Which?\nbase: &b {gamma: 0.9}\nfactors:\n  frame_stack: [1, 2]\nbudget: {updates: 10}\n"
SUMMARY = '{"stopped": null, "timesteps": 4096, "hardware": {"cores": 2}}'
SYNTAX = ["[", "]", "{", "}", ":", "-", "?", "!", "&", "*", "'", "|", ">", "%", "#", "\t", "\n", "\0"]
SYNTAX += ["&a", "*a", "<<:", "!!python/name:os.system", "!!binary", "%YAML"]
VALUES = ["010", "1e999", "100:00", ".nan", "~", "2024-13-45", "0x", "\ud7ff"]
KEYS = ["seeds", "level", "base", "factors", "cells", "evaluate", "full", "grid", *GAME_FIELDS]
PIECES = st.sampled_from([*SYNTAX, *VALUES, *KEYS, ": ", "- "])
COMMON = settings(
    max_examples=COUNT,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def mutated(text: str) -> st.SearchStrategy[bytes]:
    """The text with pieces in other places, and any bytes."""

    def build(changes: list[tuple[int, int, str]], raw: bytes) -> bytes:
        result = text
        for place, length, piece in changes:
            place %= len(result) + 1
            result = result[:place] + piece + result[place + length :]
        return result.encode(errors="surrogatepass") + raw

    changes = st.tuples(st.integers(0, 200), st.integers(0, 20), PIECES | st.text(max_size=8))
    return st.builds(build, st.lists(changes, max_size=6), st.binary(max_size=4) | st.just(b""))


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "file"


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
