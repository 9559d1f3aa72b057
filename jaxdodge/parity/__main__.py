"""`jaxdodge parity COMMAND`: the simulator against recordings of the original game."""

import sys
from collections.abc import Callable

from jaxdodge.cli import guarded
from jaxdodge.config import SERVER_FIELDS, GameConfig
from jaxdodge.hardware import keep_compiled
from jaxdodge.parity.check import Check, check_command
from jaxdodge.parity.record import Record, record_command
from jaxdodge.parity.timing_command import Timing, timing_command
from jaxdodge.runs.options import parse_options
from jaxdodge.subcommands import chosen

PURPOSES = {
    "check": "compare recordings of the real game with the simulator",
    "record": "play on a server and write all requests and responses",
    "timing": "measure the timing of a server",
}
# By name: the dataclass of options, the configurations whose fields are options too, and the
# function that takes the options and the fields given, and returns the exit status.
COMMANDS: dict[str, tuple[type, tuple[type, ...], Callable[..., int]]] = {
    "check": (Check, (), check_command),
    "record": (Record, (GameConfig,), record_command),
    "timing": (Timing, (), timing_command),
}


def parity(name: str, arguments: list[str]) -> int:
    """Parse, run the command, and return the exit status."""
    options, configs, command = COMMANDS[name]
    return command(
        *parse_options(options, configs, f"jaxdodge parity {name}", arguments, {}, only=SERVER_FIELDS)
    )


def main() -> int:
    """Run the command that the command line names; returns the exit status."""
    name = chosen("jaxdodge parity", PURPOSES, sys.argv[1:])
    return name if isinstance(name, int) else guarded(parity, name, sys.argv[2:])


if __name__ == "__main__":
    keep_compiled()
    sys.exit(main())
