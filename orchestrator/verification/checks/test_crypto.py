"""TLS, certificates and SSH algorithms, by handshakes and by what sshd has in effect."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
import testinfra.host

from orchestrator.inventory.derivations import xmpp_domains
from orchestrator.verification import sshd
from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_tls import BOTH, CERTIFICATE, CURVES, NO_STORE, REFUSED, TLS13, negotiated
from orchestrator.verification.crypto import CryptoProfile, SshPart, chosen, signs_by
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

VERSIONS = {"TLSv1": "-tls1", "TLSv1.1": "-tls1_1", "TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}
DAYS_LEFT = 21
# Our own side must not be what refuses: level 0 lets Debian's OpenSSL offer what it would not use itself.
_LENIENT = "-cipher 'ALL:@SECLEVEL=0'"
# Every suite that OpenSSL has ever spoken in TLS 1.2, without those that are allowed; those of TLS 1.3 have one name only.
_OTHER_SUITES = (
    "$(openssl ciphers -stdname 'ALL:COMPLEMENTOFALL:@SECLEVEL=0' | grep -vE '^({allowed}) '"
    " | awk '$1 != $3 {{print $3}}' | paste -sd:):@SECLEVEL=0"
)
_SUITES13 = (
    *("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"),
    *("TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"),
)


def _endpoints(subject: Subject) -> dict[str, str]:
    """Return a label -> s_client's arguments of every TLS service of the host, reached over its public addresses."""
    found = {}
    for address in subject.addresses:
        target = f"[{address}]" if ":" in address else address
        for name, port in subject.tls_names():
            found[f"{name}:{port} ({address})"] = f"-connect '{target}:{port}' -servername {name}"
    if subject.signalling:
        name, arguments = _xmpp(subject)
        found[f"XMPP {name}"] = arguments
    return found


def _xmpp(subject: Subject) -> tuple[str, str]:
    """Return Prosody's name for Jicofo and the bridges, and s_client's arguments: nobody else comes to its TLS."""
    name = xmpp_domains(subject.settings)["auth"]
    return name, f"-connect 127.0.0.1:5222 -starttls xmpp -xmpphost {name}"


def _handshake(arguments: str, version: str) -> str:
    return f"timeout ${{PATIENCE:-9}} openssl s_client {arguments} {version} {NO_STORE} -brief </dev/null 2>&1; true"


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


