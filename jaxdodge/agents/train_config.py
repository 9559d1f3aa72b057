"""How an agent is trained: every option by its name, with its range.

Names are those of the original project's training files where those have one. Nothing here imports JAX, so
that `--help` and refusals are instant.
"""

import dataclasses
from typing import Any

from jaxdodge.config import ACTION_SPACES, GameConfig
from jaxdodge.fields import ConfigError, Flag, Name, Number, Sizes, check_fields, checked


@dataclasses.dataclass(frozen=True)
class Temperature:
    """The entropy's weight, written as for Stable-Baselines3: learned (auto, auto_0.1) or fixed (0.1)."""

    start: float = 1.0

    def expected(self) -> str:
        return "auto, auto_NUMBER (learned, where it starts) or a number (fixed); above 0, up to 1000"

    def check(self, name: str, value: Any) -> str | float:
        """The value in its canonical form; raises ConfigError."""
        text = str(value).lower()
        number = text.removeprefix("auto_")
        try:
            fixed = Number(float, 0, 1000, above_low=True).check(
                name, self.start if text == "auto" else number
            )
        except ConfigError:
            raise ConfigError(f"{name}: invalid value {value!r}; expected {self.expected()}") from None
        return fixed if text == number != "auto" else text


@dataclasses.dataclass(frozen=True)
class Jitter:
    """How far the numbers of an episode may lie from those of the configuration; by default not at all.

    Frozen, checked when made; raises ConfigError. Shares are drawn uniformly from 1 - share to 1 + share,
    whole frames uniformly from -frames to +frames.
    """

    frame_time_jitter: float = checked(Number(float, 0, 0.9), 0.0)
    """Share by which frames last longer or shorter, within 1 to 250 ms."""
    frames_per_step_jitter: int = checked(Number(int, 0, 1000), 0)
    """Frames by which steps are longer or shorter; a step has at least one."""
    response_frame_jitter: int = checked(Number(int, 0, 1000), 0)
    """Frames by which the response comes earlier or later, within 0 to frames_per_step."""
    spawn_interval_jitter: float = checked(Number(float, 0, 0.9), 0.0)
    """Share by which the interval of throws is longer or shorter."""
    spawn_angle_jitter: float = checked(Number(float, 0, 0.9), 0.0)
    """Share by which the half angle of throws is wider or narrower, up to 180 degrees."""
    shortest_episode: float = checked(Number(float, 0, 1, above_low=True), 1.0)
    """Episodes are cut between this share of max_episode_steps and all of it; time played is log-uniform."""

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def of(cls, config: Any) -> "Jitter":
        """From a configuration that has these fields among others."""
        return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class TrainConfig(Jitter):
    """A SAC training run. Frozen, checked when made; raises ConfigError."""

    seed: int = checked(Number(int, 0, 2**32 - 1), 0)
    """Seed of everything random in the run."""
    seeds: int = checked(Number(int, 1, 1000), 1)
    """Independent runs in one program; their seeds count up from `seed`."""
    total_timesteps: int = checked(Number(int, 1, 2**31 - 1), 6_000_000)
    """Environment steps of the run, rounded up to whole epochs."""
    num_envs: int = checked(Number(int, 1, 1_000_000), 1024)
    """Arenas that step together."""
    learning_starts: int = checked(Number(int, 0, 2**31 - 1), 20_000)
    """Environment steps with random actions before the first update."""
    buffer_size: int = checked(Number(int, 1, 2**31 - 1), 500_000)
    """Transitions that the replay holds, rounded down to whole steps of all arenas."""
    train_freq: int = checked(Number(int, 1, 1_000_000), 1)
    """Steps of all arenas between updates."""
    gradient_steps: int = checked(Number(int, 1, 1_000_000), 16)
    """Updates each time."""
    batch_size: int = checked(Number(int, 1, 1_000_000), 256)
    """Transitions per update."""
    learning_rate: float = checked(Number(float, 0, 1, above_low=True), 1e-3)
    """Adam's step size at the start, of all networks and the temperature."""
    learning_rate_schedule: str = checked(Name(("linear", "constant")), "linear")
    """linear: the step size falls to 0 over the run."""
    gamma: float = checked(Number(float, 0, 1), 0.97)
    """Discount per step."""
    n_step: int = checked(Number(int, 1, 100), 1)
    """Rewards that a transition sums before it bootstraps."""
    tau: float = checked(Number(float, 0, 1, above_low=True), 0.005)
    """Share of the critics that enters the target critics per update."""
    net_arch: tuple[int, ...] = checked(Sizes(8192), (128, 128))
    """Widths of the hidden layers of actor and critics."""
    precision: str = checked(Name(("float32", "bfloat16")), "float32")
    """What the networks compute in; their parameters are float32."""
    ent_coef: str | float = checked(Temperature(), "auto_0.02")
    """The entropy's weight."""
    target_entropy: float = checked(Number(float), -0.5)
    """Entropy that a learned weight aims at, per component of the action."""
    reward_scale: float = checked(Number(float, 0, 1000, above_low=True), 0.1)
    """Factor on the rewards that the critics learn from."""
    policy_delay: int = checked(Number(int, 1, 1000), 2)
    """Updates of the critics for one of the actor."""
    policy_averaging: float = checked(Number(float, 0, 1, above_low=True), 0.0006)
    """Share of the policy that enters the averaged one, which is evaluated and saved, per update of it; more
    at first, so that it averages over at most a tenth of the updates so far."""
    normalize_observations: bool = checked(Flag(), False)
    """Vectors: scale what the networks see by its running mean and variance."""
    critic_observation: str = checked(Name(("same", "state")), "same")
    """Images: whether the critics see the same, or the arena's state, which only a simulator knows."""
    random_shift: bool = checked(Flag(), True)
    """Images: move them by a few pixels when learning from them."""
    frame_time_jitter: float = checked(Number(float, 0, 0.9), 0.25)
    """Share by which frames of an episode last longer or shorter, within 1 to 250 ms."""
    spawn_interval_jitter: float = checked(Number(float, 0, 0.9), 0.06)
    """Share by which the interval of throws is longer or shorter."""
    shortest_episode: float = checked(Number(float, 0, 1, above_low=True), 0.02)
    """Episodes are cut between this share of max_episode_steps and all of it; time played is log-uniform."""
    collision_penalty_factor: float = checked(Number(float, 0, 1000, above_low=True), 3.0)
    """How many times worse a collision is for the learner than for the score."""
    eval_freq: int = checked(Number(int, 1, 2**31 - 1), 250_000)
    """Environment steps between evaluations."""
    save_freq: int = checked(Number(int, 1, 2**31 - 1), 1_000_000)
    """Environment steps between checkpoints."""
    n_eval_episodes: int = checked(Number(int, 1, 100_000), 512)
    """Episodes of an evaluation."""

    def temperature(self) -> tuple[float, bool]:
        """Where the entropy's weight starts, and whether it is learned."""
        text = str(self.ent_coef)
        start = Temperature().start if text == "auto" else float(text.removeprefix("auto_"))
        return start, text.startswith("auto")


