"""Short copies of recordings, changed at will."""

import json
from pathlib import Path

import numpy as np
import pytest

RECORDINGS = Path(__file__).parents[2] / "parity" / "recordings"


@pytest.fixture
def copy_of(tmp_path):
    """Write the first frames of a recording to a new file and return its path.

    `change(arrays, meta)` may change both; the first frames of a recording are a valid recording.
    """

    def make(name: str, frames: int = 256, change=lambda arrays, meta: None, file: str = "copy.npz") -> Path:
        with np.load(RECORDINGS / f"{name}.npz") as recording:
            arrays = dict(recording)
        meta = json.loads(str(arrays.pop("meta")))
        total = len(arrays["dt_ns"])
        images = {key: arrays.pop(key) for key in ("image", "image_frame") if key in arrays}
        arrays = {key: array[:frames].copy() for key, array in arrays.items() if len(array) == total}
        if images:
            kept = images["image_frame"] < frames
            arrays |= {key: array[kept] for key, array in images.items()}
        meta["commands"] = [command for command in meta["commands"] if command[0] < frames]
        change(arrays, meta)
        path = tmp_path / file
        np.savez(path, meta=np.array(json.dumps(meta)), **arrays)
        return path

    return make


@pytest.fixture
def parity(monkeypatch, capsys):
    """Run the command in this process: exit status, lines of standard
    output, lines of standard error.
    """
    from jaxdodge.parity.__main__ import main

    def run(*arguments) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr("sys.argv", ["jaxdodge.parity", *map(str, arguments)])
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return run
