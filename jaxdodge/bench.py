"""`python -m jaxdodge.bench env`: environment steps per second, beside gymnax's environments in the same run.

A row is a jitted scan of vmapped steps with random actions and auto-reset. Every observation is part of
the scan's carry, so it is really written to memory. Compilation is timed apart; each repeat is timed.
"""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxdodge.cli import run_command
from jaxdodge.fields import ConfigError
from jaxdodge.hardware import hardware

# Takes a carry and returns the next one.
Run = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Env:
    """Environment steps per second by number of environments, vector and image, beside gymnax's."""

    num_envs: tuple[int, ...] = (256, 1024, 4096, 16384)
    """Numbers of environments to measure the vector environments at."""
    num_images: tuple[int, ...] = (64, 256, 1024)
    """Numbers of environments or frames to measure images at."""
    steps: int = 1_000_000
    """Environment steps of one repeat (images: a tenth)."""
    repeats: int = 5
    """Timed repeats of every row; the best, the median and the worst are reported."""
    out: Path | None = None
    """Write all figures as JSON to this file."""


def bench_env(options: Env) -> int:
    """Measure and print; returns the exit status."""
    for name in ("num_envs", "num_images", "steps", "repeats"):
        values = getattr(options, name)
        if min(values if isinstance(values, tuple) else (values,), default=0) < 1:
            raise ConfigError(f"{name}: {values} is refused; accepted: whole numbers from 1")
    if options.out is not None:
        options.out.touch()
    rows: list[dict[str, Any]] = []
    print(f"{'what':42}{'environments':>13}{'steps/s: best':>15}{'median':>13}{'worst':>13}{'compile s':>11}")

    def report(name: str, size: int, count: int, run: Run, carry: Any, **more: float) -> None:
        row = {"name": name, "environments": size, **_measure(run, carry, count, options.repeats), **more}
        rows.append(row)
        print(
            f"{name:42}{size:>13}{row['best']:>15,.0f}{row['median']:>13,.0f}{row['worst']:>13,.0f}"
            f"{row['compile_seconds']:>11.2f}",
            flush=True,
        )

    for name, env, params, frames in _vector_environments():
        for size in options.num_envs:
            steps = max(1, options.steps // size // frames)
            report(name, size, steps * size, *_rollout(env, params, size, steps), frames_per_step=frames)
    for name, env, params, frames in _image_environments():
        for size in options.num_images:
            steps = max(1, options.steps // 10 // size // frames)
            report(name, size, steps * size, *_rollout(env, params, size, steps), frames_per_step=frames)
    for name, width, height, grayscale in _RASTERS:
        for size in options.num_images:
            count = max(1, options.steps // 10 // size)
            frame = width * height * (1 if grayscale else 3)
            report(name, size, count * size, *_raster(width, height, grayscale, size, count), bytes=frame)
            report(MEMORY + name, size, count * size, *_memory(size * frame, count), bytes=frame)
    summary = _summary(rows)
    for line in summary:
        print(line)
    if options.out is not None:
        document = {"hardware": hardware(), "rows": rows, "summary": summary}
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


# Width, height and colour of the frames drawn without an environment.
_RASTERS = (
    ("frames 84x84x1", 84, 84, True),
    ("frames 64x64x3", 64, 64, False),
    ("frames 256x256x3", 256, 256, False),
)
MEMORY = "  memory written as "


def _vector_environments() -> list[tuple[str, Any, Any, int]]:
    import gymnax

    import jaxdodge

    return [
        ("jaxdodge level 2", *jaxdodge.make(level=2, action_space_type="basic_3d"), 1),
        (
            "jaxdodge level 2, frames_per_step 7",
            *jaxdodge.make(level=2, action_space_type="basic_3d", frames_per_step=7),
            7,
        ),
        ("gymnax CartPole-v1", *gymnax.make("CartPole-v1"), 1),
        ("gymnax Breakout-MinAtar", *gymnax.make("Breakout-MinAtar"), 1),
    ]


def _image_environments() -> list[tuple[str, Any, Any, int]]:
    import jaxdodge

    image = {"observation_mode": "topdown", "image_obs_width": 84, "image_obs_height": 84}
    fields = {"level": 2, "action_space_type": "basic_3d", "image_grayscale": True, **image}
    return [("jaxdodge level 2, 84x84x1", *jaxdodge.make(**fields), 1)]


def _rollout(env: Any, params: Any, size: int, steps: int) -> tuple[Run, Any]:
    """A function that plays `steps` steps of `size` environments, and its first carry."""
    import jax

    space = env.action_space(params)

    def play(carry: Any) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            key, _, state = carry
            key, key_action, key_step = jax.random.split(key, 3)
            action = jax.vmap(space.sample)(jax.random.split(key_action, size))
            observation, state, *_ = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
                jax.random.split(key_step, size), state, action, params
            )
            return (key, observation, state), None

        return jax.lax.scan(step, carry, None, length=steps)[0]

    key = jax.random.key(0)
    observation, state = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key, size), params)
    return jax.jit(play, donate_argnums=0), (key, observation, state)


