"""Imports go one way, and no two modules have the same name."""

import re
import tomllib
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import pytest
from imports import between_packages, cycle, import_graph, module_files, third_party

import jaxdodge

ROOT = Path(jaxdodge.__file__).parent
PACKAGES = {name for name, path in module_files(ROOT).items() if path.stem == "__init__"}
# The commands; see `jaxdodge.__main__`.
COMMANDS = (
    "jaxdodge.train",
    "jaxdodge.sb3",
    "jaxdodge.evaluate",
    "jaxdodge.export",
    "jaxdodge.watch",
    "jaxdodge.ablate",
    "jaxdodge.serve",
)


USED_EXTRAS = ("export", "grpc", "sb3", "server", "ray")


def test_no_module_imports_itself_by_way_of_others():
    assert cycle(import_graph(ROOT)) == []


def test_no_package_imports_itself_by_way_of_others():
    assert cycle(between_packages(import_graph(ROOT), PACKAGES)) == []


def test_nothing_imports_a_command():
    for module, imported in import_graph(ROOT).items():
        found = {name for name in imported if name in COMMANDS or name.endswith("__main__")}
        assert not found, module


def test_no_two_modules_have_the_same_name():
    places = defaultdict(list)
    for module in module_files(ROOT):
        last = module.rpartition(".")[2]
        if last != "__main__" and "_pb2" not in last:
            places[last].append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_imported_package_is_declared():
    """Of the dependencies and the extras that users install."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(line for name in USED_EXTRAS for line in extras[name])]
    names = {re.split(r"[><=[ ]", line)[0].lower().replace("_", "-") for line in declared}
    distributions = metadata.packages_distributions()
    for package in third_party(ROOT):
        providers = {name.lower().replace("_", "-") for name in distributions.get(package, [package])}
        assert providers & names, package


@pytest.mark.parametrize(
    "statement",
    [
        "import game.a.one",
        "from game.a import one",
        "from game.a.one import something",
        "from .. import a",
        "from ..a import one",
        "from ..a.one import something",
        "def function():\n    from game.a.one import something",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import game.a.one",
    ],
)
def test_each_way_of_importing_closes_a_cycle(tmp_path, statement):
    files = {
        "__init__": "",
        "a/__init__": "from game.a import one",
        "a/one": "import game.b.two",
        "b/__init__": "",
        "b/two": statement,
    }
    root = tmp_path / "game"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.py").write_text(text)
    graph = import_graph(root)
    assert cycle(graph)
    assert sorted(set(cycle(between_packages(graph, {"game", "game.a", "game.b"})))) == ["game.a", "game.b"]
    (root / "b" / "two.py").write_text("import os\nfrom os import path")
    assert cycle(import_graph(root)) == []
