"""Fleets of small servers, and what is left of them."""

import contextlib
import sys
import threading
from pathlib import Path

import psutil

from jaxdodge.bevy.fleet import Fleet
from jaxdodge.config import GameConfig

SERVER = f"{sys.executable} {Path(__file__).parent / 'small_server.py'} {{port}}"
GAME = GameConfig(action_space_type="basic_3d")
TIMEOUT = 3.0


def descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("jaxdodge")]


@contextlib.contextmanager
def fleet_of(num_envs: int, options: str = "", **arguments):
    arguments = {"timeout": TIMEOUT, "start_timeout": 30.0, **arguments}
    fleet = Fleet(GAME, server_command=f"{SERVER} {options}", num_envs=num_envs, **arguments)
    try:
        yield fleet
    finally:
        fleet.close()
