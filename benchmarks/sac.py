"""SAC updates per second, replay sampling included, beside sbx and Stable-Baselines3.

All use the same network widths, batch size, inputs and actions, and the same number of updates per
call. Ours always has layer norm in the critics and an EMA of the policy; sbx has only the former as
an option, Stable-Baselines3 neither. Ours computes the networks' inputs from stored frames; the
others store the inputs.

From images, each learns as it comes: ours as configs/pixels_84.yaml says, averaging the image and
with critics that observe the state; Stable-Baselines3 with its CnnPolicy, the network of Mnih et
al. 2015 (Nature 518), for actor and critics.
"""

import dataclasses
import time
from functools import partial
from typing import Any

from benchmarks.env import GAME, LEVEL_2
from benchmarks.measure import Case, Prepared, Rows, Settings, counted, measure, ratio

NET_ARCHS = {"2 x 128": (128, 128), "2 x 256": (256, 256)}
BATCH = 256
GRADIENT_STEPS = 16
BUFFER = 102_400
NUM_ENVS = 1024
# Transitions of images in a replay buffer. Stable-Baselines3 stores two images in each.
IMAGE_BUFFER = 10_240
EPOCH, IMAGE_EPOCH = "jaxdodge training epoch", "jaxdodge training epoch, images"
OURS_IMAGES, SB3_IMAGES = "jaxdodge 84x84x3, pixels_84", "sb3 84x84x3, CnnPolicy"
# Like configs/pixels_84_stack4.yaml without squint. Small in everything
# else than the compilation time.
IMAGE_GAME = GAME | {"observation_mode": "topdown", "image_grayscale": True, "frame_stack": 4}
IMAGE_TRAINING: dict[str, Any] = {
    "critic_observation": "state",
    "random_shift": False,
    "num_envs": 16,
    "batch_size": 16,
    "gradient_steps": 2,
    "buffer_size": 1600,
    "learning_starts": 160,
}


def bench_sac(settings: Settings) -> tuple[Rows, dict[str, Any]]:
    """Rows, and ratios to the peers."""
    rows: Rows = []
    ratios: dict[str, Any] = {}
    widths = {"2 x 8": (8, 8)} if settings.tiny else NET_ARCHS
    for label, net_arch in widths.items():
        of = partial(Case, size=BATCH, unit="updates")
        cases = [
            of(f"jaxdodge {label}", prepare=partial(_ours, settings, net_arch=net_arch, policy_delay=1)),
            of(
                f"jaxdodge {label}, policy_delay 2",
                prepare=partial(_ours, settings, net_arch=net_arch, policy_delay=2),
            ),
        ]
        if "sbx" in settings.peers:
            cases += [
                of(f"sbx {label}", prepare=partial(_peer, "sbx", net_arch)),
                of(f"sbx {label}, layer norm", prepare=partial(_peer, "sbx", net_arch, layer_norm=True)),
                of(
                    f"sbx {label}, layer norm, policy_delay 2",
                    prepare=partial(_peer, "sbx", net_arch, policy_delay=2, layer_norm=True),
                ),
            ]
        if "stable_baselines3" in settings.peers:
            prepare = partial(_peer, "stable_baselines3", net_arch)
            cases.append(of(f"sb3 {label}", prepare=prepare))
        rows += measure("sac", cases, settings)
        ratios |= {
            f"sac: updates over {peer}": ratio(rows, f"jaxdodge {label}{delay}", peer)
            for peer, delay in (
                (f"sbx {label}", ""),
                (f"sbx {label}, layer norm", ""),
                (f"sbx {label}, layer norm, policy_delay 2", ", policy_delay 2"),
                (f"sb3 {label}", ""),
            )
        }
    of = partial(Case, size=BATCH, unit="updates")
    cases = [of(OURS_IMAGES, prepare=partial(_ours, settings, images=True))]
    if "stable_baselines3" in settings.peers:
        cases.append(of(SB3_IMAGES, prepare=partial(_peer, "stable_baselines3", images=_side(settings))))
    rows += measure("sac", cases, settings)
    ratios["sac: updates from images over sb3"] = ratio(rows, OURS_IMAGES, SB3_IMAGES)
    training = Case(EPOCH, 16 if settings.tiny else NUM_ENVS, "steps", partial(epoch, settings))
    images = Case(IMAGE_EPOCH, IMAGE_TRAINING["num_envs"], "steps", partial(epoch, settings, images=True))
    rows += measure("sac", [training], settings)
    # Only the compilation time matters here: image networks are slow on a CPU.
    rows += measure("sac", [images], dataclasses.replace(settings, repeats=1, seconds=1e-6))
    return rows, ratios


def _side(settings: Settings) -> int:
    """Of an image, in pixels; the smallest one that Stable-Baselines3's network takes."""
    return 36 if settings.tiny else 84


