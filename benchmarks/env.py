"""Environment steps per second: vector observations, random actions, auto-reset, beside gymnax.

The observations are part of the scan's carry, so every step writes them to memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.measure import Case, Prepared, Rows, Settings, compiled, measure, ratio

# Steps of a scan: about STEPS_OF_ALL over all environments, which take slow peers a second.
LEAST_STEPS, MOST_STEPS, STEPS_OF_ALL = 10, 200, 1 << 18
LEVEL_2: dict[str, Any] = {"level": 2, "action_space_type": "basic_3d"}
# The default game of `jaxdodge train`.
GAME = LEVEL_2 | {"spawn_angle_degrees": 30.0, "frames_per_step": 7, "response_frame": 0}
OURS, OURS_7 = "jaxdodge level 2", "jaxdodge level 2, frames_per_step 7"
PEERS = ("CartPole-v1", "Breakout-MinAtar", "Asterix-MinAtar")


def bench_env(settings: Settings) -> tuple[Rows, dict[str, Any]]:
    """Rows, and ratios to the peers."""
    rows: Rows = []
    for size in settings.num_envs:
        cases = [
            Case(OURS, size, "steps", partial(rollout, ours(), size, settings), {"frames_per_step": 1}),
            Case(
                OURS_7,
                size,
                "steps",
                partial(rollout, ours(frames_per_step=7), size, settings),
                {"frames_per_step": 7},
            ),
        ]
        if "gymnax" in settings.peers:
            cases += [
                Case(
                    f"gymnax {name}", size, "steps", partial(rollout, partial(_gymnax, name), size, settings)
                )
                # The others take longer to compile than everything else combined.
                for name in (PEERS[:1] if settings.tiny else PEERS)
            ]
        rows += measure("env", cases, settings)
    cartpole, breakout, asterix = (f"gymnax {name}" for name in PEERS)
    return rows, {
        "env: steps over CartPole-v1": ratio(rows, OURS, cartpole),
        "env: frames at frames_per_step 7 over CartPole-v1": ratio(rows, OURS_7, cartpole, 7),
        "env: steps over Breakout-MinAtar": ratio(rows, OURS, breakout),
        "env: steps over Asterix-MinAtar": ratio(rows, OURS, asterix),
    }


def ours(**fields: Any) -> Callable[[], tuple[Any, Any]]:
    """A function that makes our environment at level 2."""

    def make() -> tuple[Any, Any]:
        import jaxdodge

        return jaxdodge.make(**LEVEL_2, **fields)

    return make


def _gymnax(name: str) -> tuple[Any, Any]:
    import gymnax

    return gymnax.make(name)


def rollout(make: Callable[[], tuple[Any, Any]], size: int, settings: Settings) -> Prepared:
    """Steps of `size` environments; `make` returns an environment and its parameters."""
    import jax

    env, params = make()
    carry = begin(env, params, jax.random.key(0), size)
    return compiled(lambda carry: play(env, params, carry), carry, steps_at_once(size, settings), size)


def steps_at_once(size: int, settings: Settings) -> int:
    """Steps of a scan."""
    return 2 if settings.tiny else min(MOST_STEPS, max(LEAST_STEPS, STEPS_OF_ALL // size))


def begin(env: Any, params: Any, key: Any, size: int) -> Any:
    """The initial carry of `play`: a key, observations and states of `size` environments."""
    import jax

    return key, *jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key, size), params)


def play(env: Any, params: Any, carry: Any) -> Any:
    """A random step of all environments."""
    import jax

    key, _, state = carry
    key, key_action, key_step = jax.random.split(key, 3)
    size = len(jax.tree.leaves(state)[0])
    action = jax.vmap(env.action_space(params).sample)(jax.random.split(key_action, size))
    observation, state, *_ = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
        jax.random.split(key_step, size), state, action, params
    )
    return key, observation, state
