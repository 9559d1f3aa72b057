"""The learning rate of a run, also of one with more updates than int32 can count."""

import jax
import jax.numpy as jnp
import optax

from jaxdodge.agents.train_config import MOST_COUNTED

# What the lower of the two counters of a long run counts to.
BLOCK = 2**20


def adam(rate: float, linear: bool, total: int) -> optax.GradientTransformation:
    """Adam for `total` updates. A linear schedule ends the swings of a constant learning rate.

    Args:
        rate: learning rate of the first update.
        linear: whether it falls to 0 over the run.
        total: updates of the run.
    """
    if linear and total > MOST_COUNTED:
        return optax.chain(optax.scale_by_adam(), _scale_by_long_linear(rate, total))
    return optax.adam(optax.linear_schedule(rate, 0, total) if linear else rate)


def _scale_by_long_linear(rate: float, total: int) -> optax.GradientTransformation:
    """The linear schedule with a count in two int32: whole blocks, and the rest."""

    def init(params: optax.Params) -> jax.Array:
        return jnp.zeros(2, jnp.int32)

    def update(
        gradient: optax.Updates, count: jax.Array, params: optax.Params | None = None
    ) -> tuple[optax.Updates, jax.Array]:
        done = (count[0].astype(jnp.float32) * BLOCK + count[1].astype(jnp.float32)) / float(total)
        factor = -rate * jnp.maximum(1 - done, 0)
        rest = count[1] + 1
        count = jnp.stack([count[0] + rest // BLOCK, rest % BLOCK])
        return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), gradient), count

    return optax.GradientTransformation(init, update)
