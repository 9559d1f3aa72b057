"""The benchmark suite with its smallest sizes, the guard of its ratios, and the command line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import guard, peer_rasters, render, suite, train
from benchmarks.__main__ import COMMANDS, main
from benchmarks.measure import Settings, spread
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


def measure(folder, *arguments):
    """Output, document and file of a run of the suite."""
    out = folder / "figures.json"
    done = run("-m", "benchmarks", *arguments, "--tiny", "--out", out)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text()), out


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The environments and the rasterizer, beside their peers."""
    return measure(tmp_path_factory.mktemp("bench"), "env", "render", "--compare", "peers")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Everything that compiles updates, without peers."""
    options = "--devices", 2, "--train-seeds", 2
    return measure(tmp_path_factory.mktemp("bench"), "sac", "train", "scaling", *options)


def of_part(document, part):
    return [row for row in document["rows"] if row["part"] == part]


@pytest.mark.slow
def test_the_file_holds_a_row_per_environment_and_size(measured):
    _, document, _ = measured
    names = {"hardware", "packages", "parts", "machine", "rows", "ratios"}
    assert set(document) == names
    assert document["parts"] == ["env", "render"]
    assert [(row["name"], row["size"]) for row in of_part(document, "env")] == [(name, 4) for name in VECTOR]
    render_rows = {row["name"]: row for row in of_part(document, "render")}
    assert {name: render_rows[f"frames {name}"]["frame_bytes"] for name in FRAMES} == FRAMES
    assert {f"numpy frames {name}" for name in FRAMES} <= set(render_rows)


def check_rows(rows):
    for row in rows:
        assert len(row["rates"]) == (1 if row["name"] == IMAGE_EPOCH else 2)
        assert {row["min"], row["max"]} == set(row["rates"])
        assert 0 < row["min"] <= row["median"] <= row["max"]
        assert row["unit"] in {"steps", "frames", "updates"}
        assert row["compile_seconds"] > 0 or row["name"].startswith("numpy")


@pytest.mark.slow
def test_every_row_has_spread_compilation_time_and_unit(measured):
    check_rows(measured[1]["rows"])


@pytest.mark.slow
def test_the_roofline_uses_the_peak_rates_of_the_same_run(measured):
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


@pytest.mark.slow
def test_the_file_names_hardware_and_peers(measured):
    hardware, packages = measured[1]["hardware"], measured[1]["packages"]
    assert set(hardware) >= {"cpu", "cores", "cores_used", "load_average", "device", "jax", "python"}
    assert hardware["cores"] == os.cpu_count()
    assert hardware["cores_used"] == len(os.sched_getaffinity(0))
    assert {"jax", "gymnax", "numpy"} <= set(packages)


@pytest.mark.slow
def test_ratios_are_medians_over_repeats_in_turn(measured):
    _, document, _ = measured
    rates = {row["name"]: row["rates"] for row in of_part(document, "env")}
    pairs = zip(rates["jaxdodge level 2"], rates["gymnax CartPole-v1"], strict=True)
    ratios = dict(document["ratios"]["env: steps over CartPole-v1"])
    assert ratios.pop("by_processor") > 0
    assert ratios == spread([a / b for a, b in pairs])


@pytest.mark.slow
def test_the_table_has_a_line_per_row_and_per_ratio(measured):
    printed, document, _ = measured
    assert printed.rstrip("\n") == markdown(document)
    rows = [line for line in printed.splitlines() if line.startswith(("| env |", "| render |"))]
    assert len(rows) == len(document["rows"])
    for name in document["ratios"]:
        assert f"| {name} | " in printed


@pytest.mark.slow
@pytest.mark.nightly
def test_updates_trainings_and_devices_without_peers(trained):
    printed, document, _ = trained
    assert list(document["packages"]) == ["jax"]
    assert {name.split(":")[0] for name in document["ratios"]} == {"scaling"}
    assert [row["name"] for row in of_part(document, "sac")] == [
        *("jaxdodge 2 x 8", "jaxdodge 2 x 8, policy_delay 2"),
        *(EPOCH, IMAGE_EPOCH),
    ]
    scaling = [(row["size"], row["devices"]) for row in of_part(document, "scaling")]
    assert scaling == [(4, 1), *[(16, 1), (16, 2)] * 2]
    check_rows(of_part(document, "sac") + of_part(document, "scaling"))
    for row in (f"| sac | {EPOCH} | 16 |", "| scaling | jaxdodge level 2 | 4 |", "| jaxdodge | 1 | return "):
        assert row in printed


@pytest.mark.slow
@pytest.mark.nightly
def test_trainings_report_when_they_reached_the_goal(trained):
    trainings = of_part(trained[1], "train")
    assert [(row["name"], row["seed"]) for row in trainings] == [("jaxdodge", 0), ("jaxdodge", 1)]
    for ours in trainings:
        assert ours["reached"]
        assert ours["curve"][-1][1] == ours["timesteps"] > 0
        assert 0 < ours["compile_seconds"] < ours["seconds"]
        assert ours["best_return"] == max(mean for _, _, mean in ours["curve"])


@pytest.mark.parametrize(("width", "height", "grayscale"), render.FRAMES.values())
@pytest.mark.parametrize("peer", ["numpy", "numba"])
def test_the_peers_draw_the_same_bytes(peer, width, height, grayscale):
    if peer == "numba":
        pytest.importorskip("numba")
    scenes = render.random_scenes(7)
    ours = np.asarray(draw(scenes, width=width, height=height, grayscale=grayscale))
    images = np.zeros_like(ours)
    make = {"numpy": peer_rasters.numpy_raster, "numba": peer_rasters.numba_raster}[peer]
    make(width, height, grayscale)(np.asarray(scenes.player), np.asarray(scenes.projectiles), images)
    np.testing.assert_array_equal(images, ours)


def changed(path, tmp_path, name, factor):
    """A copy of a result in which a ratio is multiplied by a factor, or missing."""
    document = json.loads(path.read_text())
    if factor is None:
        del document["ratios"][name]
    else:
        document["ratios"][name]["median"] *= factor
    (tmp_path / "changed.json").write_text(json.dumps(document))
    return tmp_path / "changed.json"


def command(*arguments) -> int:
    """The exit status of the command, run in this process."""
    try:
        return main([*map(str, arguments)])
    except SystemExit as stop:
        return stop.code


NAME = "env: steps over CartPole-v1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "status", "line"),
    [
        (1.0, 0, "none fell by more than 25%"),
        (0.76, 0, "none fell by more than 25%"),
        (3.0, 0, "none fell by more than 25%"),
        (0.74, 1, f"{NAME}: "),
        (float("nan"), 1, f"{NAME}: "),
        (None, 1, "not measured now"),
    ],
)
def test_the_guard_fails_if_a_ratio_fell(measured, tmp_path, capsys, factor, status, line):
    committed = measured[2]
    result = changed(committed, tmp_path, NAME, factor)
    assert command("check", "--result", result, "--against", committed) == status
    printed = capsys.readouterr()
    assert printed.err == ""
    assert line in printed.out
    assert printed.out.count("\n") == 1


@pytest.mark.slow
def test_the_margin_is_an_option_and_unmeasured_parts_are_not_compared(measured, tmp_path, capsys):
    committed = measured[2]
    result = changed(committed, tmp_path, NAME, 0.6)
    check = "check", "--result", result, "--against", committed
    assert command(*check, "--margin", "0.5") == 0
    assert command(*check) == 1
    document = json.loads(result.read_text())
    result.write_text(json.dumps(document | {"parts": ["render", "sac"]}))
    capsys.readouterr()
    assert command(*check) == 0
    assert not capsys.readouterr().out.startswith("env")


def test_the_committed_result_passes_its_own_check(capsys):
    assert command("check", "--result", guard.COMMITTED) == 0


@pytest.mark.slow
def test_without_the_peers_the_guard_does_not_measure(measured, monkeypatch, capsys):
    monkeypatch.setattr(suite, "installed", lambda: {"gymnax", "numpy", "numba"})
    monkeypatch.setattr(suite, "measured", None)
    assert guarded(guard.run, guard.Options(against=measured[2])) == 2
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
        (("soak", "--transport", "udp"), "udp"),
        (("check", "--margin", "1.5"), "margin: invalid value 1.5"),
        (("check", "--against", "absent.json"), "absent.json: cannot be read"),
        (("check", "--against", "text.json"), "text.json: not a result"),
        (("check", "--against", "list.json"), "list.json: not a result"),
        (("check", "--against", "alone.json"), "alone.json: no ratios in it"),
    ],
)
def test_an_invalid_option_is_one_line(tmp_path, monkeypatch, capsys, arguments, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.json").write_text("nonsense")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "alone.json").write_text('{"parts": [], "ratios": {}}')
    assert command(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert named in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("peer", ["sbx", "stable_baselines3"])
def test_peers_train_on_the_vector_environment(peer):
    pytest.importorskip(peer)
    row = train._peer(peer, -1e9, 3, Settings(tiny=True))
    assert row["reached"]
    assert (row["seed"], row["timesteps"]) == (3, 80)


WITHOUT_JAX = """
import contextlib, io, runpy, sys

for module in ("jaxdodge.parity", "benchmarks"):
    for arguments, status in ((["--help"], 0), (["check", "--help"], 0), (["check", "--nonsense"], 2)):
        sys.argv = [module, *arguments]
        with contextlib.redirect_stdout(io.StringIO()) as output:
            try:
                runpy.run_module(module, run_name="__main__", alter_sys=False)
            except SystemExit as stop:
                assert stop.code == status, stop.code
        assert ("usage: " in output.getvalue()) == (status == 0)
loaded = {"jax", "gymnax", "flax"} & set(sys.modules)
assert not loaded, loaded
"""


def test_help_and_errors_do_not_import_jax():
    done = run("-c", WITHOUT_JAX)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_benchmark_has_help(capsys, name):
    assert command(name, "--help") == 0
    assert f"usage: python -m benchmarks {name} " in capsys.readouterr().out


@pytest.mark.slow
def test_a_server_passes_a_short_soak(tmp_path):
    out = tmp_path / "soak.json"
    done = run("-m", "benchmarks", "soak", "--requests", "200", "--transport", "http", "--out", out)
    figures = json.loads(out.read_text())
    assert (figures["requests"], figures["unasked_resets"]) == (200, 0), done.stderr
