"""The linear learning rate of runs with more updates than int32 can count."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.agents.schedules import BLOCK, adam


@pytest.mark.parametrize("total", [10**6, 10**11])
@pytest.mark.parametrize("done", [0.0, 0.25, 0.75])
def test_the_learning_rate_falls_to_0_over_the_run(total, done):
    optimizer, params = adam(0.5, True, total), jnp.zeros(3)
    adam_state, count = optimizer.init(params)
    count = (
        count._replace(count=jnp.int32(done * total))
        if total < 2**31
        else jnp.array([done * total // BLOCK, done * total % BLOCK], jnp.int32)
    )
    change, (_, after) = optimizer.update(jnp.ones(3), (adam_state, count))
    # The first change of Adam has the size of the learning rate.
    np.testing.assert_allclose(change, -0.5 * (1 - done), rtol=1e-4)
    assert total < 2**31 or int(after[0]) * BLOCK + int(after[1]) == round(done * total) + 1
