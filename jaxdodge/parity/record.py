"""`jaxdodge parity record`: play on a server and record an API session.

Exit status: 0 recorded, 1 the server failed, 2 bad input, 130 or 143 stopped by Ctrl-C or SIGTERM.
In every case the file holds what was recorded until then.
"""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdodge.bevy.client import LONGEST_TIMEOUT
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, Number
from jaxdodge.runs.folder import SCRIPTED, Run, changed_game

if TYPE_CHECKING:
    from jaxdodge.bevy.play import Log
    from jaxdodge.bevy.policies import Policy

DEFAULT_STEPS = 1000


@dataclasses.dataclass(frozen=True)
class Record:
    """Play on a server and write all requests and responses as an API session.

    The server is configured first. Game options that are not given come from the level,
    or from the run. Ctrl-C, SIGTERM and a failure of the server end the recording; the
    file then holds all until then.
    """

    server: str
    """http://HOST:PORT, grpc://HOST:PORT or unix:///PATH."""
    out: Path
    """File to write or replace."""
    policy: str = "random"
    """random, still, strafe (needs vectors), circle, or the folder of a run, to play its best
    policy."""
    steps: int | None = None
    """Steps to play, not counting resets. Default: 1000, or unlimited if --seconds is given."""
    seconds: float | None = None
    """Longest time to play."""
    think_seconds: float = 0.0
    """Pause after each step."""
    fps: float = 60.0
    """Frames per second that the server was started with, which it does not report."""
    seed: int = 0
    """Seed of a scripted policy: the actions of random, where circle begins, and strafe's first
    side."""
    timeout: float = 30.0
    """Seconds to wait for a response, and for the configuration to take effect."""

    def __post_init__(self) -> None:
        if self.steps is not None:
            Number(int, 1, 10_000_000).check("steps", self.steps)
        if self.seconds is not None:
            Number(float, 0, LONGEST_TIMEOUT, above_low=True).check("seconds", self.seconds)
        Number(float, 0, LONGEST_TIMEOUT).check("think_seconds", self.think_seconds)
        Number(int, 0, 2**32 - 1).check("seed", self.seed)
        Number(float, 0, LONGEST_TIMEOUT, above_low=True).check("timeout", self.timeout)


def record_command(options: Record, given: dict[str, Any]) -> int:
    """Play, write, print a line, and return the exit status; `given` are fields of the game."""
    given = given | {"fps": options.fps}
    run = None
    if options.policy in SCRIPTED:
        game = GameConfig.from_mapping(given)
    elif Path(options.policy).is_dir():
        run = Run.open_one(Path(options.policy))
        game = changed_game(run.config()[0], given)
    else:
        raise ConfigError(
            f"policy: invalid value {options.policy!r}; expected {', '.join(SCRIPTED)}, or a run's folder"
        )

    from jaxdodge.bevy.play import play
    from jaxdodge.bevy.policies import ScriptedPolicy
    from jaxdodge.bevy.session_recorder import PlayingProgress, check_writable, save, session_of
    from jaxdodge.runs.policy import Agent

    check_writable(options.out)
    policy: Policy = Agent(run) if run else ScriptedPolicy(options.policy, game, options.seed)
    steps = options.steps or (None if options.seconds else DEFAULT_STEPS)

    with PlayingProgress() as progress:

        def finished(log: "Log") -> bool:
            shares = [log.steps / steps if steps else 0, log.seconds / (options.seconds or math.inf)]
            progress.show(max(shares), f"{log.steps} steps  {len(log.episodes)} episodes")
            return max(shares) >= 1

        played = play(options.server, options.timeout, game, policy, options.think_seconds, finished)
    save(session_of(played, options.out, policy=options.policy, seed=options.seed), options.out)
    return played.status
