"""The machinery of verification, without a host: nothing turns into a pass by accident."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.cli.verify import show_summary
from orchestrator.errors import InvalidSite, UsageError
from orchestrator.evidence.results import Finding, Result
from orchestrator.inventory.vantagepoint import VantagePoint
from orchestrator.verification import batches, child, runner, sockets
from orchestrator.verification.asking import answer, ask
from orchestrator.verification.batch import MAXIMUM_ROUNDS, Answers, BatchBackend, prefetch
from orchestrator.verification.catalogue import load_catalogue, select
from orchestrator.verification.sheet import NothingLookedAt, NotTested, Sheet
from orchestrator.verification.shipping import Vantage
from orchestrator.verification.waivers import Waiver, apply, left_alone, read_waivers
from tests.unit.evidence_cases import finding as evidence_finding
from tests.unit.evidence_cases import report as evidence_report
from tests.unit.site_cases import Case


def test_catalogue_is_complete() -> None:
    controls = load_catalogue()
    assert len({control.id for control in controls}) == len(controls)
    for control in controls:
        for words in (control.title, control.risk, control.looked_at, control.remedy):
            assert words.en
            assert words.de
            assert words.en != words.de or words is control.remedy
        assert control.references


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

    prefetch([first, second], backend)
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

    prefetch([deep], backend)
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
    for found in (_finding(), _finding(Result.PASS)):
        same, expired = apply((found,), (waiver,), date(2027, 4, 1))
        assert same == found
        assert (expired.result, expired.control, expired.host) == (Result.FAIL, "OS-08", "h1")
        assert "EXPIRED (A. Meier, until 2027-03-31: ticket 17)" in expired.seen
        assert expired.remedy
    for other in (_finding(Result.ERROR), _finding(Result.PASS), _finding(control="OS-05")):
        assert apply((other,), (waiver,), date(2027, 1, 1)) == (other,)


SKIPPED = {"OS-08": {"who": "A. Meier", "why": "measured without it", "until": "2027-03-31"}}


def test_what_hardening_leaves_alone_is_waived_for_the_sites_own_reason() -> None:
    for found, result in (
        (_finding(), Result.WAIVED),
        (_finding(Result.PASS), Result.PASS),
        (_finding(Result.ERROR), Result.ERROR),
    ):
        (said,) = apply((found,), left_alone(SKIPPED), date(2027, 3, 31))
        assert said.result is result
        told = "left alone by hardening_skip: A. Meier, until 2027-03-31: measured without it"
        assert said.waiver == (told if result is Result.WAIVED else "")
    assert apply((_finding(control="OS-05"),), left_alone(SKIPPED), date(2027, 1, 1)) == (_finding(control="OS-05"),)
    assert left_alone(None) == left_alone({}) == ()


def test_what_hardening_leaves_alone_beyond_its_day_is_a_finding() -> None:
    for found in (_finding(), _finding(Result.PASS)):
        same, expired = apply((found,), left_alone(SKIPPED), date(2027, 4, 1))
        assert same == found
        assert (expired.result, expired.control, expired.host) == (Result.FAIL, "OS-08", "h1")
        assert "EXPIRED (left alone by hardening_skip: A. Meier, until 2027-03-31" in expired.seen
        assert "remove it from hardening_skip, or let A. Meier decide again" in expired.remedy


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
    assert all(p.hint for p in caught.value.problems)
    for broken, line in (("waivers: {", 2), ("- a\n", 1), ("waivers: 3\n", 1)):
        with pytest.raises(InvalidSite) as caught:
            _waivers(tmp_path, broken)
        (problem,) = caught.value.problems
        assert problem.where == f"{tmp_path / 'compliance/waivers.yml'}:{line}"
        assert problem.hint


def test_waivers_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path) -> None:
    file = tmp_path / "compliance/waivers.yml"

    def told() -> tuple[str, str]:
        with pytest.raises(InvalidSite) as caught:
            read_waivers(tmp_path, ("h1",))
        (problem,) = caught.value.problems
        assert problem.hint
        return problem.where.removeprefix(str(file.parent)), problem.message

    assert read_waivers(tmp_path, ("h1",)) == ()
    file.parent.mkdir()
    file.symlink_to("elsewhere")
    assert told() == ("/elsewhere", "cannot be read: No such file or directory")
    file.unlink()
    file.mkdir()
    assert told() == ("/waivers.yml", "is no regular file")
    file.rmdir()
    file.write_bytes(b"waivers:\n- {who: M\xfcller}\n")
    assert told() == ("/waivers.yml:2", "is not UTF-8 text")
    file.write_text("waivers:\n- &a [*a]\n")
    assert told() == ("/waivers.yml:2", "an alias (*) stands inside of what it names (&)")


def test_check_without_result_is_an_error(case: Case) -> None:
    """A host that nobody answers on: pytest really runs, every control is an error, none a pass."""
    report = runner.verify(case.load(), controls=("NET-01", "ACC-01"))
    assert [f.result for f in report.findings] == [Result.ERROR, Result.ERROR]
    assert report.exit_code == 6
    assert report.findings[0].remedy


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
    report = evidence_report(findings=tuple(evidence_finding(number, result) for number, result in enumerate(results)))
    assert report.exit_code == code


def test_the_summary_says_why_nothing_was_tested(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = evidence_report(findings=(evidence_finding(1, Result.NOT_TESTED),), seconds={"together": 1.0})
    show_summary(nothing)
    said = capsys.readouterr().err
    assert "Nothing was tested: this is evidence of nothing." in said
    assert "TST-01 on meet: " in said
    show_summary(evidence_report(seconds={"together": 1.0}))
    assert "Nothing was tested" not in capsys.readouterr().err


def _row(result: str, vantage: str = "inside", seen: str = "", **more: str) -> dict[str, str]:
    texts = {"seen": seen, "wanted": "", "reason": "", "vantage": vantage}
    return {"kind": "result", "control": "OS-08", "host": "h1", "check": "x", "result": result, **texts, **more}


def _check(kind: str, check: str, vantage: str = "inside") -> dict[str, str]:
    return {"kind": kind, "control": "OS-08", "host": "h1", "check": check, "vantage": vantage}


def _found(rows: list[dict[str, Any]], code: int | None = 0) -> list[Finding]:
    known = {control.id: control for control in select(("OS-08",))}
    return runner._findings(child.Ran(rows, "it died", code), [("OS-08", "h1")], known)


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
    show_summary(evidence_report(inside_only=quick, seconds={"together": 1.0}))
    assert ("Seen from inside only" in capsys.readouterr().err) is quick


@pytest.mark.parametrize("code", [None, -9, 3, 0])
def test_a_check_that_was_to_come_and_did_not_is_an_error_though_others_passed(code: int | None) -> None:
    expected = [_check("expected", name) for name in ("x", "y", "z")]
    (found,) = _found([*expected, _row("pass", seen="a"), _row("pass", check="z")], code)
    assert found.result is Result.ERROR
    assert found.reason.startswith("no result of y: the checks ")
    assert found.remedy
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


CHECKS = """
import os, signal, pytest
{first}
@pytest.mark.control("NET-01")
def test_one(host, sheet):
    sheet.expect(True, "one", "")

