"""`python -m jaxdodge.evaluate RUN --server URL`: a run plays on a server, beside what the simulator says.

The prediction is for the timing at which was really played, as measured in the very session.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxdodge.agents.setup import make_sac
from jaxdodge.bevy.answers import SERVER_FIELDS
from jaxdodge.bevy.play import Log, play
from jaxdodge.bevy.session_recorder import PlayingProgress, check_writable, save, session_of
from jaxdodge.config import GameConfig
from jaxdodge.evaluation.episodes import Episodes
from jaxdodge.evaluation.episodes import evaluate as simulate
from jaxdodge.evaluation.tables import FIGURES, figures, line
from jaxdodge.fields import ConfigError
from jaxdodge.recordings.session import STEP
from jaxdodge.runs.folder import Run, changed_game
from jaxdodge.runs.policy import TrainedPolicy
from jaxdodge.sim.env import DodgeEnv

if TYPE_CHECKING:
    from jaxdodge.evaluate import Evaluate
    from jaxdodge.recordings.session import Session

DEFAULT_EPISODES = 10
SIMULATED_EPISODES = 512
# A server's own, it cannot be configured.
SERVER_EPISODE_STEPS = 1000


def evaluate_on_server(options: "Evaluate", url: str, given: dict[str, Any]) -> int:
    """Play, print, and return the exit status: 0, 1 the server failed, 130 or 143 stopped by a signal.

    Args:
        options: of the command.
        url: of the server.
        given: fields of the game other than those of the training; `fps` is what the server was started with.

    Raises:
        ConfigError: bad input.
    """
    run = _run(options, given)
    trained, _ = run.config()
    game = changed_game(trained, given | {"max_episode_steps": SERVER_EPISODE_STEPS})
    think_seconds = options.think_seconds
    if think_seconds is None:
        think_seconds = trained_pause(game, url)
    if options.record is not None:
        check_writable(options.record)
    policy = TrainedPolicy(run, options.policy)
    wanted = options.episodes or DEFAULT_EPISODES
    print(f"{options.run}: {options.policy} policy, {wanted} episodes on {url}, deterministic", flush=True)
    with PlayingProgress() as progress:

        def finished(log: Log) -> bool:
            progress.show(len(log.episodes) / wanted, f"{len(log.episodes)} episodes  {log.steps} steps")
            return len(log.episodes) >= wanted

        played = play(url, options.deadline, game, policy, think_seconds, finished)
    session = session_of(played, options.record or Path("session.npz"), policy=str(options.run))
    if options.record is not None:
        save(session, options.record)
    if session is None or not played.log.episodes:
        print("no episode came to its end", file=sys.stderr)
        return played.status
    real = Episodes(
        returns=np.array([episode.total_reward for episode in played.log.episodes]),
        lengths=np.array([episode.responses for episode in played.log.episodes]),
        survived=np.array([episode.survived for episode in played.log.episodes]),
    ).summary()
    name = {"name": f"server, {len(played.log.episodes)} episodes"}
    width = {"name": len(f"simulator, {SIMULATED_EPISODES} episodes")}
    print(line({"name": ""}, width, FIGURES))
    print(line(name, width, figures(real)), flush=True)
    measured = at_measured_timing(game, session)
    simulated = _simulated(run, options.policy, measured, options.seed)
    name = {"name": f"simulator, {SIMULATED_EPISODES} episodes"}
    print(line(name, width, figures(simulated)))
    print(
        f"the simulator's at the measured timing: frames_per_step {measured.frames_per_step}, "
        f"response_frame {measured.response_frame}, fps {measured.fps:.1f}"
    )
    print(*mismatches(real, simulated), sep="\n")
    return played.status


def trained_pause(game: GameConfig, url: str) -> float:
    """The pause after a step at which a server's steps take as many frames as those of the training, seconds.

    Over gRPC an answer comes with a frame, and the pause ends midway between two frames. Over HTTP it comes
    after the server's 16 ms, whatever frame it is then.
    """
    waiting = 0.016 * game.fps if url.startswith("http:") else 0.5
    return max(0.0, (game.frames_per_step - waiting) / game.fps)


def at_measured_timing(game: GameConfig, session: "Session") -> GameConfig:
    """The game at the timing at which a session was played, by the client's clock.

    Steps last as long as they did in the median, in whole frames, which for that are made a little longer or
    shorter. A command is handled in the first frame after it was sent; each further one that passed before
    the answer shows the player moved by it.

    Args:
        game: that was played, at the fps that the server was started with.
        session: with two steps in a row.
    """
    sent, received = session.arrays["sent_s"], session.arrays["received_s"]
    is_step = session.arrays["kind"] == STEP
    period = float(np.median((sent[1:] - sent[:-1])[is_step[1:] & is_step[:-1]]))
    waited = float(np.median((received - sent)[is_step]))
    frames = max(1, round(period * game.fps))
    response_frame = min(max(round(waited * game.fps) - 1, 0), frames)
    fps = min(max(frames / period, 4.0), 1000.0)
    return changed_game(game, {"frames_per_step": frames, "response_frame": response_frame, "fps": fps})


def mismatches(real: dict[str, float], simulated: dict[str, float]) -> list[str]:
    """A line for each figure whose intervals do not overlap, or the line that all do."""
    apart = [
        title
        for name, title in (("iqm", "IQM"), ("survival", "survival"))
        if max(real[f"{name}_low"], simulated[f"{name}_low"])
        > min(real[f"{name}_high"], simulated[f"{name}_high"])
    ]
    lines = [f"MISMATCH: the intervals of the {title} do not overlap" for title in apart]
    return lines or ["server and simulator agree: their intervals overlap"]


def _run(options: "Evaluate", given: dict[str, Any]) -> Run:
    """The run to play, of a single seed; refuses what no server does. Raises ConfigError."""
    for name in ("grid", "robustness", "sampled", "csv"):
        if getattr(options, name):
            raise ConfigError(
                f"{name}: refused together with --server, where the best action is played as it is"
            )
    for name in given:
        if name not in (*SERVER_FIELDS, "fps"):
            raise ConfigError(f"{name}: refused together with --server, which has no such field")
    run = Run.open(options.run)
    if run.config()[1].seeds > 1:
        raise ConfigError(f"{options.run}: several seeds; expected one of them, such as {options.run}/seed_0")
    run.policy_path(options.policy)
    return run


def _simulated(run: Run, policy: str, game: GameConfig, seed: int) -> dict[str, float]:
    """The figures of a run's policy in the simulator."""
    sac = make_sac(*run.config())
    weights = run.load_policy(policy, sac.policy_shapes())
    env = DodgeEnv(game)
    episodes = simulate(
        env, sac.policy, weights, env.default_params, jax.random.key(seed), SIMULATED_EPISODES
    )
    return episodes.summary()
