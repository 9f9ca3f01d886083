"""The pytest plugin of the checks: fixtures, rounds of questions, and a line a result.

Started by `runner.py` it talks to the hosts in batches. Under plain pytest the same checks run with testinfra's own
backends: `pytest -p orchestrator.verification.plugin --ratssaal-site inventories/town --hosts=ssh://root@HOST
orchestrator/verification/checks`.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
import testinfra.host

from orchestrator.inventory.site import Host
from orchestrator.transport import ssh
from orchestrator.verification import subject as subjects
from orchestrator.verification.batch import BatchBackend, ship_by_ssh
from orchestrator.verification.sheet import NotApplicable, NotTested, Sheet
from orchestrator.verification.subject import Subject

# The runner's job: {"subjects": ..., "hosts": ..., "known_hosts": path, "results": path, "controls": [...]}.
JOB = "RATSSAAL_VERIFY_JOB"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the site under plain pytest."""
    parser.addoption("--ratssaal-site", default="", help="Directory of the site whose hosts are looked at.")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, read the job or the site."""
    config.addinivalue_line("markers", "control(id): the control that a check decides")
    job = os.environ.get(JOB, "")
    config.pluginmanager.register(Batches(json.loads(Path(job).read_text())) if job else Plain(config), "ratssaal")


class _Fixtures:
    """What a check is given."""

    known: dict[str, Subject]

    @pytest.fixture
    def sheet(self) -> Sheet:
        """Return the check's notes."""
        return Sheet()

    @pytest.fixture
    def subject(self, host: testinfra.host.Host) -> Subject:
        """Return what the inventory says of the host that is looked at."""
        return self.find(host)

    def find(self, host: testinfra.host.Host) -> Subject:
        """Return the subject that a testinfra host stands for, by name or address."""
        asked = host.backend.get_hostname()
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
        except (NotTested, NotApplicable) as reason:
            self.note(pyfuncitem, sheet, reason)
            pytest.skip(f"{type(reason).__name__}: {reason}")
        except BaseException as error:
            self.note(pyfuncitem, sheet, error)
            raise
        else:
            self.note(pyfuncitem, sheet, None)

    def note(self, item: pytest.Function, sheet: Sheet, outcome: BaseException | None) -> None:
        """Keep a result; plain pytest's own report is enough there."""


class Plain(_Fixtures):
    """Plain pytest with testinfra's own backends."""

    def __init__(self, config: pytest.Config) -> None:
        self.known = {}
        if config.getoption("--ratssaal-site"):
            from orchestrator.inventory.site import load_site
            from orchestrator.inventory.vault import VaultAccess

            path = Path(config.getoption("--ratssaal-site"))
            with VaultAccess.locate(path) as access:
                self.known = subjects.subjects(load_site(path, access))


class Batches(_Fixtures):
    """The runner's child: one backend a host, commands in rounds, results as JSON Lines."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.known = subjects.load(json.dumps(job["subjects"]))
        self._job = job
        self._results = Path(job["results"])
        self._stack = ExitStack()
        self._connected = False
        self._hosts: dict[str, testinfra.host.Host] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give every check every host; testinfra's own hosts are left out by `-p no:testinfra`."""
        if not self._connected:
            self._connected = True
            self._connect()
        if "host" in metafunc.fixturenames:
            metafunc.parametrize("host", list(self._hosts.values()), ids=list(self._hosts))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the wanted controls and the hosts that a control concerns."""
        wanted = {tuple(pair) for pair in self._job["wanted"]}
        items[:] = [item for item in items if self._pair(cast(pytest.Function, item)) in wanted]

    def _pair(self, item: pytest.Function) -> tuple[str, str]:
        marker = item.get_closest_marker("control")
        host = cast(testinfra.host.Host, item.callspec.params["host"])
        return (marker.args[0] if marker else "", host.backend.get_hostname())

    def _connect(self) -> None:
        for row in self._job["hosts"]:
            host = Host(**{**row, "groups": tuple(row["groups"])})
            try:
                connection = self._stack.enter_context(ssh.connect(host, Path(self._job["known_hosts"])))
            except Exception as error:
                self._write(kind="unreachable", host=host.name, reason=str(error))
                continue
            backend = BatchBackend(host.name, ship_by_ssh(host, connection))
            self._hosts[host.name] = testinfra.host.Host(backend)

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Ask all questions before the first check runs in earnest."""
        for name, host in self._hosts.items():
            began = time.monotonic()
            mine = [cast(pytest.Function, item) for item in session.items if self._pair(cast(Any, item))[1] == name]
            backend = cast(BatchBackend, host.backend)
            backend.prefetch([_bare(item, host, self.known[name]) for item in mine])
            self._write(kind="asked", host=name, round_trips=backend.round_trips, seconds=time.monotonic() - began)

    def pytest_unconfigure(self) -> None:
        """Tell the true number of round trips and close the connections."""
        for name, host in self._hosts.items():
            self._write(kind="round_trips", host=name, round_trips=cast(BatchBackend, host.backend).round_trips)
        self._stack.close()

    def note(self, item: pytest.Function, sheet: Sheet, outcome: BaseException | None) -> None:
        """Write the result as a line."""
        control, host = self._pair(item)
        seen, wanted, reason = "; ".join(sheet.seen), "", ""
        match outcome:
            case None:
                result = "pass"
            case NotTested():
                result, reason = "not_tested", str(outcome)
            case NotApplicable():
                result, reason = "not_applicable", str(outcome)
            case AssertionError() if sheet.faults:
                result = "fail"
                seen, wanted = ("; ".join(part) for part in zip(*sheet.faults, strict=True))
            case _:
                result, reason = "error", f"{type(outcome).__name__}: {outcome}"
        check = item.originalname.removeprefix("test_").replace("_", " ")
        row = {"control": control, "host": host, "check": check, "seen": seen, "wanted": wanted, "reason": reason}
        self._write(kind="result", result=result, **row)

    def _write(self, **row: Any) -> None:
        with self._results.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")


def _bare(item: pytest.Function, host: testinfra.host.Host, subject: Subject) -> Any:
    """Return a call of the check alone, with fixtures of its own, for its questions."""
    given = {"host": host, "subject": subject, "sheet": Sheet()}
    wanted = {name: given[name] for name in inspect.signature(item.obj).parameters}
    return lambda: item.obj(**wanted)
