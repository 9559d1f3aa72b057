"""The rasterizer against a drawing in plain NumPy float32, written straight from the rule."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scenes import SLOTS, random_scenes, scene_of

from jaxdodge.render.topdown import Scene, draw

BATCH = 4
SIZES = [(32, 32), (64, 64), (84, 84), (128, 96), (97, 61), (512, 40), (37, 509)]
OBJECT_KINDS = ("background", "outline", "thrower", "projectile", "player")
COLOURS = np.array([(30, 30, 40), (200, 200, 50), (255, 140, 0), (255, 50, 50), (50, 150, 255)], np.uint8)
GRAYS = np.array([[31], [182], [158], [111], [132]], np.uint8)


def pixel(x, y, width: int, height: int) -> tuple[int, int]:
    f = np.float32
    return int((f(x) + f(12)) / f(24) * f(width)), int((f(12) - f(y)) / f(24) * f(height))


def expected_image(scene: Scene, width: int, height: int, grayscale: bool) -> np.ndarray:
    """The rule, pixel by pixel. `scene` is a single one, of NumPy arrays."""
    kinds = np.zeros((height, width), np.uint8)

    def paint(column: int, row: int, kind: str) -> None:
        if 0 <= column < width and 0 <= row < height:
            kinds[row, column] = OBJECT_KINDS.index(kind)

    def disc(x, y, radius: float, kind: str) -> None:
        column, row = pixel(x, y, width, height)
        reach = int(np.float32(radius) * (np.float32(width) / np.float32(24)))
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                if dx * dx + dy * dy <= reach * reach:
                    paint(column + dx, row + dy, kind)

    for i in range(-50, 51):
        along = np.float32(i) * np.float32(0.1)
        for y in (-4, 4):
            if abs(along) <= 5:
                paint(*pixel(along, y, width, height), "outline")
        for x in (-5, 5):
            if abs(along) <= 4:
                paint(*pixel(x, along, width, height), "outline")
    if scene.thrower_pending:
        disc(*scene.thrower, 0.2, "thrower")
    for slot in range(scene.projectile_count):
        disc(*scene.projectiles[:, slot], 0.3, "projectile")
    disc(*scene.player, 0.5, "player")
    return (GRAYS if grayscale else COLOURS)[kinds]


def one_of_batch(scenes: Scene, index) -> Scene:
    return Scene(*(np.asarray(field)[index] for field in scenes))


@partial(jax.jit, static_argnames=("width", "height", "grayscale"))
def draw_jitted(scenes: Scene, width: int, height: int, grayscale: bool):
    return draw(scenes, width=width, height=height, grayscale=grayscale)


COORDINATES = st.one_of(
    st.floats(-13, 13, width=32),
    st.floats(-30, 45, width=32),
    st.integers(-13, 13).map(float),
    # Borders of pixels, where a rounding decides.
    st.tuples(st.sampled_from([32, 37, 40, 61, 64, 84, 96, 97, 128, 509, 512]), st.integers(-2, 514)).map(
        lambda pair: float(np.float32(pair[1] / pair[0] * 24 - 12))
    ),
)


def positions(shape: tuple[int, ...]):
    return arrays.arrays(np.float32, shape, elements=COORDINATES, fill=st.nothing())


SCENES = st.builds(
    Scene,
    player=positions((BATCH, 2)),
    projectiles=positions((BATCH, 2, SLOTS)),
    projectile_count=arrays.arrays(np.int32, BATCH, elements=st.integers(0, SLOTS), fill=st.nothing()),
    thrower=positions((BATCH, 2)),
    thrower_pending=arrays.arrays(bool, BATCH, fill=st.nothing()),
)


@pytest.mark.parametrize(
    ("width", "height", "grayscale"),
    [
        pytest.param(*size, gray, marks=pytest.mark.slow if gray and size != (84, 84) else ())
        for size in SIZES
        for gray in (False, True)
    ],
)
@settings(derandomize=True, deadline=None, database=None, max_examples=40)
@given(scenes=SCENES)
def test_same_bytes_as_the_rule(width, height, grayscale, scenes):
    images = np.asarray(draw_jitted(scenes, width, height, grayscale))
    assert images.dtype == np.uint8
    assert images.shape == (BATCH, height, width, 1 if grayscale else 3)
    for index in range(BATCH):
        expected = expected_image(one_of_batch(scenes, index), width, height, grayscale)
        np.testing.assert_array_equal(images[index], expected)


@pytest.mark.parametrize("width", [33, 84, 97, 500])
def test_position_on_either_side_of_every_pixel_border(width):
    border = (np.arange(1, width, dtype=np.float64) / width * 24 - 12).astype(np.float32)
    x = np.concatenate([np.nextafter(border, np.float32(-99)), border, np.nextafter(border, np.float32(99))])
    scenes = Scene(
        player=np.full((len(x), 2), 30, np.float32),
        projectiles=np.zeros((len(x), 2, 0), np.float32),
        projectile_count=np.zeros(len(x), np.int32),
        thrower=np.stack([x, np.full_like(x, 9)], axis=-1),
        thrower_pending=np.ones(len(x), bool),
    )
    images = np.asarray(draw_jitted(scenes, width, 32, True))[:, pixel(0, 9, width, 32)[1], :, 0]
    centre = ((x + np.float32(12)) / np.float32(24) * np.float32(width)).astype(np.int32)
    reach = int(np.float32(0.2) * (np.float32(width) / np.float32(24)))
    expected = np.where(np.abs(np.arange(width) - centre[:, None]) <= reach, 158, 31)
    np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize("grayscale", [False, True])
def test_batch_single_vmap_and_jit_agree(grayscale):
    size = {"width": 97, "height": 61, "grayscale": grayscale}
    scenes = random_scenes(0, (2, 3))
    batched = np.asarray(draw(scenes, **size))
    assert batched.shape == (2, 3, 61, 97, 1 if grayscale else 3)
    np.testing.assert_array_equal(draw_jitted(scenes, **size), batched)
    draw_sized = partial(draw, **size)
    np.testing.assert_array_equal(jax.vmap(draw_sized)(scenes), batched)
    np.testing.assert_array_equal(jax.jit(jax.vmap(jax.vmap(draw_sized)))(scenes), batched)
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(draw(one_of_batch(scenes, index), **size), batched[index])


def test_same_bytes_inside_a_scan():
    scenes = random_scenes(1, (6, 4))
    size = {"width": 64, "height": 48, "grayscale": True}
    _, images = jax.lax.scan(lambda carry, scene: (carry, draw(scene, **size)), None, scenes)
    np.testing.assert_array_equal(images, draw(scenes, **size))


def test_known_colours():
    scene = scene_of(player=(0, 0), projectiles=[(3, 0)], thrower=(-3, 0))
    at = {"background": (9, 9), "outline": (5, 0), "thrower": (-3, 0), "projectile": (3, 0), "player": (0, 0)}
    colour, gray = (np.asarray(draw_jitted(scene, 96, 96, grayscale)) for grayscale in (False, True))
    for kind, position in at.items():
        column, row = pixel(*position, 96, 96)
        assert tuple(colour[row, column]) == tuple(COLOURS[OBJECT_KINDS.index(kind)]), kind
        assert tuple(gray[row, column]) == tuple(GRAYS[OBJECT_KINDS.index(kind)]), kind


def test_layers_cover_each_other_in_order():
    size = {"width": 240, "height": 240, "grayscale": False}
    row, column = 120, 170  # where (5, 0), a point of the outline, lies
    everything = {"player": (5, 0), "projectiles": [(5, 0)], "thrower": (5, 0)}
    for hidden, kind in [((), "player"), (("player",), "projectile"), (("player", "projectiles"), "thrower")]:
        scene = scene_of(**{name: place for name, place in everything.items() if name not in hidden})
        image = np.asarray(draw_jitted(scene, **size))
        assert tuple(image[row, column]) == tuple(COLOURS[OBJECT_KINDS.index(kind)])
    assert tuple(np.asarray(draw_jitted(scene_of(), **size))[row, column]) == tuple(COLOURS[1])


def test_discs_smaller_than_a_pixel_are_one_pixel():
    image = np.asarray(draw_jitted(scene_of(projectiles=[(0, 8)], thrower=(0, 9)), 32, 32, True))
    assert (image == 111).sum() == 1
    assert (image == 158).sum() == 1


def test_positions_beyond_the_left_and_top_edge_truncate_toward_zero():
    # 0.6 pixels outside is pixel 0; flooring would put the disc's centre at -1, out of sight.
    image = np.asarray(draw_jitted(scene_of(projectiles=[(-12.45, 12.45)]), 32, 32, True))
    assert image[0, 0, 0] == 111


@pytest.mark.parametrize("far", [30.0, -30.0, 45.0, 1e12, -1e12, np.inf])
def test_what_is_far_outside_is_not_drawn(far):
    empty = draw_jitted(scene_of(projectiles=[(30, 30)]), 512, 40, True)
    for place in [(far, 0), (0, far), (far, far)]:
        image = draw_jitted(scene_of(player=place, projectiles=[place], thrower=place), 512, 40, True)
        np.testing.assert_array_equal(image, empty)


def test_slots_beyond_the_count_are_not_drawn():
    scene = scene_of(projectiles=[(0, 8), (2, 8), (4, 8)])
    for count in range(4):
        image = np.asarray(draw_jitted(scene._replace(projectile_count=np.int32(count)), 32, 32, True))
        assert (image == 111).sum() == count


def test_outline_has_gaps_in_large_images():
    image = np.asarray(draw_jitted(scene_of(), 512, 512, True))
    row = pixel(0, 4, 512, 512)[1]
    first, last = pixel(-5, 4, 512, 512)[0], pixel(5, 4, 512, 512)[0]
    assert (image[row, first : last + 1] == 182).sum() == 101
    assert last + 1 - first > 200


@pytest.mark.parametrize("name", ["width", "height"])
@pytest.mark.parametrize("value", [31, 513, 0, -84, 84.0, "84", None])
def test_sizes_outside_the_range_are_refused(name, value):
    size = {"width": 84, "height": 84, name: value}
    with pytest.raises(ValueError, match=rf"^{name} must be an integer from 32 to 512, got {value!r}$"):
        draw(scene_of(), **size, grayscale=True)


@pytest.mark.parametrize("side", [32, 512, np.int64(84)])
def test_sizes_at_the_ends_of_the_range_are_accepted(side):
    assert draw(scene_of(), width=side, height=side, grayscale=True).shape == (side, side, 1)
