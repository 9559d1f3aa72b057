"""What all tests share: their order, and how the commands that they start compile."""

import os
import signal

import pytest
from fast_compilation import supported_options
from hypothesis import settings

# The files that take longest, longest first. A file runs in one worker (`--dist loadfile`), because
# its tests share compiled programs; two workers finish together if the long files start first.
SLOWEST_FILES = (
    "test_readme.py",
    "test_ablate.py",
    "test_resume.py",
    "test_wheel.py",
    "test_devices.py",
    "test_suite.py",
    "test_ray_executor.py",
    "test_gym.py",
    "test_train.py",
    "test_evaluate.py",
    "test_sac.py",
    "test_learning.py",
    "test_varying_timing.py",
)
# The time of an example depends on the load of the machine.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")
# A script's background processes ignore Ctrl-C, which some tests send
# to themselves and to commands.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def commands(tmp_path_factory):
    """Commands in their own processes compile with little optimization, and share a cache.

    Compilation is most of their work. The tests' own process, which tests exactness, optimizes as
    for users, and so does the replay of all recordings. The user's cache folder is not touched.
    """
    # This process reads the flags once, when it first compiles, which
    # `supported_options` makes it do.
    flags = [f"--{option}={value}".lower() for option, value in supported_options().items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip())
        temporary = tmp_path_factory.getbasetemp()
        shared = temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary
        patch.setenv("XDG_CACHE_HOME", f"{shared / 'caches'}")
        yield


def pytest_collection_modifyitems(items):
    """The slowest files first, the others in their order."""
    ranks = {name: rank for rank, name in enumerate(SLOWEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
