"""Lockstep: time advances only in a request, as in a step of the simulator's environment."""

import jax
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.server.game import NO_MOVE, STEP, LockstepGame, Slots, command, lockstep_game, vectors
from jaxdodge.server.served_env import Publication, ServedEnv, Transport


class LockstepEnv(ServedEnv):
    """`DodgeEnv`'s own step and reset, with an immediate response.

    The throws of request number n come from `jax.random.fold_in(jax.random.key(seed), n)`. The
    results equal those of `DodgeEnv.step_env` and `DodgeEnv.restart` with this key, bit for bit.
    """

    def __init__(self, number: int, config: GameConfig, seed: int):
        super().__init__(number, config, seed)
        self._carry = vectors(self._slots).start(config)
        self._last: Publication | None = None
        self._last_move = NO_MOVE
        self._fresh = True

    def start(self) -> None:
        self._prepare(self._slots, self.config)

    def stop(self) -> None:
        pass

    async def reset(self, transport: Transport) -> tuple[int, Publication]:
        self.requests += 1
        return self.requests, self._command(restart_timer=False)

    async def step(self, move: np.ndarray, transport: Transport) -> tuple[int, Publication]:
        self.requests += 1
        frames, response = self.config.frames_per_step, self.config.response_frame
        game = self._game(frames)
        inputs = self._inputs(last_move=self._last_move, move=move, fresh=self._fresh)
        self._carry, result = game.step(self._carry, inputs)
        ran = response if self._fresh and response else frames
        self._fresh, self._last_move = False, move
        return self.requests, self._published(result, ran, resets=0)

    def _configured(self, restart_timer: bool) -> None:
        self._command(restart_timer)

    def _command(self, restart_timer: bool) -> Publication:
        game = self._game(1)
        vector = command(self.config, reset=True, restart_timer=restart_timer)
        self._carry, result = game.command(self._carry, self._inputs(), vector)
        self._fresh, self._last_move = True, NO_MOVE
        return self._published(result, 1, resets=1)

    def _game(self, frames: int) -> LockstepGame:
        self._carry, slots = self._with_room(self._carry, self._last, frames)
        return self._compile(slots)

    def _compile(self, slots: Slots) -> LockstepGame:
        return lockstep_game(slots, self.config.frames_per_step, self.config.response_frame)

    def _inputs(
        self, last_move: np.ndarray = NO_MOVE, move: np.ndarray = NO_MOVE, fresh: bool = True
    ) -> np.ndarray:
        moves = {"last_move": last_move, "move": move, "fresh": fresh}
        return STEP.pack_numpy({"seed": self.seed, "number": self.requests, **moves})

    def _published(self, result: jax.Array, frames: int, resets: int) -> Publication:
        publication = Publication(self.frames + frames, self.config, np.asarray(result), self._slots)
        self._count(publication, frames, resets)
        self._last = publication
        return publication
