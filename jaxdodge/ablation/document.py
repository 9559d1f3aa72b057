"""A document of a few kinds of parts, as one HTML file that needs nothing else, and as Markdown."""

import base64
import dataclasses
import html

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222 }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
figure { margin: 1rem 0 } figure img { max-width: 100%; height: auto }
figcaption { color: #555; font-size: .9em } .pictures { display: flex; flex-wrap: wrap; gap: 1rem }
.pictures img { image-rendering: pixelated } pre { overflow-x: auto; background: #f6f6f6; padding: .6rem }
"""


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str


@dataclasses.dataclass(frozen=True)
class Text:
    text: str


@dataclasses.dataclass(frozen=True)
class Code:
    text: str


@dataclasses.dataclass(frozen=True)
class Bullets:
    lines: list[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """`rows` of as many cells as `header` has; the first column names them."""

    header: list[str]
    rows: list[list[str]]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture; `text` says what it shows to who does not see it."""

    name: str
    svg: str
    text: str


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Small pictures side by side: of each a name for its file, a PNG in base64, and what it shows."""

    pictures: list[tuple[str, str, str]]


Part = Heading | Text | Code | Bullets | Table | Figure | Pictures


def to_html(title: str, parts: list[Part]) -> str:
    """One self-contained HTML file, without scripts."""
    body = "\n".join(_html(part) for part in parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n"
        f'<link rel="icon" href="data:,">\n<style>{STYLE}</style>\n</head>\n<body>\n'
        f"<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def to_markdown(title: str, parts: list[Part]) -> str:
    """Markdown; pictures are files beside it, see `pictures_of`."""
    return f"# {title}\n\n" + "\n\n".join(_markdown(part) for part in parts) + "\n"


def pictures_of(parts: list[Part]) -> dict[str, bytes]:
    """Name and content of the files that the Markdown refers to."""
    files = {f"{part.name}.svg": part.svg.encode() for part in parts if isinstance(part, Figure)}
    for part in parts:
        if isinstance(part, Pictures):
            files |= {f"{name}.png": base64.b64decode(png) for name, png, _ in part.pictures}
    return files


def _figure(kind: str, content: bytes, text: str) -> str:
    data = base64.b64encode(content).decode()
    image = f'<img alt="{html.escape(text)}" src="data:image/{kind};base64,{data}">'
    return f"<figure>{image}<figcaption>{html.escape(text)}</figcaption></figure>"


def _html(part: Part) -> str:
    if isinstance(part, Heading):
        return f"<h2>{html.escape(part.text)}</h2>"
    if isinstance(part, Text):
        return f"<p>{html.escape(part.text)}</p>"
    if isinstance(part, Code):
        return f"<pre>{html.escape(part.text)}</pre>"
    if isinstance(part, Bullets):
        return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in part.lines) + "</ul>"
    if isinstance(part, Table):
        head = "".join(f"<th>{html.escape(name)}</th>" for name in part.header)
        rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in part.rows]
        return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
    if isinstance(part, Figure):
        return _figure("svg+xml", part.svg.encode(), part.text)
    figures = (_figure("png", base64.b64decode(png), text) for _, png, text in part.pictures)
    return f'<div class="pictures">{"".join(figures)}</div>'


def _markdown(part: Part) -> str:
    if isinstance(part, Heading):
        return f"## {part.text}"
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Code):
        return f"```\n{part.text}\n```"
    if isinstance(part, Bullets):
        return "\n".join(f"- {line}" for line in part.lines)
    if isinstance(part, Table):
        lines = [part.header, ["---"] + ["---:"] * (len(part.header) - 1), *part.rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
    if isinstance(part, Figure):
        return f"![{part.text}](figures/{part.name}.svg)"
    return "\n\n".join(f"![{text}](figures/{name}.png) {text}" for name, _, text in part.pictures)
