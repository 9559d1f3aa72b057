"""A hook of MkDocs: links out of docs/, which work on GitHub, lead to the repository."""

import re
from typing import Any

REPOSITORY = "https://github.com/jaxdodge/jaxdodge/blob/main/"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the targets that leave the folder of documents."""
    depth = page.file.src_uri.count("/") + 1
    return re.sub(r"\]\((?:\.\./)" + f"{{{depth}}}", f"]({REPOSITORY}", markdown)
