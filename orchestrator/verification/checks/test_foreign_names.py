"""What a host shows to who calls it by no name or by a foreign one: TLS, a certificate, the application; from outside.

Scanners come by the bare address, and whoever owns a domain can let it lead here. Each other look is made by the site's own names.
"""

from __future__ import annotations

import re

import pytest
import testinfra.host
from testinfra.backend.base import CommandResult

from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_tls import NO_STORE, ON_DISK, Endpoint, fingerprint, note, scanned
from orchestrator.verification.checks.test_web import ROOM, Answer, Asked, bare, read, request, told
from orchestrator.verification.crypto import chosen
from orchestrator.verification.nmap import Scan
from orchestrator.verification.reach import targets
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

# A name that nobody has (RFC 2606).
FOREIGN = "other.example"
# One of each kind: page, room, configuration, signalling.
PATHS = ("/", ROOM, "/config.js", "/http-bind")
# Our own side must not be what refuses: level 0 takes certificates and suites that OpenSSL would not take itself.
_HANDSHAKE = (
    "served=$(timeout 8 openssl s_client -connect '{connect}' {named} -cipher 'ALL:@SECLEVEL=0' {store} </dev/null 2>&1); "
    'printf "%s\\n" "$served" "== certificate =="; printf "%s\\n" "$served"'
    " | openssl x509 -noout -subject -ext subjectAltName -fingerprint -sha256 2>&1; true"
)
_ALERT = re.compile(r"(?:tlsv\d+|sslv3|ssl/tls) (?:alert )?([a-z ]+):[^\n]*SSL alert number \d+")
_CLOSED = re.compile(r"unexpected eof|errno=(?:104|32)\b")
# What curl says of a handshake that the other side ends; its other faults may be our own.
_ENDED = re.compile(r"alert|unrecognized name|reset by peer|unexpected eof|SSL_ERROR_SYSCALL")
_DEFAULT_PAGE = re.compile(r"Welcome to nginx|Debian Default Page|<h1>It works!", re.I)


def strangers(outside: testinfra.host.Host, subject: Subject, sheet: Sheet, *tools: str) -> list[Endpoint]:
    """Return every port with TLS at every address that the vantage point reaches, by no name and by a foreign one."""
    ports = dict.fromkeys(port for _, port in subject.tls_names())
    reached = targets(outside, subject, sheet, *tools)
    return [Endpoint(name, port, target) for target in reached for port in ports for name in ("", FOREIGN)]


def _handshake(endpoint: Endpoint) -> str:
    return _HANDSHAKE.format(connect=endpoint.connect, named=endpoint.named, store=NO_STORE)


def refusal(said: str) -> str:
    """Return how a handshake was refused by what s_client said of it, "" where it was not, or where nobody was there."""
    alert = _ALERT.search(said)
    if "CONNECTED" not in said or fingerprint(said):
        return ""
    return alert.group(1) if alert else "the connection ends" if _CLOSED.search(said) else ""


