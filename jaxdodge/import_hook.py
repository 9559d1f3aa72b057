"""Something to do when another package is imported, without importing it."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


def call_when_imported(name: str, function: Callable[[ModuleType], None]) -> None:
    """Call a function with a module: now if it is imported already, else right after its import."""
    if name in sys.modules:
        function(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, function))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module as the other finders do, and adds the call to its loader."""

    def __init__(self, name: str, function: Callable[[ModuleType], None]):
        self._name, self._function = name, function

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of the module that it waits for; None for all others."""
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_call(module: ModuleType) -> None:
                load(module)
                self._function(module)

            spec.loader.exec_module = load_and_call  # type: ignore[method-assign]
        return spec
