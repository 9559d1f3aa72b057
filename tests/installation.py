"""The checkout, and environments in which the package is installed anew."""

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]
# For every single wait.
SECONDS = 600


def environment(folder: Path) -> Path:
    """Make a virtual environment that has the dependencies of the tests' own, but not this package.

    Installing the dependencies again would take minutes.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=SECONDS)
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.lstrip("_").startswith(("jaxdodge", "pip")):
            (dependencies / path.name).symlink_to(path)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{dependencies}")
    return folder
