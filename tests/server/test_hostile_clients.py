"""Clients that try to exhaust or to break a server."""

import contextlib
import json
import logging
import resource
import socket
import sys
import time
from unittest.mock import Mock, call

import pytest
import requests
from served import SECONDS, running

from jaxdodge.server.http_server import MOST_TRACEBACKS, Gathered, Protocol, TracebackLimit

STILL = {"action": [0.0] * 5}
HEAD = b"POST /reset HTTP/1.1\r\nHost: localhost\r\n"
ENDLESS = {
    "one header": HEAD + b"A: ",
    "URL": b"POST /",
    "trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: ",
}


@pytest.fixture
def fresh(lockstep):
    assert requests.post(f"{lockstep.http}/set_level", json={"level": 1}, timeout=SECONDS).ok
    return lockstep


def connected(server) -> socket.socket:
    host, port = server.http.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def sent(connection: socket.socket, data: bytes, most: int) -> int:
    """Bytes that the other side takes before it closes the connection."""
    count = 0
    try:
        while count < most:
            count += connection.send(data)
    except OSError:
        pass
    return count


@pytest.mark.parametrize("start", ENDLESS.values(), ids=ENDLESS)
def test_the_head_of_a_request_is_limited(fresh, start):
    with connected(fresh) as connection:
        connection.sendall(start)
        # The part of a read that follows a complete head does not count.
        time.sleep(0.3)
        connection.sendall(b"a" * 80_000)
        response = connection.makefile("rb").read()
    assert b"HTTP/1.1 431 " in response
    assert json.loads(response.split(b"\r\n\r\n")[-1]) == {"error": "head: more than 65536 bytes"}
    with connected(fresh) as connection:
        connection.sendall(start)
        # Kernel buffers take a few megabytes.
        assert sent(connection, b"a" * 2**16, 100 * 2**20) < 50 * 2**20
    assert requests.post(f"{fresh.http}/step", json=STILL, timeout=SECONDS).ok
    assert "Traceback" not in fresh.errors


def test_requests_of_the_usual_size_are_not_affected(fresh):
    """Also many of them over one connection, whose bytes together exceed the limit."""
    with requests.Session() as session:
        for _ in range(20):
            headers = {"A": "a" * 8_000}
            assert session.post(f"{fresh.http}/step", json=STILL, headers=headers, timeout=SECONDS).ok
        body = json.dumps(STILL | {"more": "a" * 500_000})
        assert session.post(f"{fresh.http}/step", data=body, timeout=SECONDS).ok


@pytest.mark.parametrize("depth", [17, 400, 1_020])
@pytest.mark.parametrize(
    ("route", "field"), [("step", "action"), ("configure", "level"), ("set_level", "level")]
)
def test_deeply_nested_values_are_refused(fresh, route, field, depth):
    """Also those that the JSON parser accepts, but Python cannot print."""
    for value in ("[" * depth + "]" * depth, '{"a":' * depth + "0" + "}" * depth):
        body = f'{{"{field}": {value}}}'
        response = requests.post(f"{fresh.http}/{route}", data=body, timeout=SECONDS)
        assert response.status_code == 400
        assert response.json()["error"].startswith("body: ")
    assert "Traceback" not in fresh.errors


def test_tracebacks_are_limited():
    logger = logging.getLogger("test_tracebacks_are_limited")
    limit = TracebackLimit()

    def passes(error, created=0.0):
        record = logger.makeRecord(logger.name, logging.ERROR, "", 0, "text", (), error)
        record.created = created
        return limit.filter(record)

    try:
        raise ValueError
    except ValueError:
        error = sys.exc_info()
    assert [passes(error) for _ in range(MOST_TRACEBACKS + 2)] == [True] * MOST_TRACEBACKS + [False] * 2
    assert passes(None)
    assert passes(error, created=61.0)


@pytest.fixture(scope="module")
def short_of_resources(folder):
    """A server that cannot log, and with few file descriptors."""
    with running(folder, "--http", "--port", 0, "--mode", "lockstep", "--log", "/dev/full") as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (256, 256))
        yield server
    assert server.errors == "/dev/full: responses are not logged (No space left on device)\n"


