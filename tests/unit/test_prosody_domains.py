"""Every domain that Prosody serves is asked: before TLS on its client port, and for an account by BOSH."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import content
from orchestrator.verification import bosh, prosody
from orchestrator.verification.checks import test_signalling_ways
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject
from tests.unit.asked import TOPOLOGY, FakeHost, faults_of, printed, sheet_of, subject_of

# As Prosody 0.12.3 and 13.0.1 answer.
LIST = """else.example.net
meet.example.org
conference.meet.example.org (muc component)
guest.meet.example.org
OK: 4 hosts
"""
_STREAM = "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' from='x' version='1.0' xmlns='jabber:client'>"
_TLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>"
REQUIRED = (
    f"{_STREAM}<stream:features>{_TLS}<required/></starttls>"
    "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits></stream:features>"
)
LOOSE = (
    f"{_STREAM}<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism>"
    "</mechanisms><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
)


def _streams(**told: str) -> Sheet:
    facts = {"named": "named" not in told, "said": told.pop("named", ""), "domains": told}
    return sheet_of(
        test_signalling_ways.test_encryption_is_required, {"python3": json.dumps(facts)}, subject=subject_of()
    )


def test_each_domain_must_want_tls_before_anything_else() -> None:
    good = _streams(**{"meet.example.org": REQUIRED, "auth.meet.example.org": REQUIRED})
    assert (good.faults, good.untested) == ([], [])
    assert "meet.example.org: TLS required" in good.seen
    bad = faults_of(_streams(**{"meet.example.org": LOOSE, "auth.meet.example.org": REQUIRED}))
    assert bad == "meet.example.org: TLS not required, log-in offered before it"


@pytest.mark.parametrize(
    ("features", "fault"),
    [
        (
            f"{_TLS}<required/></starttls><register xmlns='http://jabber.org/features/iq-register'/>",
            "registration offered",
        ),
        (f"{_TLS}</starttls>", "TLS not required"),
        ("<auth xmlns='http://jabber.org/features/iq-auth'/>", "TLS not offered, log-in offered"),
        (f"<mechanisms>x</mechanisms>{_TLS}<required/></starttls>", "log-in offered before it"),
        # Without a certificate there is no TLS, and nothing else that could begin.
        ("", ""),
    ],
)
def test_what_is_offered_before_tls_is_told(features: str, fault: str) -> None:
    found = faults_of(_streams(x=f"{_STREAM}<stream:features>{features}</stream:features>"))
    assert (fault in found) if fault else found == ""


def test_a_domain_that_was_not_heard_is_no_pass() -> None:
    for told in ("", _STREAM, f"{_STREAM}<stream:features>{_TLS}<required/>"):
        assert "does not answer on its client port" in _streams(**{"meet.example.org": told}).untested[0]
    unnamed = _streams(**{"meet.example.org": REQUIRED, "named": "Unable to connect"})
    assert unnamed.untested == ["Prosody does not tell which domains it serves: Unable to connect"]


class _Prosody(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        asked = self.request.recv(4096).decode()
        told = LOOSE if 'to="else.example.net"' in asked else REQUIRED
        for part in (told[:50], told[50:]):
            self.request.sendall(part.encode())
        self.request.recv(1)


class _Bosh(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        register = "<register xmlns='http://jabber.org/features/iq-register'/>" if "else.example.net" in asked else ""
        told = f"<body sid='7'><stream:features>{register}</stream:features></body>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Serve a Prosody's client port and its HTTP port."""
    with (
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Prosody) as streams,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Bosh) as web,
    ):
        for server in (streams, web):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield streams.server_address[1], web.server_address[1]
        streams.shutdown()
        web.shutdown()


def _run(command: str, folder: Path, told: str) -> dict[str, Any]:
    """Run a command with a prosodyctl that tells this."""
    (folder / "told").write_text(told)
    tool = f'[ "$*" = "shell host:list()" ] && cat {folder}/told'
    found: dict[str, Any] = json.loads(printed(command, folder, prosodyctl=tool))
    return found


def test_prosodys_own_list_says_whom_to_ask(tmp_path: Path, ports: tuple[int, int]) -> None:
    """The commands themselves: one more virtual host than a site of ours has."""
    early = prosody.streams(["meet.example.org"]).replace("5222", str(ports[0]))
    told = _run(early, tmp_path, LIST)
    assert told["named"] is True
    assert list(told["domains"]) == ["else.example.net", "meet.example.org", "guest.meet.example.org"]
    assert (told["domains"]["else.example.net"], told["domains"]["meet.example.org"]) == (LOOSE, REQUIRED)
    accounts = bosh.registration("meet.example.org", ["meet.example.org"]).replace("5280", str(ports[1]))
    rows = _run(accounts, tmp_path, LIST)["domains"]
    assert {name: row["offered"] for name, row in rows.items()} == {
        "else.example.net": True,
        "meet.example.org": False,
        "guest.meet.example.org": False,
    }
    silent = _run(early, tmp_path, "Unable to connect to server - is it running?\n")
    assert (silent["named"], list(silent["domains"])) == (False, ["meet.example.org"])
    assert silent["said"].startswith("Unable to connect")


