"""Steps per second over the number of environments, and over the number of devices."""

from functools import partial
from typing import Any

from benchmarks.env import OURS, begin, ours, play, rollout, steps_at_once
from benchmarks.measure import Case, Prepared, Rows, Settings, compiled, measure, ratio
from benchmarks.sac import EPOCH, NUM_ENVS, epoch

# Environments on all devices combined.
SHARED = 16_384


def bench_scaling(settings: Settings) -> tuple[Rows, dict[str, Any]]:
    """Rows, and ratios of many devices to one."""
    sizes = settings.num_envs if settings.tiny else tuple(4**power for power in range(9))
    # Not in turn with a peer: the sizes are compared with each other.
    rows = measure(
        "scaling",
        [
            Case(OURS, size, "steps", partial(rollout, ours(), size, settings), {"devices": 1})
            for size in sizes
        ],
        settings,
    )
    if settings.devices == 1:
        return rows, {}
    counts = [2**power for power in range(settings.devices.bit_length()) if 2**power <= settings.devices]
    shared, num_envs = (16, 16) if settings.tiny else (SHARED, NUM_ENVS)
    of_counts = [
        *(
            Case(_on(OURS, n), shared, "steps", partial(_on_devices, shared, n, settings), {"devices": n})
            for n in counts
        ),
        *(
            Case(_on(EPOCH, n), num_envs, "steps", partial(epoch, settings, n), {"devices": n})
            for n in counts
        ),
    ]
    rows_of_counts = measure("scaling", of_counts, settings)
    ratios = {
        f"scaling: {name}, {n} devices over 1": ratio(rows_of_counts, _on(name, n), _on(name, 1))
        for name in (OURS, EPOCH)
        for n in counts[1:]
    }
    return rows + rows_of_counts, ratios


def _on(name: str, devices: int) -> str:
    return f"{name}, devices {devices}"


def _on_devices(size: int, devices: int, settings: Settings) -> Prepared:
    """Steps of environments sharded over devices, without communication."""
    import jax

    from jaxdodge.agents.devices import Layout

    layout = Layout(devices, seeds=False)
    env, params = ours()()

    def apart(function: Any) -> Any:
        """A function of one device's key and environments, for all devices."""

        def local(carry: Any) -> Any:
            key, *others = function((carry[0][0], *carry[1:]))
            return key[None], *others

        return layout.shard_map(local)

    keys = jax.random.split(jax.random.key(0), devices)
    carry = jax.jit(apart(lambda carry: begin(env, params, carry[0], size // devices)))((keys,))
    return compiled(apart(partial(play, env, params)), carry, steps_at_once(size, settings), size)
