"""What all tests share: their order, and how they and the commands that they start compile."""

import gc
import os
import signal

import jax
import pytest
from fast_compilation import compile_fast_by_default
from hypothesis import settings
from jax.experimental.compilation_cache import compilation_cache

# The files that take longest, longest first. A file runs in one worker (`--dist loadfile`), because
# its tests share compiled programs; two workers finish together if the long files start first.
SLOWEST_FILES = (
    "test_readme.py",
    "test_wheel.py",
    "test_parity.py",
    "test_resume.py",
    "test_train.py",
    "test_ablate.py",
    "test_ray_executor.py",
    "test_stepping.py",
    "test_devices.py",
    "test_folds.py",
    "test_sac.py",
    "test_fleet_processes.py",
    "test_gym.py",
    "test_env.py",
    "test_suite.py",
    "test_fleet_endings.py",
    "test_record.py",
    "test_evaluate.py",
    "test_learning.py",
    "test_serve.py",
)
# Compilation is most of the tests' work. Tests of rounding compile as for users (`users_jit`), and
# so does the replay of all recordings.
compile_fast_by_default()
# Tracing makes millions of objects and hardly a cycle: collecting them takes a seventh of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 20)
# The time of an example depends on the load of the machine.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")
# A script's background processes ignore Ctrl-C, and those of nohup SIGHUP. Some tests send both to
# themselves and to commands.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def commands(tmp_path_factory):
    """All tests, and the commands that they start, share what they compile.

    The user's folder for caches is not touched.
    """
    with pytest.MonkeyPatch.context() as patch:
        temporary = tmp_path_factory.getbasetemp()
        shared = temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary
        patch.setenv("XDG_CACHE_HOME", f"{shared / 'caches'}")
        for name, value in {
            "jax_compilation_cache_dir": f"{shared / 'compiled'}",
            "jax_persistent_cache_min_compile_time_secs": 0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), f"{value}")
        # A test file that computes while it is imported has started without one.
        compilation_cache.reset_cache()
        yield


def pytest_collection_modifyitems(items):
    """The slowest files first, the others in their order."""
    ranks = {name: rank for rank, name in enumerate(SLOWEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
