"""TLS as a client meets it from outside: versions, suites, groups, and the certificate that is served."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.crypto import CryptoProfile, chosen
from orchestrator.verification.nmap import Scan, read
from orchestrator.verification.reach import Target, targets
from orchestrator.verification.sheet import NotTested, Sheet
from orchestrator.verification.subject import Subject

FLAGS = {"TLSv1.2": "tls1_2", "TLSv1.3": "tls1_3"}
# IANA's TLS Supported Groups, as far as OpenSSL has ever spoken them. TLS 1.3 has dropped most; hybrids are for it alone.
CURVES = (
    *("sect163k1", "sect163r1", "sect163r2", "sect193r1", "sect193r2", "sect233k1", "sect233r1", "sect239k1"),
    *(
        "sect283k1",
        "sect283r1",
        "sect409k1",
        "sect409r1",
        "sect571k1",
        "sect571r1",
        "secp160k1",
        "secp160r1",
        "secp160r2",
    ),
    *("secp192k1", "secp192r1", "secp224k1", "secp224r1", "secp256k1"),
    *("brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"),
)
BOTH = ("secp256r1", "secp384r1", "secp521r1", "x25519", "x448")
TLS13 = ("ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192")
# OpenSSL before 3.2 and 3.5 does not know these; none of them is weak, so that they are tried only where it does.
LATER = (
    *("brainpoolP256r1tls13", "brainpoolP384r1tls13", "brainpoolP512r1tls13"),
    *("X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "MLKEM512", "MLKEM768", "MLKEM1024"),
)
# An EC certificate's own curve must be offered too, or TLS 1.2 fails for its sake (RFC 8422 5.1).
CERTIFICATE = ("secp256r1", "secp384r1")
_ALL = ":".join(CURVES)
_WITH = ":".join(("", *CERTIFICATE))
FIRST = (
    *(f"tls1_2={_ALL}", f"tls1_2={_ALL}{_WITH}"),
    *(f"tls1_2={group}" for group in BOTH),
    *(f"tls1_2={group}{_WITH}" for group in BOTH if group not in CERTIFICATE),
    *(f"tls1_3={group}" for group in (*BOTH, *TLS13, *LATER)),
)
EACH = tuple(f"tls1_2={group}{more}" for group in CURVES for more in ("", _WITH))
_OPENSSL_NAMES = {"prime256v1": "secp256r1", "prime192v1": "secp192r1"}
# The oldest nmap that was seen to enumerate TLS 1.3's suites (Debian 12's).
NMAP = (7, 93)
_NMAP = "nmap -n -Pn -oX - --host-timeout 60s --script ssl-enum-ciphers,sslv2"
# Who does not verify need not read all authorities of the world, which takes longer than the handshake.
NO_STORE = "-no-CAfile -no-CApath -no-CAstore"
# Our own side must not be what refuses: level 0 lets Debian's OpenSSL offer what it would not use itself. Who falls silent twice
# in a row is asked no more.
_TRY = (
    "at='{connect}'; silent=0; for try in {tries}; do printf '== %s\\n' $try; timeout 8 openssl s_client -brief -connect \"$at\" "
    f"{{named}} -${{{{try%%=*}}}} -groups ${{{{try#*=}}}} -cipher 'ECDHE:@SECLEVEL=0' {NO_STORE}"
    " </dev/null 2>&1; if [ $? = 124 ]; then silent=$((silent + 1)); else silent=0; fi; [ $silent = 2 ] && break; done; true"
)
_SILENT = 'timeout 8 openssl s_client -connect "$at" {named} </dev/null >/dev/null 2>&1; [ $? = 124 ]'
REFUSED = re.compile(r"alert (handshake failure|illegal parameter|insufficient security|protocol version)")
_DISK = "/etc/ratssaal/tls/fullchain.pem"
ON_DISK = f"openssl x509 -in {_DISK} -noout -fingerprint -sha256 2>/dev/null; true"
"""Prints the SHA-256 of the certificate that the host has for its services."""
# An unknown issuer, by OpenSSL's numbers.
_STRANGE = ("18", "19", "20", "21")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One TLS service at one address, asked by a name; by none where that is ""."""

    name: str
    port: int
    target: Target

    @property
    def connect(self) -> str:
        """Return its address and port as OpenSSL takes them."""
        return f"{self.target.bracketed}:{self.port}"

    @property
    def label(self) -> str:
        """Return what it is called in a finding, whatever its address."""
        return f"{self.name or 'no name'}:{self.port}"

    @property
    def named(self) -> str:
        """Return OpenSSL's argument that tells the name."""
        return f"-servername {self.name}" if self.name else "-noservername"

    def enumerate(self) -> str:
        """Return the command by which nmap tries all versions and suites on it."""
        family = "-6 " if ":" in self.target.address else ""
        # Without a name nmap tells none, for it is given an address.
        named = f" --script-args tls.servername={self.name}" if self.name else ""
        scan = f"{_NMAP}{named} -p {self.port} {family}{self.target.address}"
        # Under full load nmap once saw no TLS on a port that speaks it; one that says nothing is not asked for all of it again.
        tries = (
            f"told=$({scan}); case $told in *key=?TLSv1.*) break;; esac; {_SILENT.format(named=self.named)} && break"
        )
        return f"at='{self.connect}'; for try in 1 2; do {tries}; done; printf '%s\\n' \"$told\""

    def groups(self, *tries: str) -> str:
        """Return the command that tries groups on it, each of the form `tls1_2=secp256r1:secp384r1`."""
        return _TRY.format(connect=self.connect, named=self.named, tries=" ".join(tries))


