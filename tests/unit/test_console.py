"""What hosts say reaches the terminal as text: no escape is obeyed, no line is forged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.cli import audit, console, drift, verify
from orchestrator.cli.progress import LookProgress
from orchestrator.errors import Problem, TaskFailed
from orchestrator.evidence.results import Finding, Result
from orchestrator.evidence.visible import one_line
from tests.unit.evidence_cases import report as evidence_report

# Goes up a line, clears it, and writes another; an unprivileged user's process may be called so.
HOSTILE = "port 4712 of x\x1b[1A\x1b[2K\r\n  NET-01   h1         pass\x9b2J\u202e"


def harmless(shown: str) -> bool:
    return not set("\x1b\x9b\r\u202e") & set(shown) and shown.count("\n") <= 1


@pytest.mark.parametrize("wanted", ["closed", ""])
def test_a_result_is_one_line(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding("NET-01", "h1", Result.FAIL, HOSTILE, wanted, "", HOSTILE, "inside")
    LookProgress().result("ports", finding, [])
    shown = capsys.readouterr().err
    assert harmless(shown)
    assert "port 4712 of x\u241b[1A" in shown


def test_the_undecided_are_listed_or_counted(capsys: pytest.CaptureFixture[str]) -> None:
    console.undecided(["no imprint", "no contact"])
    assert capsys.readouterr().err == "undecided: no imprint\nundecided: no contact\n"
    console.undecided(["no imprint", "no contact"], listed_by="ratssaal plan town")
    assert capsys.readouterr().err == "undecided: 2 of this site's settings, see: ratssaal plan town\n"
    console.undecided([], listed_by="ratssaal plan town")
    assert not capsys.readouterr().err


def test_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding("NET-01", "h1", Result.FAIL, HOSTILE, "closed", "close it", HOSTILE, "inside")
    verify.show_summary(evidence_report(findings=(finding,), seconds={"together": 1.0}))
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 4, shown
    assert all(harmless(line) for line in shown)


def test_an_error_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    console.fail(TaskFailed([Problem(HOSTILE, "h1", HOSTILE)]))
    shown = capsys.readouterr().err
    assert not set("\x1b\x9b\r\u202e") & set(shown.replace("\x1b[31m", "").replace("\x1b[0m", ""))


def test_drift_and_audits(capsys: pytest.CaptureFixture[str]) -> None:
    row: Any = SimpleNamespace(kind="file", name=HOSTILE, what="present", found="x", wanted="y", role="web")
    console.answer(one_line(drift._line(row)))
    assert harmless(capsys.readouterr().out)
    found: Any = SimpleNamespace(severity="high", id="X-1", text=HOSTILE)
    assert harmless(audit._found(cast(Any, found)))
