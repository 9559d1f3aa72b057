"""The page: one HTML file that holds the data, the styles and the scripts, and requests nothing."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

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
    files = ("style.css", "arena.js", "panels.js", "player.js")
    return rendered("page.j2", replay.content() | {"camera": CAMERA}, files, replay=replay)


def rendered(template: str, data: dict[str, Any], names: tuple[str, ...], **variables: Any) -> str:
    """A page with its data, styles and scripts.

    Args:
        template: name of its template.
        data: what the scripts read.
        names: files that the template includes by their stems.
        variables: for the template.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    parts = {name.partition(".")[0]: (TEMPLATES / name).read_text(encoding="utf-8") for name in names}
    # "<" could end the script element in which the data lies.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    source = (TEMPLATES / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(data=text, **parts, **variables)
