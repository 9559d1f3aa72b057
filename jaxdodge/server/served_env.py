"""One environment of a server: its configuration, its last publication and its counters."""

import abc
import asyncio
import dataclasses
import functools
from typing import Any, Literal

import numpy as np

from jaxdodge.config import GameConfig, restarts_timer
from jaxdodge.hardware import return_freed_memory
from jaxdodge.server.game import Slots, drawer, enough_slots, vectors

Transport = Literal["http", "grpc"]


@dataclasses.dataclass(frozen=True)
class Publication:
    """What clients can read after a frame."""

    frame: int
    """Frames since the server started."""
    config: GameConfig
    """The configuration in effect when it was published."""
    vector: np.ndarray
    """Packed result of the frame, see `Vectors.result`."""
    slots: Slots

    @functools.cached_property
    def fields(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Published values by name, and the counts after the frame."""
        return vectors(self.slots).result.unpack_numpy(self.vector)

    @property
    def observation(self) -> np.ndarray:
        """float32 (65,) or (69,); (0,) in the mode topdown."""
        published, _ = self.fields
        return published["published_observation"][: int(published["published_observation_size"])]

    @functools.cached_property
    def image(self) -> bytes | None:
        """Row-major bytes of the image in the mode topdown, else None."""
        if self.config.observation_mode != "topdown":
            return None
        return np.asarray(_drawer(self.slots, self.config)(self.vector)).tobytes()

    @property
    def reward(self) -> np.float32:
        """Reward of the frame."""
        return self.fields[0]["published_reward"][()]

    @property
    def done(self) -> bool:
        """Whether a projectile has hit the player."""
        return bool(self.fields[0]["published_done"])

    @property
    def truncated(self) -> bool:
        """Whether the episode has reached its step limit."""
        return bool(self.fields[0]["published_truncated"])

    @property
    def info(self) -> dict[str, int]:
        """episode_steps and projectile_count."""
        names = ("episode_steps", "projectile_count")
        return {name: int(self.fields[0][f"published_{name}"]) for name in names}


def _drawer(slots: Slots, config: GameConfig) -> Any:
    return drawer(slots, config.image_obs_width, config.image_obs_height, config.image_grayscale)


class ServedEnv(abc.ABC):
    """One environment. Its methods are called in the event loop.

    Args:
        number: index of the environment in this process.
        config: level 1, with the timing from the command line.
        seed: seed of all its randomness.
    """

    def __init__(self, number: int, config: GameConfig, seed: int):
        self.number, self.config, self.seed = number, config, seed
        self.requests = 0
        """Resets, steps, configures and set_levels so far."""
        self.frames = 0
        self.late_frames = 0
        self.episodes = 0
        """Resets so far, including those of a configure."""
        self.collisions = 0
        self._game_over = False
        self._configuring = asyncio.Lock()
        self._slots = self._wanted = self._slots_of(config)

    async def configure(self, fields: dict[str, Any]) -> None:
        """Set all fields, or raise ConfigError and set none."""
        async with self._configuring:
            config = self.config.configure(**fields)
            # Compilation takes seconds. The other environments go on meanwhile.
            wanted = enough_slots(*map(max, self._wanted, self._slots_of(config)))
            await asyncio.to_thread(self._prepare, Slots(*wanted), config)
            self._wanted, self.config = Slots(*wanted), config
            self.requests += 1
            self._configured(restarts_timer(fields))

    @abc.abstractmethod
    async def reset(self, transport: Transport) -> tuple[int, Publication]:
        """Begin an episode. Returns the request's number and the publication to respond with."""

    @abc.abstractmethod
    async def step(self, move: np.ndarray, transport: Transport) -> tuple[int, Publication]:
        """Apply an action from `move_of`. Returns the request's number and the publication."""

    @abc.abstractmethod
    def start(self) -> None:
        """Compile, then start the clock if there is one."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop the clock."""

    @abc.abstractmethod
    def _configured(self, restart_timer: bool) -> None:
        """Apply a new `self.config`."""

    @abc.abstractmethod
    def _compile(self, slots: Slots) -> Any:
        """The compiled functions for these slots."""

    def _prepare(self, slots: Slots, config: GameConfig) -> None:
        self._compile(slots)
        if config.observation_mode == "topdown":
            _drawer(slots, config)
        return_freed_memory()

    def _slots_of(self, config: GameConfig) -> Slots:
        return enough_slots(config.projectile_slots, config.thrower_slots)

    def _with_room(self, carry: Any, publication: Publication | None, frames: int) -> tuple[Any, Slots]:
        """The carry, enlarged if `frames` more frames could overflow
        it: the original has no limit.
        """
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
