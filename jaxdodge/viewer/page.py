"""The page: one HTML file that holds the data, the styles and the scripts, and requests nothing."""

import json
from importlib.resources import files
from pathlib import Path

import jinja2

from jaxdodge.files import atomic_write
from jaxdodge.viewer.film import CAMERA
from jaxdodge.viewer.tracks import Replay

TEMPLATES = files("jaxdodge.viewer") / "templates"


def write_page(replay: Replay, path: Path) -> None:
    """Write the page of a replay; raises OSError."""
    atomic_write(path, page(replay))


def page(replay: Replay) -> str:
    """The page's HTML."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((TEMPLATES / "page.j2").read_text(encoding="utf-8"))
    # "<" could end the script element in which the data lies.
    data = json.dumps(replay.content() | {"camera": CAMERA}, separators=(",", ":"))
    parts = {
        name.partition(".")[0]: (TEMPLATES / name).read_text(encoding="utf-8")
        for name in ("style.css", "arena.js", "panels.js", "player.js")
    }
    return template.render(replay=replay, data=data.replace("<", "\\u003c"), **parts)
