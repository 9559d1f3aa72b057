"""The command `train` in the tests' own process."""

import signal
from pathlib import Path

import pytest
import yaml
from tiny_runs import TINY

from jaxdodge import train
from jaxdodge.agents import training
from jaxdodge.cli import guarded


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command with short epochs, in this process, in a folder with tiny.yaml."""
    handlers = {number: signal.getsignal(number) for number in train.Interrupt.SIGNALS}
    monkeypatch.setattr(training, "EPOCH_TIMESTEPS", 512)
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    yield lambda *arguments: guarded(train.train, ["--config", "tiny.yaml", *map(str, arguments)])
    for number, handler in handlers.items():
        signal.signal(number, handler)
