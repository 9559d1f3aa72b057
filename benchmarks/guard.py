"""Whether a ratio to a peer has fallen: ratios and not rates, since machines differ and are busy."""

import json
from pathlib import Path
from typing import Any

from jaxdodge.fields import ConfigError

# The seeds of one peer's training take times that differ by a factor of seven; `scaling` has no peer.
GUARDED = ("env", "render", "sac")


def guarded_ratios(document: dict[str, Any]) -> dict[str, Any]:
    """Of a result, the parts that are guarded, and the medians of their ratios by name."""
    return {
        "parts": [part for part in GUARDED if part in document["parts"]],
        "medians": {
            name: float(spread["median"])
            for name, spread in document["ratios"].items()
            if name.split(":")[0] in GUARDED
        },
    }


def read(path: Path) -> dict[str, Any]:
    """The `guarded_ratios` of what `--out` wrote; raises ConfigError."""
    try:
        result = guarded_ratios(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path}: not a result; expected what python -m benchmarks --out wrote") from None
    if not result["medians"]:
        raise ConfigError(
            f"{path}: no ratios in it; expected a result of {', '.join(GUARDED)} with --compare peers"
        )
    return result


def fallen(result: dict[str, Any], committed: dict[str, Any], margin: float) -> list[str]:
    """A line for each ratio of the committed ones that fell by more than the share `margin`, or is gone.

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
