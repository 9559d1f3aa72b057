"""What a viewer shows: recorded states of games, and their form in the page.

The page gets one JSON object, `Replay.content`. Its arrays are base64 of little-endian numbers:
int16 millimetres and centimetres per second, or float32. `templates/viewer.js` reads them.
"""

import base64
import dataclasses
from typing import Any

import numpy as np

from jaxdodge.render.topdown import background, disc_offsets, layers, pixel_value

# Ends of episodes, as `Episode.ended` numbers them.
PLAYING, HIT, SURVIVED = 0, 1, 2
MILLIMETRES, CENTIMETRES = 1000, 100
# A projectile is the same one in the next state if it is this near to where it flew, m.
SAME_WITHIN = 0.75


@dataclasses.dataclass(frozen=True)
class Track:
    """N states of one game in the order of time."""

    player: np.ndarray
    """float32 (N, 5): position in metres, and horizontal velocity in m/s."""
    projectiles: np.ndarray
    """float32 (N, slots, 6): positions and velocities; the first `count` are in use."""
    count: np.ndarray
    """int (N,)."""
    throwers: np.ndarray
    """float32 (N, slots, 3): positions of pending indicators; the first `thrower_count`."""
    thrower_count: np.ndarray
    """int (N,)."""

    def part(self, rows: slice) -> "Track":
        """Some of the states."""
        return Track(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def nearest(self) -> np.ndarray:
        """float32 (N,): distance of the nearest projectile's centre, m; inf without one."""
        offset = self.projectiles[..., :3] - self.player[:, None, :3]
        used = np.arange(offset.shape[1]) < self.count[:, None]
        distance = np.where(used, np.sqrt((offset**2).sum(axis=-1)), np.inf)
        return distance.min(axis=1, initial=np.inf).astype(np.float32)

    def identities(self, seconds: np.ndarray) -> np.ndarray:
        """int16 (N, slots): a number for each projectile, the same from state to state; -1 unused.

        The game's table moves its rows when one is removed. A projectile is recognised where its
        velocity leads it.

        Args:
            seconds: time of each state, (N,).
        """
        ids = np.full(self.projectiles.shape[:2], -1, np.int16)
        following = 0
        for state, count in enumerate(self.count):
            before = int(self.count[state - 1]) if state else 0
            rows, taken = self.projectiles[state, :count], set()
            if before:
                old, passed = self.projectiles[state - 1, :before], seconds[state] - seconds[state - 1]
                led = old[:, :2] + old[:, 3:5] * passed
                distance = np.hypot(*(rows[:, None, :2] - led).T).T
            for row in range(count):
                near = int(np.argmin(distance[row])) if before else -1
                if before and near not in taken and distance[row, near] < SAME_WITHIN:
                    taken.add(near)
                    ids[state, row] = ids[state - 1, near]
                else:
                    ids[state, row] = following % 32768
                    following += 1
        return ids

    def content(self, seconds: np.ndarray) -> dict[str, Any]:
        """Its part of the page's JSON."""
        used = np.arange(self.projectiles.shape[1]) < self.count[:, None]
        pending = np.arange(self.throwers.shape[1]) < self.thrower_count[:, None]
        rows = self.projectiles[used]
        return {
            "player": _int16(self.player, [MILLIMETRES] * 3 + [CENTIMETRES] * 2),
            "counts": _encoded(self.count.astype("<i2")),
            "ids": _encoded(self.identities(seconds)[used].astype("<i2")),
            "projectiles": _int16(rows, [MILLIMETRES] * 3 + [CENTIMETRES] * 3),
            "thrower_counts": _encoded(self.thrower_count.astype("<i2")),
            "throwers": _int16(self.throwers[pending], [MILLIMETRES] * 3),
        }


@dataclasses.dataclass(frozen=True)
class Episode:
    """N states in a row, what was done in them and what came of it."""

    name: str
    """Such as "worst"."""
    track: Track
    seconds: np.ndarray
    """float (N,): time of each state from the first one."""
    action: np.ndarray
    """float32 (N, components): the answer to each state; NaN where there is none."""
    reward: np.ndarray
    """float32 (N,): published with each state."""
    ended: np.ndarray
    """int (N,): PLAYING, HIT or SURVIVED."""
    simulated: Track | None = None
    """The simulator's states beside recorded ones."""
    marks: tuple[tuple[int, str], ...] = ()
    """States to mark, each with a line of text."""
    discs: Any = None
    """`Discs` of the images that the policy observes; leading axis (N,)."""

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def total(self) -> float:
        """The return: the sum of its rewards."""
        return float(np.sum(self.reward, dtype=np.float64))

    def part(self, rows: slice) -> "Episode":
        """Some of the states in a row; marks move with them."""
        first, last, _ = rows.indices(len(self))
        return dataclasses.replace(
            self,
            track=self.track.part(rows),
            seconds=self.seconds[rows] - self.seconds[first],
            action=self.action[rows],
            reward=self.reward[rows],
            ended=self.ended[rows],
            simulated=self.simulated and self.simulated.part(rows),
            marks=tuple((state - first, text) for state, text in self.marks if first <= state < last),
            discs=self.discs and type(self.discs)(*(array[rows] for array in self.discs)),
        )

    def content(self) -> dict[str, Any]:
        """Its part of the page's JSON."""
        nearest = self.track.nearest()
        return {
            "name": self.name,
            "total": self.total,
            "seconds": _float32(self.seconds),
            "action": _float32(self.action),
            "reward": _float32(self.reward),
            "ended": _encoded(self.ended.astype("<i2")),
            "nearest": _float32(np.where(np.isfinite(nearest), nearest, -1)),
            "track": self.track.content(self.seconds),
            "simulated": self.simulated and self.simulated.content(self.seconds),
            "marks": self.marks,
            "discs": self.discs and [_encoded(np.asarray(disc).astype("<i2")) for disc in self.discs],
        }


@dataclasses.dataclass(frozen=True)
class Images:
    """How the images that a policy observes are drawn from discs."""

    width: int
    height: int
    grayscale: bool
    squint: int
    """Pixels along each side of the blocks that the agent averages."""

    def content(self, discs: Any) -> dict[str, Any]:
        """Background, and shape and colour of each layer of discs."""
        drawn = [
            {
                "slots": int(centres.shape[-1]),
                "offsets": disc_offsets(radius, self.width).T.tolist(),
                "colour": pixel_value(colour, self.grayscale).tolist(),
            }
            for centres, radius, colour in layers(discs)
        ]
        ground = background(self.width, self.height, self.grayscale)
        # The order of `Discs` is not that in which they are drawn.
        order = [type(discs)._fields.index(name) for name in ("thrower", "projectiles", "player")]
        return dataclasses.asdict(self) | {"background": _encoded(ground), "layers": drawn, "order": order}


@dataclasses.dataclass(frozen=True)
class Replay:
    """Everything that a page or a film shows."""

    title: str
    subtitle: str
    episodes: list[Episode]
    actions: tuple[str, ...]
    """Names of the components of an action."""
    spawn_angle: float | None
    """Half angle of the arc of throws, degrees; None for a line."""
    bonus_distance: float
    """Below it the nearest projectile pays a bonus, m."""
    observed: str
    """What the policy, or the client, observes, in words."""
    frame_stack: int = 1
    images: Images | None = None
    """None for vectors."""
    sides: tuple[str, str] = ("recorded", "simulated")
    """What the two games of an episode with `simulated` are."""

    def content(self) -> dict[str, Any]:
        """The page's JSON."""
        discs = self.episodes[0].discs
        return {
            "title": self.title,
            "subtitle": self.subtitle,
            "actions": self.actions,
            "spawn_angle": self.spawn_angle,
            "bonus_distance": self.bonus_distance,
            "observed": self.observed,
            "frame_stack": self.frame_stack,
            "images": self.images and self.images.content(discs),
            "sides": self.sides,
            "episodes": [episode.content() for episode in self.episodes],
        }


def _int16(array: np.ndarray, scales: list[int]) -> str:
    scaled = np.rint(np.nan_to_num(array) * scales)
    return _encoded(np.clip(scaled, -32768, 32767).astype("<i2"))


def _float32(array: np.ndarray) -> str:
    return _encoded(np.asarray(array).astype("<f4"))


def _encoded(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
