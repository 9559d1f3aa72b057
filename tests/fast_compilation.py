"""Tests compile in a quarter of the time: with little optimization, except tests of rounding."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax

OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
# What XLA does by default.
DEFAULTS = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_use_fusion_emitters": True,
    "xla_cpu_parallel_codegen_split_count": 32,
}
DONE = "JAXDODGE_TESTS_COMPILE_FAST"


def supported_options() -> dict[str, Any]:
    """Those that this XLA has. An unknown option in XLA_FLAGS would end the process."""
    return {name: OPTIONS[name] for name in os.environ.get(DONE, "").split()}


def compile_fast_by_default() -> None:
    """In this process and those that it starts; to be called before the first compilation.

    XLA reads the flags once, so another process finds out which of them this XLA has.
    """
    if DONE in os.environ:
        return
    probe = [sys.executable, __file__]
    found = subprocess.run(probe, capture_output=True, text=True, check=True).stdout
    os.environ[DONE] = found.strip()
    flags = [f"--{name}={value}".lower() for name, value in supported_options().items()]
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip()


def users_jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` that compiles as for users, where a test is about rounding."""
    defaults = {name: DEFAULTS[name] for name in supported_options()}
    return jax.jit(function, compiler_options=defaults, **options)


def compile_as_users(trainer: Any) -> Any:
    """The trainer, with an epoch for tests that run it for longer than they compile it."""
    trainer.epoch = users_jit(
        trainer.epoch.__wrapped__, static_argnames=("steps",), donate_argnames=("state",)
    )
    return trainer


def _is_supported(name: str) -> bool:
    try:
        jax.jit(lambda x: x + 1, compiler_options={name: OPTIONS[name]})(1.0)
    except jax.errors.JaxRuntimeError:
        return False
    return True


if __name__ == "__main__":
    print(*filter(_is_supported, OPTIONS))
