"""YAML as this package reads it: numbers are decimal, names occur once, and its size is limited.

PyYAML follows YAML 1.1, in which `010` is 8, `100:00` is 6000, `3e-4` is text, and the last of two
equal names wins. Aliases can stand for a billion values in ten lines.
"""

import re
from typing import Any

import yaml

DEEPEST = 50
TOO_DEEP = f"nested more than {DEEPEST} levels deep"
LONGEST_NUMBER = 1000
"""Digits."""
MOST_VALUES = 100_000
LARGEST_FILE = 5_000_000
"""Bytes."""

INT, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
NUMBERS = {
    INT: r"[-+]?(0x[0-9a-fA-F]+|(0|[1-9][0-9_]*)([eE]\+?[0-9]{1,3})?)",
    FLOAT: r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE]-[0-9]+|[-+]?\.inf|\.nan",
}


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` with the rules of this module."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [resolver for resolver in resolvers if resolver[0] not in NUMBERS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str):
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.YAMLError(TOO_DEEP)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, name in enumerate(names):
            if name in names[:number] and name != "<<":
                raise yaml.YAMLError(
                    f"duplicate key {name!r} in line {node.value[number][0].start_mark.line + 1}"
                )
        return super().construct_mapping(node, deep)

    def whole_number(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node)).replace("_", "").lower()
        if len(text) > LONGEST_NUMBER:
            raise yaml.YAMLError(f"a number of {len(text)} digits; expected at most {LONGEST_NUMBER}")
        if "0x" in text:
            return int(text, 16)
        digits, _, exponent = text.partition("e")
        return int(digits) * 10 ** int(exponent or 0)


for _tag, _pattern in NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list("-+.0123456789"))
_Loader.add_constructor(INT, _Loader.whole_number)


def compose(text: str) -> yaml.Node | None:
    """The nodes of a YAML text; raises yaml.YAMLError, also if it is too deep or too large."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    if node is not None:
        count, depth = _extent(node, {})
        if count > MOST_VALUES:
            raise yaml.YAMLError(f"{count} values; expected at most {MOST_VALUES}")
        if depth > DEEPEST:
            raise yaml.YAMLError(TOO_DEEP)
    return node


def construct(node: yaml.Node) -> Any:
    """The value of a node; raises yaml.YAMLError, or ValueError for an impossible date."""
    return _Loader("").construct_document(node)


def load(text: str) -> Any:
    """The value of a YAML text; raises yaml.YAMLError, or ValueError for an impossible date."""
    node = compose(text)
    return None if node is None else construct(node)


def read_text(value: Any) -> Any:
    """A value as YAML reads it, so that it means the same on the command line and in a file."""
    if isinstance(value, tuple):
        return [read_text(part) for part in value]
    try:
        return load(value)
    except (yaml.YAMLError, ValueError):
        return value


def _extent(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Values and levels of a node, each alias counted as often as it stands for them.

    An alias comes after its anchor, so this recursion is no deeper than the text.
    """
    if id(node) not in known:
        known[id(node)] = None
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        pairs = (part if isinstance(part, tuple) else (part,) for part in parts)
        below = [_extent(each, known) for pair in pairs for each in pair]
        known[id(node)] = (
            1 + sum(count for count, _ in below),
            1 + max((depth for _, depth in below), default=0),
        )
    extent = known[id(node)]
    if extent is None:
        raise yaml.YAMLError(f"recursive alias in line {node.start_mark.line + 1}")
    return extent
