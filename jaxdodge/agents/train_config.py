"""The configuration of a training: every option by its name, with its range.

Names are those of the original project's training files where those have one. Nothing here imports
JAX, so that `--help` and error messages are instant.
"""

import dataclasses
import math
from typing import Any

from jaxdodge.config import ACTION_SPACES, GameConfig
from jaxdodge.fields import ConfigError, Flag, Name, Number, Sizes, check_fields, checked

MOST_TIMESTEPS = 10**12
# What the counters of an epoch may reach; they are int32.
MOST_COUNTED = 2**31 - 10**6
# What the strides of its three convolutions leave at least one output of.
NATURE_MIN_SIDE = 36


@dataclasses.dataclass(frozen=True)
class EntropyCoefficient:
    """The temperature alpha as in Stable-Baselines3: learned (auto, auto_0.1) or fixed (0.1)."""

    initial: float = 1.0

    def expected(self) -> str:
        return "auto, auto_NUMBER (learned, from its initial value) or a number (fixed); above 0, up to 1000"

    def check(self, name: str, value: Any) -> str | float:
        """The value in its canonical form; raises ConfigError."""
        text = str(value).lower()
        number = text.removeprefix("auto_")
        try:
            fixed = Number(float, 0, 1000, above_low=True).check(
                name, self.initial if text == "auto" else float(number)
            )
        except ValueError:
            raise ConfigError(f"{name}: invalid value {value!r}; expected {self.expected()}") from None
        return fixed if text == number != "auto" else text


@dataclasses.dataclass(frozen=True)
class DomainRandomization:
    """How far the parameters of an episode may differ from the configuration; default: not at all.

    Frozen, checked when made; raises ConfigError. A share s stands for a factor drawn uniformly
    from [1 - s, 1 + s), a number of frames n for an offset drawn uniformly from -n to n.
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
    """Episodes are truncated between this share of max_episode_steps and all of it; the time played
    at each length is log-uniform."""

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def of(cls, config: Any) -> "DomainRandomization":
        """From a configuration that has these fields among others."""
        return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class TrainConfig(DomainRandomization):
    """A SAC training run. Frozen, checked when made; raises ConfigError."""

    seed: int = checked(Number(int, 0, 2**32 - 1), 0)
    """Random seed of the run."""
    seeds: int = checked(Number(int, 1, 1000), 1)
    """Independent runs in one program; their seeds count up from `seed`."""
    total_timesteps: int = checked(Number(int, 1, MOST_TIMESTEPS), 6_000_000)
    """Environment steps of the run, rounded up to whole epochs."""
    num_envs: int = checked(Number(int, 1, 1_000_000), 1024)
    """Environments that step in parallel."""
    learning_starts: int = checked(Number(int, 0, 10**9), 20_000)
    """Environment steps with random actions before the first update."""
    buffer_size: int = checked(Number(int, 1, 10**9), 500_000)
    """Capacity of the replay in transitions, rounded down to whole steps of all environments."""
    train_freq: int = checked(Number(int, 1, 1_000_000), 1)
    """Steps of all environments between updates."""
    gradient_steps: int = checked(Number(int, 1, 1_000_000), 16)
    """Updates after every train_freq steps."""
    batch_size: int = checked(Number(int, 1, 1_000_000), 256)
    """Transitions per update."""
    learning_rate: float = checked(Number(float, 0, 1, above_low=True), 1e-3)
    """Initial learning rate of Adam, for all networks and the temperature."""
    learning_rate_schedule: str = checked(Name(("linear", "constant")), "linear")
    """linear: the learning rate falls to 0 over the run."""
    gamma: float = checked(Number(float, 0, 1), 0.97)
    """Discount factor per step."""
    n_step: int = checked(Number(int, 1, 100), 1)
    """Steps of the n-step returns."""
    tau: float = checked(Number(float, 0, 1, above_low=True), 0.005)
    """Rate at which the target critics follow the critics, per update (Polyak averaging)."""
    net_arch: tuple[int, ...] = checked(Sizes(8192), (128, 128))
    """Widths of the hidden layers of actor and critics."""
    precision: str = checked(Name(("float32", "bfloat16")), "float32")
    """Precision of the networks' computations; their parameters are float32."""
    ent_coef: str | float = checked(EntropyCoefficient(), "auto_0.02")
    """Entropy coefficient (temperature alpha)."""
    target_entropy: float = checked(Number(float), -0.5)
    """Target entropy of a learned ent_coef, per component of the action."""
    reward_scale: float = checked(Number(float, 0, 1000, above_low=True), 0.1)
    """Factor on the rewards of the critics' targets."""
    policy_delay: int = checked(Number(int, 1, 1000), 2)
    """Updates of the critics per update of the actor."""
    policy_averaging: float = checked(Number(float, 0, 1, above_low=True), 0.0006)
    """Rate of the exponential moving average (EMA) of the policy, which is evaluated and saved, per
    update of the actor. It is higher at first: the EMA covers at most a tenth of all updates so
    far."""
    normalize_observations: bool = checked(Flag(), False)
    """Vectors: normalize what the networks observe by its running mean and variance."""
    critic_observation: str = checked(Name(("same", "state")), "same")
    """Images: whether the critics observe the same, or the true state (privileged critics)."""
    encoder: str = checked(Name(("patches", "nature")), "patches")
    """Images: patches that do not overlap, or the convolutions of Mnih et al. 2015 (Nature 518)."""
    squint: int = checked(Number(int, 1, 64), 1)
    """Images: average blocks of this many pixels along each side before the encoder."""
    random_shift: bool = checked(Flag(), True)
    """Images: shift them by a few pixels when learning from them (DrQ)."""
    frame_time_jitter: float = checked(Number(float, 0, 0.9), 0.25)
    """Share by which frames of an episode last longer or shorter, within 1 to 250 ms."""
    spawn_interval_jitter: float = checked(Number(float, 0, 0.9), 0.06)
    """Share by which the interval of throws is longer or shorter."""
    shortest_episode: float = checked(Number(float, 0, 1, above_low=True), 0.02)
    """Episodes are truncated between this share of max_episode_steps and all of it; the time played
    at each length is log-uniform."""
    collision_penalty_factor: float = checked(Number(float, 0, 1000, above_low=True), 3.0)
    """Factor on the collision penalty while training; evaluations use the original one."""
    eval_freq: int = checked(Number(int, 1, MOST_TIMESTEPS), 250_000)
    """Environment steps between evaluations."""
    save_freq: int = checked(Number(int, 1, MOST_TIMESTEPS), 1_000_000)
    """Environment steps between checkpoints."""
    n_eval_episodes: int = checked(Number(int, 1, 100_000), 512)
    """Episodes of an evaluation."""

    @property
    def initial_alpha(self) -> float:
        """Where the temperature starts; where it stays, if it is not learned."""
        text = str(self.ent_coef)
        return EntropyCoefficient().initial if text == "auto" else float(text.removeprefix("auto_"))

    @property
    def learn_alpha(self) -> bool:
        """Whether the temperature is learned."""
        return str(self.ent_coef).startswith("auto")

    @property
    def patch_order(self) -> bool:
        """Whether the training's images come cut into the encoder's first patches."""
        return self.encoder == "patches" and not self.random_shift


