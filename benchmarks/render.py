"""Frames per second of the rasterizer, alone and in an environment, beside NumPy and numba."""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.env import LEVEL_2, rollout
from benchmarks.measure import Case, Cost, Prepared, Rows, Settings, compiled, measure, ratio

STEPS = 20
PROJECTILES = 12
# Width, height and colour of the frames.
FRAMES = {"84x84x1": (84, 84, True), "64x64x3": (64, 64, False), "256x256x3": (256, 256, False)}
ENVIRONMENT = "jaxdodge level 2, 84x84x1"


def bench_render(settings: Settings) -> tuple[Rows, dict[str, Any]]:
    """Rows, and ratios to the peers."""
    rows: Rows = []
    for size in settings.num_images:
        for name, (width, height, grayscale) in FRAMES.items():
            bytes_written = width * height * (1 if grayscale else 3)
            of = partial(Case, size=size, unit="frames", more={"frame_bytes": bytes_written})
            cases = [
                of(f"frames {name}", prepare=partial(_ours, width, height, grayscale, size, settings)),
                of(f"memory written as {name}", prepare=partial(_memory, bytes_written, size, settings)),
            ]
            if name == "84x84x1":
                cases.append(of(ENVIRONMENT, prepare=partial(rollout, _image_environment, size, settings)))
            for peer in sorted(settings.peers & {"numpy", "numba"}):
                prepare = partial(_peer, peer, width, height, grayscale, size)
                cases.append(of(f"{peer} frames {name}", prepare=prepare))
            rows += measure("render", cases, settings)
    ratios = {
        f"render: {name} over {peer}": ratio(rows, f"frames {name}", f"{peer} frames {name}")
        for name in FRAMES
        for peer in ("numpy", "numba")
    }
    for name in FRAMES:
        ratios[f"render: {name} over memory written"] = ratio(
            rows, f"frames {name}", f"memory written as {name}"
        )
    ratios["render: environment 84x84x1 over its frames alone"] = ratio(rows, ENVIRONMENT, "frames 84x84x1")
    return rows, ratios


def _image_environment() -> tuple[Any, Any]:
    import jaxdodge

    size = {"image_obs_width": 84, "image_obs_height": 84}
    return jaxdodge.make(**LEVEL_2, observation_mode="topdown", image_grayscale=True, **size)


def random_scenes(size: int) -> Any:
    """Scenes of a player and twelve projectiles, leading axis (size,)."""
    import jax
    import jax.numpy as jnp

    from jaxdodge.render.topdown import Scene

    keys = jax.random.split(jax.random.key(0), 2)
    return Scene(
        player=jax.random.uniform(keys[0], (size, 2), minval=-4, maxval=4),
        projectiles=jax.random.uniform(keys[1], (size, 2, PROJECTILES), minval=-12, maxval=12),
        projectile_count=jnp.full(size, PROJECTILES),
        thrower=jnp.zeros((size, 2)),
        thrower_pending=jnp.zeros(size, bool),
    )


def _ours(width: int, height: int, grayscale: bool, size: int, settings: Settings) -> Prepared:
    import jax.numpy as jnp

    from jaxdodge.render.topdown import draw

    def step(carry: Any) -> Any:
        scenes, _ = carry
        # The projectiles move, so XLA cannot reuse an earlier frame.
        scenes = scenes._replace(projectiles=-scenes.projectiles)
        return scenes, draw(scenes, width=width, height=height, grayscale=grayscale)

    channels = 1 if grayscale else 3
    images = jnp.zeros((size, height, width, channels), jnp.uint8)
    frame = width * height * channels
    # XLA counts one pixel of the scatter loop; the lower bound is one write of the frame.
    cost = Cost(frame, 0, size * frame)
    return compiled(step, (random_scenes(size), images), 2 if settings.tiny else STEPS, size, cost)


def _memory(frame: int, size: int, settings: Settings) -> Prepared:
    """Writes of as many bytes, with a new value each time."""
    import jax.numpy as jnp

    def step(carry: Any) -> Any:
        value, _ = carry
        return value + jnp.uint8(1), jnp.broadcast_to(value, (size * frame,))

    carry = jnp.uint8(0), jnp.zeros(size * frame, jnp.uint8)
    return compiled(step, carry, 2 if settings.tiny else STEPS, size, Cost(frame, 0, size * frame))


def _peer(name: str, width: int, height: int, grayscale: bool, size: int) -> Prepared:
    import time

    import jax
    import numpy as np

    from benchmarks import peer_rasters

    make: Callable[..., Any] = {"numpy": peer_rasters.numpy_raster, "numba": peer_rasters.numba_raster}[name]
    scenes = jax.device_get(random_scenes(size))
    draw = make(width, height, grayscale)
    projectiles = [scenes.projectiles]
    images = np.zeros((size, height, width, 1 if grayscale else 3), np.uint8)
    start = time.perf_counter()
    draw(scenes.player, projectiles[0], images)
    seconds = time.perf_counter() - start

    def run() -> None:
        projectiles[0] = -projectiles[0]
        draw(scenes.player, projectiles[0], images)

    return Prepared(run, size, seconds if name == "numba" else 0.0)
