"""README.md: its commands run as printed, in a fresh environment."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from installation import SECONDS, environment
from readme import blocks, commands

pytestmark = pytest.mark.slow
# Commands that take minutes or run for ever are stopped by Ctrl-C after a line that shows that they
# work. By their beginning; the others run to their end.
STOPPED = {
    "jaxdodge train": r"survival +[0-9.]+%",
    "jaxdodge parity check": r" equal$| agrees: ",
    "jaxdodge serve": r"http://127\.0\.0\.1:8000",
    "jaxdodge ablate": r"results: ",
}
# Of the commands above, those that end by themselves.
ENDING = ("jaxdodge parity check session.npz", "jaxdodge ablate timing --dry-run")
# What each command prints, by its beginning; some words of it.
PRINTED = {
    "jaxdodge evaluate results/default/*": "survival",
    "jaxdodge parity record": "300 steps",
    "jaxdodge parity check session.npz": "1 of 1 sessions agree",
    "jaxdodge parity timing": "frames per step",
    "jaxdodge evaluate measured": "server, 2 episodes",
    "jaxdodge ablate timing --dry-run": "total, one cell after another",
}


class Shell:
    """Lines for bash, each in a shell of its own in the clone, with the environment activated."""

    def __init__(self, folder: Path, variables: dict[str, str]):
        self.folder, self.variables = folder, variables

    @contextlib.contextmanager
    def started(self, line: str, output: Path):
        with output.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", f". .venv/bin/activate && {line}"],
                cwd=self.folder,
                env=self.variables | {"PYTHONUNBUFFERED": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def wait_for(self, pattern: str, process: subprocess.Popen, output: Path) -> None:
        """Until a line matches."""
        deadline = time.monotonic() + SECONDS
        while not re.search(pattern, output.read_text(), re.M):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)


def interrupt(process: subprocess.Popen) -> int:
    """Ctrl-C, as a terminal sends it: to all processes of the line. The exit status."""
    os.killpg(process.pid, signal.SIGINT)
    return process.wait(SECONDS)


def of(table: dict[str, str], line: str) -> str | None:
    """The entry whose key is the longest beginning of a line."""
    keys = [key for key in table if line.startswith(key)]
    return table[max(keys, key=len)] if keys else None


@pytest.mark.nightly
def test_the_commands_run_as_printed(checkout, clean, tmp_path):
    environment(checkout / ".venv")
    # Optimized as for users: the first evaluation of the default
    # training comes after 4,000 updates.
    shell = Shell(checkout, {name: value for name, value in clean.items() if name != "XLA_FLAGS"})
    install_and_train, _ = blocks("bash")
    lines = [install_and_train.strip(), *commands()]
    assert lines[0].endswith("&& jaxdodge train")
    with contextlib.ExitStack() as servers:
        for number, line in enumerate(lines):
            output = tmp_path / f"{number}.txt"
            if line.endswith(" &"):
                server = servers.enter_context(shell.started(line.removesuffix(" &"), output))
                shell.wait_for(of(STOPPED, line), server, output)
                continue
            with shell.started(line, output) as process:
                pattern = None if line in ENDING else of(STOPPED, line.rpartition("&& ")[2])
                if pattern is None:
                    assert process.wait(SECONDS) == 0, output.read_text()
                else:
                    shell.wait_for(pattern, process, output)
                    assert interrupt(process) == 130, output.read_text()
            expected = of(PRINTED, line)
            assert expected is None or expected in output.read_text(), line
    assert (checkout / "timing.json").is_file()


def test_the_program_runs(checkout, clean, tmp_path):
    environment(tmp_path / "venv")
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", "-e", checkout], check=True, env=clean)
    for program in blocks("python"):
        # In the folder above the clone, where its folder must not be taken for the package.
        command = [tmp_path / "venv/bin/python", "-c", program]
        subprocess.run(command, cwd=checkout.parent, env=clean, check=True, timeout=SECONDS)
