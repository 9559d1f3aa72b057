"""The command `train` in this process, and folders of checkpoints."""

import signal
from pathlib import Path

import pytest
import yaml
from small_states import small_state
from tiny_runs import TINY

from jaxdodge import train
from jaxdodge.cli import guarded
from jaxdodge.runs import epochs
from jaxdodge.runs.checkpoints import Checkpoints


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command with short epochs, in this process, in a folder with tiny.yaml."""
    handlers = {number: signal.getsignal(number) for number in train.Interrupt.SIGNALS}
    monkeypatch.setattr(epochs, "EPOCH_TIMESTEPS", 512)
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    yield lambda *arguments: guarded(train.train, ["--config", "tiny.yaml", *map(str, arguments)])
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def saved(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "models" / "checkpoints")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Checkpoints:
    """Two checkpoints, to be copied."""
    saved = Checkpoints(tmp_path_factory.mktemp("pair"))
    saved.save(1, small_state(1), {"number": 1}, 1.0)
    saved.save(2, small_state(2), {"number": 2}, 2.0)
    return saved
