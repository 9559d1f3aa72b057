"""`python -m benchmarks`: the benchmark suite, and further benchmarks by name.

Exit status: 0 measured or passed; 1 a ratio fell or a check failed; 2 invalid input; 130
interrupted.
"""

import importlib
import sys

import tyro

from benchmarks import suite
from jaxdodge.cli import guarded, parse

# Each module has a dataclass `Options` and a function `run` that takes one and returns an exit
# status.
COMMANDS = {
    "check": "benchmarks.guard",
    "gpu": "benchmarks.gpu",
    "ablation": "benchmarks.ablation",
    "serve_throughput": "benchmarks.serve_throughput",
    "soak": "benchmarks.soak",
    "fleet_faults": "benchmarks.fleet_faults",
    "server_training": "benchmarks.server_training",
    "attacks": "benchmarks.attacks",
}


def main(arguments: list[str]) -> int:
    """Parse the command line and run a benchmark; returns the exit status."""
    module, program = suite, "python -m benchmarks"
    if arguments and arguments[0] in COMMANDS:
        module, program = importlib.import_module(COMMANDS[arguments[0]]), f"{program} {arguments[0]}"
        arguments = arguments[1:]
    options = parse(lambda: tyro.cli(module.Options, prog=program, args=arguments))
    return guarded(module.run, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
