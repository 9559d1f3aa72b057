"""`python -m benchmarks check`: whether a ratio to a peer fell; rates depend on the machine."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from benchmarks import suite
from jaxdodge.fields import ConfigError

# Not `train`: training times of one peer vary by a factor of seven between seeds. `scaling` has no
# peer.
GUARDED = ("env", "render", "sac")
# `gpu` is not measured by the suite, and needs `--result`.
COMPARED = (*GUARDED, "gpu")
COMMITTED = Path(__file__).parent / "results" / "bench.json"


@dataclasses.dataclass(frozen=True)
class Options:
    """Fail (exit status 1, a line per ratio) if a ratio to a peer fell by more than a margin.

    Rates are not compared, because machines differ.
    """

    result: Path | None = None
    """File that `--out` wrote; default: measure env, render and sac now."""
    against: Path = COMMITTED
    """The committed result."""
    margin: float = 0.25
    """Share by which a ratio may fall; on a busy machine medians differ by up to a fifth."""


def run(options: Options) -> int:
    """Compare and print; returns the exit status."""
    if not 0 <= options.margin < 1:
        raise ConfigError(f"margin: invalid value {options.margin}; expected a share from 0, below 1")
    committed = read(options.against)
    if options.result is None:
        # A missing peer would show as a fallen ratio, and only after minutes.
        missing = [suite.PEERS[name] for name in sorted(suite.PEERS.keys() - suite.installed())]
        if missing:
            raise ConfigError(
                f"{', '.join(missing)}: not installed, so there is no ratio; "
                "expected pip install 'jaxdodge[bench]', or --result"
            )
        result = guarded_ratios(suite.measured(suite.Options(parts=GUARDED, compare="peers")))
    else:
        result = read(options.result)
    lines = fallen(result, committed, options.margin)
    for line in lines:
        print(line)
    compared = sum(name.split(":")[0] in result["parts"] for name in committed["medians"])
    if not lines:
        print(f"{compared} ratios, none fell by more than {options.margin:.0%}")
    return 1 if lines else 0


def guarded_ratios(document: dict[str, Any]) -> dict[str, Any]:
    """The guarded parts of a result, and the medians of their ratios by name."""
    return {
        "parts": [part for part in COMPARED if part in document["parts"]],
        "medians": {
            name: float(spread["median"])
            for name, spread in document["ratios"].items()
            if name.split(":")[0] in COMPARED
        },
    }


def read(path: Path) -> dict[str, Any]:
    """The `guarded_ratios` of a file that `--out` wrote; raises ConfigError."""
    try:
        result = guarded_ratios(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path}: not a result; expected a file of python -m benchmarks --out") from None
    if not result["medians"]:
        raise ConfigError(
            f"{path}: no ratios in it; expected a result of {', '.join(GUARDED)} with --compare peers"
        )
    return result


def fallen(result: dict[str, Any], committed: dict[str, Any], margin: float) -> list[str]:
    """A line for each committed ratio that fell by more than the share `margin`, or is missing.

    Parts that were not measured are not compared.
    """
    lines = []
    for name, before in committed["medians"].items():
        if name.split(":")[0] not in result["parts"]:
            continue
        now = result["medians"].get(name)
        if now is None:
            lines.append(f"{name}: {before:.2f} before, not measured now")
        elif not now >= before * (1 - margin):
            lines.append(f"{name}: {before:.2f} before, {now:.2f} now, more than {margin:.0%} less")
    return lines
