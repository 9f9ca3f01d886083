"""The machinery of verification, without a host: nothing turns into a pass by accident."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InvalidSite, UsageError
from orchestrator.evidence.results import Finding, Result
from orchestrator.verification import runner
from orchestrator.verification.asking import answer, ask
from orchestrator.verification.batch import MAXIMUM_ROUNDS, Answers, BatchBackend
from orchestrator.verification.catalogue import crypto_profile, load_catalogue, select
from orchestrator.verification.checks import test_logs, test_network
from orchestrator.verification.sheet import NothingLookedAt, NotTested, Sheet
from orchestrator.verification.waivers import Waiver, apply, read_waivers
from tests.unit.site_cases import new_case


def test_catalogue_is_complete() -> None:
    controls = load_catalogue()
    assert len(controls) == 13
    assert len({control.id for control in controls}) == 13
    for control in controls:
        for words in (control.title, control.risk, control.looked_at, control.remedy):
            assert words.en
            assert words.de
            assert words.en != words.de or words is control.remedy
        assert control.references
    assert set(crypto_profile()["tls_versions"]) == {"TLSv1.2", "TLSv1.3"}


def test_unknown_control_is_named() -> None:
    assert [control.id for control in select(("net-01",))] == ["NET-01"]
    with pytest.raises(UsageError, match="no control NET-99"):
        select(("NET-99",))


def test_sheet_turns_notes_into_an_outcome() -> None:
    good, bad, blind, empty = Sheet(), Sheet(), Sheet(), Sheet()
    good.expect(True, "a", "b")
    good.finish()
    bad.expect(True, "a", "b")
    bad.expect(False, "seen", "wanted")
    bad.could_not_look("dark")
    with pytest.raises(AssertionError, match=r"seen \(wanted: wanted\)"):
        bad.finish()
    blind.expect(True, "a", "b")
    blind.could_not_look("dark")
    with pytest.raises(NotTested, match="dark"):
        blind.finish()
    with pytest.raises(NothingLookedAt):
        empty.finish()


class FakeHost:
    """What a check sees of testinfra's host."""

    def __init__(self, backend: BatchBackend) -> None:
        self.backend = backend
        self.run = backend.run


def _backend(shipped: list[list[str]]) -> BatchBackend:
    def ship(commands: list[str]) -> Answers:
        shipped.append(commands)
        return {command: (0, f"<{command}>".encode(), b"") for command in commands}

    return BatchBackend("h1", ship)


def test_independent_questions_take_one_round_trip() -> None:
    shipped: list[list[str]] = []
    backend = _backend(shipped)
    host = FakeHost(backend)

    def first() -> list[Any]:
        return ask(host, "a", "b")

    def second() -> str:
        return answer(host, answer(host, "c"))

    backend.prefetch([first, second])
    assert shipped == [["a", "b", "c"], ["<c>"]]
    assert [result.stdout for result in first()] == ["<a>", "<b>"]
    assert second() == "<<c>>"
    assert backend.round_trips == 2


def test_endless_questions_end_and_are_counted() -> None:
    shipped: list[list[str]] = []
    backend = _backend(shipped)
    host = FakeHost(backend)

    def deep() -> str:
        text = "x"
        for _ in range(6):
            text = answer(host, text)
        return text

    backend.prefetch([deep])
    assert len(shipped) == MAXIMUM_ROUNDS
    assert deep() == "<<<<<<x>>>>>>"
    assert backend.round_trips == 6


def test_failing_command_is_no_empty_answer() -> None:
    backend = BatchBackend("h1", lambda commands: {c: (1, b"", b"boom") for c in commands})
    with pytest.raises(RuntimeError, match="boom"):
        answer(FakeHost(backend), "x")


def _finding(result: Result = Result.FAIL, control: str = "OS-08") -> Finding:
    return Finding(control, "h1", result, "seen", "wanted", "remedy")


def test_waiver_covers_until_its_day_and_says_when_it_expired() -> None:
    waiver = Waiver("OS-08", "*", "A. Meier", "ticket 17", date(2027, 3, 31))
    (valid,) = apply((_finding(),), (waiver,), date(2027, 3, 31))
    assert valid.result is Result.WAIVED
    assert valid.waiver == "A. Meier, until 2027-03-31: ticket 17"
    (expired,) = apply((_finding(),), (waiver,), date(2027, 4, 1))
    assert expired.result is Result.FAIL
    assert "EXPIRED" in expired.reason
    for other in (_finding(Result.ERROR), _finding(Result.PASS), _finding(control="OS-05")):
        assert apply((other,), (waiver,), date(2027, 1, 1)) == (other,)


