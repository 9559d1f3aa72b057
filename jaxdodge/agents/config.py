"""How an agent is trained: every option by its name, with its range.

Names are those of the original project's training files where those have one. Nothing here imports JAX, so
that `--help` and refusals are instant.
"""

import dataclasses

from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, Number, Sizes, check_fields, checked


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A SAC training run. Frozen, checked when made; raises ConfigError."""

    seed: int = checked(Number(int, 0, 2**32 - 1), 0)
    """Seed of everything random in the run."""
    total_timesteps: int = checked(Number(int, 1), 4_000_000)
    """Environment steps of the run, rounded up to 25 of every arena."""
    num_envs: int = checked(Number(int, 1, 1_000_000), 1024)
    """Arenas that step together."""
    learning_starts: int = checked(Number(int, 0), 20_000)
    """Environment steps with random actions before the first update."""
    buffer_size: int = checked(Number(int, 1), 500_000)
    """Transitions that the replay holds, rounded down to whole steps of all arenas."""
    gradient_steps: int = checked(Number(int, 1, 10_000), 16)
    """Updates per step of all arenas."""
    batch_size: int = checked(Number(int, 1, 1_000_000), 256)
    """Transitions per update."""
    learning_rate: float = checked(Number(float, 0, 1, above_low=True), 1e-3)
    """Adam's step size at the start, of actor, critics and temperature; it falls linearly to 0."""
    gamma: float = checked(Number(float, 0, 1), 0.97)
    """Discount per step."""
    tau: float = checked(Number(float, 0, 1, above_low=True), 0.005)
    """Share of the critics that enters the target critics per update."""
    net_arch: tuple[int, ...] = checked(Sizes(8192), (128, 128))
    """Widths of the hidden layers of actor and critics."""
    init_temperature: float = checked(Number(float, 0, 1000, above_low=True), 0.02)
    """The entropy's weight at the start; it is then learned."""
    reward_scale: float = checked(Number(float, 0, 1000, above_low=True), 0.1)
    """Factor on the rewards that the critics learn from."""
    policy_averaging: float = checked(Number(float, 0, 1, above_low=True), 0.0003)
    """Share of the actor that enters the averaged actor, which is evaluated and saved, per update."""
    frame_time_jitter: float = checked(Number(float, 0, 0.9), 0.15)
    """Each arena's frames last up to this share longer or shorter than the configuration says."""
    shortest_episode: float = checked(Number(float, 0, 1, above_low=True), 0.02)
    """Each arena cuts its episodes between this share of max_episode_steps and all of it, log-uniformly."""
    eval_freq: int = checked(Number(int, 1), 250_000)
    """Environment steps between evaluations."""
    n_eval_episodes: int = checked(Number(int, 1, 100_000), 512)
    """Episodes of an evaluation."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.buffer_size < self.num_envs:
            raise ConfigError(
                f"buffer_size: {self.buffer_size} is refused; accepted: at least num_envs ({self.num_envs})"
            )


def refuse_untrainable(game: GameConfig) -> None:
    """Refuse games that the agent cannot play; raises ConfigError."""
    for name, value, reason in (
        ("action_space_type", "discrete", "SAC needs continuous actions"),
        ("observation_mode", "topdown", "agents see vectors only"),
    ):
        if getattr(game, name) == value:
            rule = GameConfig.__dataclass_fields__[name].metadata["rule"]
            accepted = ", ".join(other for other in rule.names if other != value)
            raise ConfigError(f"{name}: {value!r} is refused; accepted: {accepted} ({reason})")
