"""Audits by independent auditors: what they really printed is read, and what is broken is an error, never a pass."""

from __future__ import annotations

import json
import tarfile
import time
from datetime import date
from pathlib import Path
from typing import NoReturn, cast

import pytest
import yaml
from ssh_audit.policy import Policy

from orchestrator.errors import InvalidSite, Problem, Unreachable
from orchestrator.inventory.site import Host, Site
from orchestrator.inventory.vantagepoint import VantagePoint
from orchestrator.transport import ssh
from orchestrator.verification.audit import accepted, exposure, lynis, openscap, ports, run, sshaudit, tls
from orchestrator.verification.audit.places import OutOfTime, Outside, Ran, Target, run_here, run_there
from orchestrator.verification.audit.policies import mozilla_tls_config, ssh_audit_policy
from orchestrator.verification.audit.results import (
    AUDITORS,
    AuditFinding,
    AuditReport,
    NotApplicable,
    NotHere,
    Reading,
    Severity,
)
from orchestrator.verification.crypto import load_profiles
from orchestrator.verification.waivers import Waiver, read_waivers
from tests.unit.outside_cases import subject
from tests.unit.site_cases import Case

RECORDED = Path(__file__).with_name("recorded") / "audit"
PROFILES = load_profiles()


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def ids(reading: Reading) -> set[str]:
    return {name for name, _, _ in reading.findings}


# The profile in the auditors' formats


@pytest.mark.parametrize("name", PROFILES)
def test_the_policy_is_one_that_ssh_audit_reads(name: str) -> None:
    text = ssh_audit_policy(PROFILES[name])
    policy = Policy(policy_data=text)
    assert policy.get_name_and_version() == f"Ratssaal, crypto profile {name} (version 1)"
    assert "curve25519-sha256" in text
    assert "kex-strict-s-v00@openssh.com" in text
    # What is open and not allowed stays out.
    assert "diffie-hellman-group-exchange-sha256" not in text


def test_keys_and_exchanges_that_are_open_stand_where_they_belong() -> None:
    lines = dict(row.split(" = ") for row in ssh_audit_policy(PROFILES["bsi-2026"]).splitlines() if " = " in row)
    assert "ssh-ed25519" in lines["host keys"].split(", ")
    assert "curve25519-sha256" not in lines["host keys"]
    assert "sntrup761x25519-sha512@openssh.com" in lines["key exchanges"].split(", ")
    assert "ssh-ed25519" not in lines["key exchanges"]


def test_the_tls_profile_has_mozillas_form() -> None:
    bsi, mozilla = (json.loads(mozilla_tls_config(PROFILES[name])) for name in ("bsi-2026", "mozilla-intermediate"))
    assert set(bsi) == set(mozilla)
    assert "TLS_CHACHA20_POLY1305_SHA256" in mozilla["ciphersuites"]
    assert "TLS_CHACHA20_POLY1305_SHA256" not in bsi["ciphersuites"]
    assert "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" in bsi["ciphers"]["iana"]
    assert bsi["tls_versions"] == ["TLSv1.2", "TLSv1.3"]
    assert {"X25519", "secp256r1"} <= set(bsi["tls_curves"])
    assert (bsi["rsa_key_size"], mozilla["rsa_key_size"]) == (3000, 2048)


# sslyze


def test_sslyze_says_what_is_beyond_the_profile_and_where() -> None:
    reading = tls.read(recorded("sslyze-weak.txt"), recorded("sslyze-weak.json"), 2)
    assert reading.problem == ""
    assert reading.version == "6.3.1"
    weak, good = "meet.example.org:14444", "meet.example.org:14443"
    assert {f"{weak}:ciphers", f"{weak}:ciphersuites", f"{weak}:tls_curves"} <= ids(reading)
    assert ids(reading) - {row for row in ids(reading) if row.startswith(weak)} == {
        f"{good}:certificate_path_validation"
    }
    assert {severity for _, severity, _ in reading.findings} == {Severity.HIGH}
    assert reading.figures == {"compliant": "0 of 2"}