@pytest.mark.control("NET-01")
def test_two(host, sheet):
    # Not while it is only asked for its questions.
    if "test_two" in os.environ.get("PYTEST_CURRENT_TEST", ""):
        {then}
    sheet.expect(True, "two", "")
"""


def _verified(case: Case, monkeypatch: pytest.MonkeyPatch, **files: str) -> Finding:
    """Return the only finding of a quick look by these files of checks."""
    folder = case.path.parent / "checks"
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(child, "CHECKS", folder)
    (found,) = runner.verify(case.load(), controls=("NET-01",), quick=True).findings
    return found


@pytest.mark.parametrize(
    ("first", "then", "word"),
    [
        ("", "pass", ""),
        ("", "os.kill(os.getpid(), signal.SIGKILL)", "no result of two: the checks ended with -9"),
        ("", "import time; time.sleep(60)", "no result of two: the checks were ended after 8 s"),
        ("import nothing_of_the_kind", "pass", "no result of other one, other two: the checks ended with 2"),
    ],
    ids=["whole", "killed", "too long", "a file that cannot be read"],
)
def test_a_run_that_breaks_off_is_no_pass(
    case: Case, monkeypatch: pytest.MonkeyPatch, first: str, then: str, word: str
) -> None:
    """pytest really runs, and really breaks off; what was seen before is not taken for all."""
    monkeypatch.setattr(child, "_SECONDS", 8)
    monkeypatch.setattr(child, "_GRACE_SECONDS", 2)
    other = CHECKS.format(first="", then="pass").replace("def test_", "def test_other_")
    found = _verified(case, monkeypatch, test_a=other, test_b=CHECKS.format(first=first, then=then))
    assert found.result is (Result.ERROR if word else Result.PASS), found
    assert word in found.reason


def test_many_hosts_have_more_time() -> None:
    assert child._limit(1) == child._SECONDS
    assert child._limit(20) >= 2 * child._SECONDS
    assert child.Ran([], "", None, 720).end.startswith("the checks were ended after 720 s")


def test_an_inventory_is_told_beside_a_fault(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = "sheet.record('a list', 'listed'); sheet.expect(True, 'fine', ''); sheet.expect(False, 'bad', 'good')"
    found = _verified(case, monkeypatch, test_a=CHECKS.format(first="", then=notes))
    assert (found.result, found.seen, found.wanted) == (Result.FAIL, "bad; a list", "good; listed")


@pytest.mark.parametrize(
    ("after", "result", "reason"),
    [
        ("raise RuntimeError('broke')", Result.ERROR, "RuntimeError: broke"),
        ("raise NotTested('dark')", Result.FAIL, "dark"),
    ],
)
def test_a_fault_is_told_whatever_comes_after_it(
    case: Case, monkeypatch: pytest.MonkeyPatch, after: str, result: Result, reason: str
) -> None:
    first = "from orchestrator.verification.sheet import NotTested"
    text = CHECKS.format(first=first, then=f"sheet.expect(False, 'bad', 'good'); {after}")
    found = _verified(case, monkeypatch, test_a=text)
    assert (found.result, found.seen, found.wanted, found.reason) == (result, "bad", "good", reason)


PLAIN = """
import pytest
@pytest.mark.control("NET-01")
def test_for_all(host): pass
@pytest.mark.control("WEB-01")
def test_for_the_web(host): pass
@pytest.mark.control("AVL-02")
def test_outside_is_but_a_name(host): pass
@pytest.mark.control("AVL-02")
def test_a_meeting(host, outside): pass
"""


def _collected(case: Case, *arguments: str) -> list[str]:
    """Return what plain pytest would run on a whole server and on a bridge, by name and host."""
    hosts = case.path / "hosts.yml"
    bridge = "    jitsi_bridges:\n      hosts:\n        jvb1: {ansible_host: 192.0.2.11}\n"
    hosts.write_text(hosts.read_text().replace("    jitsi_bridges:\n      hosts:\n", bridge))
    plain = case.path.parent / "test_plain.py"
    plain.write_text(PLAIN)
    argv = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "orchestrator.verification.plugin"]
    argv += ["-c", os.devnull, f"--ratssaal-site={case.path}", *arguments]
    argv += ["--hosts=ssh://root@192.0.2.10,ssh://root@192.0.2.11", str(plain)]
    environment = {**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(case.password_file), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, cwd=plain.parent)
    found = re.findall(r"::test_(\w+)\[ssh://192.0.2.1([01])\]", done.stdout)
    assert found, done.stdout + done.stderr
    return [f"{name} {'meet' if host == '0' else 'jvb1'}" for name, host in found]


def test_plain_pytest_looks_only_at_what_a_hosts_groups_have(case: Case) -> None:
    both = {f"{name} {host}" for name in ("for_all", "outside_is_but_a_name", "a_meeting") for host in ("meet", "jvb1")}
    assert set(_collected(case)) == both | {"for_the_web meet"}


def test_plain_pytest_leaves_the_outside_out_by_what_a_check_uses_and_not_by_its_name(case: Case) -> None:
    assert {row.split()[0] for row in _collected(case, "--ratssaal-inside")} == {
        "for_all",
        "for_the_web",
        "outside_is_but_a_name",
    }


def test_failed_host_is_not_asked_again_and_answers_may_be_broken() -> None:
    shipped: list[list[str]] = []

    def ship(commands: list[str]) -> Answers:
        shipped.append(commands)
        raise RuntimeError("it hangs")

    backend = BatchBackend("h1", ship)
    host = FakeHost(backend)
    prefetch([lambda: answer(host, "a"), lambda: answer(host, "b")], backend)
    for command in ("a", "b", "c"):
        with pytest.raises(RuntimeError, match="it hangs"):
            answer(host, command)
    assert shipped == [["a", "b"]]
    broken = FakeHost(BatchBackend("h1", lambda commands: {c: (0, b"M\xfcnchen", b"") for c in commands}))
    assert answer(broken, "a") == "M\ufffdnchen"


def test_probes_run_from_one_file_and_get_their_secrets_from_memory(tmp_path: Path) -> None:
    vantage = Vantage(VantagePoint("local"), "", tmp_path, {"account": "anna", "password": "pa55"})
    try:
        show = f"{sys.executable} -c 'import os; print(open(os.environ[\"RATSSAAL_PROBE_SECRETS\"]).read())'"
        imports = "python3 -c 'import sys, os; sys.path.insert(0, os.environ[\"RATSSAAL_PROBES\"]); import aioice, websockets'"
        found = vantage.ship([show, imports, "echo $RATSSAAL_PROBES"])
    finally:
        vantage.close()
    assert json.loads(found[show][1]) == {"account": "anna", "password": "pa55"}
    assert found[imports][0] == 0, found[imports]
    assert not Path(found["echo $RATSSAAL_PROBES"][1].decode().strip()).exists()


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
    assert sockets.fits(sockets.Socket(*socket), expected) is fits


def test_mapped_addresses_are_shown_plain() -> None:
    shown = 'LISTEN 0 50 [::ffff:127.0.0.1]:8080 *:* users:(("java",pid=1,fd=11))\n'
    assert list(sockets.sockets(f"tcp {shown}")) == [("tcp", "127.0.0.1", 8080, "java")]


_IN_TURN = """
import time, pytest

