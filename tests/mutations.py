"""Texts of files and requests with pieces in wrong places, for fuzzing with hypothesis.

JAXDODGE_FUZZ=10000 draws ten thousand of each kind.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from jaxdodge.config import GAME_FIELDS

COUNT = int(os.environ.get("JAXDODGE_FUZZ", "50"))
SYNTAX = ["[", "]", "{", "}", ":", "-", "?", "!", "&", "*", "'", "|", ">", "%", "#", "\t", "\n", "\0"]
SYNTAX += ["&a", "*a", "<<:", "!!python/name:os.system", "!!binary", "%YAML"]
VALUES = ["010", "1e999", "100:00", ".nan", "~", "2024-13-45", "0x", "\ud7ff"]
KEYS = ["seeds", "level", "base", "factors", "cells", "evaluate", "full", "grid", *GAME_FIELDS]
PIECES = st.sampled_from([*SYNTAX, *VALUES, *KEYS, ": ", "- "])
COMMON = settings(
    max_examples=COUNT,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def mutated(text: str) -> st.SearchStrategy[bytes]:
    """The text with pieces in other places, and any bytes."""

    def build(changes: list[tuple[int, int, str]], raw: bytes) -> bytes:
        result = text
        for place, length, piece in changes:
            place %= len(result) + 1
            result = result[:place] + piece + result[place + length :]
        return result.encode(errors="surrogatepass") + raw

    changes = st.tuples(st.integers(0, 200), st.integers(0, 20), PIECES | st.text(max_size=8))
    return st.builds(build, st.lists(changes, max_size=6), st.binary(max_size=4) | st.just(b""))
