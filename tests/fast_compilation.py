"""Compilation in a quarter of the time, for tests in which neither rounding nor speed matters."""

import functools
from collections.abc import Callable
from typing import Any

import jax

OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


@functools.cache
def supported_options() -> dict[str, int]:
    """Those that this XLA has. An unknown option in XLA_FLAGS would end the process."""

    def supported(option: str) -> bool:
        try:
            jax.jit(lambda x: x + 1, compiler_options={option: OPTIONS[option]})(1.0)
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return {option: value for option, value in OPTIONS.items() if supported(option)}


def fast_jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` that compiles with little optimization."""
    return jax.jit(function, compiler_options=supported_options(), **options)


def compile_fast(trainer: Any) -> Any:
    """The trainer, with programs that are compiled with little optimization."""
    trainer.init = fast_jit(trainer.init.__wrapped__)
    trainer.epoch = fast_jit(
        trainer.epoch.__wrapped__, static_argnames=("steps",), donate_argnames=("state",)
    )
    return trainer
