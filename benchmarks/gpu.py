"""`python -m benchmarks gpu`: what XLA makes of our programs on an H100, which need not be there.

Figures are read from the compiled programs, not measured; where a GPU is present, the same programs
are timed too.
"""

import dataclasses
import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.env import GAME, LEVEL_2
from benchmarks.gpu_program import BYTES_PER_SECOND, Compiled, Figures, compile_for_gpu, inexact_operations
from benchmarks.measure import say
from jaxdodge.fields import ConfigError

PROGRAMS = ("rules", "step", "images", "raster", "update", "image_update", "evaluation")
COUNTED = ("kernels", "copies", "library_calls", "counted_loops", "waiting_loops", "conditions")
EPOCHS = ("epoch", "image_epoch", "seeds")
SEEDS = 5


@dataclasses.dataclass(frozen=True)
class Options:
    """Compile programs for an H100 and print what they launch, move and wait for.

    Needs the extra `cuda`, but no GPU. Exit status 1 if a kernel with rules has an operation that
    rounds differently from the game. `python -m benchmarks check --result FILE --against
    benchmarks/results/gpu.json` fails if a program got worse.
    """

    programs: tuple[Literal[PROGRAMS + EPOCHS], ...] = PROGRAMS + EPOCHS  # type: ignore[valid-type]
    """rules: frames with given throws. step: steps of environments with vectors. images: with
    images. raster: images alone. update, image_update: SAC, from vectors and images. evaluation:
    a step of it. epoch, image_epoch: a step of training with its updates. seeds: of five seeds."""
    num_envs: tuple[int, ...] = (16384,)
    """Numbers of environments of `step`."""
    frames_per_step: tuple[int, ...] = (1, 7)
    """Of `rules` and `step`."""
    tiny: bool = False
    """Use the smallest sizes, to test the benchmark itself."""
    out: Path | None = None
    """Write the figures as JSON to this file."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A program to compile; figures are per unit."""

    name: str
    function: Callable[..., Any]
    arguments: Callable[[], Any]
    """Makes them; only their shapes are used without a GPU."""
    unit: str = "step"
    units: int = 1
    donate: tuple[int, ...] = ()
    exact: bool = False
    """Whether every kernel must round as the game does."""
    state: int | None = None
    """Number of the argument that a step must at least read and write."""


def run(options: Options) -> int:
    """Compile, print and write; returns the exit status."""
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        raise ConfigError("jax[cuda13]: not installed; expected pip install 'jaxdodge[cuda]'")
    for name in ("num_envs", "frames_per_step"):
        if min(getattr(options, name), default=0) < 1:
            raise ConfigError(
                f"{name}: invalid value {getattr(options, name)}; expected whole numbers from 1"
            )
    present = Path("/dev/nvidia0").exists()
    with tempfile.TemporaryDirectory() as dump:
        flags = f"--xla_dump_to={dump} --xla_gpu_autotune_level=0"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
        if not present:
            os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
            from jaxdodge.sim import kernel

            # Programs are traced as where a GPU is.
            kernel.on_gpu = lambda: True
        rows = [_row(program, Path(dump), present) for program in programs(options)]
    document = {
        "kind": "compiled for an H100 SXM, not measured" if not present else "compiled, and measured",
        "parts": ["gpu"],
        "rows": rows,
        "ratios": ratios(rows),
    }
    if options.out is not None:
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(markdown(document))
    return 1 if any(row["inexact"] for row in rows) else 0


def programs(options: Options) -> list[Program]:
    """The chosen programs."""
    makers: dict[str, Callable[[], list[Program]]] = {
        "rules": partial(_rules, options),
        "step": partial(_steps, options, images=False),
        "images": partial(_steps, options, images=True),
        "raster": partial(_raster, options),
        "update": partial(_training, options, "angle30", "update"),
        "image_update": partial(_training, options, "pixels_84", "update"),
        "evaluation": partial(_training, options, "angle30", "evaluation"),
        "epoch": partial(_training, options, "angle30", "epoch"),
        "image_epoch": partial(_training, options, "pixels_84", "epoch"),
        "seeds": partial(_training, options, "angle30", "epoch", SEEDS),
    }
    return [program for name in options.programs for program in makers[name]()]