def endpoints(outside: testinfra.host.Host, subject: Subject, sheet: Sheet, *tools: str) -> list[Endpoint]:
    """Return every TLS service of the host at every address that the vantage point reaches."""
    reached = targets(outside, subject, sheet, *tools)
    return [Endpoint(name, port, target) for target in reached for name, port in subject.tls_names()]


def note(judged: Iterable[tuple[Endpoint, Sheet]], sheet: Sheet) -> None:
    """Take over what was noted on each endpoint; what is alike over several addresses is said once."""
    alike: dict[tuple[str, str], list[str]] = {}
    for endpoint, own in judged:
        alike.setdefault((endpoint.label, repr(own)), []).append(endpoint.target.address)
    for endpoint, own in judged:
        addresses = alike.pop((endpoint.label, repr(own)), [])
        label = f"{endpoint.label} ({', '.join(addresses)})"
        if not addresses:
            continue
        for seen in own.seen:
            sheet.expect(True, f"{label}: {seen}", "")
        for seen, wanted in own.faults:
            sheet.expect(False, f"{label}: {seen}", wanted)
        for reason in own.untested:
            sheet.could_not_look(f"{label}: {reason}")


def scanned(endpoint: Endpoint, printed: str) -> Scan:
    """Return what nmap saw; raises RuntimeError where it came to no end, NotTested where it is too old."""
    scan = read(printed)
    if scan.problem:
        raise RuntimeError(f"{endpoint.connect}: {scan.problem}")
    number = re.match(r"(\d+)\.(\d+)", scan.version)
    if number and tuple(map(int, number.groups())) < NMAP:
        raise NotTested(f"nmap {scan.version} at the vantage point is too old to speak TLS 1.3; install a newer one")
    return scan


