"""The benchmark of a fleet under faults, in small."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_fleet_goes_on_under_random_faults_and_stores_only_what_is_true(tmp_path):
    out = tmp_path / "figures.json"
    server = f"{{python}} {ROOT / 'tests/small_server.py'} {{server_port}} --log {{log}}"
    command = [sys.executable, "-m", "benchmarks", "fleet_faults", "--out", out, "--server-command", server]
    options = ["--steps", "400", "--every", "20", "--timeout", "1.5", "--seed", "2"]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    figures = json.loads(out.read_text())
    assert sum(figures["faults"].values()) >= 5
    assert figures["restarts"] >= sum(figures["faults"].values())
    assert figures["stored_transitions"] == figures["verified_transitions"] > 400
    assert figures["orphans"] == 0
