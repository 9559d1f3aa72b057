"""Servers that several test files ask."""

import contextlib
import subprocess
import sys

import pytest
from served import SECONDS, SEED, running


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Output of servers, and what they compile, for the next of them."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture
def serve(folder):
    """Start servers: `serve("--http", "--port", 0)`."""
    with contextlib.ExitStack() as stack:
        yield lambda *flags: stack.enter_context(running(folder, *flags))


@pytest.fixture(scope="session")
def lockstep(folder):
    """A server in lockstep with all transports and a log, shared by all tests."""
    log = folder / "lockstep.log"
    transports = ("--http", "--port", 0, "--grpc-port", 0, "--socket-path", folder / "lockstep.sock")
    with running(folder, *transports, "--mode", "lockstep", "--seed", SEED, "--log", log) as server:
        server.log = log
        yield server


@pytest.fixture(scope="session")
def arenas(folder):
    """Two realtime environments at 60 fps with a log, and their metrics on a port of their own."""
    ports = ("--headless", "--http", "--port", 0, "--grpc-port", 0, "--metrics-port", 0)
    pages = ("--allowed-hosts", "game.example", "--allowed-origins", "*")
    log = ("--log", folder / "arenas.log")
    with running(folder, *ports, "--arenas", 2, "--order", "frame", *pages, *log) as server:
        yield server


@pytest.fixture
def refused():
    """The one line with which the command refuses these flags, with status 2."""

    def refuse(*flags) -> str:
        command = [sys.executable, "-m", "jaxdodge.serve", *map(str, flags)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 2, done
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    return refuse
