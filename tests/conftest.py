"""What all tests share: how the commands that they start compile, and where those keep it."""

import os
import signal

import jax
import pytest
from hypothesis import settings

# Files that take minutes, begun first, so that no worker is left with one of them at the end.
SLOW_FILES = (
    "test_ablate.py",
    "test_resume.py",
    "test_devices.py",
    "test_suite.py",
    "test_gym.py",
    "test_train.py",
    "test_evaluate.py",
    "test_sac.py",
    "test_learning.py",
    "test_varying_timing.py",
)
# An example takes as long as the machine is busy.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")
# What a script starts in its background ignores Ctrl-C, which some tests send to themselves and to commands.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What takes a fourth of the time.
FAST_COMPILATION = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


def known(option: str, value: int) -> bool:
    """Whether this XLA has an option; one that it does not know would end a process."""
    try:
        jax.jit(lambda x: x + 1, compiler_options={option: value})(1.0)
    except jax.errors.JaxRuntimeError:
        return False
    return True


@pytest.fixture(scope="session", autouse=True)
def commands(tmp_path_factory):
    """Commands in processes of their own compile with little optimisation: that is most of their work.
    What one worker's have compiled, the other's find.

    What is computed in the tests' own process, where exactness is tested, is optimised as for users, and so
    is the replay of all recordings. Nothing goes into the user's folder for caches.
    """
    # The flags are read once, when this process compiles.
    accepted = {option: value for option, value in FAST_COMPILATION.items() if known(option, value)}
    flags = [f"--{option}={value}".lower() for option, value in accepted.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip())
        temporary = tmp_path_factory.getbasetemp()
        shared = temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary
        patch.setenv("XDG_CACHE_HOME", f"{shared / 'caches'}")
        yield


def pytest_collection_modifyitems(items):
    """The slow files first, the others in their order."""
    ranks = {name: rank for rank, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
