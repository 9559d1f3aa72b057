"""The command `export`: each format gives the policy's actions."""

import json

import jax
import numpy as np
import pytest
from jax import export as jax_export

from jaxdodge import export
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.cli import guarded
from jaxdodge.config import GameConfig
from jaxdodge.exports import difference
from jaxdodge.exports.onnx_graph import onnx_model, runtime
from jaxdodge.render.topdown import background
from jaxdodge.runs.folder import Run
from jaxdodge.sim.spaces import observation_space

LAGGING = {
    "level": 2,
    "action_space_type": "basic_3d",
    "frames_per_step": 3,
    "response_frame": 0,
    "frame_stack": 2,
}
IMAGE = {"observation_mode": "topdown", "image_obs_width": 80, "image_obs_height": 72}
CASES = {
    "stacked vectors": (LAGGING, {"net_arch": (8,), "normalize_observations": True}),
    "an indicator": (
        LAGGING | {"observation_mode": "with_thrower", "action_space_type": "full_6d"},
        {"net_arch": (8,)},
    ),
    "averaged images": (LAGGING | IMAGE, {"net_arch": (8,), "squint": 2}),
    "averaged images in patches": (LAGGING | IMAGE, {"net_arch": (8,), "squint": 2, "random_shift": False}),
    "images in patches": (LAGGING | IMAGE, {"net_arch": (8,), "random_shift": False}),
    "convolutions": (LAGGING | IMAGE, {"net_arch": (8,), "encoder": "nature"}),
}


def _policy(game: GameConfig, config: TrainConfig):
    trainer = make_trainer(game, config)
    generator = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        """Weights that keep the size of their inputs; vectors, such as variances, are positive."""
        numbers = generator.normal(size=leaf.shape)
        if len(leaf.shape) < 2:
            return (np.abs(numbers) / 4).astype(leaf.dtype)
        return (numbers / np.sqrt(np.prod(leaf.shape[:-1]))).astype(leaf.dtype)

    return trainer, jax.tree.map(draw, trainer.policy_shapes())


def _observations(game: GameConfig, count: int):
    space = observation_space(game)
    space.seed(0)
    samples = [space.sample() for _ in range(count)]
    observations = jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
    if game.observation_mode == "topdown":
        # Discs cover little of an image, and networks see what differs from its background.
        ground = background(game.image_obs_width, game.image_obs_height, game.image_grayscale)
        stacked = np.concatenate([ground] * game.frame_stack, axis=-1)
        drawn = np.random.default_rng(0).random(observations["image"].shape) < 0.02
        observations["image"] = np.where(drawn, observations["image"], stacked)
    return observations


SLOW = ("an indicator", "convolutions")


@pytest.mark.parametrize(
    ("game", "config"),
    [pytest.param(*case, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, case in CASES.items()],
)
def test_onnx_gives_the_actions_of_the_policy(game, config):
    game, config = GameConfig(**game), TrainConfig(**config)
    trainer, weights = _policy(game, config)
    observations = _observations(game, 8)
    model = onnx_model(
        lambda one: trainer.policy(weights, one), jax.tree.map(lambda leaf: leaf[0], observations)
    )
    expected = jax.jit(trainer.policy)(weights, observations)
    np.testing.assert_allclose(runtime(model)(observations), expected, atol=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    game, config = CASES["stacked vectors"]
    game, config = GameConfig(**game), TrainConfig(**config)
    run = Run.create(tmp_path_factory.mktemp("results"), "run", game, config)
    run.save_policy("best", _policy(game, config)[1])
    return run


def _export(*arguments: object) -> int:
    return guarded(export.export, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", ["onnx", "stablehlo"])
def test_what_was_written_is_compared_with_the_policy(run, name, monkeypatch, capsys):
    compared = []

    def largest_difference(trainer, game, weights, act, count):
        observations = _observations(game, 4)
        expected = jax.jit(trainer.policy)(weights, observations)
        compared.append(float(np.abs(act(observations) - expected).max()))
        return compared[-1]

    monkeypatch.setattr(difference, "largest_difference", largest_difference)
    assert _export(run.folder, "--format", name, "--check", 4) == 0
    assert capsys.readouterr().out.startswith(f"{run.folder / f'policy.{name}'}: ")
    assert len(compared) == 1
    monkeypatch.setattr(difference, "largest_difference", lambda *_: 1e-4)
    assert _export(run.folder, "--format", name) == 1
    if name == "stablehlo":
        read = jax_export.deserialize(bytearray((run.folder / "policy.stablehlo").read_bytes()))
        assert read.call(_observations(run.config()[0], 3)).shape == (3, 3)


def test_npz_holds_every_parameter_under_its_name(run, capsys):
    assert _export(run.folder, "--format", "npz") == 0
    with np.load(run.folder / "policy.npz") as file:
        arrays = dict(file)
    config = json.loads(str(arrays.pop("config")))
    assert (config["frame_stack"], config["net_arch"]) == (2, [8])
    assert sorted(arrays) == [
        "actor/params/Dense_0/bias",
        "actor/params/Dense_0/kernel",
        "actor/params/Dense_1/bias",
        "actor/params/Dense_1/kernel",
        "statistics/count",
        "statistics/mean",
        "statistics/squares",
    ]
    assert arrays["actor/params/Dense_1/kernel"].shape == (8, 6)


def test_a_wrong_format_is_refused_in_one_line(run, capsys):
    assert _export(run.folder, "--format", "tflite") == 2
    assert capsys.readouterr().err.startswith("format: invalid value 'tflite'; expected onnx, stablehlo, npz")
