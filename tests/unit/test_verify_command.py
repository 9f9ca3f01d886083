"""`ratssaal verify` as a person calls it: what it looks at, what it prints and writes, and its exit code."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import app, console
from orchestrator.cli.siteargument import SiteArgument
from orchestrator.evidence.document import canonical_json
from orchestrator.evidence.html import html_page
from orchestrator.evidence.junit import junit_xml
from orchestrator.evidence.results import Report, Result
from orchestrator.inventory.site import Site
from orchestrator.verification import runner
from orchestrator.verification.catalogue import select
from orchestrator.verification.runner import OnResult
from tests.unit import evidence_cases
from tests.unit.evidence_cases import finding


def report(**changes: Any) -> Report:
    """Return a report with every kind of result, as the runner measures it."""
    return evidence_cases.report(**{"seconds": {"together": 42.0}, **changes})


@dataclass
class Look:
    """What a verification was asked for, and what it finds."""

    report: Report = field(default_factory=report)
    asked: dict[str, Any] = field(default_factory=dict)
    while_looking: Callable[[], None] = lambda: None

    def __call__(self, site: Any, *, on_result: OnResult | None = None, **asked: Any) -> Report:
        self.asked = {"site": site.name, **asked}
        for found in self.report.findings:
            if on_result is not None:
                on_result("what is looked at", found, [])
        self.while_looking()
        return self.report


@pytest.fixture
def look(loaded: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """A verification that contacts nobody, of a site that is not read anew; the working directory is an empty one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUDO_UID", raising=False)
    found = Look()
    monkeypatch.setattr(SiteArgument, "load", lambda *_: loaded)
    monkeypatch.setattr(runner, "verify", found)
    return found


def call(town: Path, *arguments: str, verb: str = "verify") -> int:
    return app.run([verb, str(town), "--vault-password-file", str(town.parent / "password"), *arguments])


def test_everything_is_looked_at_unless_bounded(town: Path, look: Look) -> None:
    call(town)
    assert look.asked == {"site": "town", "controls": (), "hosts": (), "quick": False, "converge": None}
    call(town, "--control", "NET-01", "--control", "ACC-01", "--host", "meet", "--quick")
    assert look.asked["controls"] == ("NET-01", "ACC-01")
    assert look.asked["hosts"] == ("meet",)
    assert look.asked["quick"] is True


