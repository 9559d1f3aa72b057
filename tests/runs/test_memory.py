"""Memory: the estimate counts what a run needs; one that does not fit is an error with advice."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.agents.trainer import TrainingState
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.runs import memory
from jaxdodge.runs.memory import Memory, check_fits, estimate

GAME = GameConfig(action_space_type="basic_3d")
CONFIG = TrainConfig(num_envs=10, buffer_size=1000)
MB = 1_000_000
# On a host, and on a GPU.
HOST = Memory(process=20, replay=30, other_state=4, epoch=1, copies=3, available=220)
GPU = Memory(process=0, replay=30, other_state=4, epoch=6, copies=0, available=120)


def compiled(temporary: int) -> SimpleNamespace:
    """An epoch with so many bytes of temporary memory."""
    return SimpleNamespace(memory_analysis=lambda: SimpleNamespace(temp_size_in_bytes=temporary))


@pytest.fixture
def machine(monkeypatch):
    """A host with 100 MB left, whose process has taken 20 MB."""
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=20 * MB))
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * MB))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    monkeypatch.setattr(memory, "LIMITS", ())


def state() -> TrainingState:
    """The shapes of one with 30 MB of replay, and 4 MB besides; a key takes 8 bytes."""
    return jax.eval_shape(
        lambda: TrainingState(
            learner=jnp.zeros(500_000, jnp.float32),
            replay={"image": jnp.zeros(10 * MB, jnp.uint8), "reward": jnp.zeros((100, 50_000))},
            env_state=jnp.zeros(999_994, jnp.int16),
            env_params=None,
            ended=jnp.zeros(4, bool),
            key=jax.random.key(0),
        )
    )


def test_everything_is_counted(machine):
    found = estimate(state(), compiled(5 * MB))
    # A checkpoint's copies of the state take more than the epoch.
    assert found == Memory(20 * MB, 30 * MB, 4 * MB, 5 * MB, copies=2, available=120 * MB)
    assert (found.working, found.total) == (68 * MB, 122 * MB)
    assert str(found) == (
        "memory: 122 MB of 120 MB available "
        "(replay 30 MB, networks and environments 4 MB, work 68 MB, process 20 MB)"
    )
    assert estimate(state(), compiled(110 * MB)).total == 164 * MB
    assert estimate(state()).total == 122 * MB


def test_on_a_gpu_only_its_own_memory_counts(machine, monkeypatch):
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 60 * MB})
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [device])
    found = estimate(state(), compiled(5 * MB))
    assert found == Memory(0, 30 * MB, 4 * MB, 5 * MB, copies=0, available=60 * MB)
    assert found.total == 39 * MB


@pytest.mark.parametrize(
    ("text", "available"), [("70000000\n", 70), ("9000000000", 120), ("max\n", 120), (f"{2**63 - 4096}", 120)]
)
def test_a_container_may_have_less_than_its_host(machine, monkeypatch, tmp_path, text, available):
    (tmp_path / "limit").write_text(text)
    monkeypatch.setattr(memory, "LIMITS", (tmp_path / "absent", tmp_path / "limit"))
    assert estimate(state()).available == available * MB


@pytest.mark.parametrize("fits", [HOST, GPU])
def test_what_fits_is_not_refused(fits):
    check_fits(fits, GAME, CONFIG)
    check_fits(dataclasses.replace(fits, available=fits.total), GAME, CONFIG)


@pytest.mark.parametrize("least", [HOST, GPU])
@pytest.mark.parametrize("epoch", [1, 6, 130])
@pytest.mark.parametrize("available", [36, 60, 155, 156, 400])
def test_the_advised_buffer_is_the_largest_that_fits(least, epoch, available):
    """In MB. The replay grows with the buffer; a row of all environments has 0.3 MB."""

    def with_buffer(size: int) -> Memory:
        return dataclasses.replace(
            least,
            replay=30 * MB * size // 1000,
            process=least.process * MB,
            other_state=least.other_state * MB,
            epoch=epoch * MB,
            available=available * MB,
        )

    def fits(size: int) -> bool:
        return with_buffer(size).total <= available * MB

    for size in (1000, 5000):
        if fits(size):
            continue
        with pytest.raises(ConfigError) as refusal:
            check_fits(with_buffer(size), GAME, dataclasses.replace(CONFIG, buffer_size=size))
        line = str(refusal.value)
        assert line.startswith(f"buffer_size: invalid value {size}; memory: ")
        assert f"of {available} MB available" in line
        advised = re.search(r"buffer_size (\d+) would fit", line)
        if advised:
            best = int(advised[1])
            assert best % CONFIG.num_envs == 0
            assert fits(best)
            assert not fits(best + CONFIG.num_envs)
        else:
            assert line.endswith("fewer num_envs would take less")
            # Of a transition's rows, 4, there is no room.
            assert not fits(40)


def test_numbers_of_real_arrays_are_their_bytes():
    arrays = [jnp.zeros((3, 5), jnp.bfloat16), np.zeros(7, bool), jax.random.split(jax.random.key(1), 2)]
    assert memory._bytes(arrays) == 3 * 5 * 2 + 7 + 2 * 8
