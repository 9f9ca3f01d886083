"""Runs on a lab host, by standard input: people who open and enter a room by BOSH at the public address, as browsers do.

Argument: JSON with the domain, the room, and steps such as ["anna", "request"]. A person is a guest, or has a password in
`accounts`, or a token in `tokens`. Prints one JSON object for each step.

* `request`: ask Jicofo for the room (jicofo:doc/conference-request.md). Members of a site with internal accounts log in with a
  second connection, get a session from Jicofo, and enter as the guest that they are (lib-jitsi-meet:JitsiConference.ts,
  authenticateAndUpgradeRole).
* `join`: enter the room; `wait`: enter the lobby that `join` was sent to; `own`: become the room's owner.
"""

import base64
import json
import re
import sys
import urllib.request
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable

SPACE = "http://jabber.org/protocol/httpbind"
XBOSH = "xmlns:xmpp='urn:xmpp:xbosh'"
CLIENT = "{jabber:client}"
FOCUS = "{http://jitsi.org/protocol/focus}"
ERRORS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
task = json.loads(sys.argv[1])
domain, room = task["domain"], f"{task['room']}@conference.{task['domain']}"


def as_text(stanza: ET.Element) -> str:
    """Return a stanza as XML; attributes stand in double quotes."""
    return ET.tostring(stanza).decode()


def condition(stanza: ET.Element) -> str:
    """Return an error's condition, or ""."""
    error = stanza.find(CLIENT + "error")
    names = [] if error is None else [child.tag for child in error if child.tag.startswith(ERRORS)]
    return names[0].removeprefix(ERRORS) if names else ""


class Session:
    """One BOSH session (XEP-0124, XEP-0206)."""

    def __init__(self, host: str, mechanism: str, initial: str = "", query: str = "") -> None:
        self.address, self.rid, self.sid = f"https://{domain}/http-bind{query}", 1000, ""
        opened = self.post("", f"to='{host}' wait='4' hold='1' ver='1.6' {XBOSH} xmpp:version='1.0'")
        self.sid = opened.get("sid", "")
        auth = f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{initial}</auth>"
        self.seen: list[ET.Element] = list(self.post(auth))
        self.wait(lambda stanza: stanza.tag.endswith("}success"))
        self.post("", f"to='{host}' {XBOSH} xmpp:restart='true'")
        bound = self.ask("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>")
        self.jid = "".join(bound.itertext()).strip()

    def post(self, payload: str, attributes: str = "") -> ET.Element:
        """Send one body and return the answering one."""
        self.rid += 1
        sid = f"sid='{self.sid}'" if self.sid else ""
        body = f"<body xmlns='{SPACE}' rid='{self.rid}' {sid} {attributes}>{payload}</body>"
        request = urllib.request.Request(self.address, body.encode(), {"Content-Type": "text/xml; charset=utf-8"})
        with urllib.request.urlopen(request, timeout=15) as answer:
            return ET.fromstring(answer.read())

    def send(self, stanza: str) -> None:
        """Send a stanza; what comes back meanwhile is kept."""
        self.seen += list(self.post(stanza))

    def wait(self, fits: Callable[[ET.Element], bool]) -> ET.Element:
        """Return the first stanza that fits, or end after about 16 s."""
        for _ in range(5):
            for stanza in self.seen:
                if fits(stanza):
                    self.seen.remove(stanza)
                    return stanza
            self.seen += list(self.post(""))
        raise SystemExit(f"nothing fits: {[as_text(stanza) for stanza in self.seen]}")

    def ask(self, payload: str, to: str = "") -> ET.Element:
        """Send an IQ and return its answer."""
        identity = uuid.uuid4().hex
        target = f"to='{to}'" if to else ""
        self.send(f"<iq xmlns='jabber:client' type='set' id='{identity}' {target}>{payload}</iq>")
        return self.wait(lambda stanza: stanza.tag == CLIENT + "iq" and stanza.get("id") == identity)


class Person:
    """Who takes part, with the connection that the room sees."""

    def __init__(self, name: str) -> None:
        self.name, self.machine, self.session_id, self.lobby = name, uuid.uuid4().hex, "", ""
        token = task["tokens"].get(name)
        host, query = (domain, f"?token={token}&room={task['room']}") if token else (f"guest.{domain}", "")
        self.session = Session(host, "ANONYMOUS", query=query)

    def request(self) -> dict[str, object]:
        """Ask for the room, for a member by way of a connection with the account's password."""
        password = task["accounts"].get(self.name)
        if password and not self.session_id:
            initial = base64.b64encode(f"\0{self.name}\0{password}".encode()).decode()
            self.session_id = str(self.conference(Session(domain, "PLAIN", initial))["session"])
        return self.conference(self.session)

    def conference(self, session: Session) -> dict[str, object]:
        """Ask Jicofo by one connection."""
        known = f"session-id='{self.session_id}'" if self.session_id else ""
        answer = session.ask(
            f"<conference xmlns='http://jitsi.org/protocol/focus' room='{room}' machine-uid='{self.machine}' {known}/>",
            f"focus.{domain}",
        )
        told = answer.find(FOCUS + "conference")
        fields = {} if told is None else told.attrib
        return {
            "error": condition(answer),
            "ready": fields.get("ready") == "true",
            "session": fields.get("session-id", ""),
            "identity": fields.get("identity", ""),
        }

    def nick(self) -> str:
        """Return the name in the room: the beginning of the connection's own, as browsers take it."""
        return self.session.jid.partition("@")[0][:8]

    def enter(self, address: str) -> dict[str, object]:
        """Enter a room or a lobby; return the refusal, or the affiliation with which this person is in."""
        payload = "<x xmlns='http://jabber.org/protocol/muc'/>"
        payload += f"<nick xmlns='http://jabber.org/protocol/nick'>{self.name}</nick>"
        self.session.send(f"<presence xmlns='jabber:client' to='{address}/{self.nick()}'>{payload}</presence>")
        answer = self.session.wait(
            lambda s: s.get("from", "").startswith(address) and bool(condition(s) or 'code="110"' in as_text(s))
        )
        lobby = re.search(r"lobbyroom[^>]*>([^<]+)<", as_text(answer))
        affiliation = re.search(r'affiliation="(\w+)', as_text(answer))
        self.lobby = lobby.group(1) if lobby else ""
        return {
            "error": condition(answer),
            "lobby": self.lobby,
            "affiliation": affiliation.group(1) if affiliation else "",
        }

    def join(self) -> dict[str, object]:
        """Enter the room."""
        return self.enter(room)

    def wait(self) -> dict[str, object]:
        """Enter the lobby that the room named."""
        return self.enter(self.lobby)

    def own(self) -> dict[str, object]:
        """Wait until this person owns the room."""
        self.session.wait(lambda s: s.get("from") == f"{room}/{self.nick()}" and 'affiliation="owner"' in as_text(s))
        return {"affiliation": "owner"}


people: dict[str, Person] = {}
for name, verb in task["steps"]:
    person = people[name] = people.get(name) or Person(name)
    print(json.dumps({"who": name, "did": verb, **getattr(person, verb)()}), flush=True)
