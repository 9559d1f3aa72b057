"""What the checks of a session find: differences and torn responses."""

import dataclasses
from typing import Any

import numpy as np

Number = int | np.integer


@dataclasses.dataclass
class Findings:
    """Collected by the checks of one session."""

    differences: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """Response and text."""
    torn: dict[int, str] = dataclasses.field(default_factory=dict)
    """Responses whose parts come from two publications in a row: what does not fit, as text."""
    values: int = 0
    """Values that were compared."""

    def difference(self, response: Number, what: str, recorded: Any, simulated: Any) -> None:
        """Note a difference; `response` counts requests from 0, `what` names the field."""
        self.differences.append((int(response), _text(response, what, recorded, simulated)))

    def torn_response(self, response: Number, what: str, recorded: Any, simulated: Any) -> None:
        """Note a response that would be a difference if it were one publication."""
        self.torn.setdefault(int(response), _text(response, what, recorded, simulated))


def _text(response: Number, what: str, recorded: Any, simulated: Any) -> str:
    return f"response {response}, {what}: recorded {recorded}, simulated {simulated}"
