"""What servers really answered, from their own logs, and whether an
agent's transitions are that.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdodge.bevy.transitions import Transition


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines; one that was cut by a kill is nobody's answer."""
    lines = []
    for text in path.read_text().split("\n"):
        if text.endswith("}"):
            line = json.loads(text)
            if isinstance(line["observation"], list):  # of an image there is a digest
                line["observation"] = np.array(line["observation"], np.float32).tobytes()
            lines.append(line)
    return lines


class Answered:
    """The steps of all servers, found by their action and observation."""

    def __init__(self, lines: Iterable[dict[str, Any]]):
        self._steps: dict[tuple[bytes, bytes], tuple[dict[str, Any], dict[str, Any]]] = {}
        self._stored: dict[tuple[int, int, int], Transition] = {}
        self._newest: dict[int, tuple[int, int, int]] = {}
        last: dict[tuple[int, int], dict[str, Any]] = {}
        for line in lines:
            game = line["process"], line["arena"]
            if line["kind"] == "step":
                action = np.array(line["action"], np.float32).tobytes()
                assert (action, line["observation"]) not in self._steps, "two steps that cannot be told apart"
                self._steps[action, line["observation"]] = last[game], line
            last[game] = line

    @property
    def steps(self) -> int:
        """How many were answered."""
        return len(self._steps)

    def check(self, transition: Transition) -> None:
        """The transition is one step of one server, was not stored before,
        and continues the one before.
        """
        before, line = self._steps[transition.action.tobytes(), transition.next_observation.tobytes()]
        assert before["observation"] == transition.observation.tobytes()
        assert before["request"] == line["request"] - 1
        assert before["kind"] == "reset" or not (before["done"] or before["truncated"])
        assert np.float32(line["reward"]) == transition.reward
        assert line["done"] == transition.terminated
        assert transition.truncated or not line["truncated"]
        here = line["process"], line["arena"], line["request"]
        assert here not in self._stored
        newest = self._newest.get(transition.server)
        if newest is not None:
            before_it = self._stored[newest]
            continues = newest == (*here[:2], here[2] - 1) and before["kind"] == "step"
            assert continues == (not (before_it.terminated or before_it.truncated))
        self._stored[here], self._newest[transition.server] = transition, here