@pytest.mark.parametrize(
    ("screen", "raw", "wanted"),
    [
        ("", "", 2),
        ("could not resolve", "{}", 2),
        ("", recorded("sslyze-weak.json"), 2),
        (recorded("sslyze-weak.txt"), recorded("sslyze-weak.json")[:500], 2),
        # A server of which nothing is said is no compliant one.
        (recorded("sslyze-weak.txt"), recorded("sslyze-weak.json"), 3),
        (
            recorded("sslyze-weak.txt").replace("FAILED - Not compliant", "ERROR - Scan did not run successfully"),
            "{}",
            2,
        ),
    ],
)
def test_sslyze_that_broke_off_is_no_pass(screen: str, raw: str, wanted: int) -> None:
    assert tls.read(screen, raw, wanted).problem


# Lynis


def test_lynis_gives_index_warnings_and_suggestions_each_key_for_itself() -> None:
    reading = lynis.read(recorded("lynis-bare.report"))
    assert reading.problem == ""
    assert (reading.version, reading.around) == ("3.0.8", frozenset({"container"}))
    assert (reading.figures["hardening index"], reading.figures["warnings"]) == (58, 1)
    graves = {name: severity for name, severity, _ in reading.findings}
    assert graves["PKGS-7388"] is Severity.HIGH
    assert graves["SSH-7408:X11Forwarding"] is Severity.LOW
    texts = {name: text for name, _, text in reading.findings}
    assert texts["KRNL-6000:net.ipv4.conf.all.send_redirects"] == "net.ipv4.conf.all.send_redirects is 1 (wanted: 0)"
    assert "KRNL-6000" not in graves


def test_what_lynis_finds_on_our_hosts_is_accepted_and_on_bare_ones_is_not() -> None:
    def left(name: str, *around: str) -> set[str]:
        rows = [AuditFinding("lynis", "h1", *row) for row in lynis.read(recorded(name)).findings]
        return {found.id for found in accepted.accept(rows, "bsi-2026", frozenset(around)) if found.counts}

    assert left("lynis-ours.report", "container", "lab") == set()
    # A real host has a kernel and an archive for security updates of its own.
    assert {"PKGS-7388", "KRNL-6000:kernel.kptr_restrict"} <= left("lynis-ours.report")
    # What the roles do themselves is accepted nowhere, so that it is missed where it is gone.
    assert {"BANN-7126", "BANN-7130", "USB-1000"} <= left("lynis-bare.report")
    bare = left("lynis-bare.report", "container", "lab")
    assert {"SSH-7408:MaxAuthTries", "SSH-7408:X11Forwarding", "NETW-3200", "PKGS-7420"} <= bare


@pytest.mark.parametrize(
    "report",
    [
        "",
        "no report at all",
        recorded("lynis-ours.report").replace("finish=true", ""),
        recorded("lynis-ours.report").replace("hardening_index=", "hardening_index=x"),
    ],
)
def test_a_lynis_that_did_not_finish_is_no_pass(report: str) -> None:
    assert lynis.read(report) == Reading(problem="Lynis did not finish its report")


def test_lynis_goes_to_the_host_as_roots_own_files() -> None:
    info = lynis._roots(tarfile.TarInfo("include/consts"))
    assert (info.uid, info.gid, info.mode) == (0, 0, 0o600)


# ssh-audit


def test_ssh_audit_passes_ours_by_the_policy_and_says_what_its_standards_hold_weak() -> None:
    reading = sshaudit.read(recorded("ssh-audit-ours.policy.json"), recorded("ssh-audit-ours.standard.json"))
    assert reading.problem == ""
    assert reading.figures["policy"] == "passed"
    assert not {name for name in ids(reading) if name.startswith("policy")}
    assert "kex:ecdh-sha2-nistp256" in ids(reading)
    rows = [AuditFinding("ssh-audit", "h1", *row) for row in reading.findings]
    assert [found.id for found in accepted.accept(rows, "bsi-2026") if found.counts] == []


