"""What several tests of studies need."""

from pathlib import Path

import pytest
from ablation_report import write_synthetic


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Of a report, see `write_synthetic`."""
    folder = tmp_path_factory.mktemp("report")
    write_synthetic(folder)
    return folder
