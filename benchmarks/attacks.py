"""`python -m benchmarks attacks`: attacks on a server and on files, each held or not.

Each attack once did harm: it took memory, ended or stopped a command, or gave a wrong result. It is
replayed against a server, or a command, in a process of its own.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from malicious_files import MALICIOUS  # noqa: E402
from served import Server, running  # noqa: E402

from benchmarks.soak import resident_bytes  # noqa: E402
from jaxdodge.files import error_line  # noqa: E402
from jaxdodge.hardware import hardware  # noqa: E402
from jaxdodge.resources import recordings  # noqa: E402

STILL = b'{"action": [0, 0, 0, 0, 0]}'
HEAD = b"POST /step HTTP/1.1\r\nHost: localhost\r\n"
SECONDS = 120.0
# What the memory of a server may grow by, and what a command that refuses a file may take, bytes.
LARGEST_GROWTH = 100 * 2**20
LARGEST_COMMAND = 1200 * 2**20
# Within which SIGTERM must end a server: two seconds, and more on a busy machine.
END_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Options:
    """Replay attacks on a server and on files; the exit status is 1 if one does not hold."""

    out: Path | None = None
    """Write the results as JSON to this file."""


class Target:
    """A server under attack, and a folder for files."""

    def __init__(self, folder: Path, server: Server):
        self.folder, self.server = folder, server
        host, port = server.http.removeprefix("http://").split(":")
        self.address = host, int(port)

    def step(self, body: bytes = STILL, headers: Mapping[str, str] = {}) -> int:
        """Status of the response to a step."""
        connection = http.client.HTTPConnection(*self.address, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", "/step", body, headers)
            return connection.getresponse().status

    def connected(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=SECONDS)

    def sent(self, *parts: bytes, half_close: bool = False) -> bytes:
        """What a server responds to these bytes, until it closes the connection."""
        with self.connected() as connection:
            with contextlib.suppress(OSError):
                for part in parts:
                    connection.sendall(part)
                    time.sleep(0.2)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return connection.makefile("rb").read()


def endless(start: bytes, target: Target) -> None:
    assert b" 431 " in target.sent(start, b"a" * 80_000)


def nested(target: Target) -> None:
    body = b'{"action": ' + b"[" * 1020 + b"]" * 1020 + b"}"
    assert {target.step(body) for _ in range(100)} == {400}


def large_body(target: Target) -> None:
    assert b" 413 " in target.sent(HEAD + b"Content-Length: 1000000000\r\n\r\n" + b"a" * 1000)


def not_a_number(target: Target) -> None:
    assert target.step(b'{"action": [NaN, 0, 0, 0, 0]}') == 400
    with grpc.insecure_channel(target.server.addresses("grpc")[0].removeprefix("grpc://")) as channel:
        step: Any = channel.unary_unary("/rl_env.RlEnvironment/Step")
        for message in (b"\x12\x16\x0a\x14" + np.full(5, np.nan, "<f4").tobytes(), b"\xff" * 40):
            code = step.future(message, timeout=SECONDS).code()
            assert code == grpc.StatusCode.INVALID_ARGUMENT, code


def web_page(target: Target) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert target.step(headers=headers) == 403, headers


def half_closed(target: Target) -> None:
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(STILL) + STILL
    assert target.sent(request * 3, half_close=True).count(b"HTTP/1.1 200 OK") == 3


def idle_clients(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(target.connected())
        assert target.step() == 200


def slow_client(target: Target) -> None:
    with target.connected() as connection:
        connection.sendall(HEAD)
        began = time.monotonic()
        assert target.step() == 200
        assert connection.recv(1) == b""
        assert time.monotonic() - began < 30


def no_http(target: Target) -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        with target.connected() as connection, contextlib.suppress(OSError):
            connection.sendall(random.bytes(200))
    assert target.step() == 200


def second_server(target: Target) -> None:
    port = f"{target.address[1]}"
    for flags in (("--port", port), ("--port", "0", "--metrics-port", port)):
        refused("serve", "--headless", "--http", *flags)


def signal_while_it_compiles(target: Target) -> None:
    command = [sys.executable, "-m", "jaxdodge", "serve", "--headless", "--http", "--port", "0"]
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        # The first line comes before it compiles.
        process.stdout.readline()
        time.sleep(0.5)
        began = time.monotonic()
        process.terminate()
        assert process.wait(SECONDS) == 128 + signal.SIGTERM
        assert time.monotonic() - began < END_SECONDS


def hostile_recordings(target: Target) -> None:
    (folder := target.folder / "recordings").mkdir()
    for name, (write, _) in MALICIOUS.items():
        write(folder / f"{name}.npz")
    good = recordings() / "level1_still.npz"
    (report := target.folder / "report.md").write_text("good")
    lines = refused("parity", "check", f"{folder}", f"{good}", lines=len(MALICIOUS))
    assert len({line.split(":")[0] for line in lines}) == len(MALICIOUS)
    refused("parity", "check", f"{folder}", "--report", f"{report}", lines=len(MALICIOUS))
    assert report.read_text() == "good"


CONFIGS = {
    "deep": "net_arch: " + "[" * 20_000,
    "duplicate keys": "gamma: 0.9\ngamma: 0.99\n",
    "sexagesimal": "total_timesteps: 100:00\n",
    "aliases": "a0: &a0 [1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)),
    "text as number": 'level: "2"\n',
    "nothing trained": "learning_starts: 9000000\n",
}


def hostile_config(text: str, target: Target) -> None:
    (path := target.folder / "config.yaml").write_text(text)
    refused("train", "--config", f"{path}", "--results", f"{target.folder / 'none'}")


def no_regular_files(target: Target) -> None:
    fifo, large = target.folder / "fifo.yaml", target.folder / "large.yaml"
    os.mkfifo(fifo)
    with large.open("wb") as file:
        file.truncate(10 * 2**30)
    for path in (Path("/dev/zero"), fifo, large):
        refused("train", "--config", f"{path}")
        refused("ablate", f"{path}")


def many_cells(target: Target) -> None:
    path = target.folder / "study.yaml"
    factors = {name: [n / 1000 for n in range(1, 1001)] for name in ("gamma", "tau", "learning_rate")}
    path.write_text(json.dumps({"question": "?", "factors": factors, "budget": {"updates": 9}}))
    assert "1000000000 cells" in refused("ablate", f"{path}", "--dry-run")[0]


def hostile_run(target: Target) -> None:
    for number, (config, summary) in enumerate({CONFIGS["deep"]: "[1]", "gamma: 1e999": "[" * 9999}.items()):
        folder = target.folder / "runs" / f"20260101_00000{number}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(config)
        (folder / "summary.json").write_text(summary)
        refused("evaluate", f"{folder}")


def no_platform(_: Target) -> None:
    refused("parity", "check", f"{recordings() / 'level1_still.npz'}", JAX_PLATFORMS="cuda")


ATTACKS: dict[str, Callable[[Target], None]] = {
    "server: endless header": partial(endless, HEAD + b"A: "),
    "server: endless URL": partial(endless, b"POST /"),
    "server: endless trailers": partial(endless, HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: "),
    "server: action nested 1,020 deep, 100 times": nested,
    "server: body of 1 GB": large_body,
    "server: NaN and garbage as an action": not_a_number,
    "server: requests of web pages": web_page,
    "server: half-closed requests": half_closed,
    "server: 300 idle clients with 256 files": idle_clients,
    "server: a client that never ends its request": slow_client,
    "server: random bytes": no_http,
    "server: a second one on its port": second_server,
    "server: SIGTERM while it compiles": signal_while_it_compiles,
    "files: hostile archives among recordings": hostile_recordings,
    **{f"files: configuration, {name}": partial(hostile_config, text) for name, text in CONFIGS.items()},
    "files: /dev/zero, a pipe, 10 GB": no_regular_files,
    "files: study of 10^9 cells": many_cells,
    "files: damaged run folders": hostile_run,
    "environment: a platform that is not there": no_platform,
}


def refused(*arguments: str, lines: int = 1, **environment: str) -> list[str]:
    """The lines with which a command refuses its input, with status 2, in time and memory."""
    command = [sys.executable, "-m", "jaxdodge", *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=SECONDS
    )
    found = done.stderr.splitlines()
    assert done.returncode == 2, (done.returncode, found[-3:])
    assert len(found) == lines, found[:5]
    # Of the largest command so far.
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert most < LARGEST_COMMAND, f"{most / 1e6:.0f} MB"
    return found


def run(options: Options) -> int:
    """Attack, print a line for each, and write; returns the exit status."""
    results: dict[str, Any] = {}
    flags = ("--headless", "--http", "--port", "0", "--grpc-port", "0", "--mode", "lockstep")
    with tempfile.TemporaryDirectory(prefix="attacks-") as name, contextlib.ExitStack() as stack:
        server = stack.enter_context(running(Path(name), *flags, "--log", "/dev/full"))
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (256, 256))
        target = Target(Path(name), server)
        for _ in range(20):
            target.step()
        memory, began = resident_bytes(server.process.pid), time.monotonic()

        def attack(name: str, function: Callable[[Target], None]) -> None:
            start, wrong = time.monotonic(), ""
            try:
                function(target)
            except Exception as error:  # of any kind: the attack was not held
                line = traceback.extract_tb(error.__traceback__)[-1].line
                wrong = f"{line}: {error_line(error, 300)}"
            seconds = round(time.monotonic() - start, 1)
            results[name] = {"held": not wrong, "seconds": seconds}
            print(f"{name:48} {f'NOT HELD ({wrong})' if wrong else 'held':10} {seconds:5.1f} s", flush=True)

        def end(_: Target) -> None:
            assert resident_bytes(server.process.pid) - memory < LARGEST_GROWTH
            assert target.step() == 200
            start = time.monotonic()
            assert server.end() == 128 + signal.SIGTERM
            assert time.monotonic() - start < END_SECONDS
            # The disk of its log is full: one line says so.
            assert server.errors.count("\n") == 1, server.errors

        for title, function in ATTACKS.items():
            attack(title, function)
        attack("server: memory, log on a full disk, its end", end)
    held = sum(result["held"] for result in results.values())
    seconds = round(time.monotonic() - began, 1)
    print(f"{held} of {len(results)} held; {seconds} s")
    if options.out is not None:
        report = {"attacks": results, "seconds": seconds, "hardware": hardware()}
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(held < len(results))
