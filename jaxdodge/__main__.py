"""`python -m jaxdodge`, or `jaxdodge`: the commands of this package."""

import runpy
import signal
import sys

import jaxdodge

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


def usage() -> str:
    """The list of commands."""
    rows = "\n".join(f"  {name:10}{purpose}" for name, purpose in COMMANDS.items())
    return (
        "usage: jaxdodge COMMAND [options]\n\n"
        f"{rows}\n\n"
        "jaxdodge COMMAND --help shows a command's options; python -m jaxdodge.COMMAND is the same command."
    )


def main() -> int:
    """Run the command that the command line names; returns the exit status."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in COMMANDS:
        sys.argv[:2] = [f"{sys.argv[0]} {command}"]
        # Nothing is to be saved while the command is imported: Ctrl-C ends it, without traceback.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        # As `python -m` does: the command ends the process with its own status.
        runpy.run_module(f"jaxdodge.{command}", run_name="__main__", alter_sys=True)
        return 0
    if command in ("-h", "--help"):
        print(usage())
        return 0
    if command == "--version":
        print(jaxdodge.__version__)
        return 0
    print(f"{command}: invalid command; expected {', '.join(COMMANDS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
