"""The checks in the runner's child process: all questions at the same time, and a line a result."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import testinfra.host

from orchestrator.errors import RatssaalError
from orchestrator.inventory.site import Host
from orchestrator.inventory.vantagepoint import VantagePoint
from orchestrator.verification import subject as subjects
from orchestrator.verification.batch import BatchBackend, prefetch
from orchestrator.verification.fixtures import Fixtures, Places, control_of, host_of, is_outside, name_of
from orchestrator.verification.sheet import Declared, NotApplicable, NotTested, Sheet
from orchestrator.verification.shipping import Line, Vantage
from orchestrator.verification.turns import Turns

# So many hosts are asked at the same time: if all were, all would answer at the end, to be judged one after another then.
_HOSTS_AT_ONCE = 5
# Where none of them answers for so long, some may hang, and one more is asked.
_NONE_ANSWERS_SECONDS = 3.0
# So many checks from outside are.
_CHECKS_AT_ONCE = 10
# So long, what burdens a host waits for the answers of all others; after that for its own host's only.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Seat:
    """What a check looks through: the host, and the vantage point where it looks from outside."""

    host: testinfra.host.Host
    outside: testinfra.host.Host | None = None

    @property
    def backends(self) -> list[BatchBackend]:
        return [cast(BatchBackend, place.backend) for place in (self.host, self.outside) if place is not None]


class Batches(Fixtures):
    """The runner's child: inside checks ask their host in rounds, each outside check asks by itself, all at the same time.

    A check runs in earnest as soon as its answers are there, so that results are told as they come.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.known = subjects.load(json.dumps(job["subjects"]))
        self._job = job
        # A line is written as soon as it is whole: who follows the run, or reads it after a kill, misses none.
        self._results = Path(job["results"]).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115  (closed when pytest ends)
        hosts = [Host(**{**row, "groups": tuple(row["groups"])}) for row in job["hosts"]]
        known_hosts = Path(job["known_hosts"])
        self._lines = {host.name: Line(host, known_hosts) for host in hosts}
        for line in self._lines.values():
            line.open_soon()
        self._inside = {name: _Seat(host_of(name, line.ship)) for name, line in self._lines.items()}
        self._seats: dict[str, _Seat] = {}
        point = VantagePoint(**job["vantage"])
        self._places = Places(Vantage(point, job["vantage_key_file"], known_hosts, job["secrets"]))

    @pytest.fixture
    def host(self, request: pytest.FixtureRequest) -> testinfra.host.Host:
        """Return the host that is looked at."""
        return self._seat(cast(pytest.Function, request.node)).host

    def clock_of(self, host: testinfra.host.Host) -> Callable[[], float]:
        """Return what the line to the host has measured."""
        line = self._lines[host.backend.get_hostname()]

        def offset() -> float:
            assert line.clock_offset is not None
            return line.clock_offset

        return offset

    def vantage_host(self, item: pytest.Function) -> testinfra.host.Host:
        """Return the vantage point for one check."""
        outside = self._seat(item).outside
        assert outside is not None
        return outside

    def converged(self, name: str) -> dict[str, Any] | None:
        """Return a host's result of the converge in check mode."""
        found: dict[str, Any] | None = (self._job["converge"] or {}).get(name)
        return found

    def _seat(self, item: pytest.Function) -> _Seat:
        """Return what a check looks through. Inside checks share their host's answers, an outside check has its own."""
        name = name_of(item)
        if not is_outside(item):
            return self._inside[name]
        if item.nodeid not in self._seats:
            place = self._places.of(item)
            self._seats[item.nodeid] = _Seat(
                host_of(name, self._lines[name].ship), host_of(str(place.point), place.ship)
            )
        return self._seats[item.nodeid]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give every check every host; testinfra's own hosts are left out by `-p no:testinfra`."""
        metafunc.parametrize("host", list(self._lines), indirect=True)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the wanted controls and the hosts that a control concerns; say which checks are to come and which --quick leaves out.

        First of all comes whether what is looked at is real: a run that breaks off must not be silent about that.
        """
        wanted = {tuple(pair) for pair in self._job["wanted"]}
        kept: list[pytest.Function] = []
        for item in cast(list[pytest.Function], items):
            if (control_of(item), name_of(item)) not in wanted:
                continue
            left_out = self._job["quick"] and is_outside(item)
            self._write(kind="left_out" if left_out else "expected", **self._row(item))
            if not left_out:
                kept.append(item)
        kept.sort(key=lambda item: not control_of(item).startswith("_"))
        items[:] = kept

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Ask all questions at the same time; run each check in earnest as soon as its answers are there.

        What burdens a host so much that others would no longer be answered in time waits until they are; but not for long
        where another host hangs.
        """
        if session.testsfailed:
            # A file of checks that cannot be read holds checks that nobody would miss.
            raise session.Interrupted("not all checks could be read")
        items = cast(list[pytest.Function], session.items)
        turns = Turns(_HOSTS_AT_ONCE, _NONE_ANSWERS_SECONDS)

        def inside(group: list[pytest.Function]) -> None:
            with turns.taken():
                self._prefetch(group)

        with ThreadPoolExecutor(max(1, len(self._lines))) as hosts, ThreadPoolExecutor(_CHECKS_AT_ONCE) as checks:

            def submit(key: str, group: list[pytest.Function]) -> Future[None]:
                return hosts.submit(inside, group) if key in self._lines else checks.submit(self._prefetch, group)

            for group in answered(items, submit):
                # What comes next is told, so that pytest sets a file of checks up once for all of them.
                for item, following in pairwise([*group, None]):
                    session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        return True

    def _prefetch(self, items: list[pytest.Function]) -> None:
        seat = self._seat(items[0])
        prefetch([self._bare(item, seat) for item in items], *seat.backends)

    def _bare(self, item: pytest.Function, seat: _Seat) -> Any:
        """Return a call of the check alone, with fixtures of its own, for its questions."""
        given = {
            "host": seat.host,
            "outside": seat.outside,
            "subject": self.find(name_of(item)),
            "converge": self.converged(name_of(item)),
            "clock": self.clock_of(seat.host),
        }
        names = inspect.signature(item.obj).parameters
        return lambda: item.obj(**{name: Sheet() if name == "sheet" else given[name] for name in names})

    def pytest_unconfigure(self) -> None:
        """Tell the true number of round trips and close the connections."""
        for name, line in self._lines.items():
            (backend,) = self._inside[name].backends
            self._write(kind="asked", host=name, round_trips=backend.round_trips, seconds=backend.seconds)
            line.close()
        self._places.close()
        self._results.close()

    def note(self, item: pytest.Function, sheet: Sheet, outcome: BaseException | None) -> None:
        """Write the result as a line. A fault that was noted is told whatever came after it."""
        seen, wanted, reason = "; ".join(sheet.seen), "", ""
        if sheet.faults:
            seen, wanted = ("; ".join(part) for part in zip(*sheet.faults, *sheet.inventory, strict=True))
        match outcome:
            case None:
                result = "pass"
            case AssertionError() if sheet.faults:
                result = "fail"
            case NotTested() | NotApplicable() | Declared() if sheet.faults:
                result, reason = "fail", str(outcome)
            case NotTested():
                result, reason = "not_tested", str(outcome)
            case NotApplicable():
                result, reason = "not_applicable", str(outcome)
            case Declared():
                result, reason = "declared", str(outcome)
            case RatssaalError():
                hints = "; ".join(problem.hint for problem in outcome.problems if problem.hint)
                result, reason = "error", f"{outcome}{f' (hint: {hints})' if hints else ''}"
            case _:
                result, reason = "error", f"{type(outcome).__name__}: {outcome}"
        self._write(kind="result", result=result, seen=seen, wanted=wanted, reason=reason, **self._row(item))

    def _row(self, item: pytest.Function) -> dict[str, str]:
        """Return what tells a check from others: its name is its control's and host's alone at that vantage point."""
        vantage = str(self._places.of(item).point) if is_outside(item) else "inside"
        check = item.originalname.removeprefix("test_").replace("_", " ")
        return {"control": control_of(item), "host": name_of(item), "check": check, "vantage": vantage}

    def _write(self, **row: Any) -> None:
        self._results.write(json.dumps(row) + "\n")


