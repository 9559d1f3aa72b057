"""Checkpoints of a run, to resume training: `models/checkpoints/<environment steps>/`.

The name has at least 12 digits.

arrays/       the leaves of the training state (Orbax)
record.json   the score, the caller's record, and name, dtype and shape of every leaf
checksums     SHA-256 of each file above, in the format of `sha256sum --check`

A checkpoint is written under a temporary name and renamed once all of it is on disk. A killed
process may leave folders named `.partial` or `.removed`; they are ignored, and deleted by the next
save.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line, read_json

# Orbax's CheckpointManager is not used: it restores a file with a flipped bit without notice, and a
# run that resumes from an older checkpoint could not save the steps that it reaches again.

# The newest alone is not enough: whatever killed the run may have damaged it.
KEEP_NEWEST = 2
# Orbax adds about a kilobyte per leaf.
SPARE_BYTES = 1_000_000

COMPLETE = re.compile(r"\d{12,}")
LEFTOVER = re.compile(r"\d{12,}\.(partial|removed)")


def _print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class UnusableError(ConfigError):
    """There are checkpoints, and none of them is usable."""


class Checkpoints:
    """The checkpoints in one folder, written by one process at a time.

    Args:
        folder: created by the first save.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def steps(self) -> list[int]:
        """Environment steps of the complete checkpoints, oldest first; `restore` finds damage."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if COMPLETE.fullmatch(path.name))

    def save(self, step: int, state: Any, record: dict[str, Any], score: float) -> None:
        """Add a checkpoint, then delete those that are no longer needed.

        The newest two are kept, and the one with the highest score (of equal scores the newer; NaN
        is no score). Checkpoints of later steps are deleted: the run has gone back behind them.

        A checkpoint of the same step is replaced, because a resumed run reaches it again. This
        takes two renames; a process killed between them leaves neither, and the older checkpoints.

        `state` can be donated afterwards, also after an error.

        Args:
            step: environment steps so far.
            state: a pytree of arrays, typed keys included.
            record: anything that JSON can hold.
            score: of the policy in `state`; higher is better.

        Raises:
            OSError: why it could not be written, in one line. All other checkpoints are as before.
        """
        leaves = _named_leaves(state)
        arrays = {name: _to_host(leaf) for name, leaf in leaves.items() if leaf.size}
        content = {
            "step": step,
            "score": float(score),
            "record": record,
            "leaves": {name: _description(leaf) for name, leaf in leaves.items()},
            "keys": {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)},
        }
        text = json.dumps(content, indent=1) + "\n"
        path = self._path(step)
        partial = path.with_suffix(".partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._delete_leftovers()
            self._check_free_space(sum(array.nbytes for array in arrays.values()))
            _write(partial, arrays, text)
            if path.exists():
                self._remove(step)
            partial.rename(path)
            _sync(self.folder)
        except Exception as error:  # tensorstore reports a full disk as ValueError
            raise OSError(f"{path}: not saved ({error_line(error)})") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._delete_unneeded(step)

    def restore(
        self, template: Any, step: int | None = None, warn: Callable[[str], None] = _print_to_stderr
    ) -> tuple[int, Any, dict[str, Any]]:
        """Read the newest undamaged checkpoint, or that of `step`. Nothing is deleted.

        Args:
            template: a pytree like the saved one, of arrays or `jax.ShapeDtypeStruct`s.
            step: one of `steps`.
            warn: called with one line for each damaged checkpoint that is skipped.

        Returns:
            Its step, the state with the bits that were saved, and the record.

        Raises:
            UnusableError: there is no usable checkpoint.
            ConfigError: `step` is not there or damaged, or its leaves differ from those of
                `template`.
        """
        steps = self.steps()
        if step is not None and step not in steps:
            raise ConfigError(f"{self._path(step)}: no such checkpoint; expected one of {steps}")
        wanted = {name: _description(leaf) for name, leaf in _named_leaves(template).items()}
        for candidate in [step] if step is not None else reversed(steps):
            path = self._path(candidate)
            try:
                arrays, content = _read(path, wanted)
                return candidate, _like(template, arrays, content["keys"]), content["record"]
            except ConfigError:
                raise
            except Exception as error:  # Orbax raises many kinds for damaged files
                line = f"{path}: damaged ({error_line(error)})"
                if step is not None:
                    raise ConfigError(line) from None
                warn(line)
        raise UnusableError(f"{self.folder}: no usable checkpoint in it")

    def delete(self) -> None:
        """Delete all of them; the run can then not be resumed."""
        for step in self.steps():
            self._remove(step)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:012d}"

    def _check_free_space(self, needed: int) -> None:
        """Raises OSError; Orbax would fill the disk and print hundreds of lines from threads."""
        free = shutil.disk_usage(self.folder).free
        largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if resource.RLIM_INFINITY != largest < needed + SPARE_BYTES:
            raise OSError(f"files are limited to {largest} bytes, {needed + SPARE_BYTES} needed")
        if free < needed + SPARE_BYTES:
            raise OSError(f"{free / 1e6:.0f} MB free, {(needed + SPARE_BYTES) / 1e6:.0f} MB needed")

    def _remove(self, step: int) -> None:
        """Rename a checkpoint, which is atomic; the process could be killed during the deletion."""
        path = self._path(step)
        path.rename(path.with_suffix(".removed"))

    def _delete_leftovers(self) -> None:
        for path in self.folder.iterdir():
            if LEFTOVER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def _delete_unneeded(self, newest: int) -> None:
        steps = self.steps()
        past = [step for step in steps if step <= newest]
        scores = {step: self._score(step) for step in past}
        rated = [(score, step) for step, score in scores.items() if not math.isnan(score)]
        needed = past[-KEEP_NEWEST:] + [step for _, step in sorted(rated)[-1:]]
        for step in set(steps) - set(needed):
            self._remove(step)
        self._delete_leftovers()

    def _score(self, step: int) -> float:
        try:
            return float(read_json(self._path(step) / "record.json")["score"])
        except (OSError, ValueError, KeyError, TypeError):  # damaged
            return math.nan


def _named_leaves(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _description(leaf: Any) -> list[Any]:
    return [str(leaf.dtype), list(leaf.shape)]


def _to_host(leaf: Any) -> np.ndarray:
    """A copy: on CPU, Orbax reads the device buffers, after an error also donated ones."""
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _like(template: Any, arrays: dict[str, np.ndarray], keys: dict[str, str]) -> Any:
    """The state, with the structure of `template`. Orbax does not store empty arrays."""
    leaves: list[Any] = []
    for name, leaf in _named_leaves(template).items():
        plain = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        if name in arrays and _description(arrays[name]) != _description(plain):
            raise ValueError(f"{name} is {_readable(_description(arrays[name]))}")
        if name not in arrays:
            leaves.append(jnp.empty(leaf.shape, leaf.dtype))
        elif name in keys:
            leaves.append(jax.random.wrap_key_data(jnp.array(arrays[name]), impl=keys[name]))
        else:
            leaves.append(jnp.array(arrays[name]))
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _checkpointer() -> ocp.Checkpointer:
    # Without other processes: the process that saves has the complete state.
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _write(folder: Path, arrays: dict[str, np.ndarray], text: str) -> None:
    folder.mkdir()
    with _plain(folder) as path:
        _checkpointer().save(path / "arrays", args=ocp.args.PyTreeSave(arrays))
    (folder / "record.json").write_text(text)
    (folder / "checksums").write_text(_checksums(folder))
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _read(folder: Path, wanted: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays by name, and what record.json holds.

    Raises:
        ConfigError: the saved leaves are not the wanted ones.
        Exception: of any kind if a file is damaged.
    """
    # Orbax does not notice a flipped bit in an array.
    _check(folder)
    content = read_json(folder / "record.json")
    step = content.get("step", int(folder.name))
    if step != int(folder.name):
        raise ValueError(f"renamed: it was saved at {step} environment steps")
    saved = content["leaves"]
    for name in wanted | saved:
        if saved.get(name) != wanted.get(name):
            raise ConfigError(
                f"{folder}: of another configuration: {name} is {_readable(saved.get(name))}, "
                f"not {_readable(wanted.get(name))}"
            )
    names = [name for name, (_, shape) in wanted.items() if math.prod(shape)]
    kinds = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
    with _plain(folder) as plain:
        arrays = _checkpointer().restore(plain / "arrays", args=ocp.args.PyTreeRestore(restore_args=kinds))
    return arrays, content


@contextlib.contextmanager
def _plain(folder: Path) -> Iterator[Path]:
    """Another path of a folder, without characters that Orbax reads as a pattern or an address."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _readable(description: list[Any] | None) -> str:
    return f"{description[0]}{description[1]}" if description else "absent"


def _checksums(folder: Path) -> str:
    """The content of `checksums` for the files that are present now."""
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "checksums":
            with path.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{checksum}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def _check(folder: Path) -> None:
    """Raises ValueError or OSError if any file was changed, removed or added."""
    if not (folder / "checksums").is_file():
        raise ValueError("the file checksums is missing")
    saved, present = (folder / "checksums").read_bytes().decode(errors="replace"), _checksums(folder)
    if saved != present:
        differing = set(saved.splitlines()) ^ set(present.splitlines())
        names = sorted(line.partition("  ")[2] for line in differing)
        raise ValueError(f"changed since it was saved: {(names or ['checksums'])[0]}")


def _sync(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
