"""Command-line options for the fields of configurations: one option per field, by its own name.

A field of None means "derived", and the value of a file holds unless the command line gives
another. So options are text, None if absent, and the configuration's own rules convert and check
them.
"""

import ast
import dataclasses
import difflib
import inspect
import itertools
from typing import Annotated, Any

import tyro

from jaxdodge.cli import parse
from jaxdodge.fields import ConfigError, Flag, Number, Sizes
from jaxdodge.yaml_text import read_text

# The timing that the original project trained with: an action every 7 frames, and the response to
# an action shows the game just before it is applied.
DEFAULTS = {
    "level": 2,
    "spawn_angle_degrees": 30.0,
    "action_space_type": "basic_3d",
    "frames_per_step": 7,
    "response_frame": 0,
}


def parse_options(
    command: type, configs: tuple[type, ...], program: str, arguments: list[str], defaults: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Parse the command line.

    Args:
        command: dataclass of the command's own options.
        configs: configurations of `checked` fields; each field becomes an option.
        program: name for the usage line.
        arguments: the command line without the program.
        defaults: the command's own defaults, for the help.

    Returns:
        `command` as given, and the given fields of `configs` by name, not yet checked or converted.
    """
    fields = [field for config in configs for field in field_options(config, defaults)]
    parser = dataclasses.make_dataclass(command.__name__, fields, bases=(command,), frozen=True)
    parser.__doc__ = command.__doc__
    result: tuple[Any, list[str]] = parse(
        lambda: tyro.cli(parser, prog=program, return_unknown_args=True, args=arguments)
    )
    options, unknown = result
    if unknown:
        raise ConfigError(_unknown(unknown[0], [field.name for field in dataclasses.fields(parser)]))
    texts = {name: getattr(options, name) for name, _, _ in fields}
    given = {name: read_text(value) for name, value in texts.items() if value is not None}
    own = {field.name: getattr(options, field.name) for field in dataclasses.fields(command)}
    return command(**own), given


def _unknown(option: str, known: list[str]) -> str:
    if not option.startswith("--"):
        return f"{option}: unexpected argument; expected options as --name value, and one run at most"
    name = option[2:].split("=")[0].replace("-", "_")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean --{near[0].replace('_', '-')}?" if near else ""
    return f"{option.split('=')[0]}: no such option{hint} (--help lists all)"


def field_options(config: type, defaults: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Name, type and default of each field of a configuration, for `dataclasses.make_dataclass`.

    Their values are text, for `read_text`.
    """
    options, descriptions = [], _descriptions(config)
    for field in dataclasses.fields(config):
        rule = field.metadata["rule"]
        many = isinstance(rule, Sizes)
        default = defaults.get(field.name, field.default)
        text = str(default).lower() if isinstance(rule, Flag) else default
        text = " ".join(map(str, default)) if many else text
        shown = "" if default is None else f" Default here: {text}."
        kind = tuple[str, ...] if many else str
        option = tyro.conf.arg(
            help=f"{descriptions[field.name]} Expected: {rule.expected()}.{shown}",
            metavar=_metavar(rule),
            help_behavior_hint="",
        )
        options.append((field.name, Annotated[kind | None, option], None))
    return options


def _metavar(rule: Any) -> str:
    if isinstance(rule, Number):
        return "INT" if rule.kind is int else "FLOAT"
    return {Flag: "BOOL", Sizes: "INT [INT ...]"}.get(type(rule), "NAME")


def _descriptions(config: type) -> dict[str, Any]:
    """The docstring below each field of a dataclass, read from the source code."""
    classes = [base for base in reversed(config.__mro__) if dataclasses.is_dataclass(base)]
    definitions: Any = [ast.parse(inspect.getsource(each)).body[0] for each in classes]
    return {
        field.target.id: text.value.value
        for definition in definitions
        for field, text in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
