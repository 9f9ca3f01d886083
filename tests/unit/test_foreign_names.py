"""How is judged what a host shows to who tells no name, or a foreign one: by recorded answers of nmap, OpenSSL and curl."""

from __future__ import annotations

import json

import pytest

from orchestrator.verification.checks import test_foreign_names as checks
from orchestrator.verification.checks.test_tls import Endpoint
from orchestrator.verification.nmap import Scan
from orchestrator.verification.reach import Target
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import FakeHost, faults_of, subject_of

ALLOWED = ("TLSv1.2", "TLSv1.3")
REFUSED = """803BA222ED7F0000:error:0A000458:SSL routines:ssl3_read_bytes:tlsv1 unrecognized name:../ssl/x.c:1601:SSL alert number 112
CONNECTED(00000003)
---
no peer certificate available
---
Verify return code: 0 (ok)
== certificate ==
Could not read certificate from <stdin>
"""
HANDSHAKE_FAILURE = (
    "CONNECTED(00000003)\n139:error:14094410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure:"
    "../ssl/record/rec_layer_s3.c:1543:SSL alert number 40\n== certificate ==\n"
)
ENDED = "CONNECTED(00000003)\n80:error:0A000126:SSL routines:ssl3_read_n:unexpected eof while reading:../ssl/x.c:320:\n"
RESET = "write:errno=104\nCONNECTED(00000003)\n---\nno peer certificate available\n== certificate ==\n"
CLOSED = "80:error:8000006F:system library:BIO_connect:Connection refused:../crypto/x.c:117:\nconnect:errno=111\n"
OWN, OTHER = "47:CF:BD", "11:22:33"


def served(fingerprint: str, names: str = "    DNS:intern.town.example, IP Address:10.0.0.7\n") -> str:
    shown = f"subject=CN = intern\nX509v3 Subject Alternative Name: \n{names}sha256 Fingerprint={fingerprint}\n"
    return f"CONNECTED(00000003)\nsubject=CN = other\n== certificate ==\n{shown}"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (REFUSED, "unrecognized name"),
        (HANDSHAKE_FAILURE, "handshake failure"),
        (ENDED, "the connection ends"),
        (RESET, "the connection ends"),
        (CLOSED, ""),
        ("CONNECTED(00000003)\n", ""),
        ("", ""),
        (served(OWN), ""),
    ],
    ids=["name", "handshake", "eof", "reset", "nobody there", "silence", "nothing", "served"],
)
def test_a_refusal_is_the_servers_own_word(said: str, why: str) -> None:
    assert checks.refusal(said) == why


def _versions(spoken: tuple[str, ...], said: str) -> Sheet:
    sheet = Sheet()
    checks.judge_versions(Scan(tls=dict.fromkeys(spoken, ("SUITE",))), said, ALLOWED, sheet)
    return sheet


def test_a_stranger_is_refused_or_finds_new_versions() -> None:
    assert _versions((), REFUSED).seen == ["refused (unrecognized name)"]
    assert _versions(ALLOWED, served(OWN)).seen == ["TLSv1.2, TLSv1.3 spoken and nothing older"]
    assert faults_of(_versions(("TLSv1.1", "TLSv1.2"), served(OWN))) == "TLSv1.1 spoken"
    assert faults_of(_versions(("SSLv3",), HANDSHAKE_FAILURE)) == "SSLv3 spoken"


@pytest.mark.parametrize("said", [CLOSED, served(OWN), "CONNECTED(00000003)\n"])
def test_that_nmap_saw_nothing_proves_nothing(said: str) -> None:
    sheet = _versions((), said)
    assert (sheet.seen, sheet.faults) == ([], [])
    assert sheet.untested[0].startswith("nmap saw no TLS, and no refusal either: ")


def _certificate(said: str, wanted: str = OWN) -> Sheet:
    sheet = Sheet()
    checks.judge_certificate(said, wanted, sheet)
    return sheet


def test_a_stranger_is_shown_no_other_certificate() -> None:
    assert _certificate(REFUSED).seen == ["no certificate: refused (unrecognized name)"]
    assert _certificate(served(OWN)).seen == ["the site's own certificate"]
    assert faults_of(_certificate(served(OTHER))) == "another certificate, for intern.town.example, 10.0.0.7"
    assert faults_of(_certificate(served(OTHER, names=""))) == "another certificate, for CN = intern"
    assert "neither a certificate nor a refusal: " in _certificate(CLOSED).untested[0]
    assert "none on its disk" in _certificate(served(OTHER), wanted="").untested[0]
    assert _certificate(REFUSED, wanted="").untested == []


def test_who_tells_no_name_is_asked_for_without_one() -> None:
    unnamed = Endpoint("", 5349, Target("2001:db8::10", ""))
    assert (unnamed.label, unnamed.named) == ("no name:5349", "-noservername")
    assert "tls.servername" not in unnamed.enumerate()
    assert unnamed.enumerate().count("-p 5349 -6 2001:db8::10)") == 1
    foreign = Endpoint("other.example", 443, Target("192.0.2.10", ""))
    assert foreign.named == "-servername other.example"


