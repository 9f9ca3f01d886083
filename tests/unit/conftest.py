"""A complete site for every test that looks at one or spoils it: made once, since its vault takes a second to encrypt."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.inventory.site import Site, load_site
from orchestrator.inventory.vault import VaultAccess
from tests.unit.site_cases import Case, copy_case, new_case


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return a valid site that no test leaves changed."""
    return new_case(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="session")
def town(original: Case) -> Path:
    """Return its directory, to call commands on; nobody has named the packages' key, so preflight does not let it pass."""
    return original.path


@pytest.fixture(scope="session")
def loaded(town: Path) -> Site:
    """Return it as the commands read it, by the roles' own specs."""
    with VaultAccess(town.parent / "password") as access:
        return load_site(town, access)


@pytest.fixture
def case(tmp_path: Path, original: Case) -> Case:
    """Return a copy of it to spoil."""
    return copy_case(original, tmp_path)