def check_trainable(game: GameConfig, train: TrainConfig) -> None:
    """Raise ConfigError for a game that the agent cannot play, or for conflicting options."""
    if game.action_space_type == "discrete":
        expected = ", ".join(name for name in ACTION_SPACES.names if name != "discrete")
        raise ConfigError(
            f"action_space_type: invalid value 'discrete'; expected {expected} (SAC needs continuous actions)"
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
    whole = -(-train.total_timesteps // train.num_envs) * train.num_envs
    if not updates_after(train, game.frame_stack, whole):
        first = -(-steps_before_learning(train, game.frame_stack) // train.train_freq) * train.train_freq
        raise ConfigError(
            f"total_timesteps: invalid value {train.total_timesteps}; expected at least "
            f"{first * train.num_envs}, when the first update comes (learning_starts "
            f"{train.learning_starts}, train_freq {train.train_freq}, num_envs {train.num_envs})"
        )
    counted = max(train.buffer_size, train.learning_starts) // train.num_envs + counting_period(train)
    if train.total_timesteps // train.num_envs > MOST_COUNTED and counted > MOST_COUNTED:
        raise ConfigError(
            f"train_freq: invalid value {train.train_freq}; expected a divisor of the replay's "
            f"{train.buffer_size // train.num_envs} steps, in a run of more than 2^31 steps"
        )
    if train.gradient_steps % train.policy_delay:
        raise ConfigError(
            f"policy_delay: invalid value {train.policy_delay}; "
            f"expected a divisor of gradient_steps ({train.gradient_steps})"
        )
    if train.squint > 1:
        sides = game.image_obs_height, game.image_obs_width
        if game.observation_mode != "topdown" or any(side % train.squint for side in sides):
            raise ConfigError(
                f"squint: invalid value {train.squint}; expected 1, or with observation_mode topdown a "
                f"divisor of the image's sides ({sides[0]}, {sides[1]})"
            )
    if train.encoder == "nature" and game.observation_mode == "topdown":
        averaged = min(game.image_obs_height, game.image_obs_width) // train.squint
        if averaged < NATURE_MIN_SIDE:
            raise ConfigError(
                f"encoder: invalid value 'nature'; expected patches (its images have {averaged} pixels "
                f"along a side, nature takes {NATURE_MIN_SIDE} or more)"
            )
    if train.critic_observation == "state" and game.observation_mode != "topdown":
        raise ConfigError(
            "critic_observation: invalid value 'state'; expected same (state is for observation_mode topdown)"
        )


def counting_period(train: TrainConfig) -> int:
    """Steps of all environments after which ring buffer and updates are in the same phase again."""
    return math.lcm(train.buffer_size // train.num_envs, train.train_freq)


def steps_before_learning(train: TrainConfig, frame_stack: int) -> int:
    """Steps of all environments until the first update may come, at least `rows_needed`."""
    return max(-(-train.learning_starts // train.num_envs), rows_needed(frame_stack, train.n_step))


def updates_after(train: TrainConfig, frame_stack: int, timesteps: int) -> int:
    """Updates of one seed in so many environment steps."""
    steps, first = timesteps // train.num_envs, steps_before_learning(train, frame_stack)
    rounds = steps // train.train_freq - (first - 1) // train.train_freq
    return max(rounds, 0) * train.gradient_steps


def rows_needed(frame_stack: int, n_step: int) -> int:
    """Steps of all environments that the replay needs before a transition can be sampled."""
    return max(frame_stack - 1, 1) + n_step + 2