@pytest.mark.control("CRY-01")
def test_tls_versions_from_outside(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """SSLv2 to TLS 1.3 by nmap, which speaks the old ones where OpenSSL no longer does."""
    del host
    allowed = chosen(subject.settings).tls.tls_versions
    found = endpoints(outside, subject, sheet, "nmap")
    results = ask(outside, *(e.enumerate() for e in found))
    judged = [(endpoint, Sheet()) for endpoint in found]
    try:
        for (endpoint, own), result in zip(judged, results, strict=True):
            judge_versions(scanned(endpoint, text(result)), allowed, own)
    finally:
        note(judged, sheet)


def judge_versions(scan: Scan, allowed: Iterable[str], sheet: Sheet) -> None:
    """Note versions that are spoken though not allowed, and allowed ones that are not: refusing everything is no proof."""
    old = [version for version in scan.tls if version not in allowed]
    for version in old:
        sheet.expect(False, f"{version} spoken", f"{version} refused")
    for version in allowed:
        spoken = version in scan.tls
        sheet.expect(spoken, f"{version} {'spoken' if spoken else 'not spoken'}", f"{version} spoken")
    if not old:
        sheet.expect(True, "nothing older spoken", "")


@pytest.mark.control("CRY-02")
def test_suites_and_groups_from_outside(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Every suite by nmap, every group by OpenSSL, over every address, against the site's profile."""
    del host
    profile = chosen(subject.settings)
    found = endpoints(outside, subject, sheet, "nmap", "openssl")
    results = ask(outside, *(command for e in found for command in (e.enumerate(), e.groups(*FIRST))))
    groups = [text(result) for result in results[1::2]]
    # Who refuses all the old curves at once refuses each of them; else each is tried on its own.
    closer = [e for e, said in zip(found, groups, strict=True) if not tried_groups(said).old_refused]
    more = dict(zip(closer, ask(outside, *(e.groups(*EACH) for e in closer)), strict=True))
    judged = [(endpoint, Sheet()) for endpoint in found]
    try:
        for (endpoint, own), suites, said in zip(judged, results[::2], groups, strict=True):
            judge_suites(scanned(endpoint, text(suites)), profile, own)
            each = text(more[endpoint]) if endpoint in more else ""
            judge_groups(tried_groups(said + each), profile, own)
    finally:
        note(judged, sheet)


def judge_suites(scan: Scan, profile: CryptoProfile, sheet: Sheet) -> None:
    """Note suites that the profile does not allow; each version of it must have one that works."""
    for version in profile.tls.tls_versions:
        offered = scan.tls.get(version, ())
        bad = [name for name in offered if not profile.tls.allows(name, profile.tls.tls_suites)]
        if bad:
            why = profile.tls.why_not(bad)
            sheet.expect(False, f"{version} takes {', '.join(bad)}", f"only suites of {profile.name}{why}")
        good = [name for name in offered if name not in bad]
        sheet.expect(bool(good), f"{version} with {profile.tls.shown(good) or 'no suite'}", "a suite that works")


@dataclass(frozen=True, slots=True)
class Groups:
    """What came of trying: groups that each version took, those that our own OpenSSL does not know, and other trouble.

    `old_refused` says that the old curves were tried together and none was taken.
    """

    taken: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]
    trouble: tuple[str, ...]
    old_refused: bool


def tried_groups(printed: str) -> Groups:
    """Read what the tries printed. A refusal is an alert of the server's; anything else but success is trouble."""
    taken: dict[str, dict[str, None]] = {version: {} for version in FLAGS}
    unknown: dict[str, None] = {}
    trouble: dict[str, None] = {}
    blind = False
    for part in printed.split("== ")[1:]:
        head, _, said = part.partition("\n")
        flag, _, offered = head.strip().partition("=")
        version = next(version for version, known in FLAGS.items() if known == flag)
        names = offered.split(":")
        meant = [name for name in names if name not in CERTIFICATE] or names
        if "CONNECTION ESTABLISHED" in said:
            group = negotiated(said) if len(names) > 1 else names[0]
            taken[version].update({group: None} if group in meant else {})
        elif "cannot be set" in said:
            # Of several, which one it is that OpenSSL does not know shows only when each is tried on its own.
            blind |= len(meant) > 1
            unknown.update(dict.fromkeys(meant if len(meant) == 1 else ()))
        elif not REFUSED.search(said):
            trouble[f"{version} {meant[0]}: {' '.join(said.split())[-120:] or 'no answer'}"] = None
    refused = not blind and not set(taken["TLSv1.2"]) & set(CURVES)
    return Groups({v: tuple(names) for v, names in taken.items()}, tuple(unknown), tuple(trouble), refused)


def negotiated(said: str) -> str:
    """Return the group of a TLS 1.2 handshake (`Server Temp Key: ECDH, secp224r1, 224 bits`; `Peer Temp Key` since 3.5)."""
    found = re.search(r"(?:Server|Peer) Temp Key: (?:ECDH, )?(\w+)", said)
    name = found.group(1) if found else ""
    return _OPENSSL_NAMES.get(name, name.lower() if name.startswith("X") else name)


def judge_groups(groups: Groups, profile: CryptoProfile, sheet: Sheet) -> None:
    """Note groups that the profile does not allow; each version must have taken one that it does."""
    for version in profile.tls.tls_versions:
        taken = groups.taken[version]
        bad = [name for name in taken if not profile.tls.allows(name, profile.tls.tls_groups)]
        if bad:
            sheet.expect(False, f"{version} takes the groups {', '.join(bad)}", f"only groups of {profile.name}")
        good = [name for name in taken if name not in bad]
        sheet.expect(bool(good), f"{version} by {profile.tls.shown(good) or 'no group'}", "a group that works")
    blind = [name for name in groups.unknown if name not in LATER]
    if blind:
        sheet.could_not_look(f"the vantage point's OpenSSL does not speak {', '.join(blind)}")
    if groups.trouble:
        sheet.could_not_look(f"{'; '.join(groups.trouble[:3])}")


@pytest.mark.control("CRY-03")
def test_certificates_from_outside(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """The chain as served to clients: it fits name and trust, and its certificate is the one on the host's disk."""
    (disk,) = ask(host, ON_DISK)
    wanted = fingerprint(text(disk))
    found = endpoints(outside, subject, sheet, "openssl")
    judged = [(endpoint, Sheet()) for endpoint in found]
    served = ask(outside, *(_served_command(endpoint, subject.authority) for endpoint in found))
    for (_, own_sheet), result in zip(judged, served, strict=True):
        judge_served(text(result), wanted, own_sheet)
    note(judged, sheet)


def _served_command(endpoint: Endpoint, authority: str) -> str:
    """Return the command that shakes hands and shows the certificate; with the site's own CA as trust where it has one.

    The CA is the inventory's: the host that is looked at has no word in whom clients trust, nor in what is run here.
    """
    client = f"timeout 8 openssl s_client -connect '{endpoint.connect}' -servername {endpoint.name}"
    client += f" -verify_hostname {endpoint.name}"
    shown = 'printf "%s\\n" "$served"; printf "%s\\n" "$served" | openssl x509 -noout -fingerprint -sha256; true'
    if not authority:
        return f"served=$({client} </dev/null 2>&1); {shown}"
    trust = f"trust=$(mktemp); printf '%s' {shlex.quote(authority)} >$trust"
    return f"{trust}; served=$({client} -CAfile $trust </dev/null 2>&1); rm -f $trust; {shown}"


def fingerprint(said: str) -> str:
    """Return the SHA-256 that OpenSSL printed of a certificate, "" where there is none."""
    found = re.search(r"(?i)sha256 fingerprint=([0-9A-F:]+)", said)
    return found.group(1) if found else ""


def judge_served(said: str, wanted: str, sheet: Sheet) -> None:
    """Note what verification says of a handshake, and whether the certificate is the wanted one."""
    if not wanted:
        sheet.expect(False, f"the host has no certificate in {_DISK}", "the one that is served")
        return
    verdict = re.search(r"Verify return code: (\d+) (\(.*?\))", said)
    served = fingerprint(said)
    if not verdict or not served:
        sheet.expect(False, "no certificate", "a certificate")
        return
    fits = verdict.group(1) == "0"
    hint = ", trusted where we look from" if verdict.group(1) in _STRANGE else ""
    sheet.expect(fits, f"verification says {' '.join(verdict.groups())}", f"0 (ok): chain and name fit{hint}")
    same = served == wanted
    on_disk = "the one on the host's disk" if same else f"{served[:23]}..., not the one on the host's disk"
    sheet.expect(same, f"the certificate is {on_disk}", f"{wanted[:23]}..., reload what serves it")
