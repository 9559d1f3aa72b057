"""The numbers of a report."""

import numpy as np
import pytest
from ablation_report import csv_rows, synthetic

from jaxdodge.ablation.report import render
from jaxdodge.ablation.report_content import report_content
from jaxdodge.ablation.result_rows import COSTS, profile_interval, result_rows


def of(rows: list[dict], figure: str) -> dict:
    return {
        (row["of"], row["other"]) if row["other"] else row["of"]: [
            float(row[name]) for name in ("value", "low", "high")
        ]
        for row in rows
        if row["figure"] == figure
    }


def test_numbers_match_a_calculation_by_hand(folder):
    rows = csv_rows(folder)
    scores = of(rows, "score")
    assert [value for value, _, _ in scores.values()] == [101.5, 111.5, 201.5, 211.5]
    for value, low, high in scores.values():
        assert value - 1.5 <= low < value < high <= value + 1.5
    assert {name: value for name, (value, _, _) in of(rows, "main_effect").items()} == {
        ("frame_stack 1", "frame_stack"): 106.5,
        ("frame_stack 2", "frame_stack"): 206.5,
        ("colour gray", "colour"): 151.5,
        ("colour colour", "colour"): 161.5,
    }
    for value, low, high in of(rows, "interaction").values():
        assert value == pytest.approx(0, abs=1e-9)
        assert low < 0 < high
    improvement = of(rows, "improvement")
    assert improvement["frame_stack 2, colour gray", "frame_stack 1, colour gray"] == [1, 1, 1]
    assert improvement["frame_stack 1, colour gray", "frame_stack 1, colour colour"] == [0, 0, 0]
    assert len(improvement) == 12
    assert of(rows, "survival")["frame_stack 1, colour gray"][0] == pytest.approx(0.15)
    costs = [row for row in rows if row["figure"] == "cost"]
    assert {(row["of"], row["other"]) for row in costs} == {(cell, cost) for cell in scores for cost in COSTS}
    assert {float(row["value"]) for row in costs} == {5}


def test_effects_need_a_full_grid(folder):
    study, cells = synthetic(folder)
    cells[0].error = "no luck"
    rows = result_rows(study, cells)
    assert not {"main_effect", "pair_mean", "interaction"} & {row["figure"] for row in rows}
    text = render("markdown.j2", report_content(study, cells, rows))
    assert text.count("No main effects and interactions: they need all cells of a full grid.") == 1
    # Without the other cell of that level, the rest is a full grid again.
    cells[1].error = "no luck"
    effects = [row for row in result_rows(study, cells) if row["figure"] == "main_effect"]
    assert [row["of"] for row in effects] == ["colour gray", "colour colour"]


def test_a_profile_draws_a_seed_with_all_its_conditions():
    # One seed is below and one above in all conditions; half of the draws take one seed twice.
    low, high = profile_interval(np.float64([[0] * 9, [1] * 9]), np.float64([0.5]))
    assert (low.tolist(), high.tolist()) == ([0], [1])


def test_costs_of_groups_add_up_except_memory(folder):
    study, cells = synthetic(folder)
    (whole,) = cells[0].results
    cells[0].results = [
        whole
        | {"seeds": whole["seeds"][part], "curves": whole["curves"][part]}
        | {"evaluations": {name: each[part] for name, each in whole["evaluations"].items()}}
        for part in (slice(0, 2), slice(2, 4))
    ]
    costs = [row for row in result_rows(study, cells[:1]) if row["figure"] == "cost"]
    assert {row["other"]: row["value"] for row in costs} == dict.fromkeys(COSTS, 10) | {"memory_bytes": 5}


def test_time_to_the_goal_is_a_median_of_seeds_that_may_never_reach_it(folder):
    study, cells = synthetic(folder)
    # Returns of four seeds after 10, 20 and 30 steps; the first one falls back.
    returns = [[0, 950, 100], [900, 900, 900], [0, 0, 901], [0, 899, 899]]
    for cell, found in zip(cells, (returns, [[0, 0, 0]] * 4), strict=False):
        for curve, values in zip(cell.results[0]["curves"], found, strict=True):
            curve[:] = [
                {"timesteps": 10 * (i + 1), "seconds": 2.0 * (i + 1), "return": value, "survival": 0}
                for i, value in enumerate(values)
            ]
    rows = result_rows(study, cells[:2])

    def values(figure: str, *names: str) -> list:
        return [[row[name] for name in names] for row in rows if row["figure"] == figure]

    assert values("seed_steps_to_goal", "value") == [[20], [10], [30], [None], *[[None]] * 4]
    assert values("steps_to_goal", "value", "low", "high") == [[25, 10, None], [None] * 3]
    assert values("seconds_to_goal", "value", "low", "high") == [[5, 2, None], [None] * 3]
    content = report_content(study, cells[:2], rows)
    assert "| 3 of 4 | 25 [10, never] | 5.0 s [2.0 s, never] |" in render("markdown.j2", content)
    table = content["goals"].rows
    assert [row[1:] for row in table] == [
        ["3 of 4", "25 [10, never]", "5.0 s [2.0 s, never]"],
        ["0 of 4", "never", "never"],
    ]
