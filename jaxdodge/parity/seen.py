"""What moves in images: in whole pixels, without heights, over the real time that passed."""

from typing import Any

import numpy as np

from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.flight import length
from jaxdodge.parity.pictures import Palette, Picture
from jaxdodge.parity.publications import check_truncated
from jaxdodge.recordings.session import RESET, Session
from jaxdodge.render.topdown import ARENA_SIDE
from jaxdodge.sim.params import SPAWN_DISTANCE
from jaxdodge.sim.state import player_start
from jaxdodge.sim.systems import FLIGHT_SECONDS_ARC, PLAY_ZONE_X, PLAY_ZONE_Y

LONGEST_FRAME = 2.0
"""In frames of the nominal length: how old a publication may be, and how late the motion in it."""
FASTEST = float(SPAWN_DISTANCE + np.hypot(PLAY_ZONE_X, PLAY_ZONE_Y)) / float(FLIGHT_SECONDS_ARC)
"""m/s of a projectile that crosses the arena to the furthest corner."""


def check_seen(
    session: Session, pictures: list[Picture | None], palette: Palette, handled: Handled, findings: Findings
) -> None:
    """Check rewards, and the motion of player and projectiles, as far as images show them."""
    frame = LONGEST_FRAME / session.config.fps
    sent, received = session.arrays["sent_s"], session.arrays["received_s"]
    passed = received - np.concatenate([sent[:1], sent[:-1]]) + 2 * frame
    check_truncated(session, findings)
    _check_rewards(session, pictures, palette, frame, findings)
    _check_player(pictures, palette, passed, handled, findings)
    for response in range(1, len(pictures)):
        before, after = pictures[response - 1], pictures[response]
        # A reset removes at the end of its frame, whose publication may show both.
        if before is None or after is None or handled.reset_between(max(response - 2, 0), response):
            continue
        # What is far inside the image and away from the player is still seen a moment later.
        reach = FASTEST * passed[response] + 2 * float(palette.metres.max())
        centres = before.projectiles
        inside = np.min(np.minimum(centres, palette.size - 1 - centres) * palette.metres, axis=1, initial=99)
        clear = (inside >= reach) & (length((centres - before.player) * palette.metres) >= reach + 1.5)
        for centre in centres[clear]:
            if not np.any(length((after.projectiles - centre) * palette.metres) <= reach):
                findings.add(response, "projectile in the image", "gone", f"within {reach:.2f} m")
                break


def _check_rewards(
    session: Session, pictures: Any, palette: Palette, frame: float, findings: Findings
) -> None:
    """A reward is the penalty, or shows how far the nearest projectile is; heights are not seen."""
    arrays, config = session.arrays, session.config
    pixel = 1.5 * float(palette.metres[0])
    for response in np.flatnonzero(arrays["kind"] != RESET):
        reward, picture = arrays["reward"][response], pictures[response]
        findings.values += 1
        done = arrays["done"][response]
        usual = config.collision_penalty if done else config.survival_reward
        if done and reward != np.float32(usual):
            findings.add(response, "reward", reward, usual)
        if done or reward == np.float32(usual):
            continue
        bonus = float(reward) - config.survival_reward
        nearest = config.dodge_bonus_threshold - bonus / max(config.dodge_bonus_multiplier, 1e-30)
        count = int(arrays["projectile_count"][response])
        if picture is None or not -1e-5 <= nearest < config.dodge_bonus_threshold or count == 0:
            findings.add(response, "reward", reward, f"{config.survival_reward} and a bonus, if any")
            continue
        away = length((picture.projectiles - picture.player) * palette.metres)
        # One that no pixel shows may be below the player, or outside the image.
        if not np.any(away <= nearest + pixel) and count <= picture.fewest:
            text = f"no projectile within {nearest:.3f} m in the image"
            # The image may be of the frame before.
            torn = np.any(away <= nearest + pixel + FASTEST * frame)
            findings.add(response, "reward", reward, text, torn)


def _check_player(
    pictures: Any, palette: Palette, passed: np.ndarray, handled: Handled, findings: Findings
) -> None:
    """Where the player can be, from response to response, by the commands handled."""
    start = np.array([player_start().x, player_start().y], float)
    nowhere = np.full(2, np.inf)
    low, high = -nowhere, nowhere
    for response, picture in enumerate(pictures):
        if picture is None:
            low, high = -nowhere, nowhere
            continue
        findings.values += 2
        # The place that the pixel's centre has; y points up in the image.
        middle = ((picture.player + 0.5) * palette.metres - ARENA_SIDE / 2) * [1, -1]
        cell_low, cell_high = middle - palette.metres / 2, middle + palette.metres / 2
        before, last = handled.count[max(response - 1, 0)], handled.count[response]
        if handled.resets[last] > handled.resets[before]:
            low, high = start, start
        if last == 0 or handled.resets[last] > handled.resets[last - 1]:
            low, high = start, start  # Nothing but a reset has been handled.
        else:
            commands = handled.velocity[before : last + 1].astype(float)
            low = low + np.minimum(commands.min(axis=0), 0) * passed[response]
            high = high + np.maximum(commands.max(axis=0), 0) * passed[response]
        if np.any(low > cell_high + 1e-3) or np.any(high < cell_low - 1e-3):
            text = f"between {np.round(low, 3)} and {np.round(high, 3)}"
            findings.add(response, "player in the image", np.round(middle, 3), text)
            low, high = cell_low, cell_high
        low, high = np.maximum(low, cell_low), np.minimum(high, cell_high)
