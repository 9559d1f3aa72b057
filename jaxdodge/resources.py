"""The presets and recordings that come with the package, found from any folder.

A checkout keeps them in `configs/` and `parity/recordings/`, a wheel in `jaxdodge/data/`.
"""

import difflib
from pathlib import Path

from jaxdodge.fields import ConfigError

PACKAGE = Path(__file__).parent


def presets(folder: str = "") -> list[str]:
    """Names of the presets in a folder of `configs/`, sorted.

    Args:
        folder: `""` for training presets, `"studies"` or `"original"`.
    """
    return sorted(path.stem for path in (_configs() / folder).glob("*.yaml"))


def preset(name: str | Path, folder: str = "") -> Path:
    """The file of a preset, or the user's own file.

    Args:
        name: a path, or the name of a preset as in `presets`. A file of that name wins. Training
            presets include those of the original project, as `original/NAME`.
        folder: as for `presets`.

    Raises:
        ConfigError: a name, without folder and suffix, of neither a file nor a preset.
    """
    path, known = Path(name), presets(folder)
    if not folder:
        known += [f"original/{each}" for each in presets("original")]
    if f"{name}" in known and not path.is_file():
        return _configs() / folder / f"{name}.yaml"
    if path.is_file() or path.suffix or len(path.parts) > 1:
        return path
    near = difflib.get_close_matches(path.name, known, n=1)
    hint = f"did you mean {near[0]}? (presets: " if near else "expected a YAML file or one of "
    raise ConfigError(f"{name}: no such file or preset; {hint}{', '.join(known)}{')' if near else ''}")


def recordings() -> Path:
    """The folder of the recordings of the real game."""
    packaged = PACKAGE / "data" / "recordings"
    return packaged if packaged.is_dir() else PACKAGE.parent / "parity" / "recordings"


def _configs() -> Path:
    packaged = PACKAGE / "data" / "configs"
    return packaged if packaged.is_dir() else PACKAGE.parent / "configs"
