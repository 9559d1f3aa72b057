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

    def add(self, response: Number, what: str, recorded: Any, simulated: Any, torn: Any = False) -> None:
        """Note what does not fit in a response, counted from 0.

        It is a difference, or no more than a torn response if two publications in a row explain it.
        """
        text = f"response {response}, {what}: recorded {recorded}, simulated {simulated}"
        if torn:
            self.torn.setdefault(int(response), text)
        else:
            self.differences.append((int(response), text))
