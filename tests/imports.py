"""Which module of a package imports which, read from the source: also inside functions."""

import ast
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = dict[str, set[str]]


def module_files(root: Path) -> dict[str, Path]:
    """The modules below a package's folder by dotted name; a package has its folder's name."""
    names = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def import_graph(root: Path) -> Graph:
    """For each module, the modules of the same package that any of its statements imports."""
    files = module_files(root)
    return {name: set(_imported(name, path, files)) - {name} for name, path in files.items()}


def _imported(name: str, path: Path, known: Iterable[str]) -> Iterable[str]:
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{source}.{alias.name}"
                if full in known:
                    yield full
                elif source in known:
                    yield source


def third_party(root: Path) -> set[str]:
    """Top-level names of the imported packages that come neither from here nor with Python."""
    found = set()
    for path in module_files(root).values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return found - sys.stdlib_module_names - {root.name}


def between_packages(graph: Graph, packages: set[str]) -> Graph:
    """The same imports between folders; a module that lies in the root stands for itself."""

    def folder(module: str) -> str:
        if module in packages:
            return module
        return module.rpartition(".")[0] if module.count(".") > 1 else module

    merged: Graph = {}
    for module, imported in graph.items():
        merged.setdefault(folder(module), set()).update(map(folder, imported))
    return {name: imported - {name} for name, imported in merged.items()}


def cycle(graph: Graph) -> list[str]:
    """The names of a cycle in order, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []
