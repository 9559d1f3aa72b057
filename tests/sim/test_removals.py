"""Removals from a table of slots, in turn and as one permutation, against a plain list."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge.sim.deferred import NOT_REQUESTED, remove_at_once, remove_in_turn

SLOTS = 16
WAYS = {"in turn": jax.jit(jax.vmap(remove_in_turn)), "at once": jax.jit(jax.vmap(remove_at_once))}


def left(rows: list[int], requests: list[int]) -> list[int]:
    """The model: what is left after the requests, where the last row moves into each gap."""
    rows = list(rows)
    for request in requests:
        gap, last = rows.index(request), rows.pop()
        if last != request:
            rows[gap] = last
    return rows


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, list[int]]:
    """Rows in use, and those whose removal is requested, in the order of the requests."""
    count = draw(st.integers(0, SLOTS))
    rows = draw(st.permutations(range(count)))
    return count, rows[: draw(st.integers(0, count))]


def check(cases: list[tuple[int, list[int]]]) -> None:
    counts = np.array([count for count, _ in cases], np.int32)
    ranks = np.full((len(cases), SLOTS), NOT_REQUESTED, np.int32)
    for row, (_, requests) in zip(ranks, cases, strict=True):
        # Ranks have gaps where another system removed a row first.
        row[requests] = 3 * np.arange(len(requests)) + 1
    rows = np.broadcast_to(np.arange(SLOTS, dtype=np.float32), ranks.shape)
    for name, remove in WAYS.items():
        columns, remaining = remove({"x": rows, "y": -rows}, jnp.asarray(counts), ranks)
        for index, (count, requests) in enumerate(cases):
            expected = left(list(range(count)), requests)
            assert int(remaining[index]) == len(expected), name
            assert np.asarray(columns["x"])[index, : len(expected)].tolist() == expected, name
            assert np.asarray(columns["y"])[index, : len(expected)].tolist() == [-x for x in expected], name


@settings(max_examples=100)
@given(st.lists(tables(), min_size=8, max_size=8))
def test_the_last_row_fills_each_gap_in_the_order_of_requests(cases):
    check(cases)


@pytest.mark.parametrize("backwards", [False, True])
def test_every_set_of_rows_of_a_small_table(backwards):
    sets = [[row for row in range(6) if chosen >> row & 1] for chosen in range(64)]
    check([(6, rows[::-1] if backwards else rows) for rows in sets])