def _rules(options: Options) -> list[Program]:
    """Frames with given throws: all rules but the sine and cosine of the throws' angle."""
    import jax
    import jax.numpy as jnp

    import jaxdodge

    size, found = 4 if options.tiny else 16384, []
    for count in options.frames_per_step:
        env, _ = jaxdodge.make(**LEVEL_2, frames_per_step=count)

        def play(state: Any, throws: Any, throw: Any, action: Any, params: Any, env: Any = env) -> Any:
            after, published = env.advance(throws, state, action, params)
            done = published.terminated | published.truncated
            return env.restart_where(done, throw, after, params), published

        def arguments(env: Any = env, count: int = count) -> Any:
            throw = jnp.zeros(size), jnp.full(size, 20.0)
            throws = jnp.zeros((size, count)), jnp.full((size, count), 20.0)
            return _states(env, size), throws, throw, jnp.zeros((size, 3)), env.default_params

        function = jax.vmap(play, (0, 0, 0, 0, None))
        name = f"rules, {count} frames"
        found.append(Program(name, function, arguments, donate=(0,), exact=True, state=0))
    return found


def _steps(options: Options, images: bool) -> list[Program]:
    import jax
    import jax.numpy as jnp

    import jaxdodge

    found = []
    for size in options.num_envs[:1] if images else options.num_envs:
        for count in (1,) if images else options.frames_per_step:
            side = {"image_obs_width": 84, "image_obs_height": 84, "image_grayscale": True}
            fields: dict[str, Any] = {"observation_mode": "topdown", **side} if images else {}
            env, params = jaxdodge.make(**LEVEL_2, frames_per_step=count, **fields)

            def step(words: Any, state: Any, action: Any, env: Any = env, params: Any = params) -> Any:
                return env.step(jax.random.wrap_key_data(words), state, action, params)

            def arguments(env: Any = env, size: int = size) -> Any:
                return jnp.zeros((size, 2), jnp.uint32), _states(env, size), jnp.zeros((size, 3))

            kind = "images" if images else "vectors"
            name = f"step of {size:,}, {kind}, frames_per_step {count}"
            found.append(Program(name, _mapped(step), arguments, donate=(1,), state=1))
    return found


def _mapped(function: Any) -> Any:
    import jax

    return jax.vmap(function)


def _states(env: Any, size: int) -> Any:
    import jax

    return jax.vmap(env.reset, in_axes=(0, None))(
        jax.random.split(jax.random.key(0), size), env.default_params
    )[1]


def _raster(options: Options) -> list[Program]:
    import jax.numpy as jnp

    from jaxdodge.render.topdown import Discs, paint

    size = 4 if options.tiny else 4096

    def arguments() -> Any:
        return (Discs(*(jnp.zeros((size, 2, slots), jnp.int16) for slots in (1, 16, 1))),)

    draw = partial(paint, width=84, height=84, grayscale=True)
    return [Program(f"{size:,} images of 84 x 84", draw, arguments, unit="batch")]


