"""How the suite times, compares, reports and guards, with synthetic rows."""

import json

import pytest

from benchmarks import guard, report, train
from benchmarks.measure import Case, Prepared, Settings, add_roofline, measure, ratio, spread
from benchmarks.sac import EPOCH, IMAGE_EPOCH
from jaxdodge.fields import ConfigError


def test_goals_of_rows():
    def timed(part, name, seconds, rate):
        return {"part": part, "name": name, "compile_seconds": seconds, "median": rate}

    rows = [
        timed("sac", EPOCH, 14.9, 1.0),
        timed("sac", IMAGE_EPOCH, 30.0, 1.0),
        timed("render", "frames 84x84x1", 1.0, 499_999.0),
        timed("render", "frames 84x84x1", 1.0, 500_000.0),
        timed("scaling", EPOCH, 1.0, 1.0),
    ]
    assert report._goals(rows)[3:] == [
        f"| sac: {EPOCH}, compilation seconds | 14.9 | below 15 | reached |",
        f"| sac: {IMAGE_EPOCH}, compilation seconds | 30.0 | below 30 | not reached |",
        "| render: frames 84x84x1, per second | 500,000 | 500,000 | reached |",
    ]
    assert report._goals(rows[-1:]) == []


def training(name, seconds, reached=True):
    return {"name": name, "seconds": seconds, "processor_seconds": seconds / 2, "reached": reached}


def test_trainings_are_compared_seed_by_seed():
    rows = [
        training("jaxdodge", 10),
        training("sbx", 20),
        training("jaxdodge", 5),
        training("sbx", 20, False),
    ]
    found = train.ratio_over_seeds(rows, "sbx")
    assert found == {"median": 3, "min": 2, "max": 4, "by_processor": 3, "at_least": True}
    assert "| >= 3.00 | 2.00 | 4.00 | 3.00 |" in report._ratio("train: time of sbx over ours", found)
    rows[2]["reached"] = False
    assert train.ratio_over_seeds(rows, "sbx")["min"] == 0


@pytest.mark.parametrize(("rates", "columns"), [((4.0,), "|  |  |"), ((4.0, 4.0), "| 4 | 4 |")])
def test_a_single_repeat_has_no_spread(rates, columns):
    timed = {"part": "sac", "unit": "steps", "compile_seconds": 1.0, **row("ours", 1, *rates)}
    assert f"| 4 steps {columns} 1.0 |" in report._row(timed)


def test_a_single_training_has_no_spread():
    found = train.ratio_over_seeds([training("jaxdodge", 10), training("sbx", 20)], "sbx")
    assert found == {"median": 2, "by_processor": 2, "at_least": False}
    assert "| 2.00 |  |  | 2.00 |" in report._ratio("train: time of sbx over ours", found)


def test_cases_are_timed_in_turn():
    order = []
    cases = [
        Case(name, 1, "steps", lambda name=name: Prepared(lambda: order.append(name), 1))
        for name in ("a", "b")
    ]
    rows = measure("env", cases, Settings(repeats=3, seconds=1e-9))
    assert order == ["a", "a", "b", "b", *("a", "b") * 3]
    assert [len(row["rates"]) for row in rows] == [3, 3]


def row(name, size, *rates):
    by_processor = [2 * rate if name == "ours" else rate for rate in rates]
    return {
        "name": name,
        "size": size,
        "rates": list(rates),
        "rates_by_processor": by_processor,
        **spread(rates),
    }


def test_ratios_use_the_best_size_and_need_both_sides():
    rows = [
        row("ours", 1, 10, 20, 30),
        row("ours", 2, 40, 40, 20),
        row("peer", 1, 10, 20, 5),
        row("peer", 2, 1, 1, 1),
    ]
    assert ratio(rows, "ours", "peer") == {"median": 4, "min": 2, "max": 4, "by_processor": 8}
    assert ratio(rows, "ours", "peer", 7)["median"] == 28
    assert ratio(rows, "ours", "absent") is None


@pytest.mark.parametrize(
    ("costs", "limit", "rate"),
    [
        ({"bytes": 10, "operations": 1, "state_bytes": 50}, "memory", 100),  # the fast level, 1000 / 10
        ({"bytes": 10, "operations": 1, "state_bytes": 500}, "memory", 20),  # beyond every level: the slowest
        ({"bytes": 1, "operations": 50, "state_bytes": 0}, "arithmetic", 10),
        ({"bytes": 0, "operations": 50, "state_bytes": 0}, "arithmetic", 10),
    ],
)
def test_the_roofline_is_the_lower_limit(costs, limit, rate):
    machine = {
        "bytes_per_second": [{"bytes": 100, "median": 1000}, {"bytes": 200, "median": 200}],
        "operations_per_second": {"median": 500},
    }
    rows = [{"median": 5, **costs}]
    add_roofline(rows, machine)
    assert rows[0]["roofline"] == {"limit": limit, "rate": rate, "share": 5 / rate}


def test_training_times_are_not_guarded(tmp_path):
    def result(name, **ratios):
        document = {"parts": ["env", "train"], "ratios": {name: {"median": m} for name, m in ratios.items()}}
        (tmp_path / name).write_text(json.dumps(document))
        return tmp_path / name

    before = guard.read(result("before", **{"env: steps": 1.0, "train: time": 12.0}))
    after = guard.read(result("after", **{"env: steps": 0.5, "train: time": 1.0}))
    assert guard.fallen(after, before, 0.25) == ["env: steps: 1.00 before, 0.50 now, more than 25% less"]
    with pytest.raises(ConfigError, match="no ratios in it"):
        guard.read(result("trained", **{"train: time": 1.0}))