def test_ssh_audit_fails_a_bare_sshd_and_names_what_is_beyond() -> None:
    reading = sshaudit.read(recorded("ssh-audit-bare.policy.json"), recorded("ssh-audit-bare.standard.json"))
    assert reading.figures["policy"] == "failed"
    assert {"policy:Ciphers", "policy:MACs", "policy:Key exchanges", "mac:hmac-sha1"} <= ids(reading)
    texts = {name: text for name, _, text in reading.findings}
    assert texts["policy:Ciphers"].startswith("Ciphers: chacha20-poly1305@openssh.com (allowed: aes256-gcm@openssh.com")


_CUT = recorded("ssh-audit-ours.standard.json")[:900]
_REFUSED = "[exception] cannot connect to 192.0.2.10 port 22: [Errno 111] Connection refused"


@pytest.mark.parametrize(
    ("policy", "standard", "said"),
    [
        ("", "", "no result"),
        (_REFUSED, _REFUSED, "Connection refused"),
        (recorded("ssh-audit-ours.policy.json"), _CUT, "no result"),
        ("{}", recorded("ssh-audit-ours.standard.json"), "no result"),
        ("[]", "[]", "no result"),
    ],
)
def test_ssh_audit_that_broke_off_is_no_pass(policy: str, standard: str, said: str) -> None:
    assert said in sshaudit.read(policy, standard).problem


# systemd-analyze security


_UNITS = tuple(f"{unit}.service" for unit in ("nginx", "prosody", "jicofo", "jitsi-videobridge2", "coturn", "haproxy"))


def test_systemd_holds_our_services_for_good_and_others_not() -> None:
    reading = exposure.read(recorded("systemd-ours.json"), _UNITS, version="257")
    assert (reading.problem, reading.findings) == ("", ())
    assert reading.figures["prosody.service"] == 1.1
    rest = exposure.read(recorded("systemd-ours.json"), ("cron.service",))
    assert rest.findings == (("cron.service", Severity.HIGH, "exposure 9.6 of 10, in systemd's word UNSAFE"),)


@pytest.mark.parametrize("told", ["", "[]", "{}", "[{}]", recorded("systemd-ours.json")[:300], "Unknown command verb"])
def test_systemd_that_tells_nothing_is_no_pass(told: str) -> None:
    assert exposure.read(told, _UNITS).problem


def test_a_word_of_systemd_that_is_not_known_is_no_pass() -> None:
    told = '[{"unit": "nginx.service", "exposure": "1.0", "predicate": "WONDERFUL"}]'
    assert "WONDERFUL" in exposure.read(told, ("nginx.service",)).problem


# nmap


def test_nmap_finds_what_no_flow_lets_in() -> None:
    ours = recorded("nmap-ours.xml")
    reading = ports.read(ours, "192.0.2.10", "203.0.113.9", subject())
    assert (reading.problem, reading.findings) == ("", ())
    assert reading.figures == {"open at 192.0.2.10": "22, 80, 443"}
    planted = ports.read(ours.replace('portid="80"', 'portid="8080"'), "192.0.2.10", "203.0.113.9", subject())
    assert [name for name, _, _ in planted.findings] == ["tcp:8080"]


@pytest.mark.parametrize(("source", "found"), [("203.0.113.9", ["tcp:22"]), ("198.51.100.7", []), ("", [])])
def test_a_port_for_the_administration_that_answers_the_world_is_a_finding(source: str, found: list[str]) -> None:
    bounded = subject(firewall_management_sources=["198.51.100.0/24"])
    reading = ports.read(recorded("nmap-ours.xml"), "192.0.2.10", source, bounded)
    assert [name for name, _, _ in reading.findings] == found
    assert all("which is declared for other sources only" in text for _, _, text in reading.findings)


