"""What TLS can do beyond a handshake and had better not: compression, renegotiation, early data; from outside."""

from __future__ import annotations

import re

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_tls import Endpoint, endpoints, note
from orchestrator.verification.nmap import read
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

# A session ticket, which says whether early data is taken, comes after the handshake; R asks for a new handshake. Who says nothing
# to the first is not asked for the second.
_TRY = (
    "(sleep 1; echo R; sleep 1) | timeout 8 openssl s_client -connect '{connect}' -servername {name} -tls1_2 2>&1; "
    "[ $? = 124 ] && exit; echo == next ==; "
    "sleep 1 | timeout 8 openssl s_client -connect '{connect}' -servername {name} -tls1_3 2>&1; true"
)


@pytest.mark.control("CRY-05")
def test_extras_from_outside(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Tried, not read: nmap offers compression, openssl asks for a renegotiation and for a ticket."""
    del host
    found = endpoints(outside, subject, sheet, "nmap", "openssl")
    commands = [
        command for each in found for command in (each.enumerate(), _TRY.format(connect=each.connect, name=each.name))
    ]
    results = ask(outside, *commands)
    judged: list[tuple[Endpoint, Sheet]] = []
    for endpoint, scanned, tried in zip(found, results[::2], results[1::2], strict=True):
        own = Sheet()
        _judge_compression(text(scanned), own)
        old, _, new = text(tried).partition("== next ==\n")
        _judge_renegotiation(old, own)
        _judge_early_data(new, own)
        judged.append((endpoint, own))
    note(judged, sheet)


def _judge_compression(printed: str, sheet: Sheet) -> None:
    scan = read(printed)
    if scan.problem or not scan.tls:
        sheet.could_not_look(f"compression: {scan.problem or 'nmap saw no TLS'}")
        return
    taken = sorted(scan.compressors - {"NULL"})
    sheet.expect(not taken, f"compression {', '.join(taken) or 'refused'}", "none")


def _judge_renegotiation(printed: str, sheet: Sheet) -> None:
    # OpenSSL names the version that it offered, too, where nobody took it.
    if "Cipher is (NONE)" in printed or not re.search(r"Protocol *: TLSv1\.2", printed):
        sheet.could_not_look("renegotiation: no handshake with TLS 1.2")
        return
    secure = "Secure Renegotiation IS supported" in printed
    sheet.expect(secure, f"secure renegotiation (RFC 5746) is {'' if secure else 'not '}supported", "supported")
    asked, _, after = printed.rpartition("RENEGOTIATING")
    if not asked:
        sheet.could_not_look("renegotiation: openssl did not ask for one")
        return
    again = "verify return:" in after or "depth=" in after
    refused = "no renegotiation" in after or ":error:" in after or not after.strip()
    if again or refused:
        sheet.expect(not again, f"a client's renegotiation is {'taken' if again else 'refused'}", "refused")
    else:
        sheet.could_not_look(f"renegotiation: {' '.join(after.split())[:80]}")


def _judge_early_data(printed: str, sheet: Sheet) -> None:
    if not re.search(r"Protocol *: TLSv1\.3|New, TLSv1\.3", printed):
        sheet.could_not_look("early data: no handshake with TLS 1.3")
        return
    sizes = [int(size) for size in re.findall(r"Max Early Data: (\d+)", printed)]
    most = max(sizes, default=0)
    sheet.expect(most == 0, f"{f'{most} bytes of' if most else 'no'} early data taken", "none: it can be replayed")
