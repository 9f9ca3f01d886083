"""The pytest plugin of the checks, in the runner's child process and under plain pytest.

Started by `child.py` it talks to the hosts in batches. Under plain pytest the same checks run with testinfra's own
backends: `pytest -p orchestrator.verification.plugin --ratssaal-site inventories/town --hosts=ssh://root@HOST
orchestrator/verification/checks`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import testinfra.host

from orchestrator.verification import subject as subjects
from orchestrator.verification.batches import Batches
from orchestrator.verification.catalogue import load_catalogue
from orchestrator.verification.child import JOB
from orchestrator.verification.fixtures import Fixtures, Places, control_of, host_of, is_outside
from orchestrator.verification.shipping import Vantage


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of plain pytest."""
    parser.addoption("--ratssaal-site", default="", help="Directory of the site whose hosts are looked at.")
    parser.addoption("--ratssaal-inside", action="store_true", help="Only the checks that look from inside.")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, read the job or the site."""
    config.addinivalue_line("markers", "control(id): the control that a check decides")
    config.addinivalue_line("markers", "last: burdens the host, so it is asked when all others have their answers")
    config.addinivalue_line(
        "markers", "control_node: looks from the control node where the vantage point is another host"
    )
    job = os.environ.pop(JOB, "")
    if job:
        with os.fdopen(int(job)) as described:
            config.pluginmanager.register(Batches(json.load(described)), "ratssaal")
    else:
        config.pluginmanager.register(Plain(config), "ratssaal")


class Plain(Fixtures):
    """Plain pytest with testinfra's own backends; the vantage point is the site's."""

    def __init__(self, config: pytest.Config) -> None:
        self.known = {}
        self._places: Places | None = None
        if config.getoption("--ratssaal-site"):
            from orchestrator.inventory.site import load_site
            from orchestrator.inventory.vault import VaultAccess
            from orchestrator.verification.vantage import vantage_of

            path = Path(config.getoption("--ratssaal-site"))
            with VaultAccess.locate(path) as access:
                site = load_site(path, access)
            self.known = subjects.subjects(site)
            self._places = Places(Vantage(*vantage_of(site)))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what a host's groups have nothing of, as the runner does, and the outside where only the inside is wanted."""
        groups = {control.id: control for control in load_catalogue()}
        inside = config.getoption("--ratssaal-inside")

        def wanted(item: pytest.Function) -> bool:
            if inside and is_outside(item):
                return False
            known = groups.get(control_of(item))
            return known is None or not self.known or known.concerns(self.find(_looked_at(item)).groups)

        kept = [item for item in cast(list[pytest.Function], items) if wanted(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept

    def clock_of(self, host: testinfra.host.Host) -> Callable[[], float]:
        """Ask for the time once more; the answer's way back is in it."""
        return lambda: float(host.check_output("date +%s.%N")) - time.time()

    def vantage_host(self, item: pytest.Function) -> testinfra.host.Host:
        """Return a vantage point that is asked one command at a time."""
        assert self._places is not None
        place = self._places.of(item)
        return host_of(str(place.point), place.ship)

    def pytest_unconfigure(self) -> None:
        """Leave nothing at the vantage point."""
        if self._places is not None:
            self._places.close()


def _looked_at(item: pytest.Function) -> str:
    """Return the host of a check under plain pytest, as testinfra's plugin gave it."""
    host = cast(testinfra.host.Host, item.callspec.params["_testinfra_host"])
    return cast(str, host.backend.get_hostname())
