"""What moves in images: as coarse as pixels are, and without heights, but over the real time that passed."""

import numpy as np

from jaxdodge.parity.commands import Handled
from jaxdodge.parity.findings import Findings
from jaxdodge.parity.pictures import Palette, Picture, metres_of_pixels
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
    columns, rows = metres_of_pixels(palette)
    _check_rewards(session, pictures, columns, findings)
    _check_player(session, pictures, columns, rows, handled, findings)
    _check_projectiles(session, pictures, palette, handled, findings)


def _longest(session: Session, first: int, last: int) -> float:
    frame = LONGEST_FRAME / session.config.fps
    return float(session.arrays["received_s"][last] - session.arrays["sent_s"][first]) + 2 * frame


def _check_rewards(session, pictures, columns, findings: Findings) -> None:
    """A reward is the penalty, or shows how far the nearest projectile is; heights are not seen."""
    arrays, config = session.arrays, session.config
    pixel = float(np.nanmax(np.where(np.isfinite(columns), columns, np.nan)[1] - columns[0])) * 1.5
    for response in np.flatnonzero(arrays["kind"] != RESET):
        reward, picture = arrays["reward"][response], pictures[response]
        truncated = arrays["episode_steps"][response] >= config.max_episode_steps
        findings.values += 2
        if arrays["truncated"][response] != truncated:
            findings.difference(response, "truncated", arrays["truncated"][response], truncated)
        if arrays["done"][response]:
            if reward != np.float32(config.collision_penalty):
                findings.difference(response, "reward", reward, config.collision_penalty)
            continue
        bonus = float(reward) - config.survival_reward
        nearest = config.dodge_bonus_threshold - bonus / max(config.dodge_bonus_multiplier, 1e-30)
        if reward == np.float32(config.survival_reward):
            continue
        count = int(arrays["projectile_count"][response])
        if picture is None or not -1e-5 <= nearest < config.dodge_bonus_threshold or count == 0:
            findings.difference(response, "reward", reward, f"{config.survival_reward} and a bonus, if any")
            continue
        away = _metres(picture.projectiles - np.array(picture.player), columns)
        # One that no pixel shows may be below the player, or outside the image.
        if not np.any(away <= nearest + pixel) and count <= picture.fewest:
            text = f"no projectile within {nearest:.3f} m in the image"
            # The image may be of the frame before.
            torn = np.any(away <= nearest + pixel + FASTEST * LONGEST_FRAME / config.fps)
            note = findings.torn_response if torn else findings.difference
            note(response, "reward", reward, text)


def _metres(pixels: np.ndarray, columns: np.ndarray) -> np.ndarray:
    known = np.isfinite(columns[0])
    width = float(np.median(np.diff(columns[0][known])))
    return np.hypot(*(pixels.T * width))


def _check_player(session, pictures, columns, rows, handled: Handled, findings: Findings) -> None:
    """Where the player can be, from response to response, by the commands handled; never nowhere."""
    start = np.array([player_start().x, player_start().y], float)
    low = high = None
    for response, picture in enumerate(pictures):
        if picture is None:
            low = high = None
            continue
        findings.values += 2
        column, row = picture.player
        cell_low = np.array([columns[0][column], rows[0][row]])
        cell_high = np.array([columns[1][column], rows[1][row]])
        last = handled.count[response]
        if last == 0 or handled.resets[last] > handled.resets[last - 1]:
            low, high = start, start  # Nothing but a reset has been handled.
        elif low is not None and high is not None:
            reset = handled.reset_between(response - 1, response)
            commands = handled.velocity[handled.count[response - 1] : last + 1].astype(float)
            longest = _longest(session, response - 1, response)
            least, largest = np.minimum(commands.min(axis=0), 0), np.maximum(commands.max(axis=0), 0)
            base_low, base_high = (start, start) if reset else (low, high)
            low, high = base_low + least * longest, base_high + largest * longest
        else:
            low, high = cell_low, cell_high
        slack = 1e-3
        if np.any(low > cell_high + slack) or np.any(high < cell_low - slack):
            text = f"between {np.round(low, 3)} and {np.round(high, 3)}"
            place = np.round((cell_low + cell_high) / 2, 3)
            findings.difference(response, "player in the image", place, text)
            low, high = cell_low, cell_high
        low, high = np.maximum(low, cell_low), np.minimum(high, cell_high)


def _check_projectiles(session, pictures, palette: Palette, handled: Handled, findings: Findings) -> None:
    """What is far inside the image and away from the player is still seen a moment later."""
    metres = ARENA_SIDE / palette.width, ARENA_SIDE / palette.height
    for response in range(1, len(pictures)):
        before, after = pictures[response - 1], pictures[response]
        # A reset removes at the end of its frame, whose publication may show both.
        if before is None or after is None or handled.reset_between(max(response - 2, 0), response):
            continue
        reach = FASTEST * _longest(session, response - 1, response) + 2 * max(metres)
        size = np.array([palette.width, palette.height])
        for centre in before.projectiles:
            inside = np.min(np.minimum(centre, size - 1 - centre) * metres)
            beside = np.hypot(*((centre - np.array(before.player)) * metres))
            if inside < reach or beside < reach + 1.5:
                continue
            away = np.hypot(*((after.projectiles - centre) * metres).T)
            if not np.any(away <= reach):
                findings.difference(response, "projectile in the image", "gone", f"within {reach:.2f} m")
                break
