"""Environment steps per second: vector observations, random actions, auto-reset, beside gymnax's own.

Every observation is part of what the scan carries on, so it is really written to memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.measure import Case, Options, Prepared, Rows, compiled, measure, ratio

# Steps of a scan, as many as make about so many of all environments; slow peers take a second for them.
LEAST_STEPS, MOST_STEPS, STEPS_OF_ALL = 10, 200, 1 << 18
LEVEL_2: dict[str, Any] = {"level": 2, "action_space_type": "basic_3d"}
# What the trainer learns to play without arguments.
GAME = LEVEL_2 | {"spawn_angle_degrees": 30.0, "frames_per_step": 7, "response_frame": 0}
OURS, OURS_7 = "jaxdodge level 2", "jaxdodge level 2, frames_per_step 7"
PEERS = ("CartPole-v1", "Breakout-MinAtar", "Asterix-MinAtar")


def bench_env(options: Options) -> tuple[Rows, dict[str, Any]]:
    """Rows, and ratios to the peers."""
    rows: Rows = []
    for size in options.num_envs:
        cases = [
            Case(OURS, size, "steps", partial(rollout, ours(), size, options), {"frames_per_step": 1}),
            Case(
                OURS_7,
                size,
                "steps",
                partial(rollout, ours(frames_per_step=7), size, options),
                {"frames_per_step": 7},
            ),
        ]
        if "gymnax" in options.peers:
            cases += [
                Case(f"gymnax {name}", size, "steps", partial(rollout, partial(_gymnax, name), size, options))
                # The others take longer to compile than everything else together.
                for name in (PEERS[:1] if options.tiny else PEERS)
            ]
        rows += measure("env", cases, options)
    cartpole, breakout, asterix = (f"gymnax {name}" for name in PEERS)
    return rows, {
        "env: steps over CartPole-v1": ratio(rows, OURS, cartpole),
        "env: frames at frames_per_step 7 over CartPole-v1": ratio(rows, OURS_7, cartpole, 7),
        "env: steps over Breakout-MinAtar": ratio(rows, OURS, breakout),
        "env: steps over Asterix-MinAtar": ratio(rows, OURS, asterix),
    }


def ours(**fields: Any) -> Callable[[], tuple[Any, Any]]:
    """What makes our environment at level 2."""

    def make() -> tuple[Any, Any]:
        import jaxdodge

        return jaxdodge.make(**LEVEL_2, **fields)

    return make


def _gymnax(name: str) -> tuple[Any, Any]:
    import gymnax

    return gymnax.make(name)


def rollout(make: Callable[[], tuple[Any, Any]], size: int, options: Options) -> Prepared:
    """Steps of `size` environments of what `make` gives, an environment and its parameters."""
    import jax

    env, params = make()
    carry = begin(env, params, jax.random.key(0), size)
    return compiled(lambda carry: play(env, params, carry), carry, steps_at_once(size, options), size)


def steps_at_once(size: int, options: Options) -> int:
    """Of a scan."""
    return 2 if options.tiny else min(MOST_STEPS, max(LEAST_STEPS, STEPS_OF_ALL // size))


def begin(env: Any, params: Any, key: Any, size: int) -> Any:
    """What `play` goes on with: a key, and the observations and states of `size` environments."""
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