@pytest.mark.last
@pytest.mark.control("NET-01")
def test_scan(host, sheet):
    sheet.expect(True, f"scanned {time.monotonic()}", "")

@pytest.mark.control("NET-01")
def test_other(host, sheet):
    time.sleep(0.2)
    sheet.expect(True, f"answered {time.monotonic()}", "")
"""


@pytest.mark.parametrize("marked", [True, False], ids=["last", "in any order"])
def test_what_burdens_a_host_waits_for_the_others(case: Case, monkeypatch: pytest.MonkeyPatch, marked: bool) -> None:
    text = _IN_TURN if marked else _IN_TURN.replace("@pytest.mark.last\n", "")
    seen = _verified(case, monkeypatch, test_turn=text).seen
    times = dict(part.split() for part in seen.split("; "))
    assert (float(times["answered"]) < float(times["scanned"])) is marked


def _check_of(host: str, *, last: bool = False) -> pytest.Function:
    """Return as much of a check as the order of asking looks at; the marked one looks from outside."""
    stand_in = SimpleNamespace(
        nodeid=f"{host} {last}",
        fixturenames=["host", "outside"] if last else ["host"],
        callspec=SimpleNamespace(params={"host": host}),
        get_closest_marker={"last": True}.get if last else {}.get,
    )
    return cast(pytest.Function, stand_in)


def test_a_host_that_hangs_keeps_nobody_from_the_last_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_PATIENCE_SECONDS", 0.3)
    items = [_check_of(host, last=last) for last in (False, True) for host in ("quick", "hangs")]
    over = threading.Event()

    def hang(seconds: float) -> None:
        over.wait(seconds)

    with ThreadPoolExecutor(4) as pool:

        def submit(key: str, group: list[pytest.Function]) -> Future[None]:
            return pool.submit(hang, 20 if key == "hangs" else 0)

        answered = batches.answered(items, submit)
        try:
            assert [next(answered) for _ in range(2)] == [[items[0]], [items[2]]]
            assert not over.is_set()
        finally:
            over.set()
        assert list(answered) == [[items[1]], [items[3]]]


def test_the_last_checks_wait_for_all_hosts_that_answer_in_time() -> None:
    items = [_check_of(host, last=last) for last in (False, True) for host in ("quick", "slow")]
    with ThreadPoolExecutor(4) as pool:

        def submit(key: str, group: list[pytest.Function]) -> Future[None]:
            return pool.submit(time.sleep, 0.5 if key == "slow" else 0)

        found = list(batches.answered(items, submit))
    assert found[:2] == [[items[0]], [items[1]]]
    assert len(found) == 4
