"""Scenes to draw."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxdodge.render.topdown import Scene

SLOTS = 5


def scene_of(player=(30, 30), projectiles=(), thrower=None) -> Scene:
    """One scene with as many slots as projectiles; the player is out of sight unless placed."""
    return Scene(
        player=np.array(player, np.float32),
        projectiles=np.array(projectiles, np.float32).reshape(-1, 2).T,
        projectile_count=np.int32(len(projectiles)),
        thrower=np.array(thrower or (0, 0), np.float32),
        thrower_pending=np.bool_(thrower is not None),
    )


def random_scenes(seed: int, shape: tuple[int, ...]) -> Scene:
    generator = np.random.default_rng(seed)
    return Scene(
        player=generator.uniform(-6, 6, (*shape, 2)).astype(np.float32),
        projectiles=generator.uniform(-15, 15, (*shape, 2, SLOTS)).astype(np.float32),
        projectile_count=generator.integers(0, SLOTS + 1, shape, np.int32),
        thrower=generator.uniform(-15, 15, (*shape, 2)).astype(np.float32),
        thrower_pending=generator.random(shape) < 0.5,
    )


_PLACES = st.sampled_from([-13.0, -12.0, -11.9, -0.3, -0.1, 0.0, 0.05, 0.2, 11.9, 12.0]).map(np.float32)
_POSITIONS = arrays.arrays(np.float32, 2, elements=_PLACES)


@st.composite
def crowded_scenes(draw: st.DrawFn) -> Scene:
    """Crowded around the origin, at the player and at the edges of the image, so that discs overlap
    and are cut.
    """
    player, thrower = draw(_POSITIONS), tuple(draw(_POSITIONS))
    projectiles = draw(st.lists(_POSITIONS, min_size=SLOTS, max_size=SLOTS))
    count = np.int32(draw(st.integers(0, SLOTS)))
    return scene_of(player, projectiles, thrower)._replace(projectile_count=count)
