"""The TURN probe against servers that refuse, pretend, babble or say nothing: facts come out, and in time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aioice import stun, turn

from orchestrator.verification.checks.test_turn import judge_credentials
from orchestrator.verification.probes import handed
from orchestrator.verification.probes import turn as probe
from orchestrator.verification.sheet import Sheet

PASSWORD = "right"
REALM, NONCE = "town", b"once"
Answer = Callable[[bytes], bytes | None]


@contextmanager
def server(answer: Answer) -> Iterator[int]:
    """A UDP server on loopback; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    data, client = sock.recvfrom(4096)
                except TimeoutError:
                    continue
                said = answer(data)
                if said is not None:
                    sock.sendto(said, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            over.set()
            thread.join()


def _reply(asked: stun.Message, code: int = 0) -> stun.Message:
    kind = stun.Class.ERROR if code else stun.Class.RESPONSE
    said = stun.Message(asked.message_method, kind, asked.transaction_id)
    if code:
        said.attributes.update({"ERROR-CODE": (code, "no"), "REALM": REALM, "NONCE": NONCE})
    return said


def honest(data: bytes) -> bytes:
    """Want the right password, relay to 192.0.2.1 alone."""
    asked = stun.parse_message(data)
    name = asked.attributes.get("USERNAME", "")
    key = turn.make_integrity_key(name, REALM, PASSWORD)
    if not name or not asked.check_message_integrity(key):
        return bytes(_reply(asked, 401))
    peer = asked.attributes.get("XOR-PEER-ADDRESS", ("192.0.2.1", 9))[0]
    said = _reply(asked, 0 if peer == "192.0.2.1" else 403)
    said.add_message_integrity(key)
    return bytes(said)


def generous(data: bytes) -> bytes:
    """Grant everything to everybody."""
    return bytes(_reply(stun.parse_message(data)))


def pretending(data: bytes) -> bytes:
    """Grant what is signed without knowing the password."""
    asked = stun.parse_message(data)
    return bytes(_reply(asked, 0 if "USERNAME" in asked.attributes else 401))


def _run(port: int, monkeypatch: Any, **more: Any) -> dict[str, Any]:
    monkeypatch.setattr(probe, "handed_credentials", lambda job: ("1700000060:x", PASSWORD, 1700000000))
    way = {"label": "udp", "address": "127.0.0.1", "port": port, "transport": "udp", "name": "turn.example.org"}
    facts = probe.run({"ways": [way], "handing": {}, "strangers": {}, **more}, {})
    assert (facts["ends"], facts["clock"]) == (1700000060, 1700000000)
    found: dict[str, Any] = facts["ways"]["udp"]
    return found


def test_who_is_refused_and_who_is_granted(monkeypatch: Any) -> None:
    with server(honest) as port:
        peers = {"4": ["192.0.2.1", "127.0.0.1"]}
        found = _run(port, monkeypatch, strangers={"expired": ["1", "wrong"]}, peers=peers)
    relay = found.pop("relay4")
    assert found == {"nothing": 401, "wrong": 401, "expired": 401, "handed": "granted"}
    assert relay["allocated"] == "granted"
    assert relay["peers"] == {"192.0.2.1": "granted", "127.0.0.1": 403}


def test_grants_without_credentials_and_unsigned_ones_are_told_apart(monkeypatch: Any) -> None:
    with server(generous) as port:
        assert _run(port, monkeypatch)["nothing"] == "granted"
    with server(pretending) as port:
        found = _run(port, monkeypatch)
    assert found["nothing"] == 401
    assert found["handed"] == "granted by somebody who does not know the password"


def test_babble_and_silence_are_no_answer_and_cost_little_time(monkeypatch: Any) -> None:
    monkeypatch.setattr(probe, "SECONDS", 4.0)
    for answer in (lambda data: None, lambda data: b"220 mail.example.org ESMTP\r\n"):
        began = time.monotonic()
        with server(answer) as port:
            found = _run(port, monkeypatch, peers={"4": ["127.0.0.1"]})
        assert found["nothing"] == "no answer"
        assert found["relay4"]["allocated"] == "no answer"
        assert time.monotonic() - began < 7


def test_closed_port_is_a_fact(monkeypatch: Any) -> None:
    monkeypatch.setattr(probe, "handed_credentials", lambda job: ("1", PASSWORD, None))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    way = {"label": "tls", "address": "127.0.0.1", "port": port, "transport": "tls", "name": "turn.example.org"}
    facts = probe.run({"ways": [way], "handing": {}, "strangers": {}}, {})
    assert facts["ways"]["tls"]["failed"].startswith("ConnectionRefusedError")


def test_nobody_to_hand_out_credentials_is_said() -> None:
    facts = probe.run({"ways": [], "handing": {"addresses": [], "name": "m", "guest": "g"}}, {})
    assert facts["handed"] == "nobody to ask"
    assert facts["ends"] is None


class _Site:
    """A site whose web server tells a date."""

    def __init__(self, date: str | None) -> None:
        self._date, self._asked = date, ""
        self.status = 200

    def request(self, method: str, path: str, body: str, headers: dict[str, str]) -> None:
        self._asked = body

    def getresponse(self) -> _Site:
        return self

    def getheader(self, name: str) -> str | None:
        return self._date if name == "Date" else None

    def read(self, most: int) -> str:
        """Answer all that a guest asks for with one body."""
        turn = f"<service xmlns='urn:xmpp:extdisco:2' type='turn' username='{1700000000 + 86400}' password='p'/>"
        answers = "".join(f"<iq id='{name}' xmlns='jabber:client'>{turn}</iq>" for name in ("bind", "handed"))
        return f"<body sid='s'><success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>{answers}</body>"

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("date", "result", "said"),
    [
        ("Tue, 14 Nov 2023 22:13:20 GMT", "pass", "handed credentials are good for 86400 s"),
        ("Tue, 14 Nov 2023 22:10:20 GMT", "fail", "handed credentials are good for 86580 s"),
        ("yesterday", "not tested", "the site's web server tells no time"),
        (None, "not tested", "the site's web server tells no time"),
    ],
)
def test_how_long_credentials_are_good_is_a_matter_of_the_sites_own_clock(
    monkeypatch: Any, date: str | None, result: str, said: str
) -> None:
    """Ours is years off: a clock that is wrong is no fault of TURN's."""
    monkeypatch.setattr(handed, "_Site", lambda address, name: _Site(date))
    facts = probe.run({"ways": [], "handing": {"addresses": ["192.0.2.10"], "name": "m", "guest": "g"}}, {})
    sheet = Sheet()
    judge_credentials(facts, sheet)
    told = {"pass": sheet.seen, "fail": [seen for seen, _ in sheet.faults], "not tested": sheet.untested}
    assert {kind for kind, notes in told.items() if notes} == {result}
    assert said in told[result][0]
