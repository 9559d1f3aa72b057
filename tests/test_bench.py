"""The benchmark command in a tiny mode, and what the commands answer without JAX."""

import json
import os
import subprocess
import sys

import pytest

TINY = ("--num-envs", "4", "--num-images", "2", "--steps", "40", "--repeats", "2")
VECTOR = (
    "jaxdodge level 2",
    "jaxdodge level 2, frames_per_step 7",
    "gymnax CartPole-v1",
    "gymnax Breakout-MinAtar",
)
RASTERS = {"frames 84x84x1": 7056, "frames 64x64x3": 12288, "frames 256x256x3": 196608}
IMAGES = (
    "jaxdodge level 2, 84x84x1",
    *(name for of in RASTERS for name in (of, f"  memory written as {of}")),
)


def run(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "figures.json"
    done = run("-m", "jaxdodge.bench", "env", *TINY, "--out", out)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


def test_the_file_holds_a_row_per_environment_and_size(measured):
    _, document = measured
    assert set(document) == {"hardware", "rows", "summary"}
    assert [(row["name"], row["environments"]) for row in document["rows"]] == [
        *((name, 4) for name in VECTOR),
        *((name, 2) for name in IMAGES),
    ]
    for row in document["rows"]:
        assert len(row["rates"]) == 2
        assert row["worst"] <= row["median"] <= row["best"]
        assert {row["worst"], row["best"]} == set(row["rates"])
        assert row["worst"] > 0
        assert row["compile_seconds"] > 0
    assert [row["frames_per_step"] for row in document["rows"][:5]] == [1, 7, 1, 1, 1]
    assert {row["name"]: row["bytes"] for row in document["rows"] if row["name"] in RASTERS} == RASTERS


def test_the_file_names_the_hardware(measured):
    hardware = measured[1]["hardware"]
    assert set(hardware) >= {"cpu", "cores", "device", "jax", "gymnax", "python"}
    assert hardware["cores"] == os.cpu_count()
    assert hardware["cpu"]


def test_the_summary_is_printed_and_follows_from_the_rows(measured):
    printed, document = measured
    lines = printed.splitlines()
    assert len(lines) == 1 + len(document["rows"]) + len(document["summary"])
    assert lines[-len(document["summary"]) :] == document["summary"]
    median = {row["name"]: row["median"] for row in document["rows"]}
    ratio = median["jaxdodge level 2"] / median["gymnax CartPole-v1"]
    assert document["summary"][0] == f"vector steps over CartPole-v1: {ratio:.2f}"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("env", "--steps", "0"), "steps: 0 is refused"),
        (("env", "--repeats", "-1"), "repeats: -1 is refused"),
        (("env", "--num-envs", "16", "0"), "num_envs: (16, 0) is refused"),
        (("env", "--num-envs"), "num_envs"),
        (("env", "--steps", "many"), "many"),
        (("env", "--stesp", "7"), "--stesp"),
        (("env", "--out", "no/such/folder/file.json"), "no/such/folder/file.json: No such file or directory"),
        (("evn",), "evn"),
        ((), "env"),
    ],
)
def test_bad_options_are_refused_in_one_line(tmp_path, arguments, named):
    done = run("-m", "jaxdodge.bench", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


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


@pytest.mark.parametrize("module", ["jaxdodge.parity", "jaxdodge.bench"])
@pytest.mark.parametrize(
    ("arguments", "status"), [(["--help"], 0), (["{command}", "--help"], 0), (["{command}", "--nonsense"], 2)]
)
def test_help_and_refusals_do_not_import_jax(module, arguments, status):
    command = {"jaxdodge.parity": "check", "jaxdodge.bench": "env"}[module]
    argv = [module, *(argument.format(command=command) for argument in arguments)]
    done = run("-c", WITHOUT_JAX.format(argv=argv, status=status))
    assert done.returncode == 0, done.stderr
    assert ("usage: " in done.stdout) is (status == 0)
