"""Time as the game keeps it: durations in whole nanoseconds, and the timers that count them."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdodge.exact import divide

NANOSECONDS_PER_SECOND = 1_000_000_000


class Duration(struct.PyTreeNode):
    """A span of time as Rust's `Duration`: whole seconds and the nanoseconds beyond them.

    Two int32 arrays of one shape; `nanoseconds` is in [0, 1e9). One int32 of nanoseconds would
    overflow after 2.1 s, and JAX has no int64 unless asked for it globally.
    """

    seconds: jax.Array
    nanoseconds: jax.Array

    @classmethod
    def from_nanoseconds(cls, nanoseconds: int) -> "Duration":
        """A constant duration from a Python integer."""
        seconds, rest = divmod(int(nanoseconds), NANOSECONDS_PER_SECOND)
        return cls(jnp.int32(seconds), jnp.int32(rest))

    @classmethod
    def zeros(cls, *shape: int) -> "Duration":
        """No time, or a table of it."""
        return cls(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32))

    def at_least(self, other: "Duration") -> jax.Array:
        """bool: `self >= other`."""
        return (self.seconds > other.seconds) | (
            (self.seconds == other.seconds) & (self.nanoseconds >= other.nanoseconds)
        )

    def plus(self, nanoseconds: jax.Array | int) -> "Duration":
        """The sum with less than a second of nanoseconds."""
        total = self.nanoseconds + nanoseconds
        carry = total >= NANOSECONDS_PER_SECOND
        return Duration(
            self.seconds + carry.astype(jnp.int32),
            jnp.where(carry, total - NANOSECONDS_PER_SECOND, total),
        )

    def minus(self, other: "Duration") -> "Duration":
        """The difference with a duration that is not longer."""
        difference = self.nanoseconds - other.nanoseconds
        borrow = difference < 0
        return Duration(
            self.seconds - other.seconds - borrow.astype(jnp.int32),
            jnp.where(borrow, difference + NANOSECONDS_PER_SECOND, difference),
        )

    def as_seconds(self) -> jax.Array:
        """float32 seconds as of Rust's `as_secs_f32`: seconds + nanoseconds / 1e9, both float32."""
        return self.seconds.astype(jnp.float32) + divide(self.nanoseconds.astype(jnp.float32), 1e9)


def tick_repeating(
    elapsed: Duration, duration: Duration, frame_nanoseconds: jax.Array | int
) -> tuple[Duration, jax.Array]:
    """Advance a repeating timer by one frame: its new elapsed time and whether it fired.

    It fires at most once a frame; the elapsed time is then taken modulo the duration. `elapsed` is
    shorter than `duration` and a frame lasts at most 250 ms, so below a duration of one second the
    sum fits in int32 nanoseconds, and from one second on a single subtraction is the modulo.
    """
    total = elapsed.plus(frame_nanoseconds)
    fired = total.at_least(duration)
    short = duration.seconds == 0
    remainder = jax.lax.rem(
        total.seconds * NANOSECONDS_PER_SECOND + total.nanoseconds, jnp.where(short, duration.nanoseconds, 1)
    )
    less_one = total.minus(duration)
    seconds = jnp.where(short, 0, less_one.seconds)
    nanoseconds = jnp.where(short, remainder, less_one.nanoseconds)
    return (
        Duration(jnp.where(fired, seconds, total.seconds), jnp.where(fired, nanoseconds, total.nanoseconds)),
        fired,
    )


def tick_once(
    elapsed: Duration, duration: Duration, frame_nanoseconds: jax.Array | int
) -> tuple[Duration, jax.Array]:
    """Advance a one-shot timer by one frame: it stops at its duration, and has then fired."""
    total = elapsed.plus(frame_nanoseconds)
    fired = total.at_least(duration)
    return (
        Duration(
            jnp.where(fired, duration.seconds, total.seconds),
            jnp.where(fired, duration.nanoseconds, total.nanoseconds),
        ),
        fired,
    )