def _waivers(tmp_path: Path, text: str) -> tuple[Waiver, ...]:
    (tmp_path / "compliance").mkdir(exist_ok=True)
    (tmp_path / "compliance/waivers.yml").write_text(text)
    return read_waivers(tmp_path, ("h1",))


def test_mistakes_in_waivers_come_all_at_once_with_their_lines(tmp_path: Path) -> None:
    good = "- {control: OS-08, host: h1, who: a, why: b, until: 2027-01-01}"
    assert len(_waivers(tmp_path, f"waivers:\n  {good}\n")) == 1
    assert _waivers(tmp_path, "waivers: []\n") == ()
    text = f"""waivers:
  {good}
  - {{control: OS-99, host: h7, who: ' ', why: b, until: soon}}
  - {{control: OS-08, host: h1, who: a, why: b}}
  - {{control: OS-08, host: h1, who: a, why: b, until: 2027-01-01, untill: x}}
"""
    with pytest.raises(InvalidSite) as caught:
        _waivers(tmp_path, text)
    lines = [(p.where.rpartition(":")[2], p.message) for p in caught.value.problems]
    assert lines == [
        ("3", "there is no control OS-99"),
        ("3", "the site has no host h7"),
        ("3", "who must say something"),
        ("3", "until must be a day like 2027-03-31"),
        ("4", "until is missing"),
        ("5", "unknown key untill"),
    ]
    for broken in ("waivers: {", "- a\n", "waivers: 3\n"):
        with pytest.raises(InvalidSite):
            _waivers(tmp_path, broken)


def test_check_without_result_is_an_error(tmp_path: Path) -> None:
    """A host that nobody answers on: pytest really runs, every control is an error, none a pass."""
    case = new_case(tmp_path)
    report = runner.verify(case.load(), controls=("NET-01", "ACC-01"))
    assert [f.result for f in report.findings] == [Result.ERROR, Result.ERROR]
    assert report.exit_code == 6
    assert report.findings[0].remedy


def test_worst_result_of_a_control_counts() -> None:
    rows = [
        {"kind": "result", "control": "OS-08", "host": "h1", "seen": "", "wanted": "", "reason": "", "result": result}
        for result in ("pass", "not_tested", "fail", "pass")
    ]
    known = {control.id: control for control in select(("OS-08",))}
    (found,) = runner._findings(rows, [("OS-08", "h1")], known, "")
    assert found.result is Result.FAIL


@pytest.mark.parametrize(
    ("line", "days"),
    [
        (" after 1 days empty log files are rotated, (6 rotations), old logs are removed after 7 days ", 7),
        (" after 1 days empty log files are rotated, (6 rotations), old logs are removed ", 7),
        (" weekly (52 rotations), old logs are removed ", 371),
        (" monthly (12 rotations), old logs are removed ", 403),
        (" after 1 days (no old logs will be kept) ", 1),
        (" forced from command line (3 rotations) ", None),
    ],
)
def test_logrotate_rule_in_days(line: str, days: float | None) -> None:
    assert test_logs._retention(line) == days


@pytest.mark.parametrize(
    ("span", "days"), [("7day", 7), ("2week", 14), ("604800", 7), ("1month", 30.4375), ("12h", 0.5)]
)
def test_journal_time_span_in_days(span: str, days: float) -> None:
    assert test_logs._days(span) == pytest.approx(days)


@pytest.mark.parametrize(
    ("socket", "fits"),
    [
        (("tcp", "127.0.0.1", 8080, "java"), True),
        (("tcp", "::1", 8080, "java"), True),
        (("tcp", "0.0.0.0", 8080, "java"), False),
        (("tcp", "*", 8080, "java"), False),
        (("tcp", "127.0.0.1", 8080, "nc"), False),
        (("udp", "127.0.0.1", 8080, "java"), False),
    ],
)
def test_socket_must_be_the_declared_one(socket: tuple[str, str, int, str], fits: bool) -> None:
    expected = {"proto": "tcp", "address": "127.0.0.1", "port": 8080, "process": "java"}
    assert test_network._fits(socket, expected) is fits
