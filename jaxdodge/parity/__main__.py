"""`jaxdodge parity COMMAND`: the simulator against recordings of the original game."""

import sys
from collections.abc import Callable
from typing import Any

from jaxdodge.cli import run_command
from jaxdodge.hardware import keep_compiled
from jaxdodge.parity.check import Check, check_command
from jaxdodge.parity.record import Record, record_command
from jaxdodge.parity.timing_command import Timing, timing_command

# By name: the dataclass of options, and the function that takes one and returns the exit status.
COMMANDS: dict[str, tuple[Callable[..., Any], Callable[[Any], int]]] = {
    "check": (Check, check_command),
    "record": (Record, record_command),
    "timing": (Timing, timing_command),
}


def main() -> int:
    """Parse the command line and run; returns the exit status."""
    return run_command(COMMANDS, "jaxdodge parity")


if __name__ == "__main__":
    keep_compiled()
    sys.exit(main())
