"""`ratssaal rehearse` as a person calls it: what it says, how it ends, and that the host is gone whatever happens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cli import app, change, progress, rehearse
from orchestrator.cli import verify as verify_command
from orchestrator.errors import Problem, TaskFailed, Unreachable, UsageError
from orchestrator.evidence.results import Report, Result
from orchestrator.inventory import site as site_module
from orchestrator.inventory.site import Site
from orchestrator.lab import lab
from orchestrator.operations import preflight
from tests.unit import evidence_cases
from tests.unit.evidence_cases import finding

GOOD = (finding(1, Result.PASS), finding(2, Result.NOT_TESTED), finding(3, Result.NOT_TESTED))
FIT = preflight.Report((), (), (), {}, ())
# What each part of a rehearsal takes, in seconds.
TAKES = {"up": 10.0, "inspect": 2.0, "converge": 20.0, "verify": 7.0, "down": 1.0}


@dataclass
class Machine:
    """A machine whose lab costs nothing: which parts of a rehearsal ran on it, on which clock, and which of them fail."""

    site: Path
    report: Report = field(default_factory=lambda: evidence_cases.report(findings=GOOD, standins=True))
    did: list[str] = field(default_factory=list)
    fit: preflight.Report = FIT
    fails: dict[str, BaseException] = field(default_factory=dict)
    now: float = 1000.0

    def part(self, name: str, answer: Any = None, said: str = "") -> Any:
        """Note that a part ran, let its time pass, and let it end as it should."""
        self.did.append(f"{name} {said}".strip())
        self.now += TAKES[name]
        if name in self.fails:
            raise self.fails[name]
        return answer


def _without_pid(name: str) -> str:
    assert re.fullmatch("[a-z][a-z0-9]{0,11}", name), "the lab takes no other name"
    return re.sub("(?<=^rehearse).*", "N", name)


@pytest.fixture
def machine(town: Path, loaded: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """What a rehearsal is made of, without a host."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUDO_UID", raising=False)
    here = Machine(town)
    site = SimpleNamespace(path=town, vault_password_file=town.parent / "password")

    class Lab:
        def __init__(self, say: Callable[[str], None]) -> None:
            del say

        def up(self, name: str, debian: int, repository: bool) -> Any:
            without = "" if repository else " without stand-ins"
            return here.part("up", site, f"{_without_pid(name)} debian {debian}{without}")

        def down(self, name: str) -> Any:
            return here.part("down", True, _without_pid(name))

    monkeypatch.setattr(lab, "Lab", Lab)
    monkeypatch.setattr(site_module, "load_site", lambda path, access: {town: loaded}[path])
    monkeypatch.setattr(preflight, "inspect", lambda loaded, hardens: here.part("inspect", here.fit, loaded.name))
    monkeypatch.setattr(change, "converge", lambda loaded, access, verb, options: here.part("converge", said=verb))
    monkeypatch.setattr(verify_command, "run_verification", lambda loaded: here.part("verify", here.report))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: here.now))
    return here


WHOLE = ["up rehearseN debian 13", "inspect town", "converge provision+harden", "verify", "down rehearseN"]


def test_the_whole_path_on_debian_13_and_nothing_stays(machine: Machine) -> None:
    assert app.run(["rehearse"]) == 0
    assert machine.did == WHOLE


def test_packages_of_ones_own_repository(machine: Machine, town: Path, tmp_path: Path) -> None:
    key, settings = tmp_path / "key.asc", town / "group_vars/all/site.yml"
    key.write_text("x")
    before = settings.read_text()
    try:
        arguments = ["--repository-key", "key.asc", "--repository-url", "https://packages.example.org"]
        assert app.run(["rehearse", *arguments]) == 0
        added = settings.read_text().removeprefix(before)
    finally:
        settings.write_text(before)
    assert machine.did[0] == "up rehearseN debian 13 without stand-ins"
    assert added.splitlines() == [
        f'vendor_repository_key: "{key}"',
        'vendor_repository_url: "https://packages.example.org"',
    ]


def test_a_repository_without_its_key(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["rehearse", "--repository-url", "https://packages.example.org"]) == 2
    assert "--repository-key FILE" in capsys.readouterr().err
    assert app.run(["rehearse", "--repository-key", "nowhere.asc"]) == 2
    assert machine.did == []


@pytest.mark.parametrize(("release", "code"), [("12", 0), ("13", 0), ("11", 2), ("trixie", 2)])
def test_another_release(machine: Machine, release: str, code: int) -> None:
    assert app.run(["rehearse", "--debian", release]) == code
    assert machine.did[:1] == ([f"up rehearseN debian {release}"] if code == 0 else [])


def test_the_help_names_the_default_release(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["rehearse", "--help"]) == 0
    assert re.search(r"--debian \[12\|13\]\s+Release of the host.\s+\[default: 13\]", capsys.readouterr().out)


