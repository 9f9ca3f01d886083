"""A complete site for every test that spoils one: made once, since its vault takes a second to encrypt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.site_cases import Case, copy_case, new_case


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return a valid site that no test changes."""
    return new_case(tmp_path_factory.mktemp("original"))


@pytest.fixture
def case(tmp_path: Path, original: Case) -> Case:
    """Return a copy of it to spoil."""
    return copy_case(original, tmp_path)
