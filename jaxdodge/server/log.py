"""The response log: one JSON line per reset and step response, as a record of what was sent."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from jaxdodge.files import error_line
from jaxdodge.server.served_env import Publication


class ResponseLog:
    """Appends to a file, one write per line, so that processes can share it.

    Raises:
        OSError: the file cannot be opened. If writing fails later, one line on standard error says
            so: a request that has been applied must still get its response.
    """

    def __init__(self, path: Path):
        self._file = path.open("ab", buffering=0)
        self._path = path
        self._cut = False
        """Whether the last line was not written completely."""
        self._failed = False

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
        line = orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
        if self._cut:
            line = b"\n" + line
        written = 0
        try:
            written = self._file.write(line)
        except OSError as error:
            if not self._failed:
                print(
                    f"{self._path}: responses are not logged ({error_line(error)})",
                    file=sys.stderr,
                    flush=True,
                )
            self._failed = True
        # A full disk can take a part of a line.
        self._cut = written < len(line) if written else self._cut

    def close(self) -> None:
        """Close the file."""
        self._file.close()
