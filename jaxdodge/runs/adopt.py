"""What a run takes over from another run: its networks, and perhaps its transitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.agents.program import Program, make_trainer
from jaxdodge.agents.replay import Row
from jaxdodge.agents.sac_agent import LearnerState
from jaxdodge.agents.server_trainer import ServerTrainer, ServerTrainingState
from jaxdodge.fields import ConfigError
from jaxdodge.runs.checkpoints import Checkpoints
from jaxdodge.runs.folder import Run
from jaxdodge.runs.servers import Servers

# The optimizers, and with them the learning rate, begin anew.
NETWORKS = ("policy", "ema_policy", "critic_params", "target_critic_params", "log_alpha", "updates")


def adopted(state: ServerTrainingState, source: Run, keep_replay: bool) -> ServerTrainingState:
    """A first state with the networks of another run, from its newest checkpoint.

    Args:
        state: before the first transition.
        source: a run of one seed, in the simulator or on servers.
        keep_replay: also with as many of its transitions as fit.

    Raises:
        ConfigError: it has no usable checkpoint, or its networks are of other sizes.
    """
    simulated, timesteps, saved = saved_state(source)
    learner = with_networks(state.learner, saved.learner, source)
    state = state.replace(learner=learner, updates_before=jnp.copy(learner.updates))
    if not keep_replay:
        return state
    envs = saved.replay.reward.shape[1]
    rows = np.full(envs, timesteps // envs) if simulated else np.asarray(saved.rows)
    return _with_rows(state, jax.tree.map(np.array, saved.replay), rows)


def saved_state(source: Run, timesteps: int | None = None) -> tuple[bool, int, Any]:
    """Whether a run is one of the simulator, the steps of a checkpoint, and the state in it.

    Args:
        source: a run in the simulator or on servers.
        timesteps: environment steps of the checkpoint; None for the newest usable one.

    Raises:
        ConfigError: there is no usable checkpoint.
    """
    game, config = source.config()
    simulated = Servers.load(source.folder) is None
    shapes = Program(game, config, 1).shapes if simulated else ServerTrainer(game, config).shapes
    policies = [make_trainer(game, config).policy_shapes()] * config.seeds
    found, (saved, _), _ = Checkpoints(source.checkpoints).restore((shapes, policies), timesteps)
    return simulated, found, saved


def with_networks(learner: LearnerState, saved: LearnerState, source: Run) -> LearnerState:
    """A learner with the networks of another; raises ConfigError if their shapes differ.

    Networks that see the previous action may come from ones that do not: they do not use it at
    first.
    """
    own = {name: getattr(learner, name) for name in NETWORKS}
    networks = {name: _with_inputs(getattr(saved, name), like, name) for name, like in own.items()}
    if jax.tree.map(np.shape, networks) != jax.tree.map(np.shape, own):
        raise ConfigError(
            f"from: invalid value {source.folder}; expected a run with networks of the same sizes"
        )
    return learner.replace(**networks)


def _with_inputs(saved: Any, like: Any, name: str) -> Any:
    """Parameters with weights of 0 for the inputs that `like` has and they lack.

    Those are the previous action: the last inputs of an actor, before the action in a critic.
    """

    def widened(kernel: jax.Array, wider: jax.Array) -> jax.Array:
        missing = np.shape(wider)[-2] - np.shape(kernel)[-2] if np.ndim(kernel) > 1 else 0
        if missing <= 0:
            return kernel
        at = kernel.shape[-2] - (missing if "critic" in name else 0)
        return jnp.insert(kernel, np.full(missing, at), 0, axis=-2)

    same = jax.tree.map(np.ndim, saved) == jax.tree.map(np.ndim, like)
    return jax.tree.map(widened, saved, like) if same else saved


def _with_rows(state: ServerTrainingState, replay: Row, rows: np.ndarray) -> ServerTrainingState:
    """Append the columns of another replay to those of the servers in turn; each ends its episode.

    Args:
        state: without transitions.
        replay: leading axes (rows, envs).
        rows: of each env so far.
    """
    (length, servers), counts = state.replay.reward.shape, np.zeros(len(state.rows), np.int32)
    sources, targets = [], []
    for env, count in enumerate(rows):
        order = np.arange(max(0, count - len(replay.reward)), count) % len(replay.reward)
        server = env % servers
        if len(order) and counts[server] + len(order) <= length:
            places = counts[server] + np.arange(len(order))
            sources.append((order, np.full_like(order, env)))
            targets.append((places, np.full_like(places, server)))
            counts[server] += len(order)
    if not sources:
        return state
    replay.ended[tuple(np.array([[each[-1] for each in source] for source in sources]).T)] = True
    source, target = np.concatenate(sources, axis=1), np.concatenate(targets, axis=1)
    kept = jax.tree.map(
        lambda ring, old: ring.at[tuple(target)].set(old[tuple(source)]), state.replay, replay
    )
    return state.replace(replay=kept, rows=jnp.asarray(counts))
