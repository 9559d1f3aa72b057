"""What a client of a game server can do, whatever the transport, and what can go wrong.

Source: `docs/api.md`.
"""

import abc
import dataclasses
from typing import Any

import numpy as np


class ServerError(Exception):
    """Something a server did, or did not do. One line that names the server's URL."""


class UnreachableError(ServerError):
    """Nothing listens there, or the connection broke. Whether a request was carried out is unknown."""


class DeadlineError(ServerError):
    """No whole answer in time. Whether the request was carried out is unknown."""


class RefusedError(ServerError):
    """The server refused the request, and says why; nothing of it was applied."""


class BadResponseError(ServerError):
    """An answer that is not one of the protocol's, or not of the announced shape."""


@dataclasses.dataclass(frozen=True)
class ObservationSpace:
    """What a server says of its observations."""

    shape: tuple[int, ...]
    """(65,), (69,) or (height, width, channels)."""
    dtype: str
    """float32 or uint8."""
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class ActionSpace:
    """What a server says of its actions: one of `n`, or `shape` numbers from low to high."""

    n: int | None = None
    shape: tuple[int, ...] = ()
    low: float = -1.0
    high: float = 1.0


@dataclasses.dataclass(frozen=True)
class Response:
    """The answer to a reset or a step. A reset has no reward and no flags: 0 and False."""

    observation: np.ndarray
    """float32 (65,) or (69,); (0,) in the mode topdown."""
    image: np.ndarray | None
    """uint8 (height, width, channels) in the mode topdown, else None."""
    episode_steps: int
    projectile_count: int
    reward: float = 0.0
    """The float32 that the server sent."""
    terminated: bool = False
    """The server's `done`."""
    truncated: bool = False

    @property
    def published(self) -> np.ndarray:
        """The image in the mode topdown, else the observation."""
        return self.observation if self.image is None else self.image


class Client(abc.ABC):
    """One connection to one game server.

    Every method returns or raises a ServerError within the deadline. Nothing is ever sent twice: after an
    UnreachableError or a DeadlineError nobody knows whether the server has carried out the request, and a
    step must not be taken twice. A client is used by one thread at a time.
    """

    url: str

    @abc.abstractmethod
    def observation_space(self) -> ObservationSpace:
        """The space of observations, as configured now."""

    @abc.abstractmethod
    def action_space(self) -> ActionSpace:
        """The space of actions, as configured now."""

    @abc.abstractmethod
    def reset(self) -> Response:
        """Begin an episode."""

    @abc.abstractmethod
    def step(self, action: Any) -> Response:
        """Send an action: a whole number (discrete), or numbers (components,) in [-1, 1]."""

    @abc.abstractmethod
    def configure(self, **fields: Any) -> None:
        """Set fields of the game by their server names."""

    @abc.abstractmethod
    def set_level(self, level: int) -> None:
        """Select a level: its whole preset."""

    @abc.abstractmethod
    def start_training(self) -> None:
        """Tell the server that a training begins."""

    @abc.abstractmethod
    def end_training(self) -> None:
        """Tell the server that a training has ended."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection; never raises."""
