"""jaxdodge: a Bevy dodgeball game on JAX, bit for bit, in thousands of environments at once.

`make` builds the environment, and `load` a trained agent; JAX is imported then, not before.
Importing this package registers `jaxdodge/Dodge-v0` with Gymnasium and gymnax, as soon as they are
imported.
"""

import re
import signal
import sys

# Nothing is to be saved while a command is imported: Ctrl-C ends it, without traceback. While
# `python -m MODULE` imports the packages of the module, sys.argv does not name it yet.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler and re.search(
    r"(/|-\w*m ?)jaxdodge(\.\w+)?( |$)",
    " ".join(sys.orig_argv if sys.argv[:1] == ["-m"] else sys.argv[:1]),
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdodge.config import ENVIRONMENT_ID, GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.import_hook import call_when_imported

if TYPE_CHECKING:
    from jaxdodge.runs.policy import Agent
    from jaxdodge.sim.gymnax import GymnaxDodgeEnv
    from jaxdodge.sim.params import GameParams

__all__ = ["ConfigError", "GameConfig", "__version__", "load", "make"]

__version__ = "0.2.0"


def make(**fields: Any) -> "tuple[GymnaxDodgeEnv, GameParams]":
    """An environment and its default parameters.

    Args:
        **fields: any field of `GameConfig` by its server name, for example
            `level=2, spawn_angle_degrees=30.0, action_space_type="basic_3d", frames_per_step=7`.

    Raises:
        ConfigError: an unknown field or an invalid value, in one line.
    """
    config = GameConfig.from_mapping(fields)
    from jaxdodge.sim.gymnax import GymnaxDodgeEnv

    env = GymnaxDodgeEnv(config)
    return env, env.default_params


def _register_with_gymnasium(gymnasium: Any) -> None:
    # A reload of this package must not register again. Names instead of classes keep JAX out.
    if ENVIRONMENT_ID not in gymnasium.registry:
        gymnasium.register(
            ENVIRONMENT_ID,
            entry_point="jaxdodge.sim.gym:DodgeGymEnv",
            vector_entry_point="jaxdodge.sim.gym:DodgeVectorEnv",
        )


def _register_with_gymnax(registration: Any) -> None:
    if ENVIRONMENT_ID not in registration.registered_envs:
        registration.register(ENVIRONMENT_ID, lambda **fields: make(**fields)[0])


def load(run: str | Path, policy: str = "best", seed: int = 0) -> "Agent":
    """The agent of a run, ready to act.

    Args:
        run: folder of a run of one seed, `results/NAME/TIME`.
        policy: best or final.
        seed: of sampled actions.

    Raises:
        ConfigError: there is no such policy, it is damaged, or its weights are not finite.
    """
    from jaxdodge.runs.folder import Run
    from jaxdodge.runs.policy import Agent

    return Agent(Run.open_one(Path(run)), policy, seed)


call_when_imported("gymnasium", _register_with_gymnasium)
call_when_imported("gymnax.registration", _register_with_gymnax)
