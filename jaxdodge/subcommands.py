"""Commands that only choose another one. Nothing slow is imported."""

import sys
from collections.abc import Mapping


def chosen(program: str, purposes: Mapping[str, str], arguments: list[str], notes: str = "") -> str | int:
    """The command that the arguments begin with; else an exit status, after help or a refusal.

    Args:
        program: for the usage line.
        purposes: of each command, by its name.
        arguments: the command line after the program.
        notes: a paragraph below the list.
    """
    name = arguments[0] if arguments else ""
    if name in purposes:
        return name
    if name in ("-h", "--help"):
        rows = "\n".join(f"  {each:10}{purpose}" for each, purpose in purposes.items())
        after = f"{program} COMMAND --help shows a command's options{notes}."
        print(f"usage: {program} COMMAND [options]\n\n{rows}\n\n{after}")
        return 0
    what = f"{name}: invalid command" if arguments else "command: missing"
    print(f"{what}; expected {', '.join(purposes)}", file=sys.stderr)
    return 2
