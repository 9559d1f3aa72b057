"""Actor and critics as GPU kernels, interpreted; networks with their parameters in one vector."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from jaxdodge.agents import network_kernel
from jaxdodge.agents.flat import FlatModule, flat
from jaxdodge.agents.network_kernel import KernelModule, kernel_module
from jaxdodge.agents.networks import Actor, critic_ensemble
from jaxdodge.agents.sac_agent import SACAgent
from jaxdodge.agents.train_config import TrainConfig

FEATURES, ACTION, ROWS = 11, 3, 48


@pytest.fixture
def interpreted(monkeypatch):
    pallas_call = network_kernel.pl.pallas_call
    monkeypatch.setattr(
        network_kernel.pl,
        "pallas_call",
        lambda *given, **options: pallas_call(*given, **options, interpret=True),
    )


def modules(net_arch: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """The actor's and the critics' module, vector of parameters and kernel's module."""
    networks = Actor(net_arch, ACTION), critic_ensemble(net_arch)
    key, features, action = jax.random.key(0), jnp.zeros(FEATURES), jnp.zeros(ACTION)
    shapes = (
        jax.eval_shape(networks[0].init, key, features),
        jax.eval_shape(networks[1].init, key, features, action),
    )
    # Biases would start at 0 and scales at 1, which would hide one that is left out.
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.4, leaf.shape).astype(np.float32), shapes)
    flat_modules = [FlatModule(*pair) for pair in zip(networks, map(_unravel, params), strict=True)]
    vectors = [ravel_pytree(one)[0] for one in params]
    return flat_modules, vectors, list(map(kernel_module, networks, params, flat_modules))


def _unravel(params: Any) -> Any:
    return ravel_pytree(params)[1]


@pytest.mark.slow
def test_kernels_have_the_values_and_gradients_of_the_networks(interpreted):
    plain, vectors, kernels = modules((16, 32))
    assert all(isinstance(one, KernelModule) for one in kernels)
    features, action = (jax.random.normal(jax.random.key(n), (ROWS, n)) for n in (FEATURES, ACTION))

    def loss(networks: Any, actor: jax.Array, critics: jax.Array, action: jax.Array) -> jax.Array:
        mean, log_std = networks[0].apply(actor, features)
        # The second row of critics has no gradient, like targets.
        values = networks[1].apply(critics, features, action + jnp.tanh(mean))
        targets = networks[1].apply(jax.lax.stop_gradient(critics), features, action)
        return ((values - targets) ** 2).mean() + (values * log_std.mean(axis=-1)).mean()

    results = [
        jax.jit(jax.value_and_grad(lambda *given, networks=networks: loss(networks, *given), (0, 1, 2)))(
            *vectors, action
        )
        for networks in (plain, kernels)
    ]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6), *results)


@pytest.mark.slow
def test_seeds_have_kernels_of_their_own(interpreted):
    plain, vectors, kernels = modules((16,))
    seeds = jnp.stack([vectors[0], 2 * vectors[0]])
    features = jax.random.normal(jax.random.key(3), (2, ROWS, FEATURES))
    gradients = [
        jax.vmap(jax.grad(lambda vector, rows, one=one: one.apply(vector, rows)[1].sum()))(seeds, features)
        for one in (plain[0], kernels[0])
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-6)


def test_other_widths_have_no_kernel():
    for net_arch in ((24,), (256,), (16, 8)):
        plain, _, kernels = modules(net_arch)
        assert kernels == plain


def test_other_batches_are_computed_without_the_kernel():
    plain, vectors, kernels = modules((16,))
    for shape in ((FEATURES,), (5, FEATURES)):
        given = [one.apply(vectors[0], jnp.ones(shape)) for one in (plain[0], kernels[0])]
        jax.tree.map(np.testing.assert_array_equal, *given)


def test_a_flat_learner_is_restored_and_averages_and_adam_are_those_of_separate_arrays():
    agent = SACAgent(TrainConfig(net_arch=(4,)), ACTION, 100)
    learner = jax.jit(agent.init)(jax.random.key(0), jnp.ones(FEATURES), jnp.ones(FEATURES))
    _, vectors, restore = flat(agent, learner, kernels=False)
    assert vectors.critic_params.ndim == vectors.ema_policy.actor.ndim == 1
    jax.tree.map(np.testing.assert_array_equal, restore(vectors), learner)

    @jax.jit
    def descended(learner: Any) -> Any:
        gradient = jax.tree.map(lambda leaf: leaf * leaf + 0.5, learner.critic_params)
        updates, state = agent.critic_optimizer.update(gradient, learner.critic_opt_state)
        params = optax.apply_updates(learner.critic_params, updates)
        targets = optax.incremental_update(params, learner.target_critic_params, 0.005)
        return learner.replace(critic_params=params, target_critic_params=targets, critic_opt_state=state)

    # XLA on CPU contracts the tail of an array otherwise than the rest of it.
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9),
        restore(descended(vectors)),
        descended(learner),
    )