def test_a_log_on_a_full_disk_does_not_fail_a_request(short_of_resources):
    for number in range(3):
        response = requests.post(f"{short_of_resources.http}/step", json=STILL, timeout=SECONDS)
        assert response.json()["info"]["episode_steps"] == number + 1


HOSTS = ("localhost", "LOCALHOST:8000", "127.0.0.1", "10.0.0.7:80", "[::1]:8000")
FOREIGN = {
    "another name": ({"Host": "evil.example"}, "Host: invalid value 'evil.example'"),
    "a name like an address": ({"Host": "127.0.0.1.evil.example:8000"}, "Host: invalid value"),
    "a name like localhost": ({"Host": "localhost.evil.example"}, "Host: invalid value"),
    "no name": ({"Host": ""}, "Host: invalid value ''"),
    "a page elsewhere": ({"Origin": "http://evil.example"}, "Origin: invalid value 'http://evil.example'"),
    "a page in a file": ({"Origin": "null"}, "Origin: invalid value 'null'"),
}


@pytest.mark.parametrize(("headers", "reason"), FOREIGN.values(), ids=FOREIGN)
def test_web_pages_cannot_use_a_server(fresh, headers, reason):
    before = requests.get(f"{fresh.http}/health", timeout=SECONDS).json()
    response = requests.post(f"{fresh.http}/step", json=STILL, headers=headers, timeout=SECONDS)
    assert response.status_code == 403
    assert reason in response.json()["error"]
    assert "access-control-allow-origin" not in response.headers
    assert requests.get(f"{fresh.http}/health", timeout=SECONDS).json() == before


@pytest.mark.parametrize("host", HOSTS)
def test_addresses_and_localhost_are_allowed_as_host(fresh, host):
    assert requests.post(f"{fresh.http}/reset", headers={"Host": host}, timeout=SECONDS).ok


def test_hosts_and_origins_can_be_allowed(arenas):
    """With *, as the fixture starts it, any page can, as in the original."""
    headers = {"Origin": "http://example.org", "Host": "game.example"}
    response = requests.post(f"{arenas.http}/reset", headers=headers, timeout=SECONDS)
    assert response.ok
    assert response.headers["access-control-allow-origin"] == "*"
    asked = headers | {"Access-Control-Request-Method": "POST"}
    preflight = requests.options(f"{arenas.http}/step", headers=asked, timeout=SECONDS)
    assert preflight.status_code == 200
    assert "POST" in preflight.headers["access-control-allow-methods"]
    headers["Host"] = "another.example"
    assert requests.post(f"{arenas.http}/reset", headers=headers, timeout=SECONDS).status_code == 403


def test_a_half_closed_request_gets_its_response(fresh):
    body = json.dumps(STILL).encode()
    request = b"POST /step HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with connected(fresh) as connection:
        connection.sendall(request * 3)
        connection.shutdown(socket.SHUT_WR)
        responses = connection.makefile("rb").read()
    assert responses.count(b"HTTP/1.1 200 OK") == 3
    with connected(fresh) as connection:
        connection.sendall(request[:-1])
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").read() == b""


def test_a_connection_that_is_closed_at_its_other_end_still_gets_the_last_response():
    raw, loop = Mock(is_closing=lambda: False), Mock()
    protocol = Protocol.__new__(Protocol)
    protocol.cycle, protocol.transport = None, Gathered(raw, loop)
    protocol.transport.write(b"the last ")
    protocol.transport.write(b"response")
    assert protocol.eof_received() is False
    assert raw.mock_calls == [call.write(b"the last response"), call.close()]


@pytest.mark.slow
def test_idle_connections_do_not_lock_out_others(short_of_resources):
    server = short_of_resources
    with contextlib.ExitStack() as stack:
        playing = stack.enter_context(requests.Session())
        for number in range(300):
            stack.enter_context(connected(server))
            if number % 50 == 0:
                assert playing.post(f"{server.http}/step", json=STILL, timeout=SECONDS).ok
        assert requests.post(f"{server.http}/step", json=STILL, timeout=SECONDS).ok
