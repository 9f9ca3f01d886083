"""How what TLS and SSH offer is judged: by recorded answers of nmap and openssl, without a host."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification import nmap
from orchestrator.verification.batch import Answers, BatchBackend
from orchestrator.verification.checks import test_crypto, test_tls
from orchestrator.verification.crypto import chosen
from orchestrator.verification.nmap import Scan
from orchestrator.verification.reach import Target
from orchestrator.verification.sheet import NotTested, Sheet
from orchestrator.verification.subject import subjects
from tests.unit.asked import printed
from tests.unit.outside_cases import BSI, MOZILLA, faults, noted, recorded, subject
from tests.unit.site_cases import Case


def test_profiles_choose_and_say_what_is_not_confirmed() -> None:
    assert chosen({}).name == "bsi-2026"
    assert chosen({"verification_crypto_profile": "mozilla-intermediate"}) is MOZILLA
    assert BSI.tls.allows("secp256r1", BSI.tls.tls_groups)
    assert BSI.tls.allows("x25519", BSI.tls.tls_groups)
    assert not BSI.tls.allows("TLS_CHACHA20_POLY1305_SHA256", BSI.tls.tls_suites)
    assert MOZILLA.tls.allows("TLS_CHACHA20_POLY1305_SHA256", MOZILLA.tls.tls_suites)
    assert not BSI.tls.allows("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", BSI.tls.tls_suites)
    assert BSI.tls.shown(["secp256r1", "x25519"]) == "secp256r1, x25519 ?"
    assert MOZILLA.tls.shown(["x25519"]) == "x25519"
    assert MOZILLA.ssh == BSI.ssh


@pytest.mark.parametrize(("timeout", "tries"), [("exit 124", 2), ("exit 1", len(test_tls.FIRST))])
def test_who_says_nothing_is_not_asked_for_every_group(tmp_path: Path, timeout: str, tries: int) -> None:
    """Eight seconds each: together they would take more than a command may."""
    endpoint = test_tls.Endpoint("meet.example", 443, Target("192.0.2.10", ""))
    told = printed(endpoint.groups(*test_tls.FIRST), tmp_path, timeout=timeout)
    assert told.count("== ") == tries


def test_suites_of_a_good_host_lie_within_both_profiles() -> None:
    scan = nmap.read(recorded("tls-good.xml"))
    assert set(scan.tls) == {"TLSv1.2", "TLSv1.3"}
    assert scan.tls["TLSv1.3"] == ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384")
    for profile in (BSI, MOZILLA):
        sheet = Sheet()
        test_tls.judge_suites(scan, profile, sheet)
        test_tls.judge_versions(scan, profile.tls.tls_versions, sheet)
        test_tls.judge_groups(test_tls.tried_groups(recorded("groups-good.txt")), profile, sheet)
        sheet.finish()
    assert "TLSv1.3 by secp256r1, secp384r1, x25519" in sheet.seen


def test_weak_suites_versions_and_groups_are_named() -> None:
    scan = nmap.read(recorded("tls-weak.xml"))
    assert faults(noted(test_tls.judge_versions, scan, BSI.tls.tls_versions)) == ["TLSv1.1 spoken"]
    ((seen, wanted),) = noted(test_tls.judge_suites, scan, BSI).faults
    assert "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256" in seen
    assert "Encrypt-then-MAC" in wanted
    first = test_tls.tried_groups(recorded("groups-weak-first.txt"))
    assert not first.old_refused
    each = test_tls.tried_groups(recorded("groups-weak-first.txt") + recorded("groups-weak-each.txt"))
    assert faults(noted(test_tls.judge_groups, each, BSI)) == ["TLSv1.2 takes the groups secp224r1"]


@pytest.mark.parametrize(
    "check", [test_tls.test_tls_versions_from_outside, test_tls.test_suites_and_groups_from_outside]
)
def test_what_was_seen_at_one_address_is_told_though_another_broke_off(check: Any) -> None:
    def ship(commands: list[str]) -> Answers:
        return {command: (0, _said(command).encode(), b"") for command in commands}

    sheet, host = Sheet(), testinfra.host.Host(BatchBackend("outside", ship))
    with pytest.raises(RuntimeError, match=r"\[2001:db8::10\]:443: nmap printed no XML"):
        check(host, host, subject(), sheet)
    assert sheet.faults
    assert {seen.partition(" ")[0] for seen in faults(sheet)} == {"meet.example.org:443", "turn.meet.example.org:443"}
    assert all("(192.0.2.10): TLSv1." in seen for seen in faults(sheet))


def _said(command: str) -> str:
    """Return what a vantage point answers that has all tools, and whose nmap breaks off over IPv6."""
    if "import socket" in command:
        return "192.0.2.1\n"
    if "command -v" in command:
        return "/usr/bin/nmap\n/usr/bin/openssl\n"
    if "ssl-enum-ciphers" in command:
        return "" if " -6 " in command else recorded("tls-weak.xml")
    return recorded("groups-good.txt")


def test_who_refuses_everything_proves_nothing() -> None:
    sheet = Sheet()
    test_tls.judge_versions(Scan(), BSI.tls.tls_versions, sheet)
    test_tls.judge_suites(Scan(), BSI, sheet)
    test_tls.judge_groups(test_tls.tried_groups(""), BSI, sheet)
    assert len(sheet.faults) == 6


def test_what_our_own_openssl_does_not_know_is_no_refusal() -> None:
    cannot = "== tls1_3=X25519MLKEM768\ngroup 'X25519MLKEM768' cannot be set\n"
    sheet = noted(test_tls.judge_groups, test_tls.tried_groups(recorded("groups-good.txt") + cannot), BSI)
    sheet.finish()
    blind = cannot.replace("X25519MLKEM768", "secp192r1")
    refused = test_tls.tried_groups("== tls1_2=sect163k1:secp192r1\ngroup 'secp192r1' cannot be set\n")
    assert not refused.old_refused
    test_tls.judge_groups(test_tls.tried_groups(recorded("groups-good.txt") + blind), BSI, sheet)
    with pytest.raises(NotTested, match="does not speak secp192r1"):
        sheet.finish()
    broken = test_tls.tried_groups(recorded("groups-good.txt") + "== tls1_3=x448\nconnect:errno=110\n")
    with pytest.raises(NotTested, match="x448: connect:errno=110"):
        noted(test_tls.judge_groups, broken, BSI).finish()


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("Verify return code: 0 (ok)\nsha256 Fingerprint=AA:BB\n", []),
        (
            "Verify return code: 0 (ok)\nsha256 Fingerprint=AA:CC\n",
            ["the certificate is AA:CC..., not the one on the host's disk"],
        ),
        (
            "Verify return code: 19 (self-signed certificate in certificate chain)\nSHA256 Fingerprint=AA:BB\n",
            ["verification says 19 (self-signed certificate in certificate chain)"],
        ),
        ("connect:errno=111\n", ["no certificate"]),
    ],
)
def test_served_certificate_is_the_one_on_disk(said: str, seen: list[str]) -> None:
    assert faults(noted(test_tls.judge_served, said, "AA:BB")) == seen


ESTABLISHED = "CONNECTION ESTABLISHED\nProtocol version: TLSv1.3\nCiphersuite: {}\n{} Temp Key: {}, 256 bits\n"
ALERT = "4097C870487F0000:error:0A000410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure:../ssl/record/x.c:1601:\n"


@pytest.mark.parametrize(
    ("kind", "said", "seen", "untested"),
    [
        ("suite", ALERT, [], 0),
        ("group", ALERT, [], 0),
        (
            "suite",
            ESTABLISHED.format("TLS_CHACHA20_POLY1305_SHA256", "Server", "X25519"),
            ["xmpp takes the suite TLS_CHACHA20_POLY1305_SHA256"],
            0,
        ),
        (
            "group",
            ESTABLISHED.format("TLS_AES_128_GCM_SHA256", "Peer", "x448"),
            ["xmpp takes the group x448"],
            0,
        ),
        (
            "group",
            ESTABLISHED.format("ECDHE-ECDSA-AES256-GCM-SHA384", "Server", "ECDH, secp224r1"),
            ["xmpp takes the group secp224r1"],
            0,
        ),
        # The curve of the certificate, which was offered with the others.
        ("group", ESTABLISHED.format("ECDHE-ECDSA-AES256-GCM-SHA384", "Server", "ECDH, prime256v1"), [], 0),
        ("group", ESTABLISHED.format("TLS_AES_128_GCM_SHA256", "No", "x"), ["xmpp takes the group ?"], 0),
        ("suite", "connect:errno=111\n", [], 1),
        ("group", "Call to SSL_CONF_cmd(-groups, x) failed: cannot be set\n", [], 1),
        ("suite", "", [], 1),
    ],
)
def test_what_is_beyond_the_profile_must_be_refused_by_an_alert(
    kind: str, said: str, seen: list[str], untested: int
) -> None:
    sheet = noted(test_crypto.judge_beyond, "xmpp", kind, said, BSI)
    assert (faults(sheet), len(sheet.untested)) == (seen, untested)


def test_nothing_that_is_allowed_is_offered_as_beyond() -> None:
    for profile in (BSI, MOZILLA):
        offers = " ".join(offer for _, _, offer in test_crypto._beyond(profile)).replace(":", " ").split()
        assert "TLS_AES_128_GCM_SHA256" not in offers
        assert ("TLS_CHACHA20_POLY1305_SHA256" in offers) is (profile is BSI)
        assert {"x448", "secp224r1"} <= set(offers)
        assert "x25519" not in offers


def test_what_is_alike_over_several_addresses_is_said_once() -> None:
    one, two = (test_tls.Endpoint("m.example", 443, Target(a, "")) for a in ("192.0.2.1", "2001:db8::1"))
    bad, good = Sheet(), Sheet()
    for own in (bad, good):
        own.expect(False, "old", "new")
    good.expect(True, "fine", "")
    together, apart = (noted(test_tls.note, [(one, bad), (two, other)]) for other in (bad, good))
    assert faults(together) == ["m.example:443 (192.0.2.1, 2001:db8::1): old"]
    assert faults(apart) == ["m.example:443 (192.0.2.1): old", "m.example:443 (2001:db8::1): old"]


def test_host_keys_are_judged_by_size_and_not_passed_over() -> None:
    def judged(shown: str) -> Sheet:
        return noted(test_crypto.judge_host_keys, shown, BSI.ssh)

    keys = "256 SHA256:x root@h1 (ED25519)\n3072 SHA256:y no comment (RSA)\n"
    assert (judged(keys).faults, judged(keys).untested) == ([], [])
    assert faults(judged("1024 SHA256:y no comment (RSA)\n")) == ["host key (RSA) of 1024 bit"]
    assert judged("").untested == ["the size of the host keys: sshd names none"]


def test_a_host_key_that_sshd_names_and_that_is_gone_hides_no_other(tmp_path: Path) -> None:
    """Somebody removed one of those that Debian makes: sshd goes without it."""
    key = tmp_path / "key with a blank"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    listed = f"{tmp_path}/gone\n{key}\n"
    done = subprocess.run(
        ["sh", "-c", test_crypto._SHOWN_KEYS], input=listed, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "256")


def test_host_without_its_certificate_is_a_fault() -> None:
    sheet = noted(test_tls.judge_served, "Verify return code: 0 (ok)", "")
    assert faults(sheet) == ["the host has no certificate in /etc/ratssaal/tls/fullchain.pem"]


def test_whom_clients_trust_is_the_inventorys_word(case: Case) -> None:
    (own,) = subjects(case.load()).values()
    assert own.authority.startswith("-----BEGIN CERTIFICATE-----")
    case.append("certificates_source: pem\ncertificates_chain_file: x\ncertificates_key_file: x\n")
    (case.path / "x").write_text("")
    (bought,) = subjects(case.load()).values()
    assert bought.authority == ""


def test_a_certificate_that_is_no_word_of_a_shell_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    endpoint = test_tls.Endpoint("meet.example.org", 9, Target("127.0.0.1", ""))
    command = test_tls._served_command(endpoint, f"'; touch {mark}; echo '")
    subprocess.run(["/bin/sh", "-c", command], check=False, capture_output=True, timeout=30)
    assert not mark.exists()
