"""Networks: the fixed features of a vector observation, the actor and the ensemble of critics."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdodge.config import GameConfig
from jaxdodge.sim.publish import OBSERVED_PROJECTILES, STANDARD_SIZE, WITH_THROWER_SIZE

# Typical magnitudes: half the arena, heights, how far and how fast projectiles fly (m, m/s).
PLAYER_SCALE = 5.0
DISTANCE_SCALE = 10.0
PROJECTILE_SPEED_SCALE = 10.0
LOG_STD_RANGE = (-5.0, 2.0)
CRITICS = 2


def vector_features(observation: jax.Array, config: GameConfig) -> jax.Array:
    """What the networks see of a vector observation: the projectiles as a set, everything about 1.

    Projectiles are relative to the player, with a flag for each slot in use, and sorted by distance, nearest
    first: their place in the game's table is an accident that an agent must not learn.

    Args:
        observation: float32 (..., n), as `DodgeEnv` gives it: frame_stack entries, then the previous action
            if `observe_previous_action`.
        config: of the game.

    Returns:
        float32 (..., features).
    """
    entry_size = WITH_THROWER_SIZE if config.observation_mode == "with_thrower" else STANDARD_SIZE
    stacked = config.frame_stack * entry_size
    entries, previous_action = observation[..., :stacked], observation[..., stacked:]
    entries = entries.reshape(*observation.shape[:-1], config.frame_stack, entry_size)
    position, velocity = entries[..., :3], entries[..., 3:5]
    projectiles = entries[..., 5:STANDARD_SIZE].reshape(*entries.shape[:-1], OBSERVED_PROJECTILES, 6)
    thrower = entries[..., STANDARD_SIZE:]

    fastest = config.player_speed * (1 + config.sprint_multiplier)
    parts = [position / PLAYER_SCALE, velocity / fastest]
    parts.append(_projectile_features(projectiles, position))
    if thrower.shape[-1]:
        pending = (thrower[..., :2] != 0).any(axis=-1, keepdims=True)
        relative = jnp.where(pending, thrower[..., :3] - position, 0) / DISTANCE_SCALE
        parts += [relative, thrower[..., 3:], pending.astype(jnp.float32)]
    features = jnp.concatenate(parts, axis=-1)
    return jnp.concatenate([features.reshape(*observation.shape[:-1], -1), previous_action], axis=-1)


def _projectile_features(projectiles: jax.Array, player: jax.Array) -> jax.Array:
    """(..., slots, 6) positions and velocities, (..., 3) player -> (..., slots * 7), nearest first."""
    in_use = (projectiles != 0).any(axis=-1, keepdims=True)
    relative = projectiles[..., :3] - player[..., None, :]
    distance = jnp.where(in_use[..., 0], jnp.linalg.norm(relative, axis=-1), jnp.inf)
    features = jnp.concatenate(
        [
            relative / DISTANCE_SCALE,
            projectiles[..., 3:] / PROJECTILE_SPEED_SCALE,
            jnp.ones_like(relative[..., :1]),
        ],
        axis=-1,
    )
    features = jnp.where(in_use, features, 0)
    nearest_first = jnp.argsort(distance, axis=-1)
    features = jnp.take_along_axis(features, nearest_first[..., None], axis=-2)
    return features.reshape(*features.shape[:-2], -1)


class Actor(nn.Module):
    """Mean and logarithm of the standard deviation of a Gaussian, whose tanh is the action."""

    net_arch: Sequence[int]
    action_size: int

    @nn.compact
    def __call__(self, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        """float32 (..., features) -> two of float32 (..., action_size)."""
        for width in self.net_arch:
            features = nn.relu(nn.Dense(width)(features))
        mean, log_std = jnp.split(nn.Dense(2 * self.action_size)(features), 2, axis=-1)
        low, high = LOG_STD_RANGE
        return mean, low + (high - low) * nn.sigmoid(log_std)


class Critic(nn.Module):
    """Value of an action; layer norm keeps it from growing without bound off the data."""

    net_arch: Sequence[int]

    @nn.compact
    def __call__(self, features: jax.Array, action: jax.Array) -> jax.Array:
        """float32 (..., features), (..., action_size) -> (...)."""
        hidden = jnp.concatenate([features, action], axis=-1)
        for width in self.net_arch:
            hidden = nn.relu(nn.LayerNorm()(nn.Dense(width)(hidden)))
        return nn.Dense(1)(hidden)[..., 0]


def critic_ensemble(net_arch: Sequence[int]) -> nn.Module:
    """Critics with parameters of their own for the same inputs: returns float32 (CRITICS, ...)."""
    return nn.vmap(
        Critic,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=None,
        out_axes=0,
        axis_size=CRITICS,
    )(net_arch)


def sample_action(key: jax.Array, mean: jax.Array, log_std: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An action in [-1, 1] and the logarithm of its density.

    Source: Haarnoja et al. 2018 (arXiv 1812.05905), appendix C, equation 26; the form of log(1 - tanh^2) that
    does not lose precision is from github.com/openai/spinningup.

    Args:
        key: random key.
        mean, log_std: float32 (..., action_size).

    Returns:
        float32 (..., action_size) and float32 (...).
    """
    noise = jax.random.normal(key, mean.shape)
    raw = mean + jnp.exp(log_std) * noise
    log_density = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_slope = 2 * (jnp.log(2.0) - raw - nn.softplus(-2 * raw))
    return jnp.tanh(raw), jnp.sum(log_density - log_slope, axis=-1)