def _raster(width: int, height: int, grayscale: bool, size: int, count: int) -> tuple[Run, Any]:
    """A function that draws `count` batches of `size` scenes of twelve projectiles, and its first carry."""
    import jax
    import jax.numpy as jnp

    from jaxdodge.render.topdown import Scene, draw

    def play(carry: Any) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            scenes, _ = carry
            # Every frame moves, so that no frame can be taken from an earlier one.
            scenes = scenes._replace(projectiles=-scenes.projectiles)
            return (scenes, draw(scenes, width=width, height=height, grayscale=grayscale)), None

        return jax.lax.scan(step, carry, None, length=count)[0]

    keys = jax.random.split(jax.random.key(0), 2)
    scenes = Scene(
        player=jax.random.uniform(keys[0], (size, 2), minval=-4, maxval=4),
        projectiles=jax.random.uniform(keys[1], (size, 2, 12), minval=-12, maxval=12),
        projectile_count=jnp.full(size, 12),
        thrower=jnp.zeros((size, 2)),
        thrower_pending=jnp.zeros(size, bool),
    )
    images = jnp.zeros((size, height, width, 1 if grayscale else 3), jnp.uint8)
    return jax.jit(play, donate_argnums=0), (scenes, images)


def _memory(size: int, count: int) -> tuple[Run, Any]:
    """A function that writes `size` bytes `count` times with a new value each time, and its first carry."""
    import jax
    import jax.numpy as jnp

    def play(carry: Any) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            value, _ = carry
            return (value + jnp.uint8(1), jnp.broadcast_to(value, (size,))), None

        return jax.lax.scan(step, carry, None, length=count)[0]

    return jax.jit(play, donate_argnums=0), (jnp.uint8(0), jnp.zeros(size, jnp.uint8))


def _measure(run: Run, carry: Any, count: int, repeats: int) -> dict[str, Any]:
    """Steps per second of `repeats` calls, compilation apart."""
    import jax

    start = time.perf_counter()
    compiled = run.lower(carry).compile()  # type: ignore[attr-defined]
    compile_seconds = time.perf_counter() - start
    carry = jax.block_until_ready(compiled(carry))
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        carry = jax.block_until_ready(compiled(carry))
        rates.append(count / (time.perf_counter() - start))
    return {
        "best": max(rates),
        "median": statistics.median(rates),
        "worst": min(rates),
        "rates": rates,
        "compile_seconds": compile_seconds,
    }


def _summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The ratios that the project states, each at its best number of environments, medians of the repeats."""

    def best(name: str, key: str = "median") -> float:
        return max(row[key] for row in rows if row["name"] == name)

    cartpole = best("gymnax CartPole-v1")
    lines = [
        f"vector steps over CartPole-v1: {best('jaxdodge level 2') / cartpole:.2f}",
        "the same at frames_per_step 7, in frames: "
        f"{7 * best('jaxdodge level 2, frames_per_step 7') / cartpole:.2f}",
        "vector steps over Breakout-MinAtar: "
        f"{best('jaxdodge level 2') / best('gymnax Breakout-MinAtar'):.2f}",
    ]
    for name, width, height, grayscale in _RASTERS:
        size = width * height * (1 if grayscale else 3)
        share = best(name) / best(MEMORY + name)
        lines.append(f"{name}: {best(name) * size / 1e9:.1f} GB/s, {share:.0%} of memory written")
    return lines


def main() -> int:
    """Parse the command line and run; returns the exit status."""
    return run_command({"env": (Env, bench_env)}, "jaxdodge.bench")


if __name__ == "__main__":
    sys.exit(main())
