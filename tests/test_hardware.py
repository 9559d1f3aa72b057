"""What is kept compiled from one process to the next, and freed memory."""

import ctypes
import os
from pathlib import Path

import psutil
import pytest

from jaxdodge import hardware


@pytest.fixture
def environment(tmp_path, monkeypatch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"):
        # Set first, so that it is taken back whatever happens to it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", f"{tmp_path}")
    return monkeypatch


def kept_in() -> str | None:
    hardware.keep_compiled()
    return os.environ.get("JAX_COMPILATION_CACHE_DIR")


def test_there_is_a_bounded_folder_for_every_kind_of_processor(environment, tmp_path):
    other = tmp_path / "cpuinfo"
    other.write_text("model name : another\nflags : fpu sse\n")
    folders = [kept_in()]
    environment.delenv("JAX_COMPILATION_CACHE_DIR")
    environment.setattr(hardware, "CPUINFO", other)
    folders.append(kept_in())
    assert len(set(folders)) == 2
    assert {Path(folder).parent for folder in folders} == {tmp_path / "jaxdodge"}
    assert all(Path(folder).is_dir() for folder in folders)
    assert int(os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"]) == hardware.CACHE_BYTES


def test_without_a_folder_for_caches_it_is_in_the_home(environment, tmp_path):
    environment.delenv("XDG_CACHE_HOME")
    environment.setenv("HOME", f"{tmp_path}")
    assert Path(kept_in()).parent == tmp_path / ".cache" / "jaxdodge"


@pytest.mark.parametrize("folder", ["/somewhere/else", ""])
def test_the_users_own_choice_stands(environment, folder):
    environment.setenv("JAX_COMPILATION_CACHE_DIR", folder)
    assert kept_in() == folder
    # Nor is a folder of the user's own cut to our size.
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ


def test_where_nothing_can_be_written_nothing_is_kept(environment, tmp_path):
    (tmp_path / "jaxdodge").write_text("a file")
    assert kept_in() is None


def test_freed_memory_is_returned():
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("only glibc can")
    malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
    malloc.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [malloc(100_000) for _ in range(3000)]
    for block in blocks:
        ctypes.memset(block, 1, 100_000)
    # The last block holds the end of the heap, so that freeing the others returns nothing.
    for block in blocks[:-1]:
        free(block)
    before = psutil.Process().memory_info().rss
    hardware.return_freed_memory()
    free(blocks[-1])
    assert before - psutil.Process().memory_info().rss > 200_000_000
