"""What a stranger, a guest and two members get from a site by signalling (jicofo:doc/conference-request.md).

The job: `address` (where the site is asked), `addresses` (all of them), `domain`, `guest`, `muc`, `focus` (XMPP names),
`pin` (SHA-256 of the certificate that the host serves; without it no secret is told). The secrets: `account` and
`password`, or `token`, and `plain_token`, which makes no moderator. Every part ends with facts or with a `reason`, and
none keeps the others waiting for long.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Coroutine
from typing import Any

from . import jingle, rooms, stun, xmpp

LIMIT = 36.0
"""Seconds for all of it."""
WAITS = 1.5
"""Seconds for which a guest is watched while it must not be let in."""
OWNER = 2.5
"""Seconds that the focus may take to make a member the owner of its room; for as long a guest is watched who must not become it."""
OFFER = 10.0
"""Seconds until two members must have been offered a session; Jicofo asks the bridge meanwhile."""
EXTDISCO = "urn:xmpp:extdisco:2"

Facts = dict[str, Any]


def run(job: dict[str, Any], secrets: dict[str, str]) -> dict[str, Any]:
    """Hold the conversation and return its facts."""
    return asyncio.run(_bounded(Conversation(job, secrets)))


async def _bounded(talk: Conversation) -> Facts:
    began = time.monotonic()
    try:
        await asyncio.wait_for(talk.hold(), LIMIT)
    except TimeoutError:
        talk.facts["incomplete"] = f"the conversation was not over after {LIMIT:g} s"
    await talk.end()
    talk.facts["seconds"] = round(time.monotonic() - began, 2)
    return talk.facts


class Conversation:
    """The sequence of parts; `facts` grows as they are gone through."""

    def __init__(self, job: dict[str, Any], secrets: dict[str, str]) -> None:
        self.facts: Facts = {}
        self._job, self._secrets = job, secrets
        self._clients: list[xmpp.Client] = []
        self._people: dict[str, rooms.Participant] = {}
        self._room = _named(secrets.get("token", "")) or rooms.room_name()

    async def hold(self) -> None:
        """Go through all parts: who gets in, what is handed out, rooms without a member, a room with two."""
        logins = [self._note("websocket", self._sockets()), self._note("stranger", self._stranger())]
        logins += [self._note("guest", self._log_in("guest", self._job["guest"]))]
        logins += [self._note("member", self._member()), self._note("second", self._second())]
        if self._secrets.get("plain_token"):
            logins.append(self._note("plain", self._member("plain", self._secrets["plain_token"])))
        await asyncio.gather(*logins)
        known = [name for name in ("guest", "member") if name in self._people]
        await asyncio.gather(
            *(self._note(f"services_{name}", self._services(self._people[name])) for name in known),
            self._note("offered", self._offered()),
        )
        alone = [self._note("room_without_member", self._room_without_member())]
        if "plain" in self._people:
            alone.append(self._note("plain_alone", self._plain_alone(self._people["plain"])))
        await asyncio.gather(*alone)
        if "member" in self._people:
            await self._note("meeting", self._meeting())

    async def end(self) -> None:
        """Leave the rooms and close the connections."""
        try:
            await asyncio.wait_for(asyncio.gather(*map(self._leave, list(self._people.values()))), 2)
            await asyncio.wait_for(asyncio.gather(*(client.close() for client in self._clients)), 2)
        except TimeoutError:
            self.facts["leaving"] = "the server did not take the farewell"

    async def _leave(self, person: rooms.Participant) -> None:
        try:
            await person.leave()
        except xmpp.NoAnswer:
            return

    async def _note(self, name: str, part: Coroutine[Any, Any, Facts]) -> None:
        """Keep what a part found, or why it found nothing."""
        try:
            self.facts[name] = await part
        except (xmpp.Refused, xmpp.NoAnswer) as error:
            self.facts[name] = {**self.facts.get(name, {}), "reason": str(error)}

    def _client(self, address: str = "") -> xmpp.Client:
        client = xmpp.Client(address or self._reached(), self._job["domain"], jingle.FEATURES)
        client.on_request = jingle.is_jingle
        self._clients.append(client)
        return client

    async def _sockets(self) -> Facts:
        """Whether the door is open at every address."""

        async def one(address: str) -> Facts:
            if not xmpp.has_way(address):
                return {"open": False, "reason": "no way there"}
            client = self._client(address)
            try:
                await client.open()
            except xmpp.NoAnswer as error:
                return {"open": False, "reason": str(error)}
            return {"open": True, "certificate": client.certificate}

        addresses = self._job["addresses"]
        return dict(zip(addresses, await asyncio.gather(*map(one, addresses)), strict=True))

    async def _stranger(self) -> Facts:
        """Somebody without account and token tries to be a member."""
        client = self._client()
        await client.open()
        try:
            await client.login(self._job["domain"])
        except xmpp.Refused as refusal:
            return {"admitted": False, "condition": str(refusal), "mechanisms": client.mechanisms}
        return {"admitted": True, "condition": "", "mechanisms": client.mechanisms}

    def _reached(self) -> str:
        """Return the first address to which there is a way from here."""
        return next(filter(xmpp.has_way, self._job["addresses"]), str(self._job["address"]))

    async def _log_in(self, name: str, domain: str, query: str = "", **account: str) -> Facts:
        client = self._client()
        await client.open(query=query, pin=self._job["pin"] if account or query else "")
        try:
            await client.login(domain, **account)
        except xmpp.Refused as refusal:
            return {"admitted": False, "condition": str(refusal)}
        self._people[name] = rooms.Participant(client)
        return {"admitted": True, "condition": "", "domain": client.jid.partition("/")[0].rpartition("@")[2]}

    async def _second(self) -> Facts:
        """The second member comes as the web client brings hosts: anonymously, with the session of another log-in.

        With tokens there is no such way; the second one has the same token (lib-jitsi-meet:JitsiConference.ts
        authenticateAndUpgradeRole).
        """
        if self._secrets.get("token") or not self._secrets.get("account"):
            return await self._member("second")
        return await self._log_in("second", self._job["guest"])

    async def _member(self, name: str = "member", token: str = "") -> Facts:
        token, account = token or self._secrets.get("token", ""), self._secrets.get("account", "")
        if not token and not account:
            return {"admitted": None, "condition": "no probe account and no token is declared"}
        if not self._job.get("pin"):
            return {"admitted": None, "condition": "the certificate is not known, so no secret is told"}
        if token:
            seen = await self._log_in(name, self._job["domain"], xmpp.token_query(token, self._room))
            return {**seen, "claims": claims(token)}
        password = self._secrets.get("password", "")
        return await self._log_in(name, self._job["domain"], account=account, password=password)

    async def _services(self, person: rooms.Participant) -> Facts:
        """Ask for STUN and TURN as the web client does (lib-jitsi-meet:modules/xmpp/strophe.jingle.js)."""
        answer = await person.client.ask("get", self._job["domain"], f"<services xmlns='{EXTDISCO}'/>")
        if xmpp.condition(answer):
            raise xmpp.Refused(xmpp.condition(answer))
        return {"services": services(answer)}

    async def _offered(self) -> Facts:
        """Whether the site tells its clients that it has a lobby (lib-jitsi-meet:modules/xmpp/Lobby.js)."""
        person = self._people.get("guest") or self._people.get("member")
        if person is None:
            raise xmpp.NoAnswer("nobody could log in")
        answer = await person.client.ask("get", self._job["domain"], f"<query xmlns='{xmpp.DISCO_INFO}'/>")
        rows = [item.get("type") for item in answer.iter(f"{{{xmpp.DISCO_INFO}}}identity")]
        return {"lobby": "lobbyrooms" in rows}

    async def _room_without_member(self) -> Facts:
        """A guest asks for a room that nobody opened, then tries to enter it without asking."""
        guest = self._people.get("guest")
        if guest is None:
            raise xmpp.NoAnswer("the guest could not log in")
        room = f"{rooms.room_name()}@{self._job['muc']}"
        try:
            asked = await guest.request(self._job["focus"], room)
        except xmpp.NoAnswer as silence:
            asked = {"ready": False, "condition": str(silence), "silent": True}
        seen: Facts = {"request": asked, "enter": await guest.enter(room)}
        if seen["enter"]["outcome"] == "lobby":
            seen["knock"] = await guest.enter(seen["enter"]["lobby"])
            seen["let_in"] = await guest.invited(room, WAITS)
        await guest.leave()
        return seen

    async def _meeting(self) -> Facts:
        """A member opens a room, the second one comes, a session is offered to both; then a guest comes."""
        room = f"{self._room}@{self._job['muc']}"
        member = self._people["member"]
        seen: Facts = {"room": room}
        self.facts["meeting"] = seen
        seen["request"] = await member.request(self._job["focus"], room)
        seen["enter"] = await member.enter(room)
        if seen["enter"]["outcome"] != "joined":
            return seen
        parts = [
            self._note("owner", self._owner(member, room, seen["enter"])),
            self._note("sessions", self._sessions(room)),
        ]
        if "plain" in self._people:
            parts.append(self._note("plain_in_meeting", self._plain_enters(self._people["plain"], room)))
        await asyncio.gather(*parts)
        if "guest" in self._people:
            await self._note("guest_in_meeting", self._guest_in_meeting(room))
        return seen

    async def _owner(self, member: rooms.Participant, room: str, entered: Facts) -> Facts:
        if entered["affiliation"] == "owner":
            return {"owner": True}
        return {"owner": await member.becomes_owner(room, OWNER) is not None}

    async def _plain_alone(self, person: rooms.Participant) -> Facts:
        """The first one in a room is who Jicofo makes its owner of itself (jicofo: AutoOwnerRoleManager), whatever a token says."""
        room = _named(self._secrets["plain_token"]) or rooms.room_name()
        return await self._plain_enters(person, f"{room}@{self._job['muc']}")

    async def _plain_enters(self, person: rooms.Participant, room: str) -> Facts:
        """Somebody whose token makes no moderator comes to a room, and goes again."""
        await person.request(self._job["focus"], room)
        entered = await person.enter(room)
        if entered["outcome"] != "joined":
            return {"enter": entered, "owner": False}
        made = await self._owner(person, room, entered)
        await person.leave()
        return {"enter": entered, **made}

    async def _sessions(self, room: str) -> Facts:
        """Both members get an offer; every candidate of it is asked by STUN."""
        second = self._people.get("second")
        if second is None:
            raise xmpp.NoAnswer("there is no second member")
        host = None if self._secrets.get("token") else self._people["member"]
        await second.request(self._job["focus"], room, host)
        entered = await second.enter(room)
        if entered["outcome"] != "joined":
            raise xmpp.Refused(f"the second member is not let in: {entered['condition'] or entered['outcome']}")
        made, *both = await asyncio.gather(
            self._owner(second, room, entered), *(self._session(self._people[name]) for name in ("member", "second"))
        )
        return {"offers": both, "second": {**entered, **made}}

    async def _session(self, person: rooms.Participant) -> Facts:
        try:
            stanza = await person.client.wait(jingle.is_offer, OFFER)
        except xmpp.NoAnswer as silence:
            return {"offered": False, "reason": str(silence)}
        seen = jingle.offer(stanza)
        ufrag, password = seen.pop("ufrag"), seen.pop("pwd")
        seen.update({"offered": True, "credentials": bool(ufrag and password)})
        try:
            await person.client.ask("set", stanza.get("from") or "", jingle.acceptance(stanza, person.client.jid))
        except xmpp.NoAnswer as silence:
            seen["acceptance"] = str(silence)
        rows = [row for row in seen["candidates"] if str(row.get("protocol", "")).lower() == "udp"]
        asked = [stun.candidate(str(row["ip"]), int(row["port"]), ufrag, password) for row in rows]
        for row, answer in zip(rows, await asyncio.gather(*asked), strict=True):
            row.update(answer)
        return seen

    async def _guest_in_meeting(self, room: str) -> Facts:
        """A guest comes to a running meeting; where it is let in at once, the lobby is tried on the member's demand."""
        guest, member = self._people["guest"], self._people["member"]
        seen: Facts = {"request": await guest.request(self._job["focus"], room), "enter": await guest.enter(room)}
        self.facts["guest_in_meeting"] = seen
        arrived = seen["enter"]
        if arrived["outcome"] == "joined":
            seen["stays"] = await guest.stays(room, arrived, OWNER)
            await guest.leave()
            seen["lock"] = await member.lock(room)
            if seen["lock"]:
                return seen
            arrived = seen["enter_locked"] = await guest.enter(room)
        if arrived["outcome"] == "lobby":
            seen["lobby"] = await self._wait_in_lobby(guest, member, room, arrived["lobby"])
        return seen

    async def _wait_in_lobby(self, guest: rooms.Participant, member: rooms.Participant, room: str, lobby: str) -> Facts:
        watching = await member.enter(lobby)
        seen: Facts = {"moderator": watching, "knock": await guest.enter(lobby)}
        seen["seen_by_moderator"] = await member.sees(f"{lobby}/{guest.nick}", 2)
        seen["let_in_unasked"] = await guest.invited(room, WAITS)
        seen["again"] = await guest.enter(room)
        await member.admit(room, guest.client.jid)
        seen["invited"] = await guest.invited(room, 3)
        seen["after_admission"] = await guest.enter(room)
        if seen["after_admission"]["outcome"] == "joined":
            seen["stays"] = await guest.stays(room, seen["after_admission"], OWNER)
        return seen


def claims(token: str) -> Facts:
    """Return what a token says of its holder, unverified: whether it makes a moderator, and for which room it is good."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        body = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        user = body.get("context", {}).get("user", {})
        moderator = str(user.get("moderator", "")).lower() == "true" or user.get("affiliation") in (
            "owner",
            "moderator",
            "teacher",
        )
        return {"moderator": moderator, "room": str(body.get("room", ""))}
    except (ValueError, AttributeError):
        return {}


def _named(token: str) -> str:
    """Return the room for which alone a token is good, "" where it is for every one."""
    room = str(claims(token).get("room", ""))
    return "" if room == "*" else room


def services(answer: xmpp.Element) -> list[Facts]:
    """Return the STUN and TURN services of an answer (XEP-0215), without their credentials."""
    found = []
    for item in answer.iter(f"{{{EXTDISCO}}}service"):
        row = xmpp.attributes(item, "type", "host", "port", "transport")
        row["credentials"] = bool(item.get("username") and item.get("password"))
        found.append(row)
    return found
