"""A cache of compiled programs, for test files that train or play the same networks."""

import contextlib
from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache


@contextlib.contextmanager
def shared_compilations(temporary: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is compiled in the block; the next block finds it, also in another file."""
    folder = f"{temporary.getbasetemp() / 'compiled'}"
    changed = {"jax_compilation_cache_dir": folder, "jax_persistent_cache_min_compile_time_secs": 0}
    before = {name: getattr(jax.config, name) for name in changed}
    for values in (changed, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is changed:
            yield
