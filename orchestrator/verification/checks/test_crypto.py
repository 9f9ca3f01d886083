"""TLS, certificates and SSH algorithms, by handshakes and by what sshd has in effect."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
import testinfra.host

from orchestrator.inventory.derivations import xmpp_domains
from orchestrator.verification.asking import ask, text
from orchestrator.verification.crypto import CryptoProfile, chosen, signs_by
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

VERSIONS = {"TLSv1": "-tls1", "TLSv1.1": "-tls1_1", "TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}
DAYS_LEFT = 21
# Our own side must not be what refuses: level 0 lets Debian's OpenSSL offer what it would not use itself.
_LENIENT = "-cipher 'ALL:@SECLEVEL=0'"


def _endpoints(subject: Subject) -> dict[str, str]:
    """Return a label -> s_client's arguments of every TLS service of the host, reached over its public addresses."""
    found = {}
    for address in subject.addresses:
        target = f"[{address}]" if ":" in address else address
        for name, port in subject.tls_names():
            found[f"{name}:{port} ({address})"] = f"-connect '{target}:{port}' -servername {name}"
    if subject.signalling:
        auth = xmpp_domains(subject.settings)["auth"]
        found[f"XMPP {auth}"] = f"-connect 127.0.0.1:5222 -starttls xmpp -xmpphost {auth}"
    return found


def _handshake(arguments: str, version: str) -> str:
    return f"timeout 8 openssl s_client {arguments} {version} -brief </dev/null 2>&1; true"


@pytest.mark.control("CRY-01")
def test_tls_versions(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Each version is tried on each service: the allowed ones must work, or a refusal would prove nothing."""
    allowed_versions = chosen(subject.settings).tls.tls_versions
    tried = [
        (label, version, _handshake(f"{arguments} {_LENIENT}" if version != "TLSv1.3" else arguments, flag))
        for label, arguments in _endpoints(subject).items()
        for version, flag in VERSIONS.items()
    ]
    for (label, version, _), result in zip(tried, ask(host, *(row[2] for row in tried)), strict=True):
        spoken = f"Protocol version: {version}\n" in text(result)
        allowed = version in allowed_versions
        word = "spoken" if spoken else "refused"
        sheet.expect(spoken == allowed, f"{label}: {version} {word}", f"{version} {'spoken' if allowed else 'refused'}")


@pytest.mark.control("CRY-03")
def test_certificates(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The chain as served, judged by the host's own trust store, and the certificate's own values."""
    names = subject.tls_names()
    commands = []
    for name, port in names:
        target = f"'{subject.address if ':' not in subject.address else f'[{subject.address}]'}:{port}'"
        client = f"timeout 8 openssl s_client -connect {target} -servername {name} -verify_hostname {name}"
        commands.append(f"{client} </dev/null 2>&1; true")
        commands.append(
            f"{client} </dev/null 2>/dev/null | openssl x509 -noout -enddate -dateopt iso_8601 -text 2>&1; true"
        )
    results = ask(host, *commands, "date --utc +%Y-%m-%dT%H:%M:%S")
    now = datetime.fromisoformat(text(results[-1]).strip()).replace(tzinfo=UTC)
    for (name, _), served, shown in zip(names, results[0:-1:2], results[1:-1:2], strict=True):
        verdict = re.search(r"Verify return code: (\d+ \(.*?\))", text(served))
        seen = verdict.group(1) if verdict else "no certificate"
        sheet.expect(seen == "0 (ok)", f"{name}: verification says {seen}", "0 (ok): chain and name fit")
        if verdict:
            _judge_certificate(name, text(shown), now, chosen(subject.settings), sheet)


def _judge_certificate(name: str, shown: str, now: datetime, profile: CryptoProfile, sheet: Sheet) -> None:
    end = re.search(r"notAfter=(\S+ \S+?)Z", shown)
    bits = re.search(r"Public-Key: \((\d+) bit\)", shown)
    kind = re.search(r"Public Key Algorithm: (\S+)", shown)
    signature = re.search(r"Signature Algorithm: (\S+)", shown)
    if not (end and bits and kind and signature):
        raise RuntimeError(f"openssl did not show {name}'s certificate: {shown.strip()[:200]}")
    days = (datetime.fromisoformat(end.group(1)).replace(tzinfo=UTC) - now).days
    sheet.expect(days >= DAYS_LEFT, f"{name}: {days} days left", f"at least {DAYS_LEFT}")
    wanted = profile.tls.rsa_bits if "rsa" in kind.group(1).lower() else profile.tls.ec_bits
    size = int(bits.group(1))
    sheet.expect(size >= wanted, f"{name}: {kind.group(1)} key of {size} bit", f"at least {wanted} bit")
    sheet.expect("sha1" not in signature.group(1).lower(), f"{name}: signed by {signature.group(1)}", "SHA-2")


@pytest.mark.control("CRY-10")
def test_ssh_algorithms(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """What sshd has in effect must be a part of the profile."""
    profile = chosen(subject.settings).ssh
    effective, keys = ask(
        host,
        "mkdir -p /run/sshd; sshd -T",
        "sshd -T | awk '$1 == \"hostkey\" {print $2}' | xargs -r -n1 ssh-keygen -l -f",
    )
    rows = dict(line.partition(" ")[::2] for line in text(effective).splitlines())
    for option, listed in (
        ("kexalgorithms", profile.kex),
        ("ciphers", profile.ciphers),
        ("macs", profile.macs),
        ("hostkeyalgorithms", profile.host_keys),
        ("pubkeyacceptedalgorithms", profile.public_keys),
    ):
        offered = rows[option].split(",")
        weak = [name for name in offered if not profile.allows(signs_by(name), listed)]
        wanted = f"only {', '.join(listed)}{profile.why_not(weak)}"
        sheet.expect(not weak, f"{option}: {profile.shown(weak or offered)}", wanted)
    for line in text(keys).splitlines():
        bits, *_, kind = line.split()
        least = profile.rsa_bits if "RSA" in kind else profile.ec_bits
        sheet.expect(int(bits) >= least, f"host key {kind} of {bits} bit", f"at least {least} bit")
