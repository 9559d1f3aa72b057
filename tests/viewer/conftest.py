"""One cache of compiled programs, because several tests play the same episodes."""

import pytest
from compiled import shared_compilations


@pytest.fixture(scope="module", autouse=True)
def _compiled(tmp_path_factory):
    with shared_compilations(tmp_path_factory):
        yield