def check_trainable(game: GameConfig, train: TrainConfig) -> None:
    """Refuse games that the agent cannot play, and what does not go together; raises ConfigError."""
    if game.action_space_type == "discrete":
        accepted = ", ".join(name for name in ACTION_SPACES.names if name != "discrete")
        raise ConfigError(
            f"action_space_type: invalid value 'discrete'; expected {accepted} (SAC needs continuous actions)"
        )
    if train.normalize_observations and game.observation_mode == "topdown":
        raise ConfigError(
            "normalize_observations: invalid value True; expected False (it is for vectors, not for images)"
        )
    least = train.num_envs * rows_needed(game.frame_stack, train.n_step)
    if train.buffer_size < least:
        raise ConfigError(
            f"buffer_size: invalid value {train.buffer_size}; expected at least {least} "
            "(num_envs times the rows of a transition)"
        )
    if train.gradient_steps % train.policy_delay:
        raise ConfigError(
            f"policy_delay: invalid value {train.policy_delay}; "
            f"expected a divisor of gradient_steps ({train.gradient_steps})"
        )
    if train.critic_observation == "state" and game.observation_mode != "topdown":
        raise ConfigError(
            "critic_observation: invalid value 'state'; expected same (state is for observation_mode topdown)"
        )


def rows_needed(frame_stack: int, n_step: int) -> int:
    """Steps of all arenas that must be in a replay before a transition can be drawn from it."""
    return max(frame_stack - 1, 1) + n_step + 2
