"""The response log: one JSON line per reset and step response, the ground truth of what was sent."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from jaxdodge.server.served_env import Publication


class ResponseLog:
    """Appends to a file, one write per line, so that processes can share it. Raises OSError."""

    def __init__(self, path: Path):
        self._file = path.open("ab", buffering=0)

    def write(
        self, env: int, request: int, kind: str, action: np.ndarray | None, publication: Publication
    ) -> None:
        """Log a response.

        Args:
            env: number of the environment in this process.
            request: number of the request to this environment; configure and set_level count too.
            kind: reset or step.
            action: checked action; None for a reset.
            publication: what was sent. For an image, `observation` is its SHA-256.
        """
        observation: Any = publication.observation
        if publication.image is not None:
            observation = hashlib.sha256(publication.image).hexdigest()
        row = {
            "arena": env,
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
