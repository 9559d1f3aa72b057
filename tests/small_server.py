"""A server process of the HTTP interface that starts at once, plays no game, and can behave badly.

python small_server.py PORT [--log FILE] [--episode N] [bad behaviour ...]
"""

import argparse
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SPACE = {"shape": [65], "dtype": "float32", "low": -100.0, "high": 100.0}
ACTIONS = {"type": "Box", "shape": [3], "low": -1.0, "high": 1.0}

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--log")
parser.add_argument("--episode", type=int, default=10, help="steps after which it is done")
parser.add_argument("--exit-after", type=int, help="exit with status 3 after so many steps")
parser.add_argument("--fail-to-start", action="store_true")
parser.add_argument("--never-listen", action="store_true")
parser.add_argument("--never-answer", action="store_true")
parser.add_argument("--refuse", action="store_true", help="refuse every configuration")
parser.add_argument("--stuck", type=int, help="count no steps of an episode after so many")
parser.add_argument("--stubborn", action="store_true", help="ignore SIGTERM")
parser.add_argument("--child", action="store_true", help="start a process that ignores SIGTERM")
options = parser.parse_args()


def single(number: float) -> float:
    """The nearest float32."""
    return struct.unpack("f", struct.pack("f", number))[0]


class Game:
    def __init__(self) -> None:
        self.configured = False
        self.requests = self.steps = self.all_steps = 0

    def answer(self, kind: str, action) -> dict:
        self.requests += 1
        if kind == "reset":
            self.steps = 0
        elif self.steps != options.stuck:
            self.steps += 1
        self.all_steps += kind == "step"
        if options.exit_after is not None and self.all_steps > options.exit_after:
            print("out of patience", flush=True)
            os._exit(3)
        answer = {
            "observation": [single(random.uniform(-1, 1)) for _ in range(65)],
            "reward": single(random.random()),
            "done": self.steps >= options.episode,
            "truncated": False,
        }
        info = {"episode_steps": self.steps, "projectile_count": 1}
        if options.log:
            row = {"arena": 0, "process": os.getpid(), "request": self.requests, "kind": kind}
            with open(options.log, "ab", buffering=0) as log:
                log.write(json.dumps({**row, "action": action, **answer, **info}).encode() + b"\n")
        return {**answer, "info": info}


game = Game()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        self.send({"/observation_space": SPACE, "/action_space": ACTIONS}[self.path])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path in ("/reset", "/step") and not game.configured:
            self.send({"error": "not configured"}, 400)
        elif self.path in ("/reset", "/step"):
            self.send(game.answer(self.path[1:], json.loads(body)["action"] if body else None))
        elif options.refuse:
            self.send({"error": "level: invalid value 2; expected 1"}, 400)
        else:
            game.configured = True
            self.send("")

    def send(self, content, status: int = 200) -> None:
        if options.never_answer:
            time.sleep(1e6)
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


if options.fail_to_start:
    sys.exit("no display found")
if options.stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if options.child:
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1e6)"
    subprocess.Popen([sys.executable, "-c", ignore])
if options.never_listen:
    time.sleep(1e6)
ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
