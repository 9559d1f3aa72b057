"""Outputs never end a command: readers that leave, encodings, closed outputs, second Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxdodge.figures import new_figure
from jaxdodge.outputs import plain_console

PRINTS = """
import sys
from jaxdodge.cli import guarded
def command():
    for _ in range(20_000):
        print("return 1.0 \u00b1 0.1", flush=True)
    print("done", file=sys.stderr)
    return 3
sys.exit(guarded(command))
"""


@pytest.mark.parametrize("redirection", ["| head -n 1", ">&-", "> /dev/full"])
def test_a_command_goes_on_without_standard_output_and_says_why(redirection):
    script = f'{{ "$0" -c "$1"; echo "status $?" >&2; }} {redirection}'
    done = subprocess.run(["bash", "-c", script, sys.executable, PRINTS], capture_output=True, text=True)
    why, *rest = done.stderr.splitlines()
    assert why.startswith("standard output: not written (")
    assert rest == ["done", "status 3"]


def test_signs_that_an_encoding_lacks_are_escaped():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, env=environment)
    assert done.returncode == 3
    assert done.stdout.splitlines()[0] == rb"return 1.0 \xb1 0.1"


def test_a_second_interrupt_ends_a_command_that_swallows_the_first():
    code = """
import sys, time
from jaxdodge.cli import guarded
def command():
    while True:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except BaseException:
            pass
guarded(command)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    for _ in range(2):
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
    assert process.wait(30) == -signal.SIGINT
    process.stdout.close()


@pytest.mark.parametrize("arguments", ["-m jaxdodge train", "-m jaxdodge.train", "-mjaxdodge.train"])
def test_ctrl_c_while_a_command_is_imported_ends_it_without_traceback(arguments, tmp_path):
    (tmp_path / "tyro.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    command = [sys.executable, *arguments.split()]
    done = subprocess.run(command, env=with_modules(tmp_path), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_users_program_keeps_its_own_ctrl_c(tmp_path):
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__init__.py").write_text("import jaxdodge")
    (tmp_path / "tool" / "__main__.py").write_text(
        "import signal; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    command = [sys.executable, "-m", "tool", "jaxdodge"]
    done = subprocess.run(command, env=with_modules(tmp_path), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def with_modules(folder: Path) -> dict[str, str]:
    """The environment of a process that finds the modules in a folder, and this package."""
    return os.environ | {"PYTHONPATH": f"{folder}:{Path(__file__).parents[1]}"}


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SWALLOWS = """
import os, sys, time
from jaxdodge.cli import ONE_REQUEST_SECONDS, Interrupt
number, orderly = int(sys.argv[1]), sys.argv[2] == "True"
with Interrupt(orderly) as interrupt:
    for seconds in (0, ONE_REQUEST_SECONDS + 0.2, 60):
        try:
            os.kill(os.getpid(), number)
        except BaseException:
            pass
        time.sleep(seconds)
        print(interrupt.reason(), flush=True)
"""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("orderly", [True, False])
def test_a_signal_is_never_swallowed(number, orderly):
    """The first one saves, if there is something to save; a later one ends the process.

    Two at once are one: `timeout` sends a signal to its command, and then to all of its group.
    """
    command = [sys.executable, "-c", SWALLOWS, str(int(number)), str(orderly)]
    done = subprocess.run(command, capture_output=True, text=True)
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    if orderly:
        expected = (2 * f"{name}\n", f"{name}: saving and stopping\n", 128 + number)
    else:
        expected = ("", "interrupted\n", 128 + number)
    assert (done.stdout, done.stderr, done.returncode) == expected


@pytest.mark.parametrize("platform", ["cuda", "abacus"])
def test_a_platform_that_is_not_there_is_one_line(platform):
    code = """
import sys
from jaxdodge.cli import guarded
def command():
    import jax
    jax.numpy.zeros(1)
sys.exit(guarded(command))
"""
    environment = os.environ | {"JAX_PLATFORMS": platform, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line.split(";")[0]) == (2, f"JAX_PLATFORMS: invalid value '{platform}'")


def test_colours_that_are_forced_do_not_make_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not plain_console().is_terminal


def test_a_figure_needs_no_backend(monkeypatch, tmp_path):
    monkeypatch.setenv("MPLBACKEND", "module://no_such_notebook")
    code = "from jaxdodge.figures import new_figure; new_figure().savefig('figure.png')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "figure.png").stat().st_size
    figure = new_figure(figsize=(1, 1))
    assert figure.get_size_inches().tolist() == [1, 1]
