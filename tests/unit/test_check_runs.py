"""Checks as pytest really runs them: what breaks off, hangs or is left out is no pass, and keeps nobody waiting."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import cast

import pytest

from orchestrator.evidence.results import Finding, Result
from orchestrator.verification import batches, child, runner
from tests.unit.site_cases import Case

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


def test_check_without_result_is_an_error(case: Case) -> None:
    """A host that nobody answers on: pytest really runs, every control is an error, none a pass."""
    report = runner.verify(case.load(), controls=("NET-01", "ACC-01"))
    assert [f.result for f in report.findings] == [Result.ERROR, Result.ERROR]
    assert report.exit_code == 6
    # What repairs the control does not bring the host back.
    assert report.findings[0].remedy == ""
    assert report.standins is None


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