def _ours(settings: Settings, images: bool = False, **options: Any) -> Prepared:
    """Updates from a full replay buffer of random transitions, of images as in pixels_84."""
    import jax
    import jax.numpy as jnp

    from jaxdodge.agents.program import make_trainer
    from jaxdodge.fields import read_yaml
    from jaxdodge.resources import preset
    from jaxdodge.runs.folder import split
    from jaxdodge.sim.params import game_params

    num_envs, buffer = (16, 1600) if settings.tiny else (NUM_ENVS, IMAGE_BUFFER if images else BUFFER)
    options = (
        GAME
        | (read_yaml(preset("pixels_84")) if images else {})
        | options
        | {
            "batch_size": BATCH,
            "gradient_steps": GRADIENT_STEPS,
            "num_envs": num_envs,
            "buffer_size": buffer,
        }
    )
    if images:
        options |= {"image_obs_width": _side(settings), "image_obs_height": _side(settings)}
    game, config = split(options)
    trainer = make_trainer(game, config)
    state = trainer.init(jax.random.key(0), game_params(game))

    def random(leaf: jax.Array) -> jax.Array:
        if leaf.dtype == jnp.uint8:
            return jax.random.bits(jax.random.key(1), leaf.shape, jnp.uint8)
        if leaf.dtype != jnp.float32:
            return leaf
        return jax.random.uniform(jax.random.key(1), leaf.shape, minval=-1, maxval=1)

    replay = jax.tree.map(random, state.replay)

    def learn(learner: Any, replay: Any, key: jax.Array) -> Any:
        key, key_learn = jax.random.split(key)
        return trainer.learn(learner, replay, jnp.int32(buffer // num_envs), key_learn)[0], key

    carry = [state.learner, jax.random.key(2)]
    start = time.perf_counter()
    program = jax.jit(learn, donate_argnums=(0, 2)).lower(carry[0], replay, carry[1]).compile()
    seconds = time.perf_counter() - start

    def run() -> None:
        carry[:] = jax.block_until_ready(program(carry[0], replay, carry[1]))

    return Prepared(run, GRADIENT_STEPS, seconds, counted(program, carry, 1))


def observation_size() -> int:
    """Size of the networks' input, ours and the peers'."""
    import jax

    from jaxdodge.agents.program import make_trainer
    from jaxdodge.agents.train_config import TrainConfig
    from jaxdodge.config import GameConfig

    trainer = make_trainer(GameConfig(**GAME), TrainConfig())

    def inputs(key: jax.Array) -> Any:
        return trainer.observers.actor.features(trainer.env.reset(key, trainer.env.default_params)[0])

    return jax.eval_shape(inputs, jax.random.key(0)).shape[-1]


def _peer(
    name: str,
    net_arch: tuple[int, ...] = (128, 128),
    policy_delay: int | None = None,
    images: int | None = None,
    **policy: Any,
) -> Prepared:
    """Updates of sbx or Stable-Baselines3 from a full replay buffer of random transitions.

    Args:
        name: of the module.
        net_arch: widths of the hidden layers.
        policy_delay: updates of the critics per update of the actor; default: the peer's own.
        images: learn from colour images of so many pixels along each side.
        policy: further arguments of the peer's networks.
    """
    import importlib

    import gymnasium
    import numpy as np
    from stable_baselines3.common.logger import configure

    import jaxdodge

    env, params = jaxdodge.make(**LEVEL_2)

    class Spaces(gymnasium.Env):
        """The spaces of our environment; it is never stepped."""

        observation_space = (
            gymnasium.spaces.Box(0, 255, (3, images, images), np.uint8)
            if images
            else gymnasium.spaces.Box(-np.inf, np.inf, (observation_size(),), np.float32)
        )
        action_space = gymnasium.spaces.Box(-1, 1, env.action_space(params).shape, np.float32)

    model = importlib.import_module(name).SAC(
        "CnnPolicy" if images else "MlpPolicy",
        Spaces(),
        buffer_size=IMAGE_BUFFER if images else BUFFER,
        batch_size=BATCH,
        policy_kwargs={"net_arch": list(net_arch), **policy},
        seed=0,
        **({} if policy_delay is None else {"policy_delay": policy_delay}),
    )
    model.set_logger(configure(None, []))
    replay = model.replay_buffer
    random = np.random.default_rng(0)
    for array in (replay.observations, replay.next_observations, replay.actions, replay.rewards):
        array[:] = (
            random.integers(0, 256, array.shape, np.uint8)
            if array.dtype == np.uint8
            else random.uniform(-1, 1, array.shape)
        )
    replay.full = True
    start = time.perf_counter()
    model.train(GRADIENT_STEPS, BATCH)
    seconds = time.perf_counter() - start
    return Prepared(lambda: model.train(GRADIENT_STEPS, BATCH), GRADIENT_STEPS, seconds)


def epoch(settings: Settings, devices: int = 1, images: bool = False) -> Prepared:
    """Environment steps with their updates, as in `jaxdodge train` without arguments.

    Args:
        settings: of the suite.
        devices: that share the environments.
        images: train from images of 84 x 84 pixels, with fewer environments, updates and
            transitions.
    """
    import jax
    import jax.numpy as jnp

    from jaxdodge.agents.program import make_trainer
    from jaxdodge.agents.train_config import TrainConfig
    from jaxdodge.config import GameConfig
    from jaxdodge.sim.params import game_params

    small: dict[str, Any] = (
        {"num_envs": 16, "net_arch": (8, 8), "buffer_size": 1600, "learning_starts": 16}
        if settings.tiny
        else {}
    )
    side = 32 if settings.tiny else 84
    pixels = {"image_obs_width": side, "image_obs_height": side}
    config = TrainConfig(**(IMAGE_TRAINING if images else {}) | small)
    game = GameConfig(**(IMAGE_GAME | pixels if images else GAME))
    trainer, params = make_trainer(game, config, devices=devices), game_params(game)
    state, first = [trainer.init(jax.random.key(0), params)], config.learning_starts // config.num_envs + 1
    steps = 2 if settings.tiny or images else 25
    start = time.perf_counter()
    program = trainer.epoch.lower(state[0], params, jnp.int32(first), steps=steps).compile()
    seconds = time.perf_counter() - start

    def run() -> None:
        state[0] = jax.block_until_ready(program(state[0], params, jnp.int32(first)))[0]

    return Prepared(run, steps * config.num_envs, seconds)
