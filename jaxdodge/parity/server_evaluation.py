"""A run plays on a server; the simulator predicts the result at the timing of that session."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdodge.agents.program import make_trainer
from jaxdodge.bevy.play import Log, play, trained_pause
from jaxdodge.bevy.session_recorder import PlayingProgress, check_writable, save, session_of
from jaxdodge.config import SERVER_EPISODE_STEPS, SERVER_FIELDS, GameConfig
from jaxdodge.evaluation.episodes import Episodes
from jaxdodge.evaluation.episodes import evaluate as simulate
from jaxdodge.evaluation.tables import FIGURES, figures, line
from jaxdodge.evaluation.verdict import verdicts
from jaxdodge.fields import ConfigError
from jaxdodge.recordings.session import STEP, Session
from jaxdodge.runs.folder import Run, changed_game
from jaxdodge.runs.policy import Agent
from jaxdodge.sim.env import DodgeEnv

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
        run_folder: folder of a run of one seed.
        url: URL of the server, see `jaxdodge.bevy.connect`.
        given: fields of the game that differ from the training; `fps` is
            what the server was started with.
        policy_name: best or final.
        episodes: episodes to play on the server.
        seed: seed of the simulator's episodes.
        timeout: seconds to wait for a response.
        think_seconds: pause after each step; None for as many frames per step as in training.
        record: file for the API session.

    Returns:
        0, 1 if the server failed, 130 or 143 if a signal ended it.

    Raises:
        ConfigError: bad input.
    """
    run = _run(run_folder, policy_name, given)
    game = changed_game(run.config()[0], given | {"max_episode_steps": SERVER_EPISODE_STEPS})
    if think_seconds is None:
        think_seconds = trained_pause(game, url)
    if record is not None:
        check_writable(record)
    policy = Agent(run, policy_name)
    print(f"{run_folder}: {policy_name} policy, {episodes} episodes on {url}, deterministic", flush=True)
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
    measured = at_measured_timing(game, session)
    simulated = _simulated(run, policy_name, measured, seed)
    print(line({"name": simulator}, width, figures(simulated.summary())))
    print(
        f"the simulator ran at the measured timing: frames_per_step {measured.frames_per_step}, "
        f"response_frame {measured.response_frame}, fps {measured.fps:.1f}"
    )
    print(*verdicts(real, simulated, game.max_episode_steps * game.survival_reward), sep="\n")
    return played.status


def at_measured_timing(game: GameConfig, session: Session) -> GameConfig:
    """The game at the timing of a session, measured by the client's clock.

    A step lasts a whole number of frames; fps is adjusted so that it takes the measured median
    time. An action is handled in the first frame after it was sent, and every further frame before
    the response shows its effect.

    Args:
        game: game that was played, at the fps that the server was started with.
        session: session with at least two steps in a row.
    """
    sent, received = session.arrays["sent_s"], session.arrays["received_s"]
    is_step = session.arrays["kind"] == STEP
    period = float(np.median((sent[1:] - sent[:-1])[is_step[1:] & is_step[:-1]]))
    waited = float(np.median((received - sent)[is_step]))
    frames = max(1, round(period * game.fps))
    response_frame = min(max(round(waited * game.fps) - 1, 0), frames)
    fps = min(max(frames / period, 4.0), 1000.0)
    return changed_game(game, {"frames_per_step": frames, "response_frame": response_frame, "fps": fps})


def _run(folder: Path, policy_name: str, given: dict[str, Any]) -> Run:
    """The run to play, of a single seed; raises ConfigError, also for fields that no server has."""
    for name in given:
        if name not in (*SERVER_FIELDS, "fps"):
            raise ConfigError(f"{name}: invalid together with --server, which has no such field")
    run = Run.open_one(folder)
    run.policy_path(policy_name)
    return run


def _simulated(run: Run, policy: str, game: GameConfig, seed: int) -> Episodes:
    """Episodes of a run's policy in the simulator."""
    trainer = make_trainer(*run.config())
    weights = run.load_policy(policy, trainer.policy_shapes())
    env = DodgeEnv(game)
    key = jax.random.key(seed)
    episodes: Episodes = simulate(env, trainer.policy, weights, env.default_params, key, SIMULATED_EPISODES)
    return episodes
