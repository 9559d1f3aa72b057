"""`python -m jaxdodge`, or `jaxdodge`: the commands of this package."""

import runpy
import sys

import jaxdodge
from jaxdodge.subcommands import chosen

# Each is a module of this package; they are listed here so that listing them imports none.
COMMANDS = {
    "train": "train a SAC agent",
    "sb3": "train PPO, DQN or SAC of Stable-Baselines3, as a file of the original project says",
    "evaluate": "play a trained policy, in the simulator or on real servers",
    "export": "write a policy as ONNX, StableHLO or npz",
    "watch": "write a replay to watch: of a run, a recording or a server",
    "ablate": "run a study of many trainings and report what it shows",
    "serve": "serve the game over HTTP and gRPC, as the original server does",
    "parity": "record real servers, and check the simulator against recordings",
}


def main() -> int:
    """Run the command that the command line names; returns the exit status."""
    if sys.argv[1:2] == ["--version"]:
        print(jaxdodge.__version__)
        return 0
    arguments = sys.argv[1:] or ["--help"]
    command = chosen("jaxdodge", COMMANDS, arguments, "; python -m jaxdodge.COMMAND is the same command")
    if isinstance(command, int):
        return command
    sys.argv[:2] = [f"{sys.argv[0]} {command}"]
    # As `python -m` does: the command ends the process with its own status.
    runpy.run_module(f"jaxdodge.{command}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
