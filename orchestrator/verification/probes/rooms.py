"""What a participant does about a room: ask for it, enter, knock at its lobby, let others in, leave."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from functools import partial
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from . import xmpp

MUC = "http://jabber.org/protocol/muc"
FOCUS = "http://jitsi.org/protocol/focus"
MEET = "http://jitsi.org/jitmeet"
NICK = "http://jabber.org/protocol/nick"
_FORM = "jabber:x:data"


class Participant:
    """Somebody with a connection; remembers which rooms it is in."""

    def __init__(self, client: xmpp.Client) -> None:
        self.client = client
        self._places: list[str] = []
        self._machine = uuid.uuid4().hex
        self._session = ""

    @property
    def nick(self) -> str:
        """The name in rooms: as upstream's client makes it (jitsi-meet: mod_muc_resource_validate demands it of guests)."""
        user = self.client.jid.partition("@")[0]
        return user[:8] if len(user) == 36 else self._machine[:8]

    async def request(self, focus: str, room: str, host: Participant | None = None) -> dict[str, Any]:
        """Ask the focus to open a room (jicofo:doc/conference-request.md); as that host, whose session is used, if one is named."""
        machine, session = (self._machine, "") if host is None else (host._machine, host._session)
        shown = f" session-id={quoteattr(session)}" if session else ""
        payload = f"<conference xmlns='{FOCUS}' room={quoteattr(room)} machine-uid='{machine}'{shown}/>"
        answer = await self.client.ask("set", focus, payload, 10.0)
        found = answer.find(f"{{{FOCUS}}}conference")
        self._session = "" if found is None else found.get("session-id") or ""
        return conference(answer)

    async def enter(self, room: str) -> dict[str, Any]:
        """Try to enter a room and return how it went."""
        place = f"{room}/{self.nick}"
        source = escape(f'{{"{self.nick}-a0":{{"muted":true}}}}')
        payload = f"<x xmlns='{MUC}'/><nick xmlns='{NICK}'>probe</nick><SourceInfo>{source}</SourceInfo>"
        await self.client.presence(place, payload)
        try:
            answer = await self.client.wait(lambda stanza: _about(stanza, place))
        except xmpp.NoAnswer as silence:
            return {"outcome": "no answer", "condition": str(silence)}
        seen = entry(answer)
        if seen["outcome"] == "joined":
            self._places.append(place)
        return seen

    async def becomes_owner(self, room: str, seconds: float) -> dict[str, Any] | None:
        """Return the own place in a room when it becomes an owner's, None if it does not in that time."""
        place = f"{room}/{self.nick}"
        try:
            return entry(
                await self.client.wait(lambda s: _about(s, place) and entry(s)["affiliation"] == "owner", seconds)
            )
        except xmpp.NoAnswer:
            return None

    async def stays(self, room: str, entered: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return affiliation and role in a room after some time: both can change while somebody is in it.

        Raises NoAnswer where the connection ends meanwhile.
        """
        place, seen, clock = f"{room}/{self.nick}", entered, asyncio.get_running_loop()
        end = clock.time() + seconds
        while seen["affiliation"] != "owner" and (left := end - clock.time()) > 0:
            try:
                seen = entry(await self.client.wait(lambda stanza: _about(stanza, place), left))
            except xmpp.NoAnswer:
                if self.client.ended:
                    raise
        return {name: seen[name] for name in ("affiliation", "role")}

    async def sees(self, place: str, seconds: float) -> bool:
        """Say whether somebody's presence is seen at that place."""
        try:
            await self.client.wait(
                lambda s: s.tag.endswith("}presence") and s.get("from") == place and not s.get("type"), seconds
            )
        except xmpp.NoAnswer:
            return False
        return True

    async def invited(self, room: str, seconds: float) -> bool:
        """Say whether an invitation to a room comes in that time."""
        path = f"{{{MUC}#user}}x/{{{MUC}#user}}invite"
        try:
            await self.client.wait(lambda s: s.get("from") == room and s.find(path) is not None, seconds)
        except xmpp.NoAnswer:
            return False
        return True

    async def lock(self, room: str) -> str:
        """Switch a room's lobby on, as a moderator does by hand; return the refusal's condition, "" when it worked."""
        fields = (("FORM_TYPE", f"{MUC}#roomconfig"), ("muc#roomconfig_membersonly", "1"))
        rows = "".join(f"<field var='{name}'><value>{value}</value></field>" for name, value in fields)
        form = f"<query xmlns='{MUC}#owner'><x xmlns='{_FORM}' type='submit'>{rows}</x></query>"
        return xmpp.condition(await self.client.ask("set", room, form))

    async def admit(self, room: str, jid: str) -> None:
        """Let somebody in who waits (lib-jitsi-meet:modules/xmpp/Lobby.js)."""
        await self.client.message(room, f"<x xmlns='{MUC}#user'><invite to={quoteattr(jid)}/></x>")

    async def leave(self) -> None:
        """Leave all rooms."""
        places, self._places = self._places, []
        for place in places:
            await self.client.presence(place, kind="unavailable")
        for place in places:
            # Its echo would be taken for the answer when the room is entered again.
            await self.client.wait(partial(_gone, place), 2)


def room_name() -> str:
    """Return a room's name that nobody uses."""
    return f"ratssaal-probe-{secrets.token_hex(6)}"


def conference(answer: xmpp.Element) -> dict[str, Any]:
    """Return what Jicofo says to a request for a room."""
    found = answer.find(f"{{{FOCUS}}}conference")
    if xmpp.condition(answer) or found is None:
        return {"ready": False, "condition": xmpp.condition(answer) or "no conference in the answer"}
    rows = {item.get("name"): item.get("value") for item in found.iter(f"{{{FOCUS}}}property")}
    return {
        "ready": found.get("ready") == "true",
        "condition": "",
        "authentication": rows.get("authentication") == "true",
    }


def entry(answer: xmpp.Element) -> dict[str, Any]:
    """Return what a room's answer to an attempt to enter says: joined, lobby (with its address), refused."""
    item = answer.find(f"{{{MUC}#user}}x/{{{MUC}#user}}item")
    if answer.get("type") == "error":
        names = [child for error in answer.iter(f"{{{xmpp.CLIENT}}}error") for child in error]
        lobby = next((child.text or "" for child in names if child.tag.endswith("}lobbyroom")), "")
        members_only = xmpp.condition(answer) == "registration-required"
        host = any(child.tag.endswith("}waiting-for-host") for child in names)
        where = "lobby" if members_only and lobby else "refused"
        seen = {"outcome": where, "condition": xmpp.condition(answer), "lobby": lobby, "waits_for_host": host}
        return {**seen, "affiliation": "", "role": ""}
    place = {} if item is None else xmpp.attributes(item, "affiliation", "role")
    gone = answer.get("type") == "unavailable"
    seen = {"outcome": "refused" if gone else "joined", "condition": "unavailable" if gone else "", "lobby": ""}
    return {**seen, "waits_for_host": False, "affiliation": place.get("affiliation", ""), "role": place.get("role", "")}


def _gone(place: str, stanza: xmpp.Element) -> bool:
    return _about(stanza, place) and stanza.get("type") == "unavailable"


def _about(stanza: xmpp.Element, place: str) -> bool:
    return stanza.tag == f"{{{xmpp.CLIENT}}}presence" and (stanza.get("from") or "").lower() == place.lower()
