"""`python -m jaxdodge` and what it lists."""

import importlib.util
import subprocess
import sys

import pytest

import jaxdodge
from jaxdodge import __main__ as entry


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jaxdodge", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_commands_are_listed_without_importing_jax():
    """Until a command is imported, Ctrl-C ends the process without traceback."""
    script = (
        "import runpy, signal, sys; sys.argv = ['/bin/jaxdodge']\n"
        "try: runpy.run_module('jaxdodge', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert 'jax' not in sys.modules and 'tyro' not in sys.modules\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: jaxdodge COMMAND")
    for name in entry.COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_every_command_is_a_module():
    for name in entry.COMMANDS:
        assert importlib.util.find_spec(f"jaxdodge.{name}")


def test_a_command_takes_its_own_options_and_gives_its_own_status():
    done = run("train", "--leve", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "--leve: no such option; did you mean --level? (--help lists all)\n"


@pytest.mark.parametrize("arguments", [["trian"], ["--bogus"]])
def test_an_unknown_command_is_one_line(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"{arguments[0]}: invalid command; "
        "expected train, sb3, evaluate, export, watch, ablate, serve, parity\n"
    )


def test_the_version(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["jaxdodge", "--version"])
    assert entry.main() == 0
    assert capsys.readouterr().out == f"{jaxdodge.__version__}\n"
