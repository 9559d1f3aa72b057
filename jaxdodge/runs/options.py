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
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

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
METAVARS = {int: "INT", float: "FLOAT", Path: "PATH"}
NAMED = (tyro.conf.PositionalMetavarFromFieldName,)


# Groups of the help. Other fields belong to the group of their configuration.
TIMING = "timing"
IMAGES = "images"
GROUPS = {
    "fps": TIMING,
    "frames_per_step": TIMING,
    "response_frame": TIMING,
    "frame_time_jitter": TIMING,
    "frames_per_step_jitter": TIMING,
    "response_frame_jitter": TIMING,
    "observation_mode": IMAGES,
    "image_obs_width": IMAGES,
    "image_obs_height": IMAGES,
    "image_grayscale": IMAGES,
    "frame_stack": IMAGES,
    "critic_observation": IMAGES,
    "encoder": IMAGES,
    "squint": IMAGES,
    "random_shift": IMAGES,
}
OWN_GROUPS = {"GameConfig": "game", "TrainConfig": "training"}
HELP = {
    "game": "The rules of the game.",
    TIMING: "When the agent acts and what it sees then.",
    IMAGES: "What the agent observes.",
    "training": "The agent and its training.",
}


def parse_options(
    command: type,
    configs: tuple[type, ...],
    program: str,
    arguments: list[str],
    defaults: dict[str, Any] | None = None,
    notes: str = "",
    only: Collection[str] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Parse the command line.

    Args:
        command: dataclass of the command's own options.
        configs: configurations of `checked` fields; each field becomes an option.
        program: name for the usage line.
        arguments: the command line without the program.
        defaults: the command's own defaults, for the help; None where a run decides.
        notes: a paragraph for the help, after the docstring of `command`.
        only: the fields of `configs` that are options; None for all.

    Returns:
        `command` as given, and the given fields of `configs` by name, not yet checked or converted.

    Raises:
        ConfigError: an unknown option, or a value that `command` refuses.
    """
    groups: dict[str, list[tuple[str, Any, Any]]] = {}
    for config in configs:
        for option in field_options(config, defaults):
            if only is not None and option[0] not in only:
                continue
            groups.setdefault(GROUPS.get(option[0], OWN_GROUPS[config.__name__]), []).append(option)
    parser = dataclasses.make_dataclass(
        command.__name__,
        _own_options(command) + [_group(name, groups[name], defaults) for name in HELP if name in groups],
        bases=(command,),
        # `command` checks itself below, where its ConfigError is not boxed.
        namespace={"__post_init__": lambda self: None},
        frozen=True,
    )
    parser.__doc__ = f"{inspect.cleandoc(command.__doc__ or '')}\n\n{notes}"
    names = {name: group for group, fields in groups.items() for name, _, _ in fields}
    own = [field.name for field in dataclasses.fields(command)]
    hints = get_type_hints(command, include_extras=True)
    known = [*(_own_name(hints[name]) or name for name in own), *names]
    for argument in arguments:
        # Before tyro, which with an unknown option calls others missing or invalid.
        name = _name(argument)
        if argument.startswith("--") and name.removeprefix("no_") not in [*known, "help"]:
            raise ConfigError(_unknown(argument, known))
    result: tuple[Any, list[str]] = parse(
        lambda: tyro.cli(parser, prog=program, return_unknown_args=True, args=arguments, config=NAMED)
    )
    options, unknown = result
    if unknown:
        positional = (
            name for name in own if tyro.conf.Positional in getattr(hints[name], "__metadata__", ())
        )
        raise ConfigError(_unknown(unknown[0], known) + "".join(f", and one {name}" for name in positional))
    texts = {name: getattr(getattr(options, f"{group}_group"), name) for name, group in names.items()}
    given = {name: read_text(value) for name, value in texts.items() if value is not None}
    return command(**{name: getattr(options, name) for name in own}), given


def _own_options(command: type) -> list[tuple[str, Any, Any]]:
    """The command's options without a default, whose help would say "None" twice."""
    hints, descriptions = get_type_hints(command, include_extras=True), _descriptions(command)
    options = []
    for field in dataclasses.fields(command):
        if field.default is None:
            hint = hints[field.name]
            kinds = get_args(hint.__origin__ if hasattr(hint, "__metadata__") else hint)
            option = tyro.conf.arg(
                name=_own_name(hints[field.name]) or field.name.replace("_", "-"),
                help=" ".join(descriptions[field.name].split()),
                metavar=METAVARS.get(kinds[0], "NAME"),
                help_behavior_hint="",
            )
            options.append((field.name, Annotated[hints[field.name], option], None))
    return options


def _own_name(hint: Any) -> str | None:
    """The name that the command gives an option, if it is not that of its field."""
    return next((each.name for each in getattr(hint, "__metadata__", ()) if hasattr(each, "name")), None)


def _group(
    name: str, options: list[tuple[str, Any, Any]], defaults: dict[str, Any] | None
) -> tuple[str, Any, Any]:
    """Options under a heading of their own in the help."""
    fields: Any = dataclasses.make_dataclass(name, options, frozen=True)
    text = HELP[name] if defaults is not None else f"{HELP[name]} Default: as the run was trained."
    annotated = Annotated[fields, tyro.conf.arg(name=name, help=text), tyro.conf.OmitArgPrefixes]
    return f"{name}_group", annotated, fields()


def _name(option: str) -> str:
    """`frame_stack` of `--frame-stack=2`."""
    return option[2:].split("=")[0].replace("-", "_")


def _unknown(option: str, known: list[str]) -> str:
    if not option.startswith("--"):
        return f"{option}: unexpected argument; expected options as --name value"
    near = difflib.get_close_matches(_name(option), known, n=1)
    hint = f"; did you mean --{near[0].replace('_', '-')}?" if near else ""
    return f"{option.split('=')[0]}: no such option{hint} (--help lists all)"


def field_options(config: type, defaults: dict[str, Any] | None) -> list[tuple[str, Any, Any]]:
    """Name, type and default of each field of a configuration, for `dataclasses.make_dataclass`.

    Their values are text, for `read_text`. `defaults` as for `parse_options`.
    """
    options, descriptions = [], _descriptions(config)
    for field in dataclasses.fields(config):
        rule = field.metadata["rule"]
        many = isinstance(rule, Sizes)
        default: Any = None if defaults is None else defaults.get(field.name, field.default)
        text = str(default).lower() if isinstance(rule, Flag) else default
        text = " ".join(map(str, default)) if many and default else text
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
