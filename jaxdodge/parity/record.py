"""`python -m jaxdodge.parity record`: play on a server and keep what it answered, as an API session.

Exit status: 0 recorded, 1 the server failed, 2 bad input, 130 or 143 stopped by Ctrl-C or SIGTERM. What was
recorded until then is written in every case.
"""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdodge.bevy.answers import LONGEST_DEADLINE, SERVER_FIELDS
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, Number
from jaxdodge.runs.folder import Run, changed_game
from jaxdodge.runs.options import field_options, read_text

if TYPE_CHECKING:
    from jaxdodge.bevy.play import Log
    from jaxdodge.bevy.policies import Policy

SCRIPTED = ("random", "still", "strafe", "circle")
DEFAULT_STEPS = 1000


@dataclasses.dataclass(frozen=True)
class RecordOptions:
    """Play on a server and write what was sent and answered as an API session.

    The server is configured first: by the options of the game, of which those that are not given are the
    level's, or the run's. Ctrl-C, SIGTERM and a server that fails end the recording; what was recorded until
    then is a whole file.
    """

    server: str
    """http://HOST:PORT, grpc://HOST:PORT or unix:///PATH."""
    out: Path
    """File to write or replace."""
    policy: str = "random"
    """random, still, strafe, circle, or the folder of a run, whose best policy plays."""
    steps: int | None = None
    """Steps to play; resets are not counted. Default: 1000, or without an end if --seconds is given."""
    seconds: float | None = None
    """How long to play at most."""
    think_seconds: float = 0.0
    """Pause after each step."""
    fps: float = 60.0
    """Frames per second that the server was started with; it cannot be asked."""
    seed: int = 0
    """Of what the policy draws."""
    deadline: float = 30.0
    """Seconds to wait for an answer, and for the server to play what it was configured to play."""

    def __post_init__(self) -> None:
        if self.steps is not None:
            Number(int, 1, 10_000_000).check("steps", self.steps)
        if self.seconds is not None:
            Number(float, 0, LONGEST_DEADLINE, above_low=True).check("seconds", self.seconds)
        Number(float, 0, LONGEST_DEADLINE).check("think_seconds", self.think_seconds)
        Number(int, 0, 2**32 - 1).check("seed", self.seed)
        Number(float, 0, LONGEST_DEADLINE, above_low=True).check("deadline", self.deadline)


Record = dataclasses.make_dataclass(
    "Record",
    [option for option in field_options(GameConfig, {}) if option[0] in SERVER_FIELDS],
    bases=(RecordOptions,),
    frozen=True,
)
Record.__doc__ = RecordOptions.__doc__


def record_command(options: Any) -> int:
    """Play, write, print a line, and return the exit status."""
    texts = {name: getattr(options, name) for name in SERVER_FIELDS}
    given = {name: read_text(text) for name, text in texts.items() if text is not None} | {"fps": options.fps}
    run = None
    if options.policy in SCRIPTED:
        game = GameConfig.from_mapping(given)
    elif Path(options.policy).is_dir():
        run = Run.open(Path(options.policy))
        game = changed_game(run.config()[0], given)
    else:
        raise ConfigError(
            f"policy: invalid value {options.policy!r}; expected {', '.join(SCRIPTED)}, or a run's folder"
        )

    from jaxdodge.bevy.play import play
    from jaxdodge.bevy.policies import ScriptedPolicy
    from jaxdodge.bevy.session_recorder import PlayingProgress, check_writable, save, session_of
    from jaxdodge.runs.policy import TrainedPolicy

    check_writable(options.out)
    policy: Policy = (
        TrainedPolicy(run) if run else ScriptedPolicy(options.policy, game.action_space_type, options.seed)
    )
    steps = options.steps or (None if options.seconds else DEFAULT_STEPS)

    with PlayingProgress() as progress:

        def finished(log: "Log") -> bool:
            shares = [log.steps / steps if steps else 0, log.seconds / (options.seconds or math.inf)]
            progress.show(max(shares), f"{log.steps} steps  {len(log.episodes)} episodes")
            return max(shares) >= 1

        played = play(options.server, options.deadline, game, policy, options.think_seconds, finished)
    save(session_of(played, options.out, policy=options.policy, seed=options.seed), options.out)
    return played.status
