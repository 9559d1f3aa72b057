"""The game of one server: its configuration, what it has published last, and what is counted of it."""

import abc
import asyncio
import dataclasses
import functools
from typing import Any, Literal

import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.server.game import Slots, drawer, enough_slots, return_memory, vectors

Transport = Literal["http", "grpc"]


@dataclasses.dataclass(frozen=True)
class Publication:
    """What clients read of a frame."""

    frame: int
    """Frames since the server's start."""
    config: GameConfig
    """The configuration that held when it was published."""
    answer: np.ndarray
    slots: Slots

    @functools.cached_property
    def fields(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What was published by name, and the counts after the frame."""
        return vectors(self.slots).answer.unpack_numpy(self.answer)

    @property
    def observation(self) -> np.ndarray:
        """float32 (65,), (69,), or (0,) in the mode topdown."""
        published, _ = self.fields
        return published["published_observation"][: int(published["published_observation_size"])]

    @functools.cached_property
    def image(self) -> bytes | None:
        """The bytes of the image, row-major, in the mode topdown."""
        if self.config.observation_mode != "topdown":
            return None
        return np.asarray(_drawer(self.slots, self.config)(self.answer)).tobytes()

    @property
    def reward(self) -> np.float32:
        """Of the frame."""
        return self.fields[0]["published_reward"][()]

    @property
    def done(self) -> bool:
        """A projectile has hit the player."""
        return bool(self.fields[0]["published_done"])

    @property
    def truncated(self) -> bool:
        """The episode has had its steps."""
        return bool(self.fields[0]["published_truncated"])

    @property
    def info(self) -> dict[str, int]:
        """episode_steps and projectile_count."""
        names = ("episode_steps", "projectile_count")
        return {name: int(self.fields[0][f"published_{name}"]) for name in names}


def _drawer(slots: Slots, config: GameConfig) -> Any:
    return drawer(slots, config.image_obs_width, config.image_obs_height, config.image_grayscale)


class Arena(abc.ABC):
    """One game. Its methods are called in the event loop.

    Args:
        number: of the arena in this process, from 0.
        config: level 1, and the timing that the command line asks for.
        seed: of everything random in it.
    """

    def __init__(self, number: int, config: GameConfig, seed: int):
        self.number, self.config, self.seed = number, config, seed
        self.requests = 0
        """Resets, steps, configures and levels since the start."""
        self.frames = 0
        self.late_frames = 0
        self.episodes = 0
        """Resets, those of a configure included."""
        self.collisions = 0
        self._game_over = False
        self._configuring = asyncio.Lock()
        self._slots = self._wanted = self._slots_of(config)

    async def configure(self, fields: dict[str, Any]) -> None:
        """Set fields, all or, with ConfigError, none."""
        async with self._configuring:
            config = self.config.configure(**fields)
            # Compiling takes seconds, in which the other arenas go on.
            wanted = enough_slots(*map(max, self._wanted, self._slots_of(config)))
            await asyncio.to_thread(self._prepare, Slots(*wanted), config)
            self._wanted, self.config = Slots(*wanted), config
            self.requests += 1
            self._configured("level" in fields or "projectile_spawn_interval" in fields)

    @abc.abstractmethod
    async def reset(self, transport: Transport) -> tuple[int, Publication]:
        """Begin an episode: the request's number, and the publication that answers it."""

    @abc.abstractmethod
    async def step(self, move: np.ndarray, transport: Transport) -> tuple[int, Publication]:
        """Apply an action (`move_of`): the request's number, and the publication that answers it."""

    @abc.abstractmethod
    def start(self) -> None:
        """Compile, then let time pass."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Let no more time pass."""

    @abc.abstractmethod
    def _configured(self, restart_timer: bool) -> None:
        """`self.config` is a new one."""

    @abc.abstractmethod
    def _compile(self, slots: Slots) -> Any:
        """The compiled functions for these slots."""

    def _prepare(self, slots: Slots, config: GameConfig) -> None:
        self._compile(slots)
        if config.observation_mode == "topdown":
            _drawer(slots, config)
        return_memory()

    def _slots_of(self, config: GameConfig) -> Slots:
        return enough_slots(config.projectile_slots, config.thrower_slots)

    def _with_room(self, carry: Any, publication: Publication | None, frames: int) -> tuple[Any, Slots]:
        """The carry with room for all that can appear in so many frames; the real server never caps."""
        projectiles, throwers = map(max, self._wanted, self._slots)
        if publication is not None:
            counts = publication.fields[1]
            all_throwers = int(counts["throwers"]) + frames
            projectiles = max(projectiles, int(counts["projectiles"]) + all_throwers)
            throwers = max(throwers, all_throwers)
        needed = enough_slots(projectiles, throwers)
        if needed != self._slots:
            carry = vectors(needed).enlarged(np.asarray(carry), vectors(self._slots))
            self._slots = needed
        return carry, self._slots

    def _count(self, publication: Publication, frames: int, resets: int) -> None:
        over = bool(publication.fields[1]["game_over"])
        self.collisions += over and not self._game_over
        self._game_over = over
        self.frames += frames
        self.episodes += resets
