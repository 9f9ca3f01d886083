"""What independent auditors really printed is read by its meaning, and what broke off is no pass."""

from __future__ import annotations

import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from ssh_audit.policy import Policy

from orchestrator.inventory.site import Host, Site
from orchestrator.inventory.vantagepoint import VantagePoint
from orchestrator.verification.audit import accepted, exposure, lynis, openscap, ports, sshaudit, tls
from orchestrator.verification.audit.places import Outside, Ran, Target
from orchestrator.verification.audit.policies import mozilla_tls_config, ssh_audit_policy
from orchestrator.verification.audit.results import (
    AUDITORS,
    AuditFinding,
    Reading,
    Severity,
)
from orchestrator.verification.crypto import load_profiles
from tests.unit.outside_cases import subject

RECORDED = Path(__file__).with_name("recorded") / "audit"
PROFILES = load_profiles()
# A host on which all holds that reasons rest on.
HELD = [(control, "h1") for control in accepted.needed(AUDITORS)]


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
    def left(name: str, *around: str, held: list[tuple[str, str]] = HELD) -> set[str]:
        rows = [AuditFinding("lynis", "h1", *row) for row in lynis.read(recorded(name)).findings]
        return {found.id for found in accepted.accept(rows, "bsi-2026", frozenset(around), held) if found.counts}

    assert left("lynis-ours.report", "container", "lab") == set()
    # Where nothing of ours is in effect, no reason that says so is true.
    assert {"DEB-0880", "PKGS-7370", "FILE-6310", "AUTH-9286"} <= left("lynis-ours.report", "container", "lab", held=[])
    # What a site must answer for itself.
    assert {"BOOT-5264", "LOGG-2154"} <= left("lynis-ours.report", "container")
    # A real host has a kernel and an archive for security updates of its own.
    assert {"PKGS-7388", "KRNL-6000:kernel.kptr_restrict"} <= left("lynis-ours.report")
    # What the roles do themselves is accepted nowhere, so that it is missed where it is gone.
    assert {"BANN-7126", "BANN-7130", "USB-1000"} <= left("lynis-bare.report")
    bare = left("lynis-bare.report", "container", "lab")
    # The one row speaks of /var; /home and /tmp have their mount flags by hardening, and are missed without it.
    assert "FILE-6310" in bare
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
    reading = ports.read(ours, "192.0.2.10", "9.9.9.9", subject())
    assert (reading.problem, reading.findings) == ("", ())
    assert reading.figures == {"open at 192.0.2.10": "22, 80, 443"}
    planted = ports.read(ours.replace('portid="80"', 'portid="8080"'), "192.0.2.10", "9.9.9.9", subject())
    assert [name for name, _, _ in planted.findings] == ["tcp:8080"]
    # What it saw counts, and what it did not see keeps the rest from being a pass.
    assert "80/tcp, declared and open to us, is filtered" in planted.problem


def test_nmap_whose_packets_arrive_nowhere_is_no_pass() -> None:
    """A firewall on the way that drops them, or an address of nobody: silence is what a closed host would give."""
    silent = re.sub(
        r'(<port .*<state state=)"open" reason="syn-ack"',
        r'\1"filtered" reason="no-response"',
        recorded("nmap-ours.xml"),
    )
    reading = ports.read(silent, "192.0.2.10", "9.9.9.9", subject(), answers=True)
    assert "22, 80, 443/tcp, declared and open to us, is filtered" in reading.problem
    assert ports.joined([reading]).problem == reading.problem
    # A bridge's SSH is for others: nothing must be open, and an echo alone tells that packets arrive.
    bridge = replace(subject(firewall_management_sources=["198.51.100.0/24"]), groups=("jitsi_bridges",))
    bridge.topology["hosts"]["h1"]["groups"] = ["jitsi_bridges"]
    assert "nothing at all answers" in ports.read(silent, "192.0.2.10", "9.9.9.9", bridge).problem
    assert ports.read(silent, "192.0.2.10", "9.9.9.9", bridge, answers=True).problem == ""
    refused = silent.replace('state state="filtered"', 'state state="closed"', 1)
    assert ports.read(refused, "192.0.2.10", "9.9.9.9", bridge).problem == ""


@pytest.mark.parametrize(("source", "found"), [("9.9.9.9", ["tcp:22"]), ("198.51.100.7", []), ("", [])])
def test_a_port_for_the_administration_that_answers_the_world_is_a_finding(source: str, found: list[str]) -> None:
    bounded = subject(firewall_management_sources=["198.51.100.0/24"])
    reading = ports.read(recorded("nmap-ours.xml"), "192.0.2.10", source, bounded)
    assert [name for name, _, _ in reading.findings] == found
    assert all("which is declared for other sources only" in text for _, _, text in reading.findings)


@pytest.mark.parametrize(("asked", "source"), [("9.9.9.9\n", "9.9.9.9"), ("none\n", ""), ("", "")])
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
    assert [found.id for found in accepted.accept(rows, "bsi-2026", held=HELD) if found.counts] == []
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
