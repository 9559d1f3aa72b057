"""The compiled functions of a server: packed vectors in, packed vectors out (see `Packing`).

Modes, levels and action spaces are runtime values here, so that `configure` compiles nothing.
Static are only the numbers of slots, the frames per step in lockstep, and the image size.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.render.topdown import draw
from jaxdodge.server.packing import Packing
from jaxdodge.sim.actions import ABSENT, COMPONENTS, DISCRETE_DIRECTIONS, Movement
from jaxdodge.sim.draws import draw_uniform
from jaxdodge.sim.frame import frame, ordered_frame
from jaxdodge.sim.order import SYSTEMS
from jaxdodge.sim.params import GameParams, game_params
from jaxdodge.sim.publish import publish
from jaxdodge.sim.state import State, server_start
from jaxdodge.sim.stepping import Timing, frame_inputs
from jaxdodge.sim.systems import Command, Inputs, spawn_position

# Further commands wait for the next frame. An HTTP client sends 57 per
# second; a frame is at most 250 ms.
COMMANDS_PER_FRAME = 16
# Actions of every space are converted to this one, which has all components with an effect.
MOVE_SPACE = "basic_4d_jump"

PARAMS = Packing(game_params(GameConfig()))
COMMAND = Packing(
    {
        "move": np.zeros(4, np.float32),
        "step": np.zeros((), bool),
        "reset": np.zeros((), bool),
        "restart_timer": np.zeros((), bool),
        "params": np.zeros(PARAMS.size, np.int32),
    }
)
STEP = Packing(
    {
        "seed": np.int32(0),
        "number": np.int32(0),
        "fresh": np.zeros((), bool),
        "last_move": np.zeros(4, np.float32),
        "move": np.zeros(4, np.float32),
    }
)
NO_MOVE = np.zeros(4, np.float32)


class Slots(NamedTuple):
    """Capacity of an environment: projectiles and thrower indicators."""

    projectiles: int
    throwers: int


def enough_slots(projectiles: int, throwers: int) -> Slots:
    """Round up to one of a few sizes, to limit recompilation.

    The smallest sizes suffice for both levels; each larger size is four times the one before.
    """

    def roomy(needed: int, least: int) -> int:
        return least * 4 ** max(0, math.ceil(math.log(needed / least, 4)))

    return Slots(roomy(projectiles, 64), roomy(throwers, 8))


def move_of(action: np.ndarray, space: str) -> np.ndarray:
    """Convert a checked action to float32 (vx, vy, sprint, jump)."""
    if space == "discrete":
        return np.array([*DISCRETE_DIRECTIONS[action], ABSENT, ABSENT], np.float32)
    value = dict(zip(COMPONENTS[space], action, strict=True))
    return np.array([value.get(name, ABSENT) for name in COMPONENTS[MOVE_SPACE]], np.float32)


def command(
    config: GameConfig, move: np.ndarray | None = None, reset: bool = False, restart_timer: bool = False
) -> np.ndarray:
    """Pack a command; `config` is the configuration in effect once it is handled."""
    return COMMAND.pack_numpy(
        {
            "move": NO_MOVE if move is None else move,
            "step": move is not None,
            "reset": reset,
            "restart_timer": restart_timer,
            "params": _packed_params(config),
        }
    )


@functools.lru_cache(maxsize=256)
def _packed_params(config: GameConfig) -> np.ndarray:
    return PARAMS.pack_numpy(game_params(config))


def _command(vector: jax.Array, with_move: bool) -> Command:
    fields = COMMAND.unpack(vector)
    move = Movement(*fields.pop("move"))
    fields["params"] = PARAMS.unpack(fields["params"])
    return Command(move=move, **fields) if with_move else Command(**fields | {"step": False})


def _single_function(function: Any, inputs: Packing, result: Packing) -> Any:
    """`function(carry, inputs, ...) -> (carry, result)`, compiled as a loop of one iteration.

    XLA compiles a small loop to a single function, if told what counts as small
    (`jaxdodge.serve.SMALL_LOOPS`). Otherwise it hands the sixty functions of a frame from thread to
    thread, which takes longer than running them.
    """

    def looped(carry: Any, *vectors: jax.Array) -> Any:
        # Always 1, but the compiler cannot know that.
        turns = (inputs.unpack(vectors[0])["number"] >= 0).astype(jnp.int32)

        def turn(_: Any, state: Any) -> Any:
            carry, _, *vectors = state
            # Loop-invariant inputs would be hoisted out of the loop, hence the + 1.
            return *function(carry, *vectors), *(vector + 1 for vector in vectors)

        start = carry, jnp.zeros(result.size, jnp.int32), *vectors
        return jax.lax.fori_loop(0, turns, turn, start)[:2]

    return jax.jit(looped, donate_argnums=0)


def _key(seed: jax.Array, number: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), number)


def _counts(game: State) -> dict[str, jax.Array]:
    """What the server reads of the state after a call."""
    return {
        "game_over": game.game_over,
        "projectiles": game.projectiles.count,
        "throwers": game.throwers.count,
        "dropped": game.dropped_projectiles + game.dropped_throwers,
    }


class Vectors:
    """Packings of one capacity: `carry` (state, publication), `result` (publication, counts)."""

    def __init__(self, slots: Slots):
        def started(params: GameParams) -> Any:
            state = server_start(*slots)
            return (state, params, publish(state, params)), _counts(state)

        carry, counts = jax.eval_shape(started, game_params(GameConfig()))
        self.carry = Packing(carry)
        self.result = Packing((carry[2], counts))
        # Compiled as one function: started one by one, its operations take seconds.
        self._start = jax.jit(lambda params: self.carry.pack(started(params)[0]))

    def start(self, config: GameConfig) -> np.ndarray:
        """The carry of a server at its start."""
        return np.array(self._start(game_params(config)))

    def enlarged(self, carry: np.ndarray, before: "Vectors") -> np.ndarray:
        """Copy a carry of smaller capacity into one of this capacity."""

        def fill(empty: np.ndarray, old: np.ndarray) -> np.ndarray:
            larger = np.array(empty)
            larger[tuple(slice(size) for size in old.shape)] = old
            return larger

        empty = self.carry.unpack_numpy(self.start(GameConfig()))
        return self.carry.pack_numpy(jax.tree.map(fill, empty, before.carry.unpack_numpy(carry)))


@functools.lru_cache(maxsize=64)
def vectors(slots: Slots) -> Vectors:
    """The packings for these slots."""
    return Vectors(slots)


class RealtimeGame:
    """One frame with any order of systems: `frame(carry, inputs) -> (carry, result)`."""

    def __init__(self, slots: Slots):
        self.vectors = vectors(slots)
        systems = np.zeros(len(SYSTEMS), np.int32)
        self.inputs = Packing(
            {
                "seed": np.int32(0),
                "number": np.int32(0),
                "frame_nanoseconds": np.int32(0),
                "frame_seconds": np.float32(0),
                "order": systems,
                "schedule": systems,
                "commands": np.zeros((COMMANDS_PER_FRAME, COMMAND.size), np.int32),
            }
        )
        self.frame = _single_function(self._frame, self.inputs, self.vectors.result)
        self.frame(self.vectors.start(GameConfig()), np.zeros(self.inputs.size, np.int32))

    def _frame(self, carry: Any, inputs: Any) -> Any:
        fields = self.inputs.unpack(inputs)
        commands = tuple(_command(row, with_move=True) for row in fields["commands"])
        draw = draw_uniform(_key(fields["seed"], fields["number"]), 1)[0]
        inputs = Inputs(fields["frame_nanoseconds"], fields["frame_seconds"], None, commands)  # type: ignore[arg-type]
        carry = ordered_frame(
            self.vectors.carry.unpack(carry), fields["order"], fields["schedule"], inputs, draw
        )
        state, _, published = carry
        return self.vectors.carry.pack(carry), self.vectors.result.pack((published, _counts(state)))


class LockstepGame:
    """Steps and commands of the simulator's environment.

    `step(carry, STEP) -> (carry, result)`. `command(carry, STEP, COMMAND) -> (carry, result)` is a
    reset or a configure, together with its frame.
    """

    def __init__(self, slots: Slots, frames_per_step: int, response_frame: int):
        self.vectors = vectors(slots)
        # The mode can change while indicators are pending, so the systems of all modes run.
        config = GameConfig(
            action_space_type=MOVE_SPACE,
            observation_mode="with_thrower",
            frames_per_step=frames_per_step,
            response_frame=response_frame,
        )
        self._timing = Timing(config, None)
        self.step = _single_function(self._step, STEP, self.vectors.result)
        self.command = _single_function(self._command, STEP, self.vectors.result)
        idle = np.zeros(STEP.size, np.int32)
        start = self.vectors.start(GameConfig())
        self.command(self.step(start, idle)[0], idle, np.zeros(COMMAND.size, np.int32))

    def _step(self, carry: Any, inputs: jax.Array) -> Any:
        game, params, _ = self.vectors.carry.unpack(carry)
        fields = STEP.unpack(inputs)
        throws, _ = self._timing.throws(_key(fields["seed"], fields["number"]), params)
        moves = fields["last_move"], fields["move"]
        return self._packed(self._timing.advance(game, params, throws, *moves, fields["fresh"]), params)

    def _command(self, carry: Any, inputs: jax.Array, vector: jax.Array) -> Any:
        game, _, _ = self.vectors.carry.unpack(carry)
        fields, command = STEP.unpack(inputs), _command(vector, with_move=False)
        draw = draw_uniform(_key(fields["seed"], fields["number"]), 1)[0]
        params = command.params
        assert params is not None
        frame_input = frame_inputs(spawn_position(draw, params), params, command)
        return self._packed(frame(game, params, frame_input, with_thrower=True), params)

    def _packed(self, game: State, params: GameParams) -> tuple[jax.Array, jax.Array]:
        published = publish(game, params)
        return self.vectors.carry.pack((game, params, published)), self.vectors.result.pack(
            (published, _counts(game))
        )


realtime_game = functools.lru_cache(maxsize=64)(RealtimeGame)
lockstep_game = functools.lru_cache(maxsize=64)(LockstepGame)


@functools.lru_cache(maxsize=64)
def drawer(slots: Slots, width: int, height: int, grayscale: bool) -> Any:
    """A compiled function from a packed result to its image, uint8 (height, width, channels)."""
    result = vectors(slots).result

    def drawn(vector: jax.Array) -> jax.Array:
        published, _ = result.unpack(vector)
        return draw(published["scene"], width=width, height=height, grayscale=grayscale)

    compiled = jax.jit(drawn)
    compiled(np.zeros(result.size, np.int32))
    return compiled