@pytest.mark.control("CRY-01")
def test_versions_for_strangers(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Who tells no name, or a foreign one, is refused or finds the same versions as everybody: TLS by nmap, the refusal by OpenSSL."""
    del host
    allowed = chosen(subject.settings).tls.tls_versions
    found = strangers(outside, subject, sheet, "nmap", "openssl")
    results = ask(outside, *(command for each in found for command in (each.enumerate(), _handshake(each))))
    judged = [(endpoint, Sheet()) for endpoint in found]
    for (endpoint, own), scan, said in zip(judged, results[::2], results[1::2], strict=True):
        judge_versions(scanned(endpoint, text(scan)), text(said), allowed, own)
    note(judged, sheet)


def judge_versions(scan: Scan, said: str, allowed: tuple[str, ...], sheet: Sheet) -> None:
    """Note versions that are spoken though not allowed. That none is spoken must be the server's own word."""
    old = [version for version in scan.tls if version not in allowed]
    for version in old:
        sheet.expect(False, f"{version} spoken", f"{version} refused")
    if scan.tls and not old:
        sheet.expect(True, f"{', '.join(sorted(scan.tls))} spoken and nothing older", "")
    if not scan.tls and refusal(said):
        sheet.expect(True, f"refused ({refusal(said)})", "")
    elif not scan.tls:
        sheet.could_not_look(f"nmap saw no TLS, and no refusal either: {_tail(said)}")


def _tail(said: str) -> str:
    return " ".join(said.partition("== certificate ==")[0].split())[-120:] or "no answer"


@pytest.mark.control("CRY-03")
def test_certificates_for_strangers(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Who tells no name, or a foreign one, is shown no certificate, or the site's own: another one tells what else runs here."""
    (disk,) = ask(host, ON_DISK)
    found = strangers(outside, subject, sheet, "openssl")
    judged = [(endpoint, Sheet()) for endpoint in found]
    for (_, own), result in zip(judged, ask(outside, *map(_handshake, found)), strict=True):
        judge_certificate(text(result), fingerprint(text(disk)), own)
    note(judged, sheet)


def judge_certificate(said: str, wanted: str, sheet: Sheet) -> None:
    """Note whether a certificate is shown that is not the wanted one, and whose it is."""
    served = fingerprint(said)
    if served and not wanted:
        sheet.could_not_look("a certificate is shown, and the host has none on its disk that it could be")
    elif served:
        shown = "the site's own certificate" if served == wanted else f"another certificate, for {_owner(said)}"
        sheet.expect(served == wanted, shown, "none, or the one on the host's disk")
    elif refusal(said):
        sheet.expect(True, f"no certificate: refused ({refusal(said)})", "")
    else:
        sheet.could_not_look(f"neither a certificate nor a refusal: {_tail(said)}")


def _owner(said: str) -> str:
    """Return the names in a certificate: those that browsers look at, or else its subject."""
    shown = said.partition("== certificate ==")[2]
    names = re.findall(r"(?:DNS|IP Address):([^,\s]+)", shown)
    subject = re.search(r"(?m)^subject=(.*)$", shown)
    return ", ".join(names) or (subject.group(1).strip() if subject else "") or "nobody"


@pytest.mark.control("WEB-01")
def test_the_application_under_foreign_names(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """The application answers to the site's own name alone, whichever way another one is told: by TLS, by HTTP, or none at all."""
    del host
    domain = str(subject.settings["jitsi_domain"])
    requests = [asked for address in subject.addresses for path in PATHS for asked in _foreign(domain, address, path)]
    for asked, result in told(outside, requests, sheet):
        judge_foreign(asked.label, read(result), result, domain, sheet)


def _foreign(domain: str, address: str, path: str) -> list[Asked]:
    return [
        request("https", FOREIGN, address, path),
        bare("https", address, path),
        request("https", domain, address, path, f"-H 'Host: {FOREIGN}'"),
        request("https", domain, address, path, f"--request-target https://{FOREIGN}{path}"),
    ]


def judge_foreign(label: str, answer: Answer | None, result: CommandResult, domain: str, sheet: Sheet) -> None:
    """Note what a foreign name is answered. Who is refused, or sent to the site's own name, gets no application."""
    wanted = f"a refusal, or a redirect to https://{domain}/"
    if answer is None:
        _judge_silence(label, result, sheet)
    elif answer.status.startswith("3"):
        target = answer.headers.get("location", "")
        own = re.match(rf"https://{re.escape(domain)}(?:[/?#]|$)", target)
        sheet.expect(bool(own), f"{label} answers {answer.status} to {target or 'nowhere'}", wanted)
    elif answer.status == "429" or answer.status.startswith("5"):
        sheet.could_not_look(f"{label} answers {answer.status}")
    else:
        sheet.expect(answer.status.startswith("4"), f"{label} answers {answer.status}", wanted)


def _judge_silence(label: str, result: CommandResult, sheet: Sheet) -> None:
    said = " ".join(str(result.stdout).split())[:100]
    # 35: the handshake; 52 and 56: the connection ends without a word, or in its middle (curl(1)).
    if (result.rc == 35 and _ENDED.search(said)) or result.rc in (52, 56):
        sheet.expect(True, f"{label} is refused", "")
    else:
        sheet.could_not_look(f"{label} does not answer: {said}")


@pytest.mark.control("WEB-01")
def test_no_foreign_name_is_repeated(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """A name that is told beside the site's own stands in no answer: whoever keeps answers would hand it to others."""
    del host
    domain = str(subject.settings["jitsi_domain"])
    requests = [asked for address in subject.addresses for path in PATHS for asked in _beside(domain, address, path)]
    for asked, result in told(outside, requests, sheet):
        if read(result) is None:
            _judge_silence(asked.label, result, sheet)
        else:
            repeated = FOREIGN in str(result.stdout)
            sheet.expect(
                not repeated, f"{asked.label} {'repeats' if repeated else 'does not repeat'} it", "not repeated"
            )


def _beside(domain: str, address: str, path: str) -> list[Asked]:
    return [
        request("https", domain, address, path, f"-H 'X-Forwarded-Host: {FOREIGN}'"),
        request("https", domain, address, path, f"-H 'Host: {FOREIGN}' --request-target https://{domain}{path}"),
    ]


@pytest.mark.control("WEB-03")
def test_default_page(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No other name gets a page of the server's own."""
    del host
    requests = [
        asked
        for address in subject.addresses
        for asked in (request("https", FOREIGN, address, "/"), bare("https", address, "/"))
    ]
    for asked, result in told(outside, requests, sheet):
        answer = read(result)
        if answer is None:
            _judge_silence(asked.label, result, sheet)
            continue
        page = _DEFAULT_PAGE.search(answer.body)
        seen = f"{asked.label} answers {answer.status}{f' with {page.group()}' if page else ''}"
        sheet.expect(not page, seen, "no default page")
