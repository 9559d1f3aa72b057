"""Networks: shapes, images, the density of an action."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from jaxdodge.agents.encoders import PatchEncoder
from jaxdodge.agents.networks import (
    NUM_CRITICS,
    Actor,
    critic_ensemble,
    sample_action,
)

KEY = jax.random.key(0)


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def initialized(module, *inputs):
    """Its parameters; in one program, which compiles faster than many small ones."""
    return jax.jit(module.init)(KEY, *inputs)


def applied(module, params, *inputs):
    return jax.jit(module.apply)(params, *inputs)


def test_critics_have_parameters_of_their_own():
    critics = critic_ensemble((16,))
    params = initialized(critics, jnp.zeros(4), jnp.zeros(2))
    values = applied(critics, params, jnp.ones((7, 4)), jnp.ones((7, 2)))
    assert values.shape == (NUM_CRITICS, 7)
    assert (values[0] != values[1]).all()
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 3]
    assert all((kernel[0] != kernel[1]).any() for kernel in kernels)


def test_the_actor_is_wide_enough_to_explore_and_bounded():
    actor = Actor((16,), 3)
    mean, log_std = applied(actor, initialized(actor, jnp.zeros(4)), 1e3 * jnp.ones((5, 4)))
    assert mean.shape == log_std.shape == (5, 3)
    assert (log_std >= -5).all()
    assert (log_std <= 2).all()


def test_actor_and_critics_see_the_image_and_the_previous_action():
    seen = {"image": jnp.ones((5, 40)), "previous_action": jnp.zeros((5, 2))}
    acted = seen | {"previous_action": jnp.ones((5, 2))}
    shown = seen | {"image": jnp.linspace(0, 1, 200).reshape(5, 40)}
    actor, critics, zeros = Actor((16,), 2), critic_ensemble((16,)), jnp.zeros((5, 2))
    actor_params, critics_params = initialized(actor, seen), initialized(critics, seen, zeros)
    act, judge = jax.jit(actor.apply), jax.jit(critics.apply)
    values = judge(critics_params, seen, zeros)
    assert values.shape == (NUM_CRITICS, 5)
    for other in (acted, shown):
        assert (act(actor_params, other)[0] != act(actor_params, seen)[0]).all()
        assert (judge(critics_params, other, zeros) != values).all()
    assert (judge(critics_params, seen, zeros + 1) != values).all()
    alone = {"image": seen["image"]}
    assert applied(actor, initialized(actor, alone), alone)[0].shape == (5, 2)


@pytest.mark.parametrize("images", [False, True])
def test_bfloat16_keeps_parameters_and_outputs_in_float32(images):
    encoder, actor = PatchEncoder(jnp.bfloat16), Actor((16,), 2, jnp.bfloat16)
    critics, action = critic_ensemble((16,), jnp.bfloat16), jnp.ones((4, 2))
    inputs, params = 30 * jax.random.normal(KEY, (4, 9)), []
    if images:
        pixels = random_images(4, 32, 32, 1)
        params.append(initialized(encoder, pixels))
        inputs = {"image": applied(encoder, params[0], pixels), "previous_action": action}
    params += [initialized(actor, inputs), initialized(critics, inputs, action)]
    outputs = applied(actor, params[-2], inputs), applied(critics, params[-1], inputs, action)
    for leaf in jax.tree.leaves((params, inputs, outputs)):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    full = applied(Actor((16,), 2), params[-2], inputs)
    np.testing.assert_allclose(outputs[0][0], full[0], atol=0.3)
    assert (outputs[0][0] != full[0]).any()


def test_density_of_sampled_actions_integrates_to_one():
    mean, log_std = jnp.array([0.3]), jnp.array([-0.5])
    noise = jax.random.split(KEY, 200_000)
    action, log_prob = jax.vmap(lambda key: sample_action(key, mean, log_std))(noise)
    assert action.shape == (200_000, 1)
    # E[1 / p(a)] is the volume of the action space, of which samples cover nearly all.
    inner = jnp.abs(action[:, 0]) < 0.9
    assert float(jnp.mean(jnp.where(inner, jnp.exp(-log_prob), 0))) == pytest.approx(1.8, abs=0.05)


@settings(max_examples=30, deadline=None)
@given(st.floats(-1.5, 1.5), st.floats(-5, 0), st.integers(0, 1000))
def test_density_is_that_of_the_squashed_gaussian(mean, log_std, seed):
    means, log_stds = jnp.array([mean, -mean, 0.0]), jnp.array([log_std, log_std / 2, -1.0])
    action, log_prob = sample_action(jax.random.key(seed), means, log_stds)
    action = np.float64(action)
    # Beyond, float32 cannot tell the action from 1, and the inverse of tanh loses its digits.
    if np.abs(action).max() < 0.98:
        deviations = np.exp(np.float64(log_stds))
        expected = norm.logpdf(np.arctanh(action), np.float64(means), deviations) - np.log1p(-(action**2))
        assert float(log_prob) == pytest.approx(expected.sum(), abs=5e-3)


def test_density_of_actions_at_the_bounds_is_finite():
    action, log_prob = sample_action(KEY, jnp.array([60.0, -60.0]), jnp.array([2.0, 2.0]))
    assert np.isfinite(log_prob)
    assert (np.abs(action) <= 1).all()
