"""What the probes read from stanzas, and that they bear whatever a peer does."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from aioice import stun as wire

from orchestrator.verification.probes import conversation, jingle, rooms, stun, xmpp

ERROR = "<error type='{}'><{} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>{}</error>"
ROOM = "a@conference.meet.example"


def _stanza(kind: str, inner: str, **attributes: str) -> xmpp.Element:
    shown = "".join(f" {name}='{value}'" for name, value in attributes.items())
    return xmpp.parse(f"<{kind} xmlns='jabber:client'{shown}>{inner}</{kind}>")


@pytest.mark.parametrize(
    ("stanza", "outcome", "lobby", "affiliation"),
    [
        (
            _stanza(
                "presence",
                "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/></x>",
            ),
            "joined",
            "",
            "owner",
        ),
        (_stanza("presence", ERROR.format("cancel", "not-allowed", ""), type="error"), "refused", "", ""),
        (
            _stanza(
                "presence",
                ERROR.format(
                    "auth", "registration-required", "<lobbyroom xmlns='http://jitsi.org/jitmeet'>a@lobby</lobbyroom>"
                ),
                type="error",
            ),
            "lobby",
            "a@lobby",
            "",
        ),
        # Members only, and no lobby to wait in.
        (_stanza("presence", ERROR.format("auth", "registration-required", ""), type="error"), "refused", "", ""),
        (_stanza("presence", "", type="unavailable"), "refused", "", ""),
    ],
    ids=["joined", "refused", "lobby", "members-only-without-lobby", "thrown-out"],
)
def test_how_an_attempt_to_enter_ended(stanza: xmpp.Element, outcome: str, lobby: str, affiliation: str) -> None:
    seen = rooms.entry(stanza)
    assert (seen["outcome"], seen["lobby"], seen["affiliation"]) == (outcome, lobby, affiliation)


def test_the_focus_says_yes_or_why_not() -> None:
    inner = "<conference xmlns='http://jitsi.org/protocol/focus' ready='true'><property name='authentication' value='true'/></conference>"
    assert rooms.conference(_stanza("iq", inner, type="result")) == {
        "ready": True,
        "condition": "",
        "authentication": True,
    }
    refused = rooms.conference(_stanza("iq", ERROR.format("auth", "not-authorized", ""), type="error"))
    assert refused == {"ready": False, "condition": "not-authorized"}
    assert rooms.conference(_stanza("iq", "", type="result"))["ready"] is False


OFFER = f"""<jingle xmlns='{jingle.JINGLE}' action='session-initiate' sid='s' initiator='{ROOM}/focus'>
<content name='audio'><transport xmlns='{jingle.ICE}' ufrag='u' pwd='p'>
<candidate ip='192.0.2.1' port='10000' protocol='udp' type='host'/><candidate ip='2001:db8::1' port='10000' protocol='udp' type='host'/>
<fingerprint xmlns='{jingle.DTLS}' hash='sha-256' setup='actpass'>AA:BB</fingerprint></transport></content>
<content name='video'><transport xmlns='{jingle.ICE}' ufrag='u' pwd='p'><candidate ip='192.0.2.1' port='10000' protocol='udp' type='host'/>
</transport></content></jingle>"""


def test_an_offer_names_each_candidate_once_and_is_accepted() -> None:
    stanza = _stanza("iq", OFFER, type="set")
    assert jingle.is_offer(stanza)
    seen = jingle.offer(stanza)
    assert seen["contents"] == ["audio", "video"]
    assert (seen["ufrag"], seen["pwd"], seen["fingerprint"]) == ("u", "p", True)
    assert [row["ip"] for row in seen["candidates"]] == ["192.0.2.1", "2001:db8::1"]
    accepted = xmpp.parse(jingle.acceptance(stanza, "me"))
    assert (accepted.get("action"), accepted.get("sid"), accepted.get("initiator")) == (
        "session-accept",
        "s",
        f"{ROOM}/focus",
    )
    assert len(list(accepted.iter(f"{{{jingle.ICE}}}transport"))) == 2


def test_an_offer_without_anything_is_a_fact() -> None:
    stanza = _stanza("iq", f"<jingle xmlns='{jingle.JINGLE}' action='session-initiate'/>", type="set")
    assert jingle.offer(stanza) == {"contents": [], "ufrag": "", "pwd": "", "fingerprint": False, "candidates": []}


def _place(affiliation: str, role: str) -> xmpp.Element:
    item = f"<x xmlns='{rooms.MUC}#user'><item affiliation='{affiliation}' role='{role}'/></x>"
    return _stanza("presence", item, **{"from": f"{ROOM}/me"})


class _Room:
    """A connection on which presences come, and which may end."""

    def __init__(self, *come: xmpp.Element, ended: str = "") -> None:
        self.jid, self.ended, self._come = "a@meet.example/x", ended, list(come)

    async def wait(self, fits: Callable[[xmpp.Element], bool], seconds: float) -> xmpp.Element:
        if self._come and fits(self._come[0]):
            return self._come.pop(0)
        await asyncio.sleep(0 if self.ended else seconds)
        raise xmpp.NoAnswer("nothing more")


def _stays(*come: xmpp.Element, ended: str = "") -> dict[str, Any]:
    person = rooms.Participant(cast(xmpp.Client, _Room(*come, ended=ended)))
    person._machine = "me"
    first = rooms.entry(_place("none", "participant"))
    return asyncio.run(person.stays(ROOM, first, 0.2))


def test_what_somebody_becomes_after_a_while_is_seen() -> None:
    assert _stays() == {"affiliation": "none", "role": "participant"}
    assert _stays(_place("none", "moderator"))["role"] == "moderator"
    assert _stays(_place("member", "participant"), _place("owner", "moderator"))["affiliation"] == "owner"
    with pytest.raises(xmpp.NoAnswer):
        _stays(ended="the server ended the connection")


def test_services_are_told_without_their_credentials() -> None:
    inner = (
        "<services xmlns='urn:xmpp:extdisco:2'><service type='turns' host='turn.example' port='443' transport='tcp'"
        " username='1000600:x' password='secret'/><service type='stun' host='turn.example' port='3478'/></services>"
    )
    rows = conversation.services(_stanza("iq", inner, type="result"))
    assert [(row["type"], row["credentials"]) for row in rows] == [("turns", True), ("stun", False)]
    assert "secret" not in json.dumps(rows)


def _token(body: Any) -> str:
    return ".".join(("h", base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("="), "s"))


@pytest.mark.parametrize(
    ("token", "claims"),
    [
        (_token({"room": "*", "context": {"user": {"moderator": True}}}), {"moderator": True, "room": "*"}),
        (_token({"room": "rat", "context": {"user": {"moderator": "true"}}}), {"moderator": True, "room": "rat"}),
        (_token({"room": "*", "context": {"user": {"affiliation": "owner"}}}), {"moderator": True, "room": "*"}),
        (_token({"room": "*", "context": {"user": {"moderator": False}}}), {"moderator": False, "room": "*"}),
        (_token({}), {"moderator": False, "room": ""}),
        (_token([]), {}),
        ("", {}),
        ("a.!.c", {}),
    ],
)
def test_what_a_token_claims(token: str, claims: dict[str, Any]) -> None:
    assert conversation.claims(token) == claims


def test_the_room_of_a_token_is_used() -> None:
    talk = conversation.Conversation({}, {"token": _token({"room": "rat"})})
    assert talk._room == "rat"
    assert conversation.Conversation({}, {})._room != conversation.Conversation({}, {})._room


@pytest.mark.parametrize("frame", ["<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", "no xml", "<open", ""])
def test_what_is_no_xmpp_is_no_answer(frame: str) -> None:
    with pytest.raises(xmpp.NoAnswer):
        xmpp.parse(frame)


Bridge = Callable[[bytes], bytes | None]


async def _with_bridge(bridge: Bridge, ask: Callable[[int], Awaitable[Any]]) -> Any:
    class Peer(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: Any) -> None:
            answer = bridge(data)
            if answer is not None:
                self.transport.sendto(answer, addr)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Peer, local_addr=("127.0.0.1", 0))
    try:
        return await ask(transport.get_extra_info("sockname")[1])
    finally:
        transport.close()


def _answering(password: str, *, signed_with: str = "", error: int = 0) -> Bridge:
    def bridge(data: bytes) -> bytes | None:
        asked = wire.parse_message(data)
        answer = wire.Message(wire.Method.BINDING, wire.Class.RESPONSE, asked.transaction_id)
        if not asked.check_message_integrity(password.encode()):
            return None
        if error:
            answer = wire.Message(wire.Method.BINDING, wire.Class.ERROR, asked.transaction_id)
            answer.attributes["ERROR-CODE"] = (error, "no")
        else:
            answer.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.9", 4000)
        answer.add_message_integrity((signed_with or password).encode())
        return bytes(answer)

    return bridge


def _asked(bridge: Bridge, password: str = "right", seconds: float = 0.6) -> dict[str, Any]:
    seen: dict[str, Any] = asyncio.run(
        _with_bridge(bridge, lambda port: stun.bind("127.0.0.1", port, "u", password, seconds))
    )
    return seen


def test_a_bridge_answers_with_the_sessions_password() -> None:
    assert _asked(_answering("right")) == {"answered": True, "signed": True, "mapped": ["192.0.2.9", 4000]}


def test_an_answer_that_somebody_else_signed_shows() -> None:
    assert _asked(_answering("right", signed_with="other"))["signed"] is False


def test_a_refusal_is_no_answer() -> None:
    assert _asked(_answering("right", error=487)) == {"answered": False, "reason": "refused with 487"}


def test_silence_and_nonsense_are_no_answer() -> None:
    assert _asked(_answering("right"), "wrong") == {"answered": False, "reason": "no answer within 0.6 s"}
    assert _asked(lambda data: b"\x00" * 30)["answered"] is False
    assert _asked(lambda data: data)["answered"] is False, "its own echo"


def test_an_address_that_does_not_exist_is_a_fact() -> None:
    seen = asyncio.run(stun.bind("2001:db8::ffff:1", 10000, "u", "p", 0.3))
    assert seen["answered"] is False


def test_a_wrong_password_is_tried_beside_the_right_one() -> None:
    asked = _with_bridge(_answering("right"), lambda port: stun.candidate("127.0.0.1", port, "u", "right"))
    assert asyncio.run(asked)["wrong_password_answered"] is False


def test_a_site_that_is_not_there_leaves_facts_and_does_not_take_long() -> None:
    job = {
        "address": "127.0.0.9",
        "addresses": ["127.0.0.9"],
        "domain": "meet.example",
        "pin": "00",
        "focus": "focus.meet.example",
    }
    names = {"guest": "guest.meet.example", "muc": "conference.meet.example"}
    facts = conversation.run({**job, **names}, {"account": "a", "password": "b"})
    assert facts["websocket"]["127.0.0.9"]["open"] is False
    assert "no WebSocket" in facts["member"]["reason"]
    assert "no WebSocket" in facts["stranger"]["reason"]
    assert facts["room_without_member"]["reason"] == "the guest could not log in"
    assert facts["seconds"] < 10


def test_an_address_to_which_there_is_no_way_is_told_apart_from_a_closed_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the conversation is held over the first address to which there is one."""
    assert xmpp.has_way("127.0.0.9")
    monkeypatch.setattr(xmpp, "has_way", lambda address: ":" not in address)
    away = "2001:db8::ffff:1"
    job = {
        "address": away,
        "addresses": [away, "127.0.0.9"],
        "domain": "meet.example",
        "pin": "",
        "guest": "g.meet.example",
    }
    facts = conversation.run({**job, "muc": "m.meet.example", "focus": "f.meet.example"}, {})
    assert facts["websocket"][away] == {"open": False, "reason": "no way there"}
    assert "no WebSocket" in facts["websocket"]["127.0.0.9"]["reason"]
    # Not the kernel's word that there is no way.
    assert "refused" in facts["stranger"]["reason"].lower() or "Connect call failed" in facts["stranger"]["reason"]


def test_a_kernel_without_a_family_has_no_way_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    assert not xmpp.has_way("2001:db8::1")


def test_no_member_is_tried_without_secrets() -> None:
    job = {
        "address": "127.0.0.9",
        "addresses": [],
        "domain": "meet.example",
        "pin": "00",
        "focus": "f",
        "guest": "g",
        "muc": "m",
    }
    facts = conversation.run(job, {})
    assert facts["member"] == {"admitted": None, "condition": "no probe account and no token is declared"}
    unpinned = conversation.run({**job, "pin": ""}, {"account": "a", "password": "b"})
    assert unpinned["member"]["admitted"] is None
    assert "no secret is told" in unpinned["member"]["condition"]
