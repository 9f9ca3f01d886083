"""The offer that Jicofo makes to a participant (XEP-0166, XEP-0176, XEP-0320), and an acceptance without media."""

from __future__ import annotations

import secrets
from typing import Any
from xml.sax.saxutils import quoteattr

from . import xmpp

JINGLE = "urn:xmpp:jingle:1"
ICE = "urn:xmpp:jingle:transports:ice-udp:1"
DTLS = "urn:xmpp:jingle:apps:dtls:0"
RTP = "urn:xmpp:jingle:apps:rtp:1"
# What a participant must be able to do before Jicofo invites it (jicofo: Features.kt).
FEATURES = (
    JINGLE,
    RTP,
    f"{RTP[:-2]}:audio",
    f"{RTP[:-2]}:video",
    ICE,
    DTLS,
    "urn:xmpp:jingle:transports:dtls-sctp:1",
    "urn:ietf:rfc:5888",
    "urn:ietf:rfc:5761",
    "http://jitsi.org/tcc",
    "http://jitsi.org/source-name",
)


def is_offer(stanza: xmpp.Element) -> bool:
    """Say whether a stanza invites to a media session."""
    jingle = stanza.find(f"{{{JINGLE}}}jingle")
    return jingle is not None and jingle.get("action") == "session-initiate"


def is_jingle(stanza: xmpp.Element) -> bool:
    """Say whether a request speaks of a media session at all."""
    return stanza.find(f"{{{JINGLE}}}jingle") is not None


def offer(stanza: xmpp.Element) -> dict[str, Any]:
    """Return what an offer holds: contents, credentials, whether there is a fingerprint, and each candidate once."""
    transports = list(stanza.iter(f"{{{ICE}}}transport"))
    names = ("ip", "port", "protocol", "type")
    rows = [xmpp.attributes(item, *names) for transport in transports for item in transport.iter(f"{{{ICE}}}candidate")]
    named = [transport for transport in transports if transport.get("ufrag") and transport.get("pwd")]
    return {
        "contents": [item.get("name") or "" for item in stanza.iter(f"{{{JINGLE}}}content")],
        "ufrag": named[0].get("ufrag") if named else "",
        "pwd": named[0].get("pwd") if named else "",
        "fingerprint": any(item.text for transport in transports for item in transport.iter(f"{{{DTLS}}}fingerprint")),
        "candidates": [row for number, row in enumerate(rows) if row not in rows[:number]],
    }


def acceptance(stanza: xmpp.Element, responder: str) -> str:
    """Return the payload that accepts an offer: own credentials and no sources, as somebody who only listens would."""
    jingle = stanza.find(f"{{{JINGLE}}}jingle")
    assert jingle is not None
    seal = ":".join(f"{byte:02X}" for byte in secrets.token_bytes(32))
    transport = (
        f"<transport xmlns='{ICE}' ufrag='{secrets.token_hex(4)}' pwd='{secrets.token_hex(12)}'>"
        f"<fingerprint xmlns='{DTLS}' hash='sha-256' setup='active'>{seal}</fingerprint></transport>"
    )
    contents = "".join(
        f"<content creator='initiator' name={quoteattr(item.get('name') or '')} senders='both'>"
        f"<description xmlns='{RTP}' media={quoteattr(item.get('name') or '')}/>{transport}</content>"
        for item in jingle.iter(f"{{{JINGLE}}}content")
        if item.get("name") in ("audio", "video")
    )
    head = f"sid={quoteattr(jingle.get('sid') or '')} initiator={quoteattr(jingle.get('initiator') or '')}"
    return (
        f"<jingle xmlns='{JINGLE}' action='session-accept' {head} responder={quoteattr(responder)}>{contents}</jingle>"
    )
