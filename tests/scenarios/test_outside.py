"""What only shows from outside: each control turns when the host is changed, and is repaired. Nothing is mocked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.lab.lab import LabSite
from tests.scenarios.breaks import Break, turn_and_repair
from tests.scenarios.conftest import throwaway

# Looked at with every break here: what speaks of the same services from outside. Ports are scanned with their own breaks.
NEAR: tuple[str, ...] = ()
BREAKS: list[Break] = []


@pytest.fixture(scope="module")
def site() -> Iterator[LabSite]:
    """A converged Debian 13 host."""
    with throwaway("outside13", playbook="site.yml") as made:
        yield made


@pytest.mark.parametrize("row", BREAKS, ids=lambda row: row.control)
def test_control_turns_and_is_repaired(site: LabSite, row: Break) -> None:
    turn_and_repair(site, row, controls=tuple(dict.fromkeys((row.control, *row.also, *NEAR))))
