"""What the results of a control's checks come to: the worst counts, and what was not looked at is never a pass."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cli.verify import show_summary
from orchestrator.evidence.results import Finding, Result
from orchestrator.verification import child, runner
from orchestrator.verification.catalogue import select
from tests.unit.evidence_cases import finding, report


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([Result.NOT_TESTED, Result.NOT_TESTED], 6),
        ([Result.NOT_TESTED, Result.NOT_APPLICABLE], 6),
        ([Result.NOT_TESTED, Result.DECLARED], 6),
        ([], 6),
        ([Result.NOT_TESTED, Result.PASS], 0),
        ([Result.NOT_TESTED, Result.WAIVED], 0),
        ([Result.NOT_APPLICABLE], 0),
        ([Result.PASS, Result.ERROR], 6),
        ([Result.PASS, Result.FAIL], 6),
    ],
)
def test_a_run_that_tested_nothing_is_no_success(results: list[Result], code: int) -> None:
    found = tuple(finding(number, result) for number, result in enumerate(results))
    assert report(findings=found).exit_code == code


def test_the_summary_says_why_nothing_was_tested(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = report(findings=(finding(1, Result.NOT_TESTED),), seconds={"together": 1.0})
    show_summary(nothing)
    said = capsys.readouterr().err
    assert "Nothing was tested: this is evidence of nothing." in said
    assert "TST-01 on meet: " in said
    show_summary(report(seconds={"together": 1.0}))
    assert "Nothing was tested" not in capsys.readouterr().err


def _row(result: str, vantage: str = "inside", seen: str = "", **more: str) -> dict[str, str]:
    texts = {"seen": seen, "wanted": "", "reason": "", "vantage": vantage}
    return {"kind": "result", "control": "OS-08", "host": "h1", "check": "x", "result": result, **texts, **more}


def _check(kind: str, check: str, vantage: str = "inside") -> dict[str, str]:
    return {"kind": kind, "control": "OS-08", "host": "h1", "check": check, "vantage": vantage}


def _found(rows: list[dict[str, Any]], code: int | None = 0) -> list[Finding]:
    known = {control.id: control for control in select(("OS-08",))}
    return runner._findings(child.Ran(rows, "it died", code), [("OS-08", "h1")], known)


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (("not_applicable", "not_applicable"), False),
        (("not_applicable", "pass"), True),
        (("error", "pass"), True),
        (("not_applicable", "error"), None),
        (("not_applicable",), None),
        ((), None),
    ],
)
def test_no_standins_are_found_only_where_every_host_was_asked(results: tuple[str, ...], said: bool | None) -> None:
    rows = [_row(result, control="_standins", host=f"h{n}") for n, result in enumerate(results, 1)]
    asked = {"kind": "asked", "host": "h1"}
    assert runner._on_standins(child.Ran([*rows, asked], "", 0), ["h1", "h2"]) is said


def test_worst_result_of_a_control_counts() -> None:
    (found,) = _found([_row(result) for result in ("pass", "not_tested", "fail", "pass")])
    assert found.result is Result.FAIL


def test_each_vantage_point_has_a_finding_of_its_own_with_all_that_was_seen() -> None:
    rows = [_row("pass", seen="a"), _row("pass", seen="b"), _row("fail", "outside", seen="c")]
    inside, outside = _found(rows)
    assert (inside.result, inside.seen, inside.vantage) == (Result.PASS, "a; b", "inside")
    assert (outside.result, outside.seen, outside.vantage) == (Result.FAIL, "c", "outside")


def test_what_quick_leaves_out_is_not_tested_and_what_nobody_decided_an_error() -> None:
    left_out = _check("left_out", "from outside", "outside")
    (found,) = _found([left_out])
    assert found.result is Result.NOT_TESTED
    assert "--quick" in found.reason
    for rows, code in (([], 0), ([left_out], 3)):
        (found,) = _found(rows, code)
        assert found.result is Result.ERROR
        assert "it died" in found.reason


def test_a_finding_of_a_quick_run_names_what_was_left_out() -> None:
    left_out = _check("left_out", "ports from outside", "outside")
    (found,) = _found([_row("pass"), left_out])
    assert (found.result, found.reason) == (Result.PASS, "from inside only; --quick left out: ports from outside")
    # Nothing of it is inside: whether it holds, the outside would have told.
    (found,) = _found([_row("not_applicable", reason="no bridge runs here"), left_out])
    assert found.result is Result.NOT_TESTED
    assert found.reason.startswith("no bridge runs here; from inside only")


@pytest.mark.parametrize("quick", [True, False])
def test_the_summary_says_that_nothing_was_looked_at_from_outside(
    quick: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show_summary(report(inside_only=quick, seconds={"together": 1.0}))
    assert ("Seen from inside only" in capsys.readouterr().err) is quick


@pytest.mark.parametrize("code", [None, -9, 3, 0])
def test_a_check_that_was_to_come_and_did_not_is_an_error_though_others_passed(code: int | None) -> None:
    expected = [_check("expected", name) for name in ("x", "y", "z")]
    (found,) = _found([*expected, _row("pass", seen="a"), _row("pass", check="z")], code)
    assert found.result is Result.ERROR
    assert found.reason.startswith("no result of y: the checks ")
    assert found.remedy == ""
    (whole,) = _found([*expected, *(_row("pass", check=name) for name in "xyz")], code)
    assert whole.result is Result.PASS


def test_what_broke_off_at_one_vantage_point_is_an_error_there() -> None:
    expected = [_check("expected", "x"), _check("expected", "y", "outside"), _check("expected", "z", "outside")]
    inside, outside = _found([*expected, _row("pass"), _row("fail", "outside", "c", check="y", wanted="d")], -9)
    assert (inside.result, outside.result) == (Result.PASS, Result.ERROR)
    assert outside.reason.startswith("no result of z: the checks ended with -9: it died")
    assert (outside.seen, outside.wanted) == ("c", "d")


def test_a_fault_is_told_beside_an_error() -> None:
    rows = [_row("error", reason="no answer"), _row("fail", seen="a", wanted="b"), _row("pass", seen="c")]
    (found,) = _found(rows)
    assert (found.result, found.seen, found.wanted, found.reason) == (Result.ERROR, "a", "b", "no answer")
    assert found.remedy == select(("OS-08",))[0].remedy.en
    (same,) = _found([_row("error", reason="no answer", seen="a", wanted="b")])
    assert (same.result, same.remedy) == (Result.ERROR, found.remedy)
    (alone,) = _found([rows[0], rows[2]])
    assert (alone.result, alone.remedy) == (Result.ERROR, "")