def test_no_domain_of_ours_is_exempt_from_tls() -> None:
    """nginx ends TLS on the same host, and what comes through it counts as encrypted (mod_bosh and mod_websocket)."""
    templates = content.root() / "roles/prosody/templates"
    host, common = ((templates / name).read_text() for name in ("host.cfg.lua.j2", "prosody.cfg.lua.j2"))
    assert "c2s_require_encryption = false" not in host + common
    assert "\nc2s_require_encryption = true\n" in common
    for option in ("consider_bosh_secure", "consider_websocket_secure"):
        assert f"\n{option} = true\n" in host.partition("VirtualHost")[0]


_LISTENS = 'tcp LISTEN 0 128 {} 0.0.0.0:* users:(("lua5.4",pid=7,fd=3))\n'
_CHAIN = {
    "family": "inet",
    "table": "t",
    "name": "input",
    "type": "filter",
    "hook": "input",
    "prio": 0,
    "policy": "drop",
}


def _accepting(port: int, *sources: str) -> str:
    """Return a ruleset that lets somebody in to a port."""
    matched = {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": port}
    rules = []
    for source in sources or ("",):
        left = {"payload": {"protocol": "ip", "field": "saddr"}}
        from_ = [{"match": {"op": "==", "left": left, "right": source}}] if source else []
        rules.append(
            {"family": "inet", "table": "t", "chain": "input", "expr": [*from_, {"match": matched}, {"accept": None}]}
        )
    return json.dumps({"nftables": [{"chain": _CHAIN}, *({"rule": rule} for rule in rules)]})


def _outside(listening: str, ruleset: str, connected: str = "looked") -> Sheet:
    """Judge a bridge's host, as seen by somebody to whom nothing but this answers."""
    bridge = {"address": "192.0.2.11", "address6": "", "groups": ["jitsi_bridges"], "ssh_port": 22}
    topology: dict[str, Any] = {**TOPOLOGY, "hosts": {**TOPOLOGY["hosts"], "h2": bridge}}  # type: ignore[dict-item]
    config = "HTTP/1.1 200 OK\n\nvar config = { bosh: 'https://meet.example.org/http-bind', websocket: 'wss://meet.example.org/x' };"
    said = {"python3": "198.51.100.7\n", "for tool": "/usr/bin/bash\n", "for port": connected, "curl": config}
    sheet = Sheet()
    test_signalling_ways.test_ways_of_signalling_from_outside(
        host=FakeHost({"ss": listening, "if command -v nft": ruleset}),
        outside=FakeHost(said),
        subject=Subject("h1", "192.0.2.10", "", ("jitsi_signalling",), topology),
        sheet=sheet,
    )
    return sheet


def test_silence_proves_nothing_where_the_host_lets_others_in() -> None:
    """Behind an office's firewall that lets out to 80 and 443 only, nothing else ever answers."""
    everywhere = _LISTENS.format("0.0.0.0:5222")
    open_ = _outside(everywhere, _accepting(5222))
    assert open_.faults == []
    assert "Prosody's client port does not answer us on 192.0.2.10:5222" in open_.untested[0]
    assert _outside(everywhere, json.dumps({"nftables": []})).untested
    assert _outside(_LISTENS.format("0.0.0.0:8080"), _accepting(8080)).untested
    answering = _outside(everywhere, _accepting(5222), "open 5222\nlooked")
    assert faults_of(answering) == "Prosody's client port answers on 192.0.2.10:5222"


def test_silence_of_a_host_that_lets_in_none_but_its_bridges_passes() -> None:
    everywhere = _LISTENS.format("0.0.0.0:5222") + _LISTENS.format("127.0.0.1:5280")
    for ruleset in (_accepting(5222, "192.0.2.11"), _accepting(443)):
        sheet = _outside(everywhere, ruleset)
        assert (sheet.faults, sheet.untested) == ([], [])
    assert _outside(_LISTENS.format("127.0.0.1:5222"), json.dumps({"nftables": []})).untested == []


def test_prosody_is_looked_for_on_signalling_hosts_only() -> None:
    bridge = Subject("h1", "192.0.2.10", "", ("jitsi_bridges",), TOPOLOGY)
    with pytest.raises(NotApplicable):
        sheet_of(test_signalling_ways.test_encryption_is_required, {}, subject=bridge)
