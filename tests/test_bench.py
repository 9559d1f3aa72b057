"""The benchmark in its tiny mode, the guard of its ratios, and what the command answers without JAX."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import rasters, render, train
from benchmarks.measure import Options, spread
from benchmarks.report import markdown
from benchmarks.sac import EPOCH, IMAGE_EPOCH
from jaxdodge.cli import guarded
from jaxdodge.render.topdown import draw

VECTOR = (
    "jaxdodge level 2",
    "jaxdodge level 2, frames_per_step 7",
    "gymnax CartPole-v1",
)
FRAMES = {"84x84x1": 7056, "64x64x3": 12288, "256x256x3": 196608}


def run(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "figures.json"
    parts = ("env", "render", "sac")
    done = run("-m", "benchmarks", *parts, "--compare", "peers", "--tiny", "--out", out)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text()), out


def of_part(document, part):
    return [row for row in document["rows"] if row["part"] == part]


def test_the_file_holds_a_row_per_environment_and_size(measured):
    _, document, _ = measured
    names = {"hardware", "packages", "parts", "machine", "rows", "ratios"}
    assert set(document) == names
    assert document["parts"] == ["env", "render", "sac"]
    assert [(row["name"], row["size"]) for row in of_part(document, "env")] == [(name, 4) for name in VECTOR]
    render_rows = {row["name"]: row for row in of_part(document, "render")}
    assert {name: render_rows[f"frames {name}"]["frame_bytes"] for name in FRAMES} == FRAMES
    assert {f"numpy frames {name}" for name in FRAMES} <= set(render_rows)
    assert [row["name"] for row in of_part(document, "sac")][:2] == [
        "jaxdodge 2 x 8",
        "jaxdodge 2 x 8, policy_delay 2",
    ]
    assert [row["name"] for row in of_part(document, "sac")][-2:] == [EPOCH, IMAGE_EPOCH]


def test_every_row_has_its_spread_its_compilation_and_its_unit(measured):
    for row in measured[1]["rows"]:
        assert len(row["rates"]) == (1 if row["name"] == IMAGE_EPOCH else 2)
        assert {row["min"], row["max"]} == set(row["rates"])
        assert 0 < row["min"] <= row["median"] <= row["max"]
        assert row["unit"] in {"steps", "frames", "updates"}
        assert row["compile_seconds"] > 0 or row["name"].startswith("numpy")


def test_the_roofline_follows_from_what_the_machine_did_in_the_same_run(measured):
    machine = measured[1]["machine"]
    for row in measured[1]["rows"]:
        if row["bytes"] is None:
            assert "roofline" not in row
            continue
        bandwidth = [level["median"] for level in machine["bytes_per_second"]]
        memory = {rate / row["bytes"] for rate in bandwidth}
        operations = row["operations"] and machine["operations_per_second"]["median"] / row["operations"]
        assert (
            row["roofline"]["rate"]
            in {"memory": memory, "arithmetic": {operations}}[row["roofline"]["limit"]]
        )
        assert row["roofline"]["share"] == row["median"] / row["roofline"]["rate"]


def test_the_file_names_the_hardware_and_what_was_compared_with(measured):
    hardware, packages = measured[1]["hardware"], measured[1]["packages"]
    assert set(hardware) >= {"cpu", "cores", "cores_used", "load_average", "device", "jax", "python"}
    assert hardware["cores"] == os.cpu_count()
    assert hardware["cores_used"] == len(os.sched_getaffinity(0))
    assert {"jax", "gymnax", "numpy"} <= set(packages)


def test_ratios_are_medians_over_repeats_in_turn(measured):
    _, document, _ = measured
    rates = {row["name"]: row["rates"] for row in of_part(document, "env")}
    pairs = zip(rates["jaxdodge level 2"], rates["gymnax CartPole-v1"], strict=True)
    ratios = dict(document["ratios"]["env: steps over CartPole-v1"])
    assert ratios.pop("by_processor") > 0
    assert ratios == spread([a / b for a, b in pairs])


def test_the_table_has_a_line_per_row_and_per_ratio(measured):
    printed, document, _ = measured
    assert printed.rstrip("\n") == markdown(document)
    assert sum(line.startswith(("| env |", "| render |", "| sac |")) for line in printed.splitlines()) == len(
        document["rows"]
    )
    for name in document["ratios"]:
        assert f"| {name} | " in printed


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "figures.json"
    more = ("--devices", 2, "--train-seeds", 2)
    done = run("-m", "benchmarks", "train", "scaling", *more, "--tiny", "--out", out)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


def test_without_peers_there_are_only_ours(alone):
    printed, document = alone
    assert list(document["packages"]) == ["jax"]
    assert {name.split(":")[0] for name in document["ratios"]} == {"scaling"}
    assert [(row["name"], row["seed"]) for row in of_part(document, "train")] == [
        ("jaxdodge", 0),
        ("jaxdodge", 1),
    ]
    assert "| jaxdodge | 1 | return " in printed
    scaling = [(row["size"], row["devices"]) for row in of_part(document, "scaling")]
    assert scaling == [(4, 1), *[(16, 1), (16, 2)] * 2]
    assert "| scaling | jaxdodge level 2 | 4 |" in printed


def test_trainings_tell_when_they_came_to_their_goal(alone):
    for ours in of_part(alone[1], "train"):
        assert ours["reached"]
        assert ours["curve"][-1][1] == ours["timesteps"] > 0
        assert 0 < ours["compile_seconds"] < ours["seconds"]
        assert ours["best_return"] == max(mean for _, _, mean in ours["curve"])


@pytest.mark.parametrize(("width", "height", "grayscale"), render.FRAMES.values())
@pytest.mark.parametrize("peer", ["numpy", "numba"])
def test_the_peers_draw_the_very_bytes(peer, width, height, grayscale):
    if peer == "numba":
        pytest.importorskip("numba")
    scenes = render.random_scenes(7)
    ours = np.asarray(draw(scenes, width=width, height=height, grayscale=grayscale))
    images = np.zeros_like(ours)
    make = {"numpy": rasters.numpy_raster, "numba": rasters.numba_raster}[peer]
    make(width, height, grayscale)(np.asarray(scenes.player), np.asarray(scenes.projectiles), images)
    np.testing.assert_array_equal(images, ours)


def doctored(path, tmp_path, name, median):
    document = json.loads(path.read_text())
    if median is None:
        del document["ratios"][name]
    else:
        document["ratios"][name]["median"] *= median
    (tmp_path / "doctored.json").write_text(json.dumps(document))
    return tmp_path / "doctored.json"


NAME = "env: steps over CartPole-v1"


@pytest.mark.parametrize(
    ("median", "status", "said"),
    [
        (1.0, 0, "none fell by more than 25%"),
        (0.76, 0, "none fell by more than 25%"),
        (3.0, 0, "none fell by more than 25%"),
        (0.74, 1, f"{NAME}: "),
        (float("nan"), 1, f"{NAME}: "),
        (None, 1, "not measured now"),
    ],
)
def test_the_guard_fails_where_a_ratio_fell(measured, tmp_path, median, status, said):
    committed = measured[2]
    result = doctored(committed, tmp_path, NAME, median)
    done = run("-m", "benchmarks", "check", "--result", result, "--against", committed)
    assert (done.returncode, done.stderr) == (status, "")
    assert said in done.stdout
    assert done.stdout.count("\n") == 1


def test_the_margin_can_be_stated_and_parts_not_measured_are_not_compared(measured, tmp_path):
    committed = measured[2]
    result = doctored(committed, tmp_path, NAME, 0.6)
    check = ("-m", "benchmarks", "check", "--result", result, "--against", committed)
    assert run(*check, "--margin", "0.5").returncode == 0
    assert run(*check).returncode == 1
    document = json.loads(result.read_text())
    result.write_text(json.dumps(document | {"parts": ["render", "sac"]}))
    done = run(*check)
    assert done.returncode == 0, done.stdout
    assert not re.match("^env", done.stdout)


def test_without_the_peers_the_guard_refuses_to_measure(measured, monkeypatch, capsys):
    monkeypatch.setattr(command, "installed", lambda: {"gymnax", "numpy", "numba"})
    monkeypatch.setattr(command, "measured", None)
    check = command.Check(against=measured[2])
    assert guarded(command.check, check) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("sbx-rl, stable-baselines3: not installed")
    assert "pip install 'jaxdodge[bench]'" in line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("env", "--repeats", "-1"), "repeats: invalid value -1"),
        (("env", "--num-envs", "16", "0"), "num_envs: invalid value (16, 0)"),
        (("env", "--num-envs"), "num_envs"),
        (("train", "--train-seeds", "0"), "train_seeds: invalid value 0"),
        (("env", "--seconds", "0"), "seconds: invalid value 0.0"),
        (("env", "--seconds", "many"), "many"),
        (("env", "--stesp", "7"), "--stesp"),
        (("env", "--compare", "nobody"), "nobody"),
        (("env", "--out", "no/such/folder/file.json"), "no/such/folder/file.json: No such file or directory"),
        (("evn",), "evn"),
        (("check", "--margin", "1.5"), "margin: invalid value 1.5"),
        (("check", "--against", "absent.json"), "absent.json: cannot be read"),
        (("check", "--against", "text.json"), "text.json: not a result"),
        (("check", "--against", "list.json"), "list.json: not a result"),
        (("check", "--against", "alone.json"), "alone.json: no ratios in it"),
    ],
)
def test_bad_options_are_refused_in_one_line(tmp_path, arguments, named):
    (tmp_path / "text.json").write_text("nonsense")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "alone.json").write_text('{"parts": [], "ratios": {}}')
    done = run("-m", "benchmarks", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("peer", ["sbx", "stable_baselines3"])
def test_peers_train_on_the_vector_environment(peer):
    pytest.importorskip(peer)
    row = train._peer(peer, -1e9, 3, Options(tiny=True))
    assert row["reached"]
    assert (row["seed"], row["timesteps"]) == (3, 80)


WITHOUT_JAX = """
import runpy, sys
sys.argv = {argv}
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=False)
except SystemExit as stop:
    assert stop.code == {status}, stop.code
loaded = {{"jax", "gymnax", "flax"}} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize("module", ["jaxdodge.parity", "benchmarks"])
@pytest.mark.parametrize(
    ("arguments", "status"), [(["--help"], 0), (["check", "--help"], 0), (["check", "--nonsense"], 2)]
)
def test_help_and_refusals_do_not_import_jax(module, arguments, status):
    done = run("-c", WITHOUT_JAX.format(argv=[module, *arguments], status=status))
    assert done.returncode == 0, done.stderr
    assert ("usage: " in done.stdout) is (status == 0)