@pytest.mark.parametrize(
    ("bound", "said"), [(("--host", "mete"), "it has: meet"), (("--control", "NET-99"), "no control NET-99")]
)
def test_what_there_is_not_is_named(
    town: Path, tmp_path: Path, bound: tuple[str, str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(town, *bound) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("result", Result)
def test_exit_code(town: Path, look: Look, result: Result) -> None:
    look.report = report(findings=(finding(1, Result.PASS), finding(2, result)))
    assert call(town) == (6 if result in (Result.FAIL, Result.ERROR) else 0)


def test_reports_are_written_and_the_page_is_named(
    town: Path, tmp_path: Path, look: Look, capsys: pytest.CaptureFixture[str]
) -> None:
    call(town)
    folder = tmp_path / "reports"
    assert {path.name for path in folder.iterdir()} == {"town.html", "town.json", "town.xml"}
    assert (folder / "town.html").read_text() == html_page(look.report, "de")
    assert (folder / "town.json").read_text() == canonical_json(look.report)
    assert (folder / "town.xml").read_text() == junit_xml(look.report)
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "town.html")


def test_more_reports_elsewhere_and_in_english(town: Path, tmp_path: Path, look: Look) -> None:
    call(town, "--out", "kept/all", "--junit", "ci/junit.xml", "--html", "for/people.html", "--language", "en")
    assert (tmp_path / "kept/all/town.html").read_text() == html_page(look.report, "en")
    assert (tmp_path / "for/people.html").read_text() == html_page(look.report, "en")
    assert (tmp_path / "ci/junit.xml").read_text() == junit_xml(look.report)
    assert not (tmp_path / "reports").exists()


def test_json_is_the_only_thing_that_is_printed(
    town: Path, tmp_path: Path, look: Look, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(town, "--json") == 6
    shown = capsys.readouterr()
    assert shown.out == canonical_json(look.report)
    assert shown.err == ""
    assert list(tmp_path.iterdir()) == []
    call(town, "--json", "--junit", "junit.xml")
    assert [path.name for path in tmp_path.iterdir()] == ["junit.xml"]


def test_beside_json_a_person_at_the_terminal_sees_progress(
    town: Path, look: Look, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "watched", lambda: True)
    assert call(town, "--json") == 6
    shown = capsys.readouterr()
    assert shown.out == canonical_json(look.report)
    assert shown.err.count("TST-") == len(look.report.findings)


def test_each_result_is_told_as_it_comes(town: Path, look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    look.while_looking = lambda: told.append(capsys.readouterr().err)
    call(town)
    lines = told[0].splitlines()
    assert len(lines) == len(look.report.findings)
    for line, found in zip(lines, look.report.findings, strict=True):
        assert line.split()[:3] == [found.control, found.host, *found.result.value.split("_")[:1]]
    assert "seen-1 (wanted: wanted-1)" in told[0]


def test_every_kind_of_result_is_counted_and_each_finding_named_with_its_remedy(
    town: Path, look: Look, capsys: pytest.CaptureFixture[str]
) -> None:
    call(town)
    shown = capsys.readouterr()
    counts = "3 pass, 2 fail, 1 waived, 1 declared, 1 not applicable, 1 not tested, 1 error"
    assert shown.out.splitlines()[0] == counts
    summary = shown.err.split("round trips")[0].splitlines()[len(look.report.findings) :]
    assert [line for line in summary if line.startswith("TST-")] == [
        "TST-10 on meet: reason-10",
        "TST-04 on meet: seen-4 (wanted: wanted-4)",
        "TST-01 on meet: seen-1 (wanted: wanted-1)",
    ]
    assert [line for line in summary if "hint:" in line] == [
        f"  hint: ratssaal repair {number} --host meet" for number in (4, 1)
    ]
    assert "round trips: meet 3; 42.0 s together" in shown.err


def test_what_keeps_many_checks_from_a_host_is_told_once_and_no_hint_speaks_of_a_controls_repair(
    town: Path, look: Look, capsys: pytest.CaptureFixture[str]
) -> None:
    hung = {"reason": "it said nothing for 30 s (hint: uptime)"}
    away = [finding(number, Result.ERROR, host, **hung) for host in ("a", "b") for number in (1, 2)]
    look.report = report(findings=(finding(3, Result.FAIL, "a"), *away), hosts=("a", "b"))
    call(town)
    summary = capsys.readouterr().err.split("round trips")[0].splitlines()[len(look.report.findings) :]
    assert summary[-4:] == [
        "TST-03 on a: seen-3 (wanted: wanted-3)",
        "  hint: ratssaal repair 3 --host a",
        "TST-01, TST-02 on a: it said nothing for 30 s (hint: uptime)",
        "TST-01, TST-02 on b: it said nothing for 30 s (hint: uptime)",
    ]


def test_standins_are_told_before_the_counts(town: Path, look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    for standins, said in ((True, "This rests on STAND-INS"), (None, "Not known whether every host runs Jitsi's own")):
        look.report = report(standins=standins)
        call(town, "--quick")
        assert said in capsys.readouterr().err
    look.report = report()
    call(town, "--quick")
    assert "STAND-INS" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--junit", "--html"])
def test_a_place_where_nothing_can_be_written_is_told_before_anything_is_looked_at(
    town: Path, tmp_path: Path, look: Look, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert call(town, option, "file/below" if option != "--out" else "file") == 2
    said = capsys.readouterr().err
    assert "the report cannot be written" in said
    assert "hint: name another place (--out, --junit, --html)" in said
    assert look.asked == {}


def test_reports_of_root_are_told_with_how_to_get_them_back(
    town: Path, tmp_path: Path, look: Look, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever is not root gets so far only; root, who may run this test, may write everywhere."""
    (tmp_path / "reports").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "reports")
    assert call(town) == 2
    said = capsys.readouterr().err
    assert f'hint: sudo chown -R "$USER" {tmp_path / "reports"}, or name another place' in said
    assert look.asked == {}


def test_what_comes_in_the_way_meanwhile_is_no_internal_error(
    town: Path, tmp_path: Path, look: Look, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill() -> None:
        (tmp_path / "reports").write_text("in the way")

    look.while_looking = fill
    assert call(town) == 2
    assert "the report cannot be written" in capsys.readouterr().err


def test_what_sudo_writes_belongs_to_whoever_called_it(
    town: Path, tmp_path: Path, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, user, group, **_: given.append((path, user, group)))
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "1001")
    (tmp_path / "mine").mkdir()
    call(town, "--out", "mine/reports", "--junit", "mine/junit.xml")
    names = [f"mine/reports/town.{kind}" for kind in ("html", "json", "xml")]
    wanted = {tmp_path / name for name in ("mine/reports", "mine/junit.xml", *names)}
    assert {path.absolute() for path, _, _ in given} == wanted  # nothing that was there before
    assert {(user, group) for _, user, group in given} == {(1000, 1001)}


@pytest.mark.parametrize("arguments", [("--out", "file"), ("--ssh-policy", "file/below"), ("--ssh-policy", ".")])
def test_an_audit_that_could_not_be_kept_does_not_begin(
    town: Path, tmp_path: Path, look: Look, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert call(town, *arguments, verb="audit") == 2
    assert "the report cannot be written" in capsys.readouterr().err


def test_the_policy_goes_into_a_new_directory(town: Path, tmp_path: Path, look: Look) -> None:
    file = tmp_path / "new/policy"
    assert call(town, "--ssh-policy", str(file), verb="audit") == 0
    assert "host keys" in file.read_text()


def test_it_is_told_with_each_result_which_checks_are_to_come() -> None:
    told: list[tuple[str, list[str]]] = []
    tell = runner._teller(select(("NET-01",)), lambda check, found, to_come: told.append((check, list(to_come))))
    rows = [
        {"control": "NET-01", "host": "meet", "vantage": "inside", "check": check} for check in ("sockets", "others")
    ]
    for row in rows:
        tell({**row, "kind": "expected"})
    tell({"kind": "asked", "host": "meet"})
    for row in rows:
        tell({**row, "kind": "result", "result": "pass", "seen": "", "wanted": "", "reason": ""})
    assert told == [("sockets", ["others (meet)"]), ("others", [])]
