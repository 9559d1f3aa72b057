"""What a frame defers, against plain Python lists: the game's tables,
its swap-remove, its schedule.

Entities carry their number in the x of their position and of their velocity,
so both tables can be read back.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from fast_compilation import users_jit
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge.config import GameConfig
from jaxdodge.sim import systems
from jaxdodge.sim.deferred import DEFERRED, cleared_ranks
from jaxdodge.sim.duration import Duration
from jaxdodge.sim.params import game_params
from jaxdodge.sim.state import Spawn, State, Vector, server_start
from jaxdodge.sim.systems import Command, Inputs

SLOTS, INDICATORS = 7, 4
# The systems that defer, in an order of this table; a schedule is a permutation of it.
DEFERRING = (
    "handle_commands",
    "spawn_projectiles",
    "spawn_thrower_indicators",
    "process_thrower_indicators",
    "cleanup_projectiles",
)
SCHEDULES = list(itertools.permutations(range(len(DEFERRING))))
DELAY = 500_000_000


@dataclasses.dataclass(frozen=True)
class Frame:
    """What happens in a frame: slots that leave, indicators that fire,
    resets, spawns, the schedule.
    """

    outside: tuple[bool, ...] = (False,) * SLOTS
    fired: tuple[bool, ...] = (False,) * INDICATORS
    resets: int = 0
    projectile: bool = False
    indicator: bool = False
    schedule: tuple[int, ...] = SCHEDULES[0]


class Game:
    """The model: lists of entities, and removals by entity."""

    def __init__(self) -> None:
        self.projectiles: list[int] = []
        self.indicators: list[int] = []
        self.dropped = [0, 0]

    def _appear(self, table: list[int], entity: int, slots: int, which: int) -> None:
        if len(table) < slots:
            table.append(entity)
        else:
            self.dropped[which] += 1

    @staticmethod
    def _leave(table: list[int], entity: int) -> None:
        """The last moves into the gap; what is gone already is ignored."""
        if entity in table:
            gap, last = table.index(entity), table.pop()
            if last != entity:
                table[gap] = last

    def run(self, frame: Frame, number: int) -> None:
        outside = [entity for slot, entity in enumerate(self.projectiles) if frame.outside[slot]]
        fired = [entity for slot, entity in enumerate(self.indicators) if frame.fired[slot]]
        seen = list(self.projectiles) * frame.resets

        def handle_commands() -> None:
            for entity in seen:
                self._leave(self.projectiles, entity)

        def spawn_projectiles() -> None:
            if frame.projectile:
                self._appear(self.projectiles, projectile_of(number), SLOTS, 0)

        def spawn_thrower_indicators() -> None:
            if frame.indicator:
                self._appear(self.indicators, indicator_of(number), INDICATORS, 1)

        def process_thrower_indicators() -> None:
            for entity in fired:
                self._appear(self.projectiles, entity, SLOTS, 0)
                self._leave(self.indicators, entity)

        def cleanup_projectiles() -> None:
            for entity in outside:
                self._leave(self.projectiles, entity)

        deferred = locals()
        for system in frame.schedule:
            deferred[DEFERRING[system]]()


def projectile_of(number: int) -> int:
    return 2 * number + 1


def indicator_of(number: int) -> int:
    return 2 * number + 2


PARAMS = game_params(GameConfig())


def server() -> State:
    state = server_start(SLOTS, INDICATORS)
    return state.replace(
        spawned_thrower=state.spawned_thrower.replace(delay=Duration.from_nanoseconds(DELAY))
    )


CHANGES = [DEFERRED[name] for name in DEFERRING]


@users_jit
def run_frame(state: State, outside, fired, resets, projectile, indicator, schedule) -> State:
    """The systems that ask, in any order because none changes a table, then what they deferred."""
    inputs = Inputs(
        jnp.int32(0),
        jnp.float32(0),
        (jnp.float32(0), jnp.float32(0)),
        tuple(Command(reset=resets > number) for number in range(2)),
    )
    projectiles, throwers = state.projectiles, state.throwers
    height = jnp.where(outside, jnp.float32(-6), jnp.float32(1))
    elapsed = Duration(jnp.zeros(INDICATORS, jnp.int32), jnp.where(fired, DELAY, 0))
    state = state.replace(
        projectiles=projectiles.replace(position=projectiles.position.replace(z=height)),
        throwers=throwers.replace(elapsed=elapsed),
        spawned_projectile=spawned(state.spawned_projectile, projectile),
        spawned_thrower=spawned(state.spawned_thrower, indicator),
    )
    for system in (systems.process_thrower_indicators, systems.cleanup_projectiles, systems.handle_commands):
        state = system(state, PARAMS, inputs)
    carry = state, cleared_ranks(state)
    return jax.lax.scan(lambda carry, n: (jax.lax.switch(n, CHANGES, *carry), None), carry, schedule)[0][0]


def spawned(spawn: Spawn, entity) -> Spawn:
    """Entity 0 is none."""
    number = jnp.asarray(entity, jnp.float32)
    here = Vector(number, jnp.float32(0), jnp.float32(1))
    return spawn.replace(position=here, velocity=here, due=entity > 0)


def entities(table) -> list[int]:
    count = int(table.count)
    numbers = [int(number) for number in table.position.x[:count]]
    assert numbers == [int(number) for number in table.velocity.x[:count]]
    return numbers


def play(frames) -> tuple[State, Game]:
    """Run the frames in both; the tables must be the same after every one."""
    state, game = server(), Game()
    for number, frame in enumerate(frames):
        state = run_frame(
            state,
            np.array(frame.outside),
            np.array(frame.fired),
            np.int32(frame.resets),
            np.int32(projectile_of(number) * frame.projectile),
            np.int32(indicator_of(number) * frame.indicator),
            np.array(frame.schedule, np.int32),
        )
        game.run(frame, number)
        assert entities(state.projectiles) == game.projectiles, f"projectiles after frame {number}"
        assert entities(state.throwers) == game.indicators, f"indicators after frame {number}"
        assert [int(state.dropped_projectiles), int(state.dropped_throwers)] == game.dropped
        assert not (state.spawned_projectile.due | state.spawned_thrower.due)
        assert not state.throwers.fired.any()
        assert not state.cleared
    return state, game


def fill(projectiles: int, indicators: int = 0) -> list[Frame]:
    """Frames in which so many appear."""
    frames = range(max(projectiles, indicators))
    return [Frame(projectile=number < projectiles, indicator=number < indicators) for number in frames]


def flags(count: int):
    return st.tuples(*[st.booleans()] * count)


FRAMES = st.builds(
    Frame,
    outside=flags(SLOTS),
    fired=flags(INDICATORS),
    resets=st.sampled_from([0, 0, 0, 1, 2]),
    projectile=st.booleans(),
    indicator=st.booleans(),
    schedule=st.sampled_from(SCHEDULES),
)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    projectiles=st.integers(0, SLOTS),
    indicators=st.integers(0, INDICATORS),
    frames=st.lists(FRAMES, max_size=5),
)
def test_deferred_changes_are_those_of_plain_lists(projectiles, indicators, frames):
    play(fill(projectiles, indicators) + frames)


def test_every_schedule_of_a_frame_in_which_everything_happens():
    """Indicators fire, one appears, a projectile appears, two leave, a reset
    clears: each in every order.
    """
    busy = Frame(
        outside=(True, False, False, True) + (False,) * (SLOTS - 4),
        fired=(True, False, True, False),
        resets=1,
        projectile=True,
        indicator=True,
    )
    outcomes = set()
    for schedule in SCHEDULES:
        after = dataclasses.replace(busy, schedule=schedule)
        _, game = play([*fill(4, 3), after])
        outcomes.add((tuple(game.projectiles), tuple(game.indicators)))
    assert len(outcomes) > 2, "the schedule must matter"


def tables(frames) -> tuple[list[int], list[int]]:
    state, _ = play(frames)
    return entities(state.projectiles), entities(state.throwers)


def slots(*used: int, count: int = SLOTS) -> tuple[bool, ...]:
    return tuple(slot in used for slot in range(count))


def test_the_last_fills_the_gap():
    """Known answers, without the model: 1 3 5 7 9 are in the table."""
    assert tables(fill(5))[0] == [1, 3, 5, 7, 9]
    assert tables([*fill(5), Frame(outside=slots(1))])[0] == [1, 9, 5, 7]
    # 1 leaves first, so 9 moves to the front; then 3 leaves, so 7 moves into its place.
    assert tables([*fill(5), Frame(outside=slots(0, 1))])[0] == [9, 7, 5]
    assert tables([*fill(5), Frame(outside=slots(0, 4))])[0] == [7, 3, 5]
    assert tables([*fill(5), Frame(outside=slots(0, 1, 2, 3, 4))])[0] == []


def test_several_indicators_fire_in_one_frame():
    """In table order; entities 2 4 6 8 are indicators, and the last fills their gaps too."""
    fires = Frame(fired=slots(0, 2, count=INDICATORS))
    assert tables([*fill(1, 4), fires]) == ([1, 2, 6], [8, 4])


def test_a_projectile_that_appears_in_the_frame_of_a_reset_survives():
    for schedule in SCHEDULES:
        frames = [*fill(3), Frame(resets=1, projectile=True, schedule=schedule)]
        assert tables(frames) == ([7], [])


def test_a_removal_that_is_asked_for_twice_happens_once():
    for schedule in SCHEDULES:
        frames = [*fill(3), Frame(resets=2, outside=slots(0, 1, 2), projectile=True, schedule=schedule)]
        assert tables(frames) == ([7], [])
    # Nothing of it is left for the next frame, whoever is in these slots then.
    assert tables([*frames, Frame(projectile=True), Frame(projectile=True)])[0] == [7, 9, 11]


def test_what_finds_no_slot_is_counted():
    state, _ = play([*fill(SLOTS + 2, INDICATORS + 1), Frame(fired=(True,) * INDICATORS)])
    assert int(state.dropped_projectiles) == 2 + INDICATORS
    assert int(state.dropped_throwers) == 1
    assert (int(state.projectiles.count), int(state.throwers.count)) == (SLOTS, 0)