@pytest.mark.parametrize(("asked", "source"), [("203.0.113.9\n", "203.0.113.9"), ("none\n", ""), ("", "")])
def test_the_audit_asks_from_where_it_looks(tmp_path: Path, asked: str, source: str) -> None:
    """Where it cannot be said as what the host sees us, nobody is blamed for what may be meant for us."""

    class Vantage:
        point = VantagePoint("local")

        def run(self, script: str, *, seconds: int) -> Ran:
            del seconds
            return Ran(0, recorded("nmap-ours.xml") if "nmap" in script else asked, "")

    bounded = subject(firewall_management_sources=["198.51.100.0/24", "2001:db8:9::/48"])
    host = Host("h1", "192.0.2.10", "", 22, "root", "", ())
    target = Target(cast(Site, None), host, bounded, cast(Outside, Vantage()), tmp_path)
    reading, _ = ports.audit(target)
    assert bool(reading.findings) is bool(source)


@pytest.mark.parametrize(
    "printed", ["", "<nmaprun", recorded("nmap-ours.xml").replace('exit="success"', 'exit="error"')]
)
def test_nmap_that_broke_off_is_no_pass(printed: str) -> None:
    assert ports.read(printed, "192.0.2.10", "", subject()).problem


def test_one_address_that_could_not_be_scanned_makes_the_whole_doubtful() -> None:
    good = ports.read(recorded("nmap-ours.xml"), "192.0.2.10", "", subject())
    assert ports.joined([good, Reading(problem="2001:db8::10: nmap saw no host there")]).problem
    assert ports.joined([]).problem


# OpenSCAP


def test_openscap_counts_what_it_decided_and_names_what_failed() -> None:
    reading = openscap.read(recorded("openscap-ours.xml"), version="1.3.7")
    assert (reading.problem, reading.version) == ("", "1.3.7")
    assert reading.figures == {"rules passed": "19 of 23"}
    assert ("partition_for_home", Severity.LOW, "partition for home: fail") in reading.findings
    rows = [AuditFinding("openscap", "h1", *row) for row in reading.findings]
    assert [found.id for found in accepted.accept(rows, "bsi-2026") if found.counts] == []
    undecided = openscap.read(recorded("openscap-ours.xml").replace("<result>pass", "<result>error", 1))
    assert len(undecided.findings) == len(reading.findings) + 1


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<Benchmark/>",
        recorded("openscap-ours.xml")[:2000],
        recorded("openscap-ours.xml").replace("end-time", "then"),
        recorded("openscap-ours.xml").replace("<result>pass", "<result>x").replace("<result>fail", "<result>x"),
    ],
)
def test_openscap_that_broke_off_is_no_pass(xml: str) -> None:
    assert openscap.read(xml).problem


# What may stay


def _finding(auditor: str = "lynis", name: str = "A-1", severity: Severity = Severity.LOW) -> AuditFinding:
    return AuditFinding(auditor, "h1", name, severity, "text")


def test_every_accepted_row_names_an_auditor_and_says_why_in_a_sentence() -> None:
    rows = accepted.load_accepted()
    assert {row.auditor for row in rows} <= set(AUDITORS)
    seen = [(row.auditor, name) for row in rows for name in row.ids]
    assert len(seen) == len(set(seen))
    for row in rows:
        assert set(row.profiles) <= set(PROFILES)
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
    assert [found.counts for found in accepted.accept(values, "bsi-2026")] == [False, True]
    (sha1,) = accepted.accept([AuditFinding("ssh-audit", "h1", "mac:hmac-sha1", Severity.HIGH, "weak")], "bsi-2026")
    assert sha1.counts


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


def _audit(case: Case, monkeypatch: pytest.MonkeyPatch, *auditors: _Auditor) -> AuditReport:
    monkeypatch.setattr(run, "_PHASES", (auditors,))
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
