"""What tests of fleets that start their servers must not leave behind."""

import gc
import tempfile
from pathlib import Path

import psutil
import pytest
from small_fleets import descendants, own_threads


@pytest.fixture
def nothing_is_left(monkeypatch, tmp_path):
    """No process, no thread and no folder, whatever a test does."""
    before = descendants()
    # Of its own, because other tests run fleets at the same time; short,
    # because sockets' paths must be.
    folder = Path(tempfile.mkdtemp())
    monkeypatch.setattr(tempfile, "tempdir", f"{folder}")
    yield
    gc.collect()
    _, alive = psutil.wait_procs(descendants() - before, timeout=10)
    for process in alive:
        process.kill()
    assert not alive
    assert not own_threads()
    folder.rmdir()
