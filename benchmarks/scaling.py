"""Steps per second over the number of environments on one device, and over the number of devices."""

from functools import partial
from typing import Any

from benchmarks.env import OURS, begin, ours, play, rollout, steps_at_once
from benchmarks.measure import Case, Options, Prepared, Rows, compiled, measure, ratio
from benchmarks.sac import ARENAS, EPOCH, epoch

# Environments on all devices together.
SHARED = 16_384


def bench_scaling(options: Options) -> tuple[Rows, dict[str, Any]]:
    """Rows, and ratios of many devices to one."""
    sizes = options.num_envs if options.tiny else tuple(4**power for power in range(9))
    # Each alone, since a size is compared with the others of the table and not with a peer.
    rows = measure(
        "scaling",
        [
            Case(OURS, size, "steps", partial(rollout, ours(), size, options), {"devices": 1})
            for size in sizes
        ],
        options,
    )
    if options.devices == 1:
        return rows, {}
    counts = [2**power for power in range(options.devices.bit_length()) if 2**power <= options.devices]
    shared, arenas = (16, 16) if options.tiny else (SHARED, ARENAS)
    of_counts = [
        *(
            Case(_on(OURS, n), shared, "steps", partial(_on_devices, shared, n, options), {"devices": n})
            for n in counts
        ),
        *(Case(_on(EPOCH, n), arenas, "steps", partial(epoch, options, n), {"devices": n}) for n in counts),
    ]
    rows_of_counts = measure("scaling", of_counts, options)
    ratios = {
        f"scaling: {name}, {n} devices over 1": ratio(rows_of_counts, _on(name, n), _on(name, 1))
        for name in (OURS, EPOCH)
        for n in counts[1:]
    }
    return rows + rows_of_counts, ratios


def _on(name: str, devices: int) -> str:
    return f"{name}, devices {devices}"


def _on_devices(size: int, devices: int, options: Options) -> Prepared:
    """Steps of environments that are spread over devices, which have nothing to tell each other."""
    import jax

    from jaxdodge.agents.devices import Layout

    layout = Layout(devices, seeds=False)
    env, params = ours()()

    def apart(function: Any) -> Any:
        """A function of a device's own key and environments, for all."""

        def local(carry: Any) -> Any:
            key, *others = function((carry[0][0], *carry[1:]))
            return key[None], *others

        return layout.arena_by_arena(local)

    keys = jax.random.split(jax.random.key(0), devices)
    carry = jax.jit(apart(lambda carry: begin(env, params, carry[0], size // devices)))((keys,))
    return compiled(apart(partial(play, env, params)), carry, steps_at_once(size, options), size)
