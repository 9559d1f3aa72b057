"""`python -m jaxdodge.export`: write a run's policy for other programs.

Exit status: 0 written, 1 it differs from the policy, 2 bad input.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxdodge.cli import guarded
from jaxdodge.fields import ConfigError, Name, Number
from jaxdodge.hardware import keep_compiled
from jaxdodge.runs.folder import POLICIES, Run
from jaxdodge.runs.options import parse_options

LARGEST_DIFFERENCE = 1e-5
FORMATS = Name(("onnx", "stablehlo", "npz"))


@dataclasses.dataclass(frozen=True)
class Export:
    """Write the policy of a run as a file: from observations to actions, with everything between.

    onnx: a graph for onnxruntime and the like. stablehlo: a program for jax.export. npz: the
    parameters as arrays. All take observations of the environment, with their frame stack and
    previous action.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run of one seed."""
    format: str = "onnx"
    """onnx, stablehlo or npz."""
    out: Path | None = None
    """File to write or replace; default: policy.FORMAT in the folder of the run."""
    policy: str = "best"
    """best or final."""
    check: int = 200
    """Observations of the policy's play to compare it on; hundreds."""


def export(arguments: list[str]) -> int:
    """Parse, write, print a line, and return the exit status."""
    options, _ = parse_options(Export, (), "jaxdodge export", arguments)
    FORMATS.check("format", options.format)
    Name(POLICIES).check("policy", options.policy)
    Number(int, 1, 1_000_000).check("check", options.check)
    run = Run.open_one(options.run)
    game, config = run.config()
    run.policy_path(options.policy)
    out = options.out or options.run / f"policy.{options.format}"

    import jax
    import numpy as np

    from jaxdodge.agents.program import make_trainer
    from jaxdodge.exports.difference import largest_difference
    from jaxdodge.exports.jax_files import exported_policy, write_npz, write_stablehlo
    from jaxdodge.sim.spaces import observation_space

    trainer = make_trainer(game, config)
    weights = run.load_policy(options.policy, trainer.policy_shapes())
    space: Any = observation_space(game)
    if options.format == "npz":
        write_npz(weights, dataclasses.asdict(game) | dataclasses.asdict(config), out)
        print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")
        return 0

    def policy(observation: Any) -> jax.Array:
        return trainer.policy(weights, observation)

    act: Callable[[Any], Any]
    if options.format == "stablehlo":
        exported = exported_policy(policy, space)
        write_stablehlo(exported, out)
        act = exported.call
    else:
        try:
            from jaxdodge.exports.onnx_graph import onnx_model, runtime, write_onnx
        except ModuleNotFoundError as error:
            raise ConfigError(f"format: onnx needs {error.name}; pip install 'jaxdodge[export]'") from None
        if config.precision != "float32":
            raise ConfigError(f"format: onnx needs precision float32; the run has {config.precision}")
        spaces = getattr(space, "spaces", space)
        model = onnx_model(policy, jax.tree.map(lambda box: np.zeros(box.shape, box.dtype), spaces))
        write_onnx(model, out)
        act = runtime(model)
    difference = largest_difference(trainer, game, weights, act, options.check)
    print(
        f"{out}: {out.stat().st_size / 1e3:.0f} kB; largest difference from the policy over "
        f"{options.check:,} observations of its play: {difference:.1e}"
    )
    if difference > LARGEST_DIFFERENCE:
        print(f"{out}: differs by more than {LARGEST_DIFFERENCE:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    keep_compiled()
    sys.exit(guarded(export, sys.argv[1:]))
