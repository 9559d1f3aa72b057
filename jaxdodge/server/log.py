"""The log of answers: one JSON line for every answered reset and step, the ground truth of what was sent."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from jaxdodge.server.arena import Publication


class AnswerLog:
    """Appends to a file; every line is one write, so several processes may share it. Raises OSError."""

    def __init__(self, path: Path):
        self._file = path.open("ab", buffering=0)

    def write(
        self, arena: int, request: int, kind: str, action: np.ndarray | None, publication: Publication
    ) -> None:
        """Log an answer.

        Args:
            arena: its number in this process.
            request: number of the request in this arena since the start; configures and levels have one too.
            kind: reset or step.
            action: as checked; None for a reset.
            publication: what is answered. Of an image its SHA-256 is logged, as `observation`.
        """
        observation: Any = publication.observation
        if publication.image is not None:
            observation = hashlib.sha256(publication.image).hexdigest()
        row = {
            "arena": arena,
            "request": request,
            "kind": kind,
            "action": None if action is None else action.tolist(),
            "observation": observation,
            "reward": publication.reward,
            "done": publication.done,
            "truncated": publication.truncated,
            **publication.info,
            "frame": publication.frame,
            "process": os.getpid(),
        }
        self._file.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
