"""What a check is given, whoever runs it, and what its notes become."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import testinfra.host

from orchestrator.inventory.vantagepoint import VantagePoint
from orchestrator.verification.batch import BatchBackend
from orchestrator.verification.sheet import Declared, NotApplicable, NotTested, Sheet
from orchestrator.verification.shipping import Vantage
from orchestrator.verification.subject import Subject


class Fixtures(abc.ABC):
    """What a check is given."""

    known: dict[str, Subject]

    @pytest.fixture
    def sheet(self) -> Sheet:
        """Return the check's notes."""
        return Sheet()

    @pytest.fixture
    def subject(self, host: testinfra.host.Host) -> Subject:
        """Return what the inventory says of the host that is looked at."""
        return self.find(host.backend.get_hostname())

    @pytest.fixture
    def outside(self, request: pytest.FixtureRequest) -> testinfra.host.Host:
        """Return the vantage point: commands that are run through it look at the host from outside."""
        return self.vantage_host(cast(pytest.Function, request.node))

    @pytest.fixture
    def converge(self, host: testinfra.host.Host) -> dict[str, Any] | None:
        """Return what a converge in check mode said of the host; None where none was run."""
        return self.converged(host.backend.get_hostname())

    @pytest.fixture
    def clock(self, host: testinfra.host.Host) -> Callable[[], float]:
        """Return how to get the seconds by which the host's clock is ahead of ours, once the host was asked anything."""
        return self.clock_of(host)

    @abc.abstractmethod
    def clock_of(self, host: testinfra.host.Host) -> Callable[[], float]:
        """Return how to get the seconds by which a host's clock is ahead of ours."""

    @abc.abstractmethod
    def vantage_host(self, item: pytest.Function) -> testinfra.host.Host:
        """Return the vantage point for one check."""

    def converged(self, name: str) -> dict[str, Any] | None:
        """Return a host's result of the converge in check mode; plain pytest runs none."""
        return None

    def find(self, asked: str) -> Subject:
        """Return the subject that a testinfra host stands for, by name or address."""
        for known in self.known.values():
            if asked in (known.name, *known.addresses):
                return known
        raise pytest.UsageError(f"the site has no host {asked}; it has {', '.join(self.known)}")

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Iterator[None]:
        """Run a check and turn its notes into its outcome."""
        sheet = cast(Sheet, pyfuncitem.funcargs["sheet"])
        try:
            yield
            sheet.finish()
        except (NotTested, NotApplicable, Declared) as reason:
            self.note(pyfuncitem, sheet, reason)
            if sheet.faults:
                raise
            pytest.skip(f"{type(reason).__name__}: {reason}")
        except BaseException as error:
            self.note(pyfuncitem, sheet, error)
            raise
        else:
            self.note(pyfuncitem, sheet, None)

    def note(self, item: pytest.Function, sheet: Sheet, outcome: BaseException | None) -> None:
        """Keep a result; plain pytest's own report is enough there."""
        del item, sheet, outcome


class Places:
    """The vantage point, and the control node for what cannot be brought to another host: a browser."""

    def __init__(self, vantage: Vantage) -> None:
        self._vantage = vantage
        self._here = Vantage(VantagePoint("local"), "", Path(), {}) if vantage.point.kind == "ssh" else vantage

    def of(self, item: pytest.Function) -> Vantage:
        """Return where a check looks from."""
        return self._here if item.get_closest_marker("control_node") else self._vantage

    def close(self) -> None:
        """Leave nothing at either."""
        for place in {self._vantage, self._here}:
            place.close()


def host_of(name: str, ship: Any) -> testinfra.host.Host:
    """Return what asks a host, or the vantage point, by shipping commands there."""
    return testinfra.host.Host(BatchBackend(name, ship))


def is_outside(item: pytest.Function) -> bool:
    """Say whether a check looks from outside."""
    return "outside" in item.fixturenames


def name_of(item: pytest.Function) -> str:
    """Return the name of the host that a check of the runner looks at."""
    return cast(str, item.callspec.params["host"])


def control_of(item: pytest.Function) -> str:
    """Return the control that a check decides, "" where it says none."""
    marker = item.get_closest_marker("control")
    return str(marker.args[0]) if marker else ""
