"""A server in real time, simulated: frames of known lengths and order, and a client of known speed.

The game is the simulator's own, frame by frame in the order that is asked for. What is simulated
beside it is what `docs/api.md` says of time: gRPC answers a step with the next publication, HTTP
after 16 ms with the last one.
"""

import dataclasses
import functools
import random
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.recordings.session import RESET, STEP, Session, checked_session
from jaxdodge.render.topdown import draw
from jaxdodge.sim.actions import Movement, action_size, movement
from jaxdodge.sim.frame import ordered_frame
from jaxdodge.sim.order import SIMULATOR, as_indices, draw_order
from jaxdodge.sim.params import frame_seconds, game_params
from jaxdodge.sim.publish import OBSERVATION_SIZES, publish
from jaxdodge.sim.state import server_start
from jaxdodge.sim.systems import Command, Inputs

COMMANDS_PER_FRAME = 8
PROJECTILES, INDICATORS = 96, 32  # Room for a throw every 0.1 s, and a delay of 3 s.
WAIT = {("http", STEP): 0.016, ("http", RESET): 0.1, ("grpc", RESET): 0.02}
LATENCY = 0.0008
CONFIGURED = (
    "level",
    "action_space_type",
    "observation_mode",
    "spawn_angle_degrees",
    "thrower_delay_seconds",
)
CONFIGURED += ("image_obs_width", "image_obs_height", "image_grayscale", "projectile_spawn_interval")
CONFIGURED += ("player_speed", "collision_penalty", "survival_reward", "dodge_bonus_threshold")
CONFIGURED += ("dodge_bonus_multiplier",)


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A session, and what a client does not see of it."""

    session: Session
    frame: np.ndarray
    """int (N,): number of the frame whose publication each response is."""
    frame_seconds: np.ndarray
    """float64: of every frame."""
    handled_in: np.ndarray
    """int (N,): the frame that handled each request."""
    torn: list[int]
    """Responses of two publications."""


def order_with(first: str, second: str, seed: int) -> tuple[str, ...]:
    """A random order of a frame with one system before another."""
    generator = random.Random(seed)
    while True:
        order = draw_order(generator)
        if order.index(first) < order.index(second):
            return order


@functools.partial(jax.jit, static_argnames="commands")
def _frame(carry, order, inputs: Inputs, draw_of_frame, flags, moves, commands):
    command = [
        Command(move=jax.tree.map(lambda a, i=i: a[i], moves), step=flags[0, i], reset=flags[1, i])
        for i in range(commands)
    ]
    return ordered_frame(carry, order, order, inputs.replace(commands=tuple(command)), draw_of_frame)


class SimulatedServer:
    """The game with its clock; time only passes in `advance`."""

    def __init__(self, config: GameConfig, seed: int, order: tuple[str, ...] | None, jitter: float):
        self._generator = np.random.default_rng(seed)
        self._orders = random.Random(seed)
        self._config, self._order, self._jitter = config, order, jitter
        state, params = server_start(PROJECTILES, INDICATORS), game_params(config)
        self._carry = (state, params, jax.jit(publish)(state, params))
        self._waiting: list[tuple[float, int, np.ndarray]] = []
        self.frame_seconds: list[float] = []
        self.handled_in: list[int] = []
        self._next = 0.001

    @property
    def frame(self) -> int:
        """The number of the last frame."""
        return len(self.frame_seconds) - 1

    def send(self, now: float, kind: int, action) -> None:
        """A command arrives."""
        none = np.array([0, 0, -1, -1], np.float32)
        if kind == STEP:
            move = movement(jnp.asarray(action), self._config.action_space_type)
            none = np.array([float(part) for part in (move.vx, move.vy, move.sprint, move.jump)], np.float32)
        self._waiting.append((now, kind, none))

    def advance(self, until: float | None) -> float:
        """Run all frames up to a time, None for one frame; returns the time of the last one."""
        published = self._next - (self.frame_seconds[-1] if self.frame_seconds else 0)
        while until is None or self._next <= until:
            published = self._next
            self._run()
            if until is None:
                break
        return published

    def _run(self) -> None:
        nominal = 1 / self._config.fps
        # As of a loop that sleeps: a little late each time, sometimes very.
        late = (
            abs(self._generator.normal()) * self._jitter
            + (self._generator.random() < 0.02) * self._jitter * 8
        )
        early = -self._generator.random() * self._jitter
        nanoseconds = int(nominal * (1 + late + early) * 1e9)
        arrived = [each for each in self._waiting if each[0] <= self._next][:COMMANDS_PER_FRAME]
        self._waiting = self._waiting[len(arrived) :]
        self.handled_in += [self.frame + 1] * len(arrived)
        few = 2 if len(arrived) <= 2 else COMMANDS_PER_FRAME
        flags, moves = np.zeros((2, few), bool), np.tile(np.array([0, 0, -1, -1], np.float32), (few, 1))
        for at, (_, kind, move) in enumerate(arrived):
            flags[:, at], moves[at] = (kind == STEP, kind == RESET), move
        inputs = Inputs(jnp.int32(nanoseconds), jnp.float32(frame_seconds(nanoseconds)), _NOWHERE)
        number = np.float32(self._generator.integers(2**24) / 2**24)
        order = np.array(as_indices(self._order or draw_order(self._orders)))
        self._carry = _frame(self._carry, order, inputs, number, flags, Movement(*moves.T), commands=few)
        self.frame_seconds.append(nanoseconds / 1e9)
        self._next += nanoseconds / 1e9

    def published(self) -> dict:
        """The last publication."""
        return self._carry[2]


_NOWHERE = (jnp.float32(np.nan), jnp.float32(np.nan))


def simulated_session(
    config: GameConfig,
    seed: int = 0,
    steps: int = 200,
    transport: str = "grpc",
    think_seconds: float = 0.0,
    jitter: float = 0.03,
    order: tuple[str, ...] | None = SIMULATOR,
    still: bool = False,
    reset_share: float = 0.0,
    pause_share: float = 0.0,
    torn_share: float = 0.0,
) -> Simulated:
    """Play random actions, or none, and record them as a client would.

    Args:
        config: of the game, and the server's fps.
        seed: of everything random.
        steps: requests, resets included.
        transport: http or grpc.
        think_seconds: the client's pause after each response.
        jitter: of the length of a frame, as a share.
        order: of every frame; None for another one in each.
        still: always the action 0.
        reset_share: of responses after which the client resets in the middle of an episode.
        pause_share: of responses after which the client pauses for up to 3 s.
        torn_share: of responses whose observation is of one publication and
            whose other parts of the next.
    """
    server = SimulatedServer(config, seed, order, jitter)
    generator = np.random.default_rng(seed + 1)
    discrete = config.action_space_type == "discrete"
    size = None if discrete else action_size(config.action_space_type)
    now, kind, rows, frames = server.advance(0.2) + 1e-4, RESET, [], []
    torn: list[int] = []
    for _ in range(steps):
        action = np.int32(-1) if discrete else np.full(size, np.nan, np.float32)
        if kind == STEP:
            action = np.int32(generator.integers(5)) if discrete else _drawn(generator, size)
            action = action * 0 if still else action
        server.send(now, kind, action)
        wait = WAIT.get((transport, kind))
        published = server.advance(now + wait if wait else None)
        received = max(published, now + (wait or 0)) + LATENCY * (1 + generator.random())
        answer = {name: np.asarray(value) for name, value in server.published().items() if name != "scene"}
        if kind == STEP and generator.random() < torn_share:
            server.advance(None)
            late = {name: np.asarray(value) for name, value in server.published().items() if name != "scene"}
            answer = late | {"published_observation": answer["published_observation"]}
            torn.append(len(rows))
        rows.append((kind, now, received, action, answer, server.published()["scene"]))
        frames.append(server.frame)
        over = kind == STEP and (answer["published_done"] or answer["published_truncated"])
        kind = RESET if over or generator.random() < reset_share else STEP
        pause = generator.uniform(0.3, 3) if generator.random() < pause_share else 0
        now = received + think_seconds * (0.9 + 0.2 * generator.random()) + pause + 1e-4
        server.advance(now - 1e-9)
    session = checked_session(
        Path("simulated.npz"), _meta(config, transport, think_seconds), _arrays(rows, config)
    )
    while len(server.handled_in) < len(rows):
        server.advance(None)
    return Simulated(
        session, np.array(frames), np.array(server.frame_seconds), np.array(server.handled_in), torn
    )


def _drawn(generator, size: int) -> np.ndarray:
    return generator.uniform(-1, 1, size).astype(np.float32)


def _meta(config: GameConfig, transport: str, think_seconds: float) -> dict:
    configure = {name: getattr(config, name) for name in CONFIGURED}
    about = {"transport": transport, "fps": config.fps, "think_seconds": think_seconds}
    return {"kind": "session", "format": 1, **about, "configure": configure}


def _arrays(rows: list, config: GameConfig) -> dict[str, np.ndarray]:
    kinds, sent, received, actions, answers, scenes = zip(*rows, strict=True)
    size = OBSERVATION_SIZES[config.observation_mode]
    is_step = np.array(kinds) == STEP
    of = {name: np.stack([answer[f"published_{name}"] for answer in answers]) for name in ANSWERED}
    arrays = {
        "kind": np.array(kinds, np.int8),
        "sent_s": np.array(sent),
        "received_s": np.array(received),
        "action": np.stack(actions),
        "observation": of["observation"][:, :size],
        "reward": np.where(is_step, of["reward"], np.float32(np.nan)),
        "done": of["done"] & is_step,
        "truncated": of["truncated"] & is_step,
        "episode_steps": of["episode_steps"],
        "projectile_count": of["projectile_count"],
    }
    if config.observation_mode == "topdown":
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *scenes)
        image = {"width": config.image_obs_width, "height": config.image_obs_height}
        arrays["image"] = np.asarray(draw(stacked, **image, grayscale=config.image_grayscale))
    return arrays


ANSWERED = ("observation", "reward", "done", "truncated", "episode_steps", "projectile_count")