def test_the_summary_for_a_person(machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The phases as they come, then what each took, what the proof rests on, what was found, and where to read it."""
    assert app.run(["rehearse"]) == 0
    shown = capsys.readouterr()
    phases = ["Lab host", "Preflight", "Provision and harden", "Verify", "Clean up"]
    assert shown.err.splitlines() == [
        *phases,
        "",
        "  Lab host                 10.0 s  ████████",
        "  Preflight                 2.0 s  ██",
        "  Provision and harden     20.0 s  ███████████████",
        "  Verify                    7.0 s  █████",
        "  Clean up                  1.0 s  █",
        "  together                 40.0 s",
        "",
        "This rests on STAND-INS for Jitsi's own packages: it proves the way, not upstream's code.",
        "1 pass, 0 fail, 0 waived, 0 declared, 0 not applicable, 2 not tested, 0 error",
        "The rehearsal succeeded.",
    ]
    assert shown.out == f"{tmp_path / 'reports/rehearsal.html'}\n"


@pytest.mark.parametrize("result", Result)
def test_exit_code_and_last_word(machine: Machine, result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    machine.report = evidence_cases.report(findings=(finding(1, Result.PASS), finding(2, result)))
    found = result in (Result.FAIL, Result.ERROR)
    assert app.run(["rehearse"]) == (6 if found else 0)
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == ("The rehearsal found something." if found else "The rehearsal succeeded.")
    assert not any("STAND-INS" in line for line in said)


def test_json_is_the_only_thing_on_standard_output(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["rehearse", "--json", "--out", "kept"]) == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert told["counts"] == {**{result.value: 0 for result in Result}, "pass": 1, "not_tested": 2}
    assert told["files"] == {kind: str(tmp_path / f"kept/rehearsal.{kind}") for kind in ("html", "json", "xml")}
    assert told["seconds"] == {
        "Lab host": 10.0,
        "Preflight": 2.0,
        "Provision and harden": 20.0,
        "Verify": 7.0,
        "Clean up": 1.0,
    }
    assert "succeeded" not in shown.err
    assert json.loads((tmp_path / "kept/rehearsal.json").read_text())["site"] == machine.report.site


def test_a_lab_that_is_kept_is_named_with_how_to_remove_it(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["rehearse", "--keep"]) == 0
    assert machine.did == WHOLE[:-1]
    said = capsys.readouterr().err
    assert re.search(r"the lab stays: ratssaal lab ssh (rehearse\w+); ratssaal lab down \1 removes it", said)


FAILURES: list[tuple[str, BaseException, int]] = [
    ("converge", TaskFailed([Problem("prosody: it does not start", "h1")]), 5),
    ("converge", Unreachable([Problem("no way there", "h1")]), 4),
    ("converge", KeyboardInterrupt(), 130),
    ("verify", ZeroDivisionError("a fault of ours"), 1),
]


@pytest.mark.parametrize(("part", "error", "code"), FAILURES, ids=[f"{c[0]}-{c[2]}" for c in FAILURES])
@pytest.mark.parametrize("option", ["", "--keep"])
def test_what_fails_ends_the_rehearsal_and_removes_the_host_unless_it_is_kept(
    machine: Machine,
    tmp_path: Path,
    option: str,
    part: str,
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("RATSSAAL_DEBUG", raising=False)
    machine.fails[part] = error
    assert app.run(["rehearse", *option.split()]) == code
    done = [name.split(" ")[0] for name in machine.did]
    assert done == [*list(TAKES)[: list(TAKES).index(part) + 1], *(["down"] if not option else [])]
    shown = capsys.readouterr()
    assert ("the lab stays" in shown.err) is bool(option)
    assert "succeeded" not in shown.err
    assert shown.out == ""
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("the lab needs root", hint="sudo ratssaal rehearse"), 2),
        (Unreachable([Problem("ssh does not answer", "h1")]), 4),
        (TaskFailed([Problem("mmdebstrap failed")]), 5),
    ],
)
@pytest.mark.parametrize("option", ["", "--keep"])
def test_a_host_that_never_came_up_is_not_said_to_stay(
    machine: Machine, option: str, error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.fails["up"] = error
    assert app.run(["rehearse", *option.split()]) == code
    assert machine.did == WHOLE[:1], "the lab has removed it itself"
    said = capsys.readouterr().err
    assert f"error: {error}" in said
    assert "the lab stays" not in said
    assert "Clean up" not in said


def test_a_host_that_is_not_fit_is_not_provisioned(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.fit = preflight.Report((Problem("too little memory: 500 MB", "h1", "give it more"),), (), (), {}, ())
    assert app.run(["rehearse"]) == 3
    assert machine.did == [*WHOLE[:2], WHOLE[-1]]
    assert "h1: too little memory: 500 MB" in capsys.readouterr().err


@pytest.mark.parametrize(("one", "other"), [(12340, 12341), (4194302, 4194303), (9, 99999)])
def test_two_rehearsals_at_once_have_a_lab_each(one: int, other: int) -> None:
    names = {rehearse._lab_name(one), rehearse._lab_name(other)}
    assert len(names) == 2
    assert {_without_pid(name) for name in names} == {"rehearseN"}


def test_where_no_report_can_be_written_no_host_is_started(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reports").write_text("in the way")
    assert app.run(["rehearse"]) == 2
    assert machine.did == []
    assert "the report cannot be written" in capsys.readouterr().err
