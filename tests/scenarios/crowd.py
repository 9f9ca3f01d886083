"""Runs outside a lab: many people who meet in rooms, and for each of them media paths through TURN to the bridge.

Standard input: JSON with `domain`, `guest`, `muc`, `focus`, `turn` (names), `addresses`, `account`, `password`, `secret` (coturn's),
`people`, `in_a_room`, `paths` (of each person, over every way in turn) and `seconds`. Prints one JSON object of what each got.

The people are the verification's own probes. A path is what a browser's ICE makes of a relay candidate: an allocation by the
person's credentials, through which the bridge is asked over and over for consent (RFC 7675) by the session's ufrag and password.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Any

from aioice import turn

from orchestrator.verification.probes import jingle, rooms, stun, xmpp

PAUSE = 0.5
"""Seconds between two requests on one path; ten times as often as ICE asks for consent."""
PING = 5.0
PATIENCE = 30.0
"""Seconds that one step may take on a busy machine."""
_AT_ONCE = 10


class Path(asyncio.DatagramProtocol):
    """One allocation, and what went out and came back through it."""

    def __init__(self, label: str) -> None:
        self.label, self.sent, self.answered, self.problem = label, 0, 0, ""
        self.silence = 0.0
        self._asked: dict[bytes, Any] = {}
        self._heard = 0.0
        self._password = ""
        self._client: Any = None

    async def open(self, task: dict[str, Any], user: str, address: str, secure: bool) -> None:
        """Get the allocation: by UDP, or by TLS under TURN's name on port 443."""
        name = f"{int(time.time()) + 3600}:{user}"
        digest = hmac.new(task["secret"].encode(), name.encode(), hashlib.sha1).digest()
        server = (address, 443 if secure else 3478)
        given = (server, name, base64.b64encode(digest).decode(), 600, 500)
        loop = asyncio.get_running_loop()
        if secure:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            _, self._client = await loop.create_connection(
                lambda: turn.TurnClientTcpProtocol(*given), *server, ssl=context, server_hostname=task["turn"]
            )
        else:
            _, self._client = await loop.create_datagram_endpoint(
                lambda: turn.TurnClientUdpProtocol(*given), remote_addr=server
            )
        await self._client.connect()
        self._client.receiver = self

    async def ask(self, session: dict[str, Any], until: float) -> None:
        """Ask the bridge for consent until then."""
        # Behind HAProxy coturn is asked by IPv4, so an IPv6 client's relay over TLS is one of IPv4, in browsers, too.
        family = ":" in self._client.relayed_address[0]
        bridge = next((row["ip"], int(row["port"])) for row in session["candidates"] if (":" in row["ip"]) is family)
        self._password, self._heard = session["pwd"], time.monotonic()
        while time.monotonic() < until:
            request = stun.request(session["ufrag"], session["pwd"])
            self._asked[request.transaction_id] = request
            self.sent += 1
            asked = time.monotonic()
            await self._client.send_data(bytes(request), bridge)
            await asyncio.sleep(PAUSE)
        await asyncio.sleep(2)
        self.silence = max(self.silence, asked - self._heard)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        request = self._asked.pop(data[8:20], None)
        if request is not None and (stun.verdict(data, request, self._password) or {}).get("signed"):
            self.answered += 1
            now = time.monotonic()
            self.silence, self._heard = max(self.silence, now - self._heard), now

    def told(self) -> dict[str, Any]:
        """Return what became of the path; `silence` is the longest one, in seconds."""
        facts = {"way": self.label, "sent": self.sent, "answered": self.answered}
        return {**facts, "silence": round(self.silence, 1), "problem": self.problem}

    async def close(self) -> None:
        if self._client is not None:
            await asyncio.wait_for(self._client.delete(), 5)


