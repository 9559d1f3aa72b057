"""A policy plays on a server; the simulator predicts the result at the timing of that session."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from jaxdodge.bevy.play import Log, play, trained_pause
from jaxdodge.bevy.policies import Policy, ScriptedPolicy
from jaxdodge.bevy.session_recorder import PlayingProgress, check_writable, save, session_of
from jaxdodge.config import SERVER_EPISODE_STEPS, SERVER_FIELDS
from jaxdodge.evaluation.episodes import Episodes
from jaxdodge.evaluation.tables import FIGURES, figures, line
from jaxdodge.evaluation.verdict import verdicts
from jaxdodge.fields import ConfigError
from jaxdodge.parity.timing import measure
from jaxdodge.recordings.npz import RecordingError
from jaxdodge.runs.folder import SCRIPTED, Run, changed_game
from jaxdodge.runs.policy import Agent
from jaxdodge.runs.prediction import Player, predict, scripted_game, scripted_player, trained_player

SIMULATED_EPISODES = 512


def evaluate_on_server(
    run_folder: Path,
    url: str,
    given: dict[str, Any],
    policy_name: str,
    episodes: int,
    seed: int,
    timeout: float,
    think_seconds: float | None,
    record: Path | None,
) -> int:
    """Play, print the figures of server and simulator, and return the exit status.

    Args:
        run_folder: folder of a run of one seed, or the name of a scripted policy.
        url: URL of the server, see `jaxdodge.bevy.connect`.
        given: fields of the game that differ from the training; `fps` is
            what the server was started with.
        policy_name: best or final.
        episodes: episodes to play on the server.
        seed: seed of the simulator's episodes, and of a scripted policy.
        timeout: seconds to wait for a response.
        think_seconds: pause after each step; None for as many frames per step as in training.
        record: file for the API session.

    Returns:
        0, 1 if the server failed, 130 or 143 if a signal ended it.

    Raises:
        ConfigError: bad input.
    """
    for name in given:
        if name not in (*SERVER_FIELDS, "fps"):
            raise ConfigError(f"{name}: invalid together with --server, which has no such field")
    player = _player(run_folder, policy_name, given, seed)
    game = changed_game(player.game, given | {"max_episode_steps": SERVER_EPISODE_STEPS})
    if think_seconds is None:
        think_seconds = trained_pause(game, url)
    if record is not None:
        check_writable(record)
    if str(run_folder) in SCRIPTED:
        policy: Policy = ScriptedPolicy(str(run_folder), game, seed)
        title = "scripted policy"
    else:
        policy, title = Agent(Run.open_one(run_folder), policy_name), f"{policy_name} policy"
    print(f"{run_folder}: {title}, {episodes} episodes on {url}, deterministic", flush=True)
    with PlayingProgress() as progress:
        shown = 0

        def finished(log: Log) -> bool:
            nonlocal shown
            for number, episode in enumerate(log.episodes[shown:], shown + 1):
                end = "survived" if episode.survived else "hit"
                progress.say(
                    f"episode {number} of {episodes}: return {episode.total_reward:7.1f}, "
                    f"{episode.responses:4} responses, {end}"
                )
            shown = len(log.episodes)
            progress.show(shown / episodes, f"{shown} episodes  {log.steps} steps")
            return shown >= episodes

        played = play(url, timeout, game, policy, think_seconds, finished)
    session = session_of(played, record or Path("session.npz"), policy=str(run_folder))
    if record is not None:
        save(session, record)
    if session is None or not played.log.episodes:
        print("no episode was finished", file=sys.stderr)
        return played.status
    real = Episodes(
        returns=np.array([episode.total_reward for episode in played.log.episodes]),
        lengths=np.array([episode.responses for episode in played.log.episodes]),
        survived=np.array([episode.survived for episode in played.log.episodes]),
    )
    simulator = f"simulator, {SIMULATED_EPISODES} episodes"
    width = {"name": len(simulator)}
    print(line({"name": ""}, width, FIGURES))
    print(
        line({"name": f"server, {len(played.log.episodes)} episodes"}, width, figures(real.summary())),
        flush=True,
    )
    try:
        steps = measure(session).step_timings
    except RecordingError as error:
        print(error, file=sys.stderr)
        return played.status
    changed = {name: value for name, value in given.items() if name != "fps"}
    limit = {"max_episode_steps": SERVER_EPISODE_STEPS}
    predicted = predict(player, changed | limit, steps, SIMULATED_EPISODES, seed)
    print(line({"name": simulator}, width, figures(predicted.summary())))
    typical = steps.median()
    print(
        f"the simulator ran at the measured timing: frames_per_step {typical['frames_per_step']}, "
        f"response_frame {typical['response_frame']}, fps {typical['fps']:.1f}, each step as it was"
    )
    # The first episode begins as the server was configured, not where another one ended.
    later = Episodes(real.returns[1:], real.lengths[1:], real.survived[1:])
    if not len(later.returns):
        print("return and survival: not compared; expected 2 episodes or more, because the first is special")
        return played.status
    print(*verdicts(later, predicted, game.max_episode_steps * game.survival_reward), sep="\n")
    return played.status


def _player(folder: Path, policy_name: str, given: dict[str, Any], seed: int) -> Player:
    """A run of a single seed, or a scripted policy; raises ConfigError."""
    if str(folder) in SCRIPTED:
        return scripted_player(str(folder), scripted_game(given), seed)
    return trained_player(Run.open_one(folder), policy_name)
