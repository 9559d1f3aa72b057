"""What tests of an installation share."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from installation import ROOT

NOT_COPIED = (".git", ".venv", "results", "build", "dist", "__pycache__", ".*_cache", ".hypothesis")


@pytest.fixture(scope="session")
def clean():
    """The variables of a user's shell."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return kept | {"PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A clone's files."""
    folder = tmp_path_factory.mktemp("clone") / "jaxdodge"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return folder
