"""Figures of matplotlib, independent of its global state and of the user's backend."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(**arguments: Any) -> "Figure":
    """A figure without pyplot and without a window; arguments as for `matplotlib.figure.Figure`."""
    with without_backend():
        from matplotlib.figure import Figure
    return Figure(**arguments)


@contextlib.contextmanager
def without_backend() -> Iterator[None]:
    """Hide MPLBACKEND: without that backend, matplotlib cannot be imported."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