def test_every_port_with_tls_is_asked_by_no_name_and_by_a_foreign_one() -> None:
    outside = FakeHost({"python3 -c": "203.0.113.9\n", "for tool": "/usr/bin/nmap\n"})
    found = checks.strangers(outside, subject_of(jitsi_turn_tls="port5349"), Sheet(), "nmap")
    assert [each.label for each in found] == [
        f"{who}:{port}" for port in (443, 5349) for who in ("no name", "other.example")
    ]


def _asked(rows: dict[str, str | tuple[int, str]], otherwise: str | tuple[int, str]) -> FakeHost:
    """Return a vantage point whose curl answers by what stands in its command."""

    class Outside(FakeHost):
        def _answer(self, command: str) -> tuple[int, bytes, bytes]:
            if command.startswith("python3 -c"):
                return 0, b"203.0.113.9\n", b""
            told = next((said for part, said in rows.items() if part in command), otherwise)
            code, said = told if isinstance(told, tuple) else (0, told)
            return code, said.encode(), b""

    return Outside({})


NAMELESS = (35, "curl: (35) OpenSSL/3.0.19: error:0A000458:SSL routines::tlsv1 unrecognized name")
MISDIRECTED = "HTTP/1.1 421 Misdirected Request\r\nServer: nginx\r\n\r\n<html>"
PAGE = "HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n<html>Jitsi Meet"


def _application(said: str | tuple[int, str]) -> Sheet:
    sheet = Sheet()
    checks.test_the_application_under_foreign_names(FakeHost({}), _asked({}, said), subject_of(), sheet)
    return sheet


@pytest.mark.parametrize(
    "said",
    [
        NAMELESS,
        (35, "curl: (35) Recv failure: Connection reset by peer"),
        (52, "curl: (52) Empty reply from server"),
        MISDIRECTED,
        "HTTP/1.1 301 Moved\r\nLocation: https://meet.example.org/config.js\r\n\r\n",
    ],
)
def test_a_foreign_name_gets_no_application(said: str | tuple[int, str]) -> None:
    sheet = _application(said)
    assert (sheet.faults, sheet.untested) == ([], [])
    assert len(sheet.seen) == 4 * len(checks.PATHS)


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (PAGE, "answers 200"),
        ("HTTP/1.1 302 Found\r\nLocation: https://other.example/login\r\n\r\n", "answers 302 to https://other.example/login"),
        ("HTTP/1.1 302 Found\r\nLocation: https://meet.example.org.evil.example/\r\n\r\n", "answers 302 to "),
    ],
)  # fmt: skip
def test_an_application_under_a_foreign_name_is_a_fault(said: str, seen: str) -> None:
    sheet = _application(said)
    assert len(sheet.faults) == 4 * len(checks.PATHS)
    labels = [label.partition(" answers ")[0] for label, _ in sheet.faults]
    assert labels[:4] == [
        "https://other.example/ (IPv4)",
        "https://192.0.2.10/",
        "https://meet.example.org/ (IPv4, -H 'Host: other.example')",
        "https://meet.example.org/ (IPv4, --request-target https://other.example/)",
    ]
    assert seen in sheet.faults[0][0]


@pytest.mark.parametrize(
    "said",
    [
        (7, "curl: (7) Failed to connect"),
        (28, "curl: (28) Operation timed out"),
        # Our own side's.
        (35, "curl: (35) error:0A000102:SSL routines::unsupported protocol"),
        "HTTP/1.1 429 Too Many Requests\r\n\r\n",
        "HTTP/1.1 502 Bad Gateway\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_no_refusal(said: str | tuple[int, str]) -> None:
    sheet = _application(said)
    assert (sheet.seen, sheet.faults) == ([], [])
    assert len(sheet.untested) == 4 * len(checks.PATHS)


def test_an_answer_that_repeats_a_foreign_name_is_a_fault() -> None:
    def judged(said: str) -> Sheet:
        sheet = Sheet()
        outside = _asked({"X-Forwarded-Host": said}, PAGE)
        checks.test_no_foreign_name_is_repeated(FakeHost({}), outside, subject_of(), sheet)
        return sheet

    assert judged(PAGE).faults == []
    told = json.dumps({"bosh": "https://other.example/http-bind"})
    for said in (f"{PAGE}{told}", "HTTP/1.1 301 Moved\r\nLocation: https://other.example/\r\n\r\n"):
        assert len(judged(said).faults) == len(checks.PATHS)
        assert "-H 'X-Forwarded-Host: other.example') repeats it" in faults_of(judged(said))


def test_a_default_page_is_a_fault_and_a_refusal_none() -> None:
    def judged(said: str | tuple[int, str]) -> Sheet:
        sheet = Sheet()
        checks.test_default_page(FakeHost({}), _asked({}, said), subject_of(), sheet)
        return sheet

    assert faults_of(judged("HTTP/1.1 200 OK\r\n\r\n<h1>Welcome to nginx!</h1>")).endswith(
        "answers 200 with Welcome to nginx"
    )
    for said in (MISDIRECTED, NAMELESS):
        assert (judged(said).faults, judged(said).untested) == ([], [])
