"""Which rows of a report differ, in sentences."""

import itertools

from jaxdodge.ablation.result_rows import Row

# Largest number of overlapping pairs that are listed; more are only counted.
MAX_LISTED_PAIRS = 10


def comparison(rows: list[Row]) -> list[str]:
    """Sentences: the highest row, those that overlap with it, those below, other overlaps."""
    best, *others = sorted(rows, key=lambda row: -row["value"])
    lines = [f"highest: {best['of']}, {interval_text(best)}"]
    for text, group in (
        ("not distinguishable from the highest, intervals overlap", lambda row: row["high"] >= best["low"]),
        ("below the highest, intervals do not overlap", lambda row: row["high"] < best["low"]),
    ):
        listed = "; ".join(f"{row['of']}, {interval_text(row)}" for row in others if group(row))
        if listed:
            lines.append(f"{text}: {listed}")
    compared = list(itertools.combinations(others, 2))
    pairs = [f"{one['of']} and {other['of']}" for one, other in compared if other["high"] >= one["low"]]
    if len(pairs) > MAX_LISTED_PAIRS:
        lines.append(
            f"of the others, intervals of {len(pairs)} of {len(compared)} pairs overlap: see the scores"
        )
    elif pairs:
        lines.append(f"of the others, these intervals overlap: {'; '.join(pairs)}")
    return lines


def interval_text(row: Row, form: str = ".1f") -> str:
    """A value with its interval: 5.0 [4.0, 6.0]."""
    return f"{row['value']:{form}} [{row['low']:{form}}, {row['high']:{form}}]"
