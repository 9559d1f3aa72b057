"""The processes and devices of one run. JAX is imported when they are set up."""

import dataclasses
import os

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line

# Virtual CPU devices of a busy machine can be minutes apart, and XLA gives up after 40 s. A user's
# own flags come last and win.
COLLECTIVE_TIMEOUTS = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=300"
    " --xla_cpu_collective_call_terminate_timeout_seconds=600"
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of one run, each with the same number of devices."""

    devices: int = 1
    """Of all processes together."""
    processes: int = 1
    process: int = 0
    """The number of this one."""
    coordinator: str | None = None
    """HOST:PORT, an address of process 0 that the others reach."""

    def check(self, config: TrainConfig) -> None:
        """Raise ConfigError for what cannot be split evenly."""
        if self.devices < 1:
            raise ConfigError(f"devices: invalid value {self.devices}; expected at least 1")
        if self.processes < 1 or self.devices % self.processes:
            raise ConfigError(
                f"processes: invalid value {self.processes}; expected a divisor of devices ({self.devices})"
            )
        if not 0 <= self.process < self.processes:
            raise ConfigError(f"process: invalid value {self.process}; expected 0 to {self.processes - 1}")
        if self.processes > 1 and self.coordinator is None:
            raise ConfigError("coordinator: missing; expected HOST:PORT of process 0, the same for all")
        for name in ("num_envs", "batch_size"):
            if getattr(config, name) % self.devices:
                raise ConfigError(
                    f"devices: invalid value {self.devices}; expected a divisor of "
                    f"{name} ({getattr(config, name)})"
                )

    def join(self) -> None:
        """Set up the devices, before JAX is used, and wait for the other processes.

        Raises:
            ConfigError: there are too few devices, or the other processes do not come.
        """
        import jax

        if self.devices > 1:
            os.environ["XLA_FLAGS"] = f"{COLLECTIVE_TIMEOUTS} {os.environ.get('XLA_FLAGS', '')}".strip()
            # Without effect on a machine with accelerators.
            jax.config.update("jax_num_cpu_devices", self.devices // self.processes)
        if self.processes > 1:
            # It would replace the handler of SIGTERM.
            jax.config.update("jax_enable_preemption_service", False)
            try:
                jax.distributed.initialize(self.coordinator, self.processes, self.process)
            except (RuntimeError, ValueError) as error:
                raise ConfigError(f"coordinator: {self.coordinator}: {error_line(error)}") from None
        present = len(jax.devices())
        if self.devices > present or (self.processes > 1 and self.devices != present):
            expected = f"1 to {present}" if self.processes == 1 else f"{present}, all that the processes have"
            raise ConfigError(f"devices: invalid value {self.devices}; expected {expected}")