@pytest.mark.control("CRY-02")
def test_prosodys_suites_and_groups(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """All that the profile does not allow is offered at once, and must be refused; what it allows must work, or that is no proof."""
    if not subject.signalling:
        raise NotApplicable("Prosody does not run here")
    name, arguments = _xmpp(subject)
    profile = chosen(subject.settings)
    beyond = _beyond(profile)
    working = [f"{arguments} {_LENIENT}", arguments]
    said = ask(
        host,
        *(_handshake(way, VERSIONS[version]) for version, way in zip(("TLSv1.2", "TLSv1.3"), working, strict=True)),
        *(_handshake(f"{arguments} {offer}", VERSIONS[version]) for version, _, offer in beyond),
    )
    for version, result in zip(("TLSv1.2", "TLSv1.3"), said, strict=False):
        taken = _took(text(result))
        sheet.expect(bool(taken), f"XMPP {name}: {version} with {taken or 'no suite'}", "a suite that works")
    for (version, kind, _), result in zip(beyond, said[2:], strict=True):
        judge_beyond(f"XMPP {name}: {version}", kind, text(result), profile, sheet)


def _beyond(profile: CryptoProfile) -> list[tuple[str, str, str]]:
    """Return what to offer that the profile does not allow: version, kind, and s_client's arguments."""
    tls = profile.tls
    allowed = "|".join((*tls.tls_suites, *(name for row in tls.unconfirmed if row.allowed for name in row.names)))
    suites = ":".join(name for name in _SUITES13 if not tls.allows(name, tls.tls_suites))
    old = ":".join(name for name in (*CURVES, *BOTH) if not tls.allows(name, tls.tls_groups))
    new = ":".join(name for name in (*BOTH, *TLS13) if not tls.allows(name, tls.tls_groups))
    return [
        ("TLSv1.2", "suite", f'-cipher "{_OTHER_SUITES.format(allowed=allowed)}"'),
        ("TLSv1.3", "suite", f"-ciphersuites {suites} {_LENIENT}"),
        ("TLSv1.2", "group", f"-groups {old} {_LENIENT}"),
        # An EC certificate's own curve must be offered too (RFC 8422 5.1).
        ("TLSv1.2", "group", f"-groups {':'.join((old, *CERTIFICATE))} {_LENIENT}"),
        ("TLSv1.3", "group", f"-groups {new} {_LENIENT}"),
    ]


def _took(said: str) -> str:
    """Return the suite of a handshake, "" where there was none."""
    found = re.search(r"(?m)^Ciphersuite: (\S+)", said) if "CONNECTION ESTABLISHED" in said else None
    return found.group(1) if found else ""


def judge_beyond(label: str, kind: str, said: str, profile: CryptoProfile, sheet: Sheet) -> None:
    """Note what came of an offer that the profile does not allow. A refusal is an alert of the server's, nothing else is."""
    suite, group = _took(said), negotiated(said)
    if suite and kind == "group" and profile.tls.allows(group, profile.tls.tls_groups):
        return
    taken = suite if kind == "suite" else group
    if suite:
        sheet.expect(False, f"{label} takes the {kind} {taken or '?'}", f"only {kind}s of {profile.name}")
    elif REFUSED.search(said):
        sheet.expect(True, f"{label} refuses every other {kind}", "")
    else:
        sheet.could_not_look(f"{label}, every other {kind}: {' '.join(said.split())[-120:] or 'no answer'}")


@pytest.mark.control("CRY-03")
def test_certificates(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The chain as served, judged by the host's own trust store, and the own values of every certificate in it."""
    address = f"[{subject.address}]" if ":" in subject.address else subject.address
    ways = [(name, f"-connect '{address}:{port}' -servername {name}") for name, port in subject.tls_names()]
    ways += [_xmpp(subject)] if subject.signalling else []
    commands = [_CHAIN.format(arguments=f"{arguments} -verify_hostname {name}") for name, arguments in ways]
    *results, clock = ask(host, *commands, "date --utc +%Y-%m-%dT%H:%M:%S")
    now = datetime.fromisoformat(text(clock).strip()).replace(tzinfo=UTC)
    for (name, _), result in zip(ways, results, strict=True):
        judge_chain(name, text(result), now, chosen(subject.settings), sheet)


# One handshake; then all that was served, in words.
_CHAIN = (
    "served=$(timeout ${{PATIENCE:-9}} openssl s_client {arguments} -showcerts </dev/null 2>&1);"
    " printf '%s\\n' \"$served\" | grep 'Verify return code';"
    " printf '%s\\n' \"$served\" | openssl crl2pkcs7 -nocrl -certfile /dev/stdin 2>&1"
    " | openssl pkcs7 -print_certs -noout -text 2>&1; true"
)


def judge_chain(name: str, said: str, now: datetime, profile: CryptoProfile, sheet: Sheet) -> None:
    """Note what verification says, then days, key and signature of each certificate that was served, the own one first."""
    verdict = re.search(r"Verify return code: (\d+ \(.*?\))", said)
    chain = list(dict.fromkeys(re.split(r"(?m)^Certificate:$", said)[1:]))
    # Without a handshake s_client says that nothing was wrong.
    seen = verdict.group(1) if verdict and chain else "no certificate"
    sheet.expect(seen == "0 (ok)", f"{name}: verification says {seen}", "0 (ok): chain and name fit")
    for number, shown in enumerate(chain):
        _judge_certificate(name, shown, now, profile, sheet, above=number > 0)


def _judge_certificate(
    name: str, shown: str, now: datetime, profile: CryptoProfile, sheet: Sheet, *, above: bool
) -> None:
    wanted = (
        r"Not After : (.+) GMT",
        r"Public-Key: \((\d+) bit\)",
        r"Public Key Algorithm: (\S+)",
        r"Signature Algorithm: (\S+)",
        r"Issuer: (.*)",
        r"Subject: (.*)",
    )
    found = [match.group(1) for match in (re.search(pattern, shown) for pattern in wanted) if match]
    if len(found) < len(wanted):
        raise RuntimeError(f"openssl did not show the certificate of {name}: {' '.join(shown.split())[:200]}")
    end, bits, kind, signature, issuer, owner = found
    label = f"{name}, above it {owner.strip()}" if above else name
    days = (datetime.strptime(end, "%b %d %H:%M:%S %Y").replace(tzinfo=UTC) - now).days
    sheet.expect(days >= DAYS_LEFT, f"{label}: {days} days left", f"at least {DAYS_LEFT}")
    rsa_bits = profile.tls.authority_rsa_bits if above else profile.tls.rsa_bits
    least = rsa_bits if "rsa" in kind.lower() else profile.tls.ec_bits
    sheet.expect(int(bits) >= least, f"{label}: {kind} key of {bits} bit", f"at least {least} bit")
    # A root is trusted for what it is, not for its own signature.
    if not (above and issuer == owner):
        broken = any(hashed in signature.lower() for hashed in ("md5", "sha1"))
        sheet.expect(not broken, f"{label}: signed by {signature}", "SHA-2")


# sshd goes without a key that is not there, and names it all the same.
_SHOWN_KEYS = 'while read -r key; do test ! -e "$key" || ssh-keygen -l -f "$key" || exit; done'


@pytest.mark.control("CRY-10")
def test_ssh_algorithms(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """What sshd has in effect must be a part of the profile."""
    profile = chosen(subject.settings).ssh
    effective, keys = ask(
        host,
        sshd.EFFECTIVE,
        f"{sshd.EFFECTIVE} | awk '$1 == \"hostkey\" {{print $2}}' | {_SHOWN_KEYS}",
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
    judge_host_keys(text(keys), profile, sheet)


def judge_host_keys(shown: str, profile: SshPart, sheet: Sheet) -> None:
    """Note the size of each host key, as ssh-keygen lists them."""
    if not shown.strip():
        sheet.could_not_look("the size of the host keys: sshd names none")
    for line in shown.splitlines():
        bits, *_, kind = line.split()
        least = profile.rsa_bits if "RSA" in kind else profile.ec_bits
        sheet.expect(int(bits) >= least, f"host key {kind} of {bits} bit", f"at least {least} bit")
