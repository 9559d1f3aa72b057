"""Checked configuration fields: what a value may be, and the one line that says why it is refused.

A configuration is a frozen dataclass whose fields carry a rule in their metadata. `check_fields`
applies the rules, `from_mapping` builds a configuration from a mapping (YAML, keyword arguments).
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from jaxdodge import yaml_text
from jaxdodge.files import error_line, one_line, read_bytes


class ConfigError(ValueError):
    """An invalid configuration: one line with the field, the value and what is expected."""


Config = TypeVar("Config")
# Characters of a value in a message.
LONGEST_VALUE = 200


def _invalid(name: str, value: Any, accepted: str) -> ConfigError:
    return ConfigError(f"{name}: invalid value {one_line(repr(value), LONGEST_VALUE)}; expected {accepted}")


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number in a range; a `float` is rounded to float32 first, as in the game."""

    kind: type
    low: float = -math.inf
    high: float = math.inf
    above_low: bool = False
    note: str = ""

    def expected(self) -> str:
        low = "" if self.low == -math.inf else f"{self.low:.10g} {'<' if self.above_low else '<='} "
        high = "" if self.high == math.inf else f" <= {self.high:.10g}"
        noun = "whole number" if self.kind is int else "number"
        text = f"a {noun}" + (f", {low}value{high}" if low or high else "")
        return text + (f" ({self.note})" if self.note else "")

    def check(self, name: str, value: Any) -> Any:
        """The value as `int` or `float`; raises ConfigError."""
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
        real = isinstance(value, (float, np.floating)) and math.isfinite(value)
        if not (whole or (real and self.kind is float)):
            raise _invalid(name, value, self.expected())
        try:
            with np.errstate(over="ignore"):
                judged = float(np.float32(value)) if self.kind is float else value
                finite = math.isfinite(judged)
        except OverflowError:
            raise _invalid(name, value, self.expected()) from None
        above = judged > self.low if self.above_low else judged >= self.low
        if not (finite and above and judged <= self.high):
            raise _invalid(name, value, self.expected())
        return self.kind(value)


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or false."""

    def expected(self) -> str:
        return "true or false"

    def check(self, name: str, value: Any) -> bool:
        """The value as `bool`; raises ConfigError."""
        if not isinstance(value, (bool, np.bool_)):
            raise _invalid(name, value, self.expected())
        return bool(value)


@dataclasses.dataclass(frozen=True)
class Name:
    """One of several names, in any case; `aliases` maps further names to theirs."""

    names: tuple[str, ...]
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def expected(self) -> str:
        return ", ".join([*self.names, *self.aliases])

    def check(self, name: str, value: Any) -> str:
        """The canonical name; raises ConfigError."""
        key = value.lower() if isinstance(value, str) else value
        key = self.aliases.get(key, key) if isinstance(key, str) else None
        if key not in self.names:
            raise _invalid(name, value, self.expected())
        return key


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A list of positive whole numbers, such as the widths of a network's layers."""

    high: int

    def expected(self) -> str:
        return f"a list of whole numbers from 1 to {self.high}"

    def check(self, name: str, value: Any) -> tuple[int, ...]:
        """The value as a tuple of `int`; raises ConfigError."""
        if not isinstance(value, (list, tuple)) or not value:
            raise _invalid(name, value, self.expected())
        try:
            return tuple(Number(int, 1, self.high).check(name, size) for size in value)
        except ConfigError:
            raise _invalid(name, value, self.expected()) from None


def checked(rule: Any, default: Any, **kwargs: Any) -> Any:
    """A dataclass field with its rule; a default of None means "derived" and is not checked."""
    return dataclasses.field(default=default, metadata={"rule": rule}, **kwargs)


def check_fields(config: Any) -> None:
    """Check every field of a dataclass and store its canonical value; raises ConfigError."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not (value is None and field.default is None):
            object.__setattr__(config, field.name, field.metadata["rule"].check(field.name, value))


def check_names(mapping: Mapping[str, Any], known: Mapping[str, str], what: str) -> None:
    """Refuse unknown names, with the nearest known one.

    `known` maps a name to "", or to why it cannot be set.
    """
    for name in mapping:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"{one_line(name)}: no such field of {what}{hint} (expected: {', '.join(known)})"
            )
        if known[name]:
            raise ConfigError(f"{name}: {known[name]}")


def from_mapping(cls: type[Config], mapping: Mapping[str, Any], what: str) -> Config:
    """A configuration of the dataclass `cls` from names and values; raises ConfigError."""
    check_names(mapping, {field.name: "" for field in dataclasses.fields(cls)}, what)  # type: ignore[arg-type]
    return cls(**mapping)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A flat YAML mapping; raises ConfigError with one line that names the file.

    Numbers and limits are those of `jaxdodge.yaml_text`.
    """
    try:
        loaded = yaml_text.load(read_bytes(Path(path), yaml_text.LARGEST_FILE).decode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error_line(error)})") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date, or no UTF-8
        raise ConfigError(f"{path}: not valid YAML ({error_line(error)})") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: must be a YAML mapping of names to values, not {type(loaded).__name__}")
    return loaded