class Person:
    """Somebody in a room with a media session."""

    def __init__(self, task: dict[str, Any], number: int) -> None:
        self.name, self.pings, self.problem = f"person{number}", 0, ""
        self._task = task
        self._client = xmpp.Client(task["addresses"][number % len(task["addresses"])], task["domain"], jingle.FEATURES)
        self._client.on_request = jingle.is_jingle
        self._session: dict[str, Any] = {}
        self.paths: list[Path] = []

    async def come(self, room: str, member: bool) -> None:
        """Log in, as a member who may open a room or as a guest, and enter."""
        await self._client.open()
        account = {name: self._task[name] for name in ("account", "password")} if member else {}
        await self._client.login(self._task["domain" if member else "guest"], **account)
        self._person = rooms.Participant(self._client)
        asked = await self._person.request(self._task["focus"], room)
        entered = await self._person.enter(room)
        if not asked["ready"] or entered["outcome"] != "joined":
            raise xmpp.Refused(f"{self.name}: {asked}, {entered}")

    async def accept(self) -> None:
        """Take the session that Jicofo offers once two are in the room."""
        stanza = await self._client.wait(jingle.is_offer, PATIENCE)
        self._session = jingle.offer(stanza)
        await self._client.ask("set", stanza.get("from") or "", jingle.acceptance(stanza, self._client.jid), PATIENCE)

    async def find_ways(self) -> None:
        """Get the allocations."""
        for address, secure in itertools.islice(_ways(self._task["addresses"]), self._task["paths"]):
            path = Path(f"{'tls' if secure else 'udp'} {address}")
            self.paths.append(path)
            await asyncio.wait_for(path.open(self._task, self.name, address, secure), PATIENCE)

    async def stay(self, until: float) -> None:
        """Be there: media on every path, and a ping now and then."""
        async with asyncio.TaskGroup() as group:
            for path in self.paths:
                group.create_task(_noted(path, path.ask(self._session, until)))
            while time.monotonic() < until:
                answer = await self._client.ask("get", self._task["domain"], f"<ping xmlns='{xmpp.PING}'/>", PATIENCE)
                self.pings += not xmpp.condition(answer)
                await asyncio.sleep(PING)

    async def leave(self) -> None:
        """Give everything back."""
        for path in self.paths:
            await path.close()
        await self._client.close()

    def told(self) -> dict[str, Any]:
        """Return what became of this person."""
        return {"pings": self.pings, "problem": self.problem, "paths": [path.told() for path in self.paths]}


def _ways(addresses: list[str]) -> Iterator[tuple[str, bool]]:
    return itertools.cycle(itertools.product(addresses, (False, True)))


async def _noted(who: Any, work: Any) -> None:
    """Do something; what goes wrong is a fact."""
    try:
        await work
    except Exception as error:
        who.problem = who.problem or f"{type(error).__name__}: {error}"


async def meet(task: dict[str, Any]) -> dict[str, Any]:
    """Let everybody come, stay and leave."""
    people = [Person(task, number) for number in range(task["people"])]
    size = task["in_a_room"]
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(work: Any, who: Person) -> None:
        async with gate:
            await _noted(who, work)

    async def fill(group: list[Person]) -> None:
        room = f"{rooms.room_name()}@{task['muc']}"
        await one(group[0].come(room, member=True), group[0])
        for guest in group[1:]:
            await one(guest.come(room, member=False), guest)
        await asyncio.gather(*(_noted(who, who.accept()) for who in group))

    await asyncio.gather(*(fill(people[first : first + size]) for first in range(0, len(people), size)))
    await asyncio.gather(*(one(who.find_ways(), who) for who in people if not who.problem))
    until = time.monotonic() + task["seconds"]
    await asyncio.gather(*(_noted(who, who.stay(until)) for who in people if not who.problem))
    await asyncio.gather(*(_noted(who, who.leave()) for who in people))
    return {"people": [who.told() for who in people]}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    print(json.dumps(asyncio.run(asyncio.wait_for(meet(given), given["seconds"] + 240))))
