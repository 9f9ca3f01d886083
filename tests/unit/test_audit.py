"""Audits by independent auditors: what may stay is accepted with a reason, and what is broken is an error, never a pass."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
import yaml

from orchestrator.errors import InvalidSite, Problem, Unreachable
from orchestrator.evidence.results import Finding, Result
from orchestrator.inventory.site import Site
from orchestrator.inventory.vantagepoint import VantagePoint
from orchestrator.transport import ssh
from orchestrator.verification.audit import accepted, ports, run, sshaudit, tls
from orchestrator.verification.audit.places import OutOfTime, Outside, Target, run_here, run_there
from orchestrator.verification.audit.results import (
    AUDITORS,
    AuditFinding,
    AuditReport,
    NotApplicable,
    NotHere,
    Reading,
    Severity,
)
from orchestrator.verification.catalogue import load_catalogue
from orchestrator.verification.crypto import load_profiles
from orchestrator.verification.waivers import Waiver, read_waivers
from tests.unit.outside_cases import subject
from tests.unit.site_cases import Case

PROFILES = load_profiles()
# What they find is told by `verify` whether they pass or not.
TELLING = {"OS-02", "OS-03"}


# What may stay


def _finding(auditor: str = "lynis", name: str = "A-1", severity: Severity = Severity.LOW) -> AuditFinding:
    return AuditFinding(auditor, "h1", name, severity, "text")


def test_every_accepted_row_names_an_auditor_and_says_why_in_a_sentence() -> None:
    rows = accepted.load_accepted()
    assert {row.auditor for row in rows} <= set(AUDITORS)
    seen = [(row.auditor, name) for row in rows for name in row.ids]
    assert len(seen) == len(set(seen))
    controls = {control.id for control in load_catalogue()}
    for row in rows:
        assert set(row.profiles) <= set(PROFILES)
        assert set(row.needs) <= controls
        # A reason that names a control rests on it, but where the control itself is what tells.
        assert set(re.findall(r"[A-Z]+-[0-9]{2}\b", row.why)) <= {*row.needs, *TELLING}, row
        assert len(row.why.split()) >= 8, row


def test_a_profiles_choice_is_accepted_under_that_profile_only() -> None:
    choice = AuditFinding("ssh-audit", "h1", "kex:ecdh-sha2-nistp256", Severity.HIGH, "suspected")
    (kept,) = accepted.accept([choice], "bsi-2026")
    assert "TR-02102-4" in kept.accepted
    assert not kept.counts
    (other,) = accepted.accept([choice], "another")
    assert other.counts
    said = "Consider hardening SSH configuration; MaxAuthTries (set {} to 3)"
    values = [
        AuditFinding("lynis", "h1", "SSH-7408:MaxAuthTries", Severity.LOW, said.format(tries)) for tries in (4, 6)
    ]
    held = [("ACC-01", "h1")]
    assert [found.counts for found in accepted.accept(values, "bsi-2026", held=held)] == [False, True]
    (sha1,) = accepted.accept([AuditFinding("ssh-audit", "h1", "mac:hmac-sha1", Severity.HIGH, "weak")], "bsi-2026")
    assert sha1.counts


def test_a_reason_counts_only_where_the_controls_hold_on_which_it_rests() -> None:
    """fail2ban is not missed where sshd takes no password; where it does, it is."""
    (found,) = accepted.accept([_finding(name="DEB-0880")], "bsi-2026", held=[("ACC-01", "h1"), ("ACC-06", "h1")])
    assert not found.counts
    for held in ([], [("ACC-01", "h1")], [("ACC-01", "h2"), ("ACC-06", "h2")]):
        (found,) = accepted.accept([_finding(name="DEB-0880")], "bsi-2026", held=held)
        assert found.counts
        assert found.text.endswith("ACC-06 holds; here not)")
    assert {"ACC-01", "OS-13"} <= set(accepted.needed(["lynis"]))
    assert accepted.needed(["nmap"]) == ()


@pytest.mark.parametrize("result", Result)
def test_what_holds_is_verified_before_anybody_looks(
    case: Case, monkeypatch: pytest.MonkeyPatch, result: Result
) -> None:
    """A control that is waived or left alone holds as little as one that failed or could not be looked at."""
    site = case.load()

    def verified(_: Site, *, controls: tuple[str, ...], hosts: tuple[str, ...], quick: bool) -> Any:
        assert quick
        assert "OS-13" in controls
        rows = [Finding(control, host, Result.PASS, "", "", "") for control in controls for host in hosts]
        changed = [replace(row, result=result) for row in rows if row.control == "OS-13"]
        return SimpleNamespace(findings=(*rows, *changed))

    monkeypatch.setattr(run, "verify", verified)
    found = Reading((("PKGS-7370", Severity.LOW, "no debsums"), ("DEB-0880", Severity.LOW, "no fail2ban")))
    monkeypatch.setattr(run, "_PHASES", ((_Auditor("lynis", says=found),),))
    (audited,) = run.audit(site, folder=case.path.parent / "kept").audits
    holds = result in (Result.PASS, Result.NOT_APPLICABLE)
    assert [finding.counts for finding in audited.findings] == [not holds, False]


def test_a_sites_waiver_counts_until_its_day_and_says_when_it_expired() -> None:
    waiver = Waiver("lynis:A-1", "*", "A. Meier", "ticket 17", date(2027, 3, 31))
    (kept,) = accepted.waive((_finding(),), (waiver,), date(2027, 3, 31))
    assert kept.accepted == "waived by A. Meier, until 2027-03-31: ticket 17"
    same, expired = accepted.waive((_finding(),), (waiver,), date(2027, 4, 1))
    assert same.counts
    assert expired.counts
    assert "EXPIRED" in expired.text
    for other in (_finding("nmap"), _finding(name="A-2")):
        assert accepted.waive((other,), (waiver,), date(2027, 1, 1)) == (other,)


def test_waivers_name_an_auditors_finding_and_nothing_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "compliance").mkdir()

    def wrote(control: str) -> Path:
        row = {"control": control, "host": "*", "who": "A", "why": "B", "until": date(2027, 1, 1)}
        (tmp_path / "compliance/waivers.yml").write_text(yaml.safe_dump({"waivers": [row]}))
        return tmp_path

    assert read_waivers(wrote("lynis:SSH-7408:Port"), ("h1",))[0].control == "lynis:SSH-7408:Port"
    for wrong in ("lynis:", "lynis", "nessus:1", ":x"):
        with pytest.raises(InvalidSite, match="there is no control"):
            read_waivers(wrote(wrong), ("h1",))


# The machinery


class _Auditor:
    """An auditor that does what a test wants; the runner knows it by its name alone."""

    VANTAGE = "inside"

    def __init__(self, name: str, *, says: Reading | Exception) -> None:
        self.NAME = name
        self._says = says

    def audit(self, target: Target) -> tuple[Reading, tuple[str, ...]]:
        if isinstance(self._says, Exception):
            raise self._says
        return self._says, (target.keep("raw.txt", "raw"),)


def _nothing_holds(*_: Any, **__: Any) -> Any:
    return SimpleNamespace(findings=())


def _audit(case: Case, monkeypatch: pytest.MonkeyPatch, *auditors: _Auditor) -> AuditReport:
    monkeypatch.setattr(run, "_PHASES", (auditors,))
    monkeypatch.setattr(run, "verify", _nothing_holds)
    return run.audit(case.load(), folder=case.path.parent / "kept")


def test_one_that_breaks_off_does_not_keep_the_others_from_ending(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    report = _audit(
        case,
        monkeypatch,
        _Auditor("lynis", says=OutOfTime("it did not end within 1 s")),
        _Auditor("sslyze", says=NotHere("sslyze is not there", "pipx install sslyze")),
        _Auditor("nmap", says=ZeroDivisionError("surprise")),
        _Auditor("openscap", says=NotApplicable("no content")),
        _Auditor("systemd", says=Unreachable([Problem("gone", "h1", "ping it")])),
        _Auditor("ssh-audit", says=Reading(version="1")),
    )
    results = {audited.auditor: audited for audited in report.audits}
    assert list(results) == list(AUDITORS)
    assert {name: str(audited.result) for name, audited in results.items()} == {
        "lynis": "error",
        "sslyze": "not_tested",
        "nmap": "error",
        "openscap": "not_applicable",
        "systemd": "error",
        "ssh-audit": "pass",
    }
    assert results["sslyze"].hint == "pipx install sslyze"
    assert results["nmap"].reason == "ZeroDivisionError: surprise"
    assert report.exit_code == 6
    (raw,) = results["ssh-audit"].raw
    assert (case.path.parent / "kept" / raw).read_text() == "raw"
    assert (case.path.parent / "kept" / raw).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("reading", "result", "code"),
    [
        (Reading(), "pass", 0),
        (Reading((("X-1", Severity.INFO, "by the way"),)), "pass", 0),
        (Reading((("X-1", Severity.LOW, "a little"),)), "fail", 6),
        (Reading((("kex:ecdh-sha2-nistp256", Severity.HIGH, "suspected"),)), "waived", 0),
        (Reading(problem="no output"), "error", 6),
        # What it saw all the same is kept, and counts no less for being accepted.
        (Reading((("kex:ecdh-sha2-nistp256", Severity.HIGH, "suspected"),), problem="half an output"), "error", 6),
    ],
)
def test_what_a_reading_amounts_to(
    case: Case, monkeypatch: pytest.MonkeyPatch, reading: Reading, result: str, code: int
) -> None:
    report = _audit(case, monkeypatch, _Auditor("ssh-audit", says=reading))
    assert [str(audited.result) for audited in report.audits] == [result]
    assert report.exit_code == code


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(OutOfTime, match="within 1 s"):
        run_here(["sh", "-s"], f"(sleep 4; touch {tmp_path}/late) & sleep 30", seconds=1)
    assert time.monotonic() - began < 3
    time.sleep(4)
    assert not (tmp_path / "late").exists()


def test_an_auditor_that_is_not_there_is_not_tested(
    tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = case.load()
    monkeypatch.setattr("orchestrator.verification.audit.places.AUDITORS", tmp_path)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", _only_sh(tmp_path))
    outside = Outside(VantagePoint("local"), "", site.known_hosts)
    target = Target(site, site.hosts[0], subject(), outside, tmp_path)
    for module in (ports, tls, sshaudit):
        with pytest.raises(NotHere) as caught:
            module.audit(target)
        assert "install" in caught.value.hint


def test_a_hanging_auditor_is_an_error_and_the_others_end(
    tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = case.load()
    fake = tmp_path / "bin" / "ssh-audit"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nsleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    monkeypatch.setattr(sshaudit, "SECONDS", 1)
    monkeypatch.setattr(run, "_PHASES", ((_Auditor("lynis", says=Reading(version="3")), sshaudit),))
    monkeypatch.setattr(run, "verify", _nothing_holds)
    began = time.monotonic()
    report = run.audit(site, folder=tmp_path / "kept")
    assert time.monotonic() - began < 10
    assert [(row.auditor, str(row.result), row.reason) for row in report.audits] == [
        ("lynis", "pass", ""),
        ("ssh-audit", "error", "it did not end within 1 s"),
    ]


class _Slow:
    """A connection that gives up after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def run(self, script: str, *, command: str, timeout: float) -> NoReturn:
        time.sleep(self._seconds)
        raise ssh.ConnectionFailed("h1", ssh.Reason.TIMEOUT, "the host opened no channel", "uptime")


def test_a_host_that_does_not_begin_is_not_said_to_have_used_up_its_time() -> None:
    with pytest.raises(OutOfTime, match="within 1 s"):
        run_there(cast(ssh.Connection, _Slow(1.0)), "true", seconds=1)
    with pytest.raises(ssh.ConnectionFailed, match="opened no channel"):
        run_there(cast(ssh.Connection, _Slow(0.0)), "true", seconds=3600)


def test_nobody_scans_a_host_from_outside_while_others_look_on_it() -> None:
    """An emulated machine let the others' connections wait until they gave up."""
    where = [{module.VANTAGE == "inside" for module in modules} for modules in run._PHASES]
    assert where == [{True}, {False}, {False}]
    assert sorted(module.NAME for modules in run._PHASES for module in modules) == sorted(AUDITORS)


def _only_sh(folder: Path) -> str:
    """Return a PATH on which there is a shell and what this module needs itself, and no auditor."""
    (folder / "bin").mkdir()
    for name in ("sh", "setpriv", "id"):
        (folder / "bin" / name).symlink_to(Path("/usr/bin") / name)
    return str(folder / "bin")
