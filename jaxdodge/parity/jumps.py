"""The player's height: it stands, or it flies the one arc that a jump gives.

With frames of one length, height and speed on this arc belong together as in a free fall, whose
first speed is smaller by half a frame of gravity.
"""

import numpy as np

from jaxdodge.parity.clock import Clock
from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.recordings.session import Session
from jaxdodge.sim import systems
from jaxdodge.sim.state import PLAYER_START_HEIGHT


def check_heights(session: Session, handled: Handled, clock: Clock, findings: Findings) -> None:
    """Check the player's height in every response."""
    ground, gravity = float(PLAYER_START_HEIGHT), float(systems.PLAYER_GRAVITY)
    jump_speed = float(systems.JUMP_SPEED)
    observed = session.arrays["observation"][:, 2].astype(float)
    height, highest = observed - ground, jump_speed**2 / gravity / 2
    findings.values += len(height)
    for odd in np.flatnonzero((height < 0) | (height > highest)):
        findings.add(odd, "observation[2]", observed[odd], f"{ground} to {ground + highest}")
    flies = height > 0
    if not flies.any() and not handled.jumps.any():
        return
    number = np.arange(len(session))
    before, after = number[:-1], number[1:]
    reset, count = handled.reset_between(before, after), handled.count[after]
    sent = np.insert(np.cumsum(handled.jumps), 0, 0)
    # Commands of the last frame may have been published before one of them moved the player,
    # and two responses may be of one publication.
    jumped = sent[count] > sent[np.maximum(handled.least[np.maximum(after - 3, 0)] - 1, 0)]
    for response in after[flies[after] & ~flies[before] & ~reset & ~jumped]:
        findings.add(response, "observation[2]", observed[response], f"{ground}: no jump was sent")

    flying = flies[before] & flies[after] & ~reset
    low, high = clock.between(before[flying], after[flying])
    stood = np.maximum.accumulate(np.where(flies, 0, number))
    frame = [clock.longest_near(stood[response] - 2, response) for response in after[flying]]
    first_speed, seconds = jump_speed - gravity * clock.frame_seconds / 2, (low + high) / 2
    earlier, later = height[before[flying]], height[after[flying]]
    speed = np.sqrt(np.maximum(first_speed**2 - 2 * gravity * earlier, 0))
    # A frame early or late, and lower the longer the frames are.
    slack = (jump_speed + speed + gravity * seconds) * (np.array(frame) + high - low)
    rising = earlier + speed * seconds - gravity / 2 * seconds**2
    falling = earlier - speed * seconds - gravity / 2 * seconds**2
    off = np.minimum(np.abs(np.maximum(rising, 0) - later), np.abs(np.maximum(falling, 0) - later))
    may_have_landed = (falling <= slack) & jumped[flying]
    for at in np.flatnonzero((off > slack) & ~may_have_landed):
        response = after[flying][at]
        findings.add(response, "observation[2]", observed[response], f"{off[at]:.3g} m off a jump's arc")

    # Whoever stands and has just jumped is in the air two frames later.
    jumps = (count > handled.count[before]) & handled.jumps[count - 1]
    in_the_air = 2 * first_speed / gravity
    for response in after[jumps & ~flies[before] & ~flies[after] & ~reset]:
        later = response + 1
        while later < len(height) and clock.between(response, later)[0] < 1.5 * clock.longest_frame:
            later += 1
        if later == len(height) or handled.reset_between(max(response - 2, 0), later) or flies[later]:
            continue
        if clock.between(response - 1, later)[1] < in_the_air - 2 * clock.longest_frame:
            findings.add(later, "observation[2]", observed[later], "in the air after a jump")