def _is_last(item: pytest.Function) -> bool:
    return item.get_closest_marker("last") is not None


def _grouped(items: Iterable[pytest.Function]) -> dict[str, list[pytest.Function]]:
    """Return the checks that ask together: the inside ones of a host, by its name; each outside one by itself."""
    groups: dict[str, list[pytest.Function]] = {}
    for item in items:
        groups.setdefault(item.nodeid if is_outside(item) else name_of(item), []).append(item)
    return groups


def answered(
    items: list[pytest.Function], submit: Callable[[str, list[pytest.Function]], Future[None]]
) -> Iterator[list[pytest.Function]]:
    """Ask all questions and yield the checks that asked together as their answers come; the `last` ones when others have theirs."""

    def ask(chosen: Iterable[pytest.Function]) -> dict[Future[None], list[pytest.Function]]:
        return {submit(key, group): group for key, group in _grouped(chosen).items()}

    late = [item for item in items if _is_last(item)]
    asked = ask(item for item in items if not _is_last(item))
    early = set(asked)
    patient_until = time.monotonic() + _PATIENCE_SECONDS
    while asked or late:
        busy = {name_of(asked[each][0]) for each in early & asked.keys()}
        left = patient_until - time.monotonic()
        held = [item for item in late if busy and (left > 0 or name_of(item) in busy)]
        asked |= ask(item for item in late if item not in held)
        late = held
        for each in wait(asked, left if late and left > 0 else None, FIRST_COMPLETED).done:
            yield asked.pop(each)
