"""Realtime: the wall clock advances the game, with or without requests."""

import asyncio
import collections
import random
import threading
import time
from collections.abc import Callable

import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.server.game import COMMANDS_PER_FRAME, RealtimeGame, Slots, command, realtime_game, vectors
from jaxdodge.server.served_env import Publication, ServedEnv, Transport
from jaxdodge.sim.order import SIMULATOR as SIMULATOR_ORDER
from jaxdodge.sim.order import as_indices, checked_order, draw_order
from jaxdodge.sim.params import frame_seconds

LONGEST_FRAME = 250_000_000  # ns

# Delay of a response, s. A gRPC step waits for the next publication instead, for at most this long.
HTTP_RESET, HTTP_STEP, GRPC_RESET, GRPC_STEP_AT_MOST = 0.1, 0.016, 0.02, 0.1


class Orders:
    """The order of systems in every frame, by option `--order`; as indices into SYSTEMS.

    Args:
        choice: simulator, start, frame, or names of systems separated by commas.
        seed: seed of drawn orders.
    """

    def __init__(self, choice: str, seed: int):
        generator = random.Random(seed)
        order: tuple[str, ...] = SIMULATOR_ORDER
        if choice in ("start", "frame"):
            order = draw_order(generator)
        elif choice != "simulator":
            order = checked_order(choice.split(","))
        self.schedule = as_indices(order)
        """Order in which deferred changes are applied; the same in all frames."""
        self._generator = generator if choice == "frame" else None

    def next(self) -> list[int]:
        """The order of the next frame."""
        return as_indices(draw_order(self._generator)) if self._generator else self.schedule


class RealtimeEnv(ServedEnv):
    """Runs a frame every 1/fps seconds in its own thread; late frames are not made up for."""

    def __init__(self, number: int, config: GameConfig, seed: int, order: str, failed: Callable[[], None]):
        super().__init__(number, config, seed)
        self._orders = Orders(order, seed)
        self._failed = failed
        self._carry = vectors(self._slots).start(config)
        self._commands: collections.deque[tuple[np.ndarray, GameConfig, bool]] = collections.deque()
        self._handled = config
        self._published: Publication | None = None
        self._waiting: list[tuple[int, asyncio.Future[Publication]]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"env {number}", daemon=True)

    def start(self) -> None:
        self._prepare(self._slots, self.config)
        self._loop = asyncio.get_running_loop()
        self._frame(0)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    async def reset(self, transport: Transport) -> tuple[int, Publication]:
        number = self._enqueue(command(self.config, reset=True), reset=True)
        await asyncio.sleep(HTTP_RESET if transport == "http" else GRPC_RESET)
        return number, self._current()

    async def step(self, move: np.ndarray, transport: Transport) -> tuple[int, Publication]:
        number = self._enqueue(command(self.config, move=move), reset=False)
        if transport == "grpc":
            return number, await self._next_publication()
        await asyncio.sleep(HTTP_STEP)
        return number, self._current()

    def _configured(self, restart_timer: bool) -> None:
        vector = command(self.config, reset=True, restart_timer=restart_timer)
        self._commands.append((vector, self.config, True))

    def _enqueue(self, vector: np.ndarray, reset: bool) -> int:
        self.requests += 1
        self._commands.append((vector, self.config, reset))
        return self.requests

    def _current(self) -> Publication:
        assert self._published is not None
        return self._published

    async def _next_publication(self) -> Publication:
        future = self._loop.create_future()
        self._waiting.append((self._current().frame, future))
        try:
            return await asyncio.wait_for(future, GRPC_STEP_AT_MOST)
        except TimeoutError:
            return self._current()
        finally:
            self._waiting = [entry for entry in self._waiting if entry[1] is not future]

    def _wake(self, publication: Publication) -> None:
        for last_frame, future in self._waiting:
            if publication.frame > last_frame and not future.done():
                future.set_result(publication)

    def _run(self) -> None:
        try:
            self._run_frames()
        except BaseException:
            self._loop.call_soon_threadsafe(self._failed)
            raise

    def _run_frames(self) -> None:
        period = self.config.frame_nanoseconds
        last = time.monotonic_ns()
        due = last + period
        while not self._stopping.is_set():
            now = time.monotonic_ns()
            if now < due:
                time.sleep((due - now) / 1e9)
                now = time.monotonic_ns()
            else:
                self.late_frames += 1
                due = now
            self._frame(min(now - last, LONGEST_FRAME))
            last, due = now, due + period

    def _frame(self, nanoseconds: int) -> None:
        carry, slots = self._with_room(self._carry, self._published, 1)
        game = self._compile(slots)
        before, order = self._handled, self._orders.next()
        commands: list[np.ndarray] = []
        resets = 0
        while self._commands and len(commands) < COMMANDS_PER_FRAME:
            vector, self._handled, reset = self._commands.popleft()
            commands.append(vector)
            resets += reset
        commands += [command(self._handled)] * (COMMANDS_PER_FRAME - len(commands))
        inputs = game.inputs.pack_numpy(
            {
                "seed": self.seed,
                "number": self.frames,
                "frame_nanoseconds": nanoseconds,
                "frame_seconds": frame_seconds(nanoseconds),
                "order": order,
                "schedule": self._orders.schedule,
                "commands": commands,
            }
        )
        self._carry, result = game.frame(carry, inputs)
        configured = order.index(HANDLE_COMMANDS) < order.index(PUBLISH_STATE)
        config = self._handled if configured else before
        publication = Publication(self.frames + 1, config, np.asarray(result), slots)
        self._count(publication, 1, resets)
        self._published = publication
        if self._waiting:
            self._loop.call_soon_threadsafe(self._wake, publication)

    def _compile(self, slots: Slots) -> RealtimeGame:
        return realtime_game(slots)


HANDLE_COMMANDS, PUBLISH_STATE = as_indices(("handle_commands", "publish_state"))
