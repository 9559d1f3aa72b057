"""A live server: it is played for some steps, recorded, and then shown as a session."""

from pathlib import Path
from typing import Any

from jaxdodge.bevy.play import Log, play, trained_pause
from jaxdodge.bevy.policies import Policy, ScriptedPolicy
from jaxdodge.bevy.session_recorder import PlayingProgress, session_of
from jaxdodge.config import SERVER_FIELDS, GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.recordings.session import Session
from jaxdodge.runs.folder import Run, changed_game
from jaxdodge.runs.policy import Agent

TIMEOUT_SECONDS = 30.0


def session_of_server(
    url: str, run: Path | None, policy_name: str, given: dict[str, Any], steps: int, seed: int
) -> Session | None:
    """Play on a server; None if it gave no response.

    Args:
        url: of the server, see `jaxdodge.bevy.connect`.
        run: whose policy plays; None for random actions on level 2.
        policy_name: best or final.
        given: fields of the game; `fps` is what the server was started with.
        steps: to play.
        seed: of the random actions.

    Raises:
        ConfigError: bad input.
    """
    for name in given:
        if name not in (*SERVER_FIELDS, "fps"):
            raise ConfigError(f"{name}: invalid together with --server, which has no such field")
    policy: Policy
    if run is None:
        game = GameConfig.from_mapping({"level": 2} | given)
        policy, pause = ScriptedPolicy("random", game, seed), 0.0
    else:
        opened = Run.open_one(run)
        game = changed_game(opened.config()[0], given)
        policy, pause = Agent(opened, policy_name), trained_pause(game, url)
    with PlayingProgress() as progress:

        def finished(log: Log) -> bool:
            progress.show(log.steps / steps, f"{log.steps} steps  {len(log.episodes)} episodes")
            return log.steps >= steps

        played = play(url, TIMEOUT_SECONDS, game, policy, pause, finished)
    return session_of(played, Path("session.npz"), policy=f"{run or 'random'}")
