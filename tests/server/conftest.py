"""Servers that several test files ask."""

import contextlib
import signal

import pytest
from served import SEED, running

from jaxdodge import serve as serve_module
from jaxdodge.cli import guarded


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
def refused(capsys, monkeypatch):
    """The one line with which the command refuses these flags, with status 2.

    It does so before it starts JAX, so that this process can run it.
    """
    monkeypatch.setattr(serve_module, "_run_calls_in_one_thread", lambda: pytest.fail("it listens"))
    handler = signal.getsignal(signal.SIGTERM)

    def refuse(*flags) -> str:
        status = guarded(serve_module.serve, [str(flag) for flag in flags])
        captured = capsys.readouterr()
        assert (status, captured.out, captured.err.count("\n")) == (2, "", 1), captured.err
        return captured.err

    yield refuse
    signal.signal(signal.SIGTERM, handler)