def _training(options: Options, preset: str, part: str, seeds: int | None = None) -> list[Program]:
    """An update, a step of an evaluation, or a step of an epoch with its updates."""
    import jax
    import jax.numpy as jnp

    from jaxdodge.agents.program import make_trainer
    from jaxdodge.resources import preset as preset_file
    from jaxdodge.sim.params import game_params

    game, config = _preset(preset_file(preset))
    if options.tiny:
        small = {"num_envs": 4, "net_arch": (8, 8), "buffer_size": 400, "learning_starts": 40}
        config = dataclasses.replace(config, **small, batch_size=4, gradient_steps=2)
    trainer = make_trainer(game, config, seeds)
    params = game_params(game)

    def state() -> Any:
        return trainer._init(jax.random.key(0), params)

    if part == "epoch":
        steps, keys = 2, jax.random.split(jax.random.key(0), seeds or 1)

        def epoch(state: Any) -> Any:
            return trainer.epoch(state, params, jnp.int32(0), steps=steps)

        def states() -> Any:
            # `trainer.init` sets options of the compiler, which an inner program may not.
            return (jax.vmap(trainer._init, (0, None))(keys, params) if seeds else state(),)

        name = f"epoch, {preset}" + (f", {seeds} seeds" if seeds else "")
        return [Program(name, epoch, states, "step", steps, (0,))]
    if part == "update":

        def learn(learner: Any, replay: Any, key: Any) -> Any:
            return trainer.learn(learner, replay, jnp.int32(config.buffer_size // config.num_envs), key)

        def arguments() -> Any:
            full = state()
            return full.learner, full.replay, jax.random.key(1)

        name = f"updates, {preset}, batches of {config.batch_size}"
        return [Program(name, learn, arguments, "update", config.gradient_steps, (0,))]
    env, size = trainer.env, 4 if options.tiny else 128

    def step(policy: Any, observation: Any, state: Any, key: Any) -> Any:
        action = trainer.policy(policy, observation)
        keys = jax.random.split(key, size)
        return jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, state, action, params)

    def playing() -> Any:
        keys = jax.random.split(jax.random.key(0), size)
        observation, states = jax.vmap(env.reset, in_axes=(0, None))(keys, params)
        return state().learner.ema_policy, observation, states, jax.random.key(1)

    return [Program(f"evaluation, {preset}, {size} episodes", step, playing, donate=(2,))]


def _preset(path: Path) -> tuple[Any, Any]:
    """The configurations of a preset."""
    import yaml

    from jaxdodge.agents.train_config import TrainConfig
    from jaxdodge.config import GameConfig

    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    training = {field.name for field in dataclasses.fields(TrainConfig)}
    game = GameConfig(**GAME | {name: value for name, value in fields.items() if name not in training})
    return game, TrainConfig(**{name: value for name, value in fields.items() if name in training})


def _row(program: Program, dump: Path, present: bool) -> dict[str, Any]:
    import jax

    shapes = jax.eval_shape(program.arguments)
    start = time.perf_counter()
    compiled: Compiled = compile_for_gpu(program.function, shapes, dump, program.donate)
    say(f"gpu: {program.name}: compiled in {time.perf_counter() - start:.0f} s")
    figures = Figures()
    figures.add(compiled.figures, 1 / program.units)
    row: dict[str, Any] = {
        "part": "gpu",
        "name": program.name,
        "unit": program.unit,
        **dataclasses.asdict(figures),
        "estimated_seconds": figures.seconds(),
        **dataclasses.asdict(compiled.graphs),
        "inexact": inexact_operations(compiled.ptx) if program.exact else {},
    }
    if program.state is not None:
        leaves = jax.tree.leaves(shapes[program.state])
        row["state_bytes"] = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    if present:
        row["measured_seconds"] = _timed(program)
    return row


def _timed(program: Program) -> float:
    """Seconds per unit on the GPU that is present: the median of five runs."""
    import statistics

    import jax

    function = jax.jit(program.function)
    arguments = program.arguments()
    jax.block_until_ready(function(*arguments))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) / program.units


def ratios(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Per program, the share of what a single launch that moves the state once would take.

    Higher is better, as for the ratios to peers, so that `check` compares them alike.
    """
    found = {}
    for row in rows:
        least = 1 / (row["kernels"] + row["copies"] + row["library_calls"])
        found[f"gpu: one launch over those of {row['name']}"] = {"median": least}
        moved = max(row["bytes"], 1)
        state = row.get("state_bytes", moved / 2)
        found[f"gpu: state read and written over bytes of {row['name']}"] = {"median": 2 * state / moved}
    return found


def markdown(document: dict[str, Any]) -> str:
    """The rows as a table."""
    lines = [
        f"Figures per unit, {document['kind']}. The estimate is the longer of launches and memory "
        f"({BYTES_PER_SECOND / 1e12:.2f} TB/s), and the host's waits. Graphs, and what the host launches "
        "outside of them, are counted once, also in loops.",
        "",
        "| program | unit | kernels | copies | library calls | counted loops | waiting loops "
        "| conditions | graphs | launched alone | MB moved | of it needed | estimate | measured |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in document["rows"]:
        counts = " | ".join(f"{row[name]:.4g}" for name in (*COUNTED, "graphs", "alone"))
        needed = f"{2 * row['state_bytes'] / row['bytes']:.0%}" if "state_bytes" in row else ""
        measured = f"{row['measured_seconds'] * 1e6:.1f} µs" if "measured_seconds" in row else ""
        lines.append(
            f"| {row['name']} | {row['unit']} | {counts} | {row['bytes'] / 1e6:.3g} | {needed} "
            f"| {row['estimated_seconds'] * 1e6:.1f} µs | {measured} |"
        )
    for row in document["rows"]:
        for kernel, operations in row["inexact"].items():
            listed = ", ".join(f"{count} {name}" for name, count in operations.items())
            lines.append(f"\n{row['name']}: {kernel} rounds differently from the game: {listed}")
    return "\n".join(lines)
