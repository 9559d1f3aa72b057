"""A YAML file that knows the line of each value, so that an error can name it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from jaxdodge import yaml_text
from jaxdodge.fields import ConfigError, check_names
from jaxdodge.files import error_line, read_bytes

# Keys and list indices that lead from the top of a file to a value.
KeyPath = tuple[Any, ...]


class YamlDocument:
    """A YAML file: its `content`, the line of each value, and checks that report the line.

    Args:
        path: of the file.

    Raises:
        ConfigError: the file is unreadable, is not valid YAML, is not a mapping, or repeats a key.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lines: dict[KeyPath, int] = {}
        try:
            node = yaml_text.compose(read_bytes(path, yaml_text.LARGEST_FILE).decode())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error_line(error)})") from None
        except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8
            raise ConfigError(f"{path}: not valid YAML ({error_line(error)})") from None
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: must be a YAML mapping of names to values")
        self.content: dict[str, Any] = self._value(node, ())

    def fail(self, key_path: KeyPath, message: str) -> NoReturn:
        """Raise ConfigError with the file, the line and the key path of a value.

        For a missing value, the line is that of the mapping or list that should contain it.
        """
        known = key_path
        while known not in self._lines:
            known = known[:-1]
        name = ".".join(map(str, key_path))
        raise ConfigError(f"{self.path}:{self._lines[known]}: {name}{': ' if name else ''}{message}")

    def at(self, key_path: KeyPath) -> Any:
        """The value at a key path."""
        value: Any = self.content
        for key in key_path:
            value = value[key]
        return value

    def mapping(self, key_path: KeyPath, what: str = "names to values") -> dict[Any, Any]:
        """The value at a key path, which must be a mapping with at least one entry."""
        value = self.at(key_path)
        if not isinstance(value, dict) or not value:
            self.fail(key_path, f"must be a mapping of {what}, with at least one entry")
        return value

    def items(self, key_path: KeyPath) -> list[Any]:
        """The value at a key path, which must be a list with at least one item."""
        value = self.at(key_path)
        if not isinstance(value, list) or not value:
            self.fail(key_path, "must be a list with at least one item")
        return value

    def check(self, key_path: KeyPath, rule: Any) -> Any:
        """The value at a key path in the canonical form of a field's rule."""
        name = str(key_path[-1])
        try:
            return rule.check(name, self.at(key_path))
        except ConfigError as error:
            self.fail(key_path, str(error).removeprefix(f"{name}: "))

    def check_keys(self, key_path: KeyPath, known: Iterable[str], what: str) -> None:
        """Fail if the mapping at a key path has an unknown key; see `check_key`."""
        for name in self.at(key_path):
            self.check_key((*key_path, name), known, what)

    def check_key(self, key_path: KeyPath, known: Iterable[str], what: str, hint: str = "") -> None:
        """Fail if the last key of a key path is not among the known names of `what`.

        Args:
            key_path: whose last key is checked.
            known: names; as a mapping, see `check_names`.
            what: has these names.
            hint: ends the message.
        """
        name = key_path[-1]
        try:
            check_names({name: None}, known if isinstance(known, Mapping) else dict.fromkeys(known, ""), what)
        except ConfigError as error:
            self.fail(key_path, str(error).removeprefix(f"{name}: ") + hint)

    def _value(self, node: yaml.Node, key_path: KeyPath) -> Any:
        self._lines[key_path] = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*key_path, i)) for i, item in enumerate(node.value)]
        try:
            if not isinstance(node, yaml.MappingNode):
                return yaml_text.construct(node)
            content: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = yaml_text.construct(key_node)
                if isinstance(key, (list, dict)):
                    self.fail(key_path, "a name must be text or a number")
                self._lines[(*key_path, key)] = key_node.start_mark.line + 1
                if key in content:
                    self.fail((*key_path, key), "duplicate key")
                content[key] = self._value(value_node, (*key_path, key))
                # Readers look for the line of the key, not for that of the value below it.
                self._lines[(*key_path, key)] = key_node.start_mark.line + 1
        except ConfigError:
            raise
        except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date
            self.fail(key_path, f"not valid YAML ({error_line(error)})")
        return content
