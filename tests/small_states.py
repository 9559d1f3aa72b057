"""States to be saved, and how they compare."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax


def small_state(seed: int) -> dict:
    """Of every dtype, with the bit patterns that arithmetic would change."""
    random = np.random.default_rng(seed)

    def bits(size: int, dtype: type) -> jax.Array:
        return jnp.array(np.frombuffer(random.bytes(size), dtype))

    key = jax.random.key(seed)
    params = {"kernel": bits(4 * 60, np.float32).reshape(5, 12), "bias": jnp.array([-0.0, jnp.nan, jnp.inf])}
    return {
        "params": params,
        "optimizer": optax.adam(optax.linear_schedule(1.0, 0, 9)).init(params),
        "replay": [bits(300, np.uint8), bits(80, np.int16), bits(64, jnp.bfloat16), bits(64, jnp.float16)],
        "flags": (bits(64, np.uint8) > 127, bits(40, np.int32), bits(40, np.uint32), bits(40, np.int8)),
        "scalar": jnp.int32(seed),
        "nothing": (None, jnp.zeros((0, 3), jnp.int16), ()),
        "keys": (key, jax.random.split(key, 3), jax.random.key(seed, impl="rbg"), jax.random.PRNGKey(seed)),
        "a/b": {"c.d": jnp.ones(2), "['e']": jnp.zeros(2)},
    }


def raw(leaf: jax.Array) -> tuple:
    """All there is to know about a leaf, as something that compares by bits."""
    data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return str(leaf.dtype), leaf.shape, np.asarray(data).tobytes()


def assert_same(state, expected) -> None:
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert [raw(leaf) for leaf in jax.tree.leaves(state)] == [raw(leaf) for leaf in jax.tree.leaves(expected)]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
