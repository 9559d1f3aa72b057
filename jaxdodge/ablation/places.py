"""YAML with the line of everything in it, so that a refusal can name its place in the file."""

from pathlib import Path
from typing import Any, NoReturn

import yaml

from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line

# Names and indices that lead from the top of a file to a value in it.
Way = tuple[Any, ...]


class Document:
    """A YAML file: `content`, and the line of each of its values.

    Args:
        path: of the file.

    Raises:
        ConfigError: it cannot be read, is not valid YAML, is not a mapping, or says a name twice.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lines: dict[Way, int] = {}
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error_line(error)})") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # no UTF-8; too deep
            raise ConfigError(f"{path}: not valid YAML ({error_line(error)})") from None
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: must be a YAML mapping of names to values")
        self.content: dict[str, Any] = self._value(node, (), ())

    def refuse(self, way: Way, message: str) -> NoReturn:
        """Raise ConfigError with a line that names the file, the line and the way to a value in it.

        If the value itself is absent, the line is that of what it is missing from.
        """
        found = way
        while found not in self._lines:
            found = found[:-1]
        name = ".".join(map(str, way))
        raise ConfigError(f"{self.path}:{self._lines[found]}: {name}{': ' if name else ''}{message}")

    def _value(self, node: yaml.Node, way: Way, around: tuple[yaml.Node, ...]) -> Any:
        if any(node is each for each in around):
            self.refuse(way, "an alias of what it is in has no end")
        around = (*around, node)
        self._lines[way] = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            return [self._value(each, (*way, index), around) for index, each in enumerate(node.value)]
        constructor = yaml.SafeLoader("")
        try:
            if not isinstance(node, yaml.MappingNode):
                return constructor.construct_object(node, deep=True)
            content: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = constructor.construct_object(key_node, deep=True)
                if isinstance(key, (list, dict)):
                    self.refuse(way, "a name must be text or a number")
                self._lines[(*way, key)] = key_node.start_mark.line + 1
                if key in content:
                    self.refuse((*way, key), "is there twice")
                content[key] = self._value(value_node, (*way, key), around)
                # The line of a name is what a reader looks for, not that of the value below it.
                self._lines[(*way, key)] = key_node.start_mark.line + 1
        except ConfigError:
            raise
        except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date
            self.refuse(way, f"not valid YAML ({error_line(error)})")
        return content
