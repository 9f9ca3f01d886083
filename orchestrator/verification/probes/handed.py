"""Which STUN and TURN services a guest is told of (XEP-0215), with the credentials: as BOSH (XEP-0124), standard library only."""

from __future__ import annotations

import email.utils
import http.client
import secrets
import socket
import ssl
from typing import Any
from xml.etree import ElementTree

SECONDS = 6.0
_BOSH = "http://jabber.org/protocol/httpbind"
_EXTDISCO = "urn:xmpp:extdisco:2"
_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
_BIND = "<iq type='set' id='bind' xmlns='jabber:client'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"


class NotHanded(Exception):
    """The site hands a guest nothing; the text says why."""


class _Site(http.client.HTTPSConnection):
    """HTTPS to an address under the site's name. The chain is judged elsewhere; a guest has no secret to lose."""

    def __init__(self, address: str, name: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        super().__init__(name, timeout=SECONDS, context=context)
        self._address, self._name, self._tls = address, name, context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), SECONDS)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._name)


class _Session:
    """A BOSH session: one request after another."""

    def __init__(self, site: _Site, domain: str) -> None:
        self._site, self._domain = site, domain
        self.clock: int | None = None
        self._rid = secrets.randbelow(2**31)
        opened = self._post(f"to='{domain}' wait='5' hold='1' ver='1.6' xmpp:version='1.0'", "")
        self._sid = opened.get("sid") or ""
        if not self._sid:
            raise NotHanded(f"{domain} opens no session")

    def send(self, payload: str, more: str = "") -> ElementTree.Element:
        """Send a payload and return the next answer, which may be empty."""
        return self._post(f"sid='{self._sid}' {more}", payload)

    def restart(self) -> None:
        """Begin the stream anew, as after a log-in."""
        self.send("", f"xmpp:restart='true' to='{self._domain}'")

    def wanted(self, payload: str, tag: str) -> ElementTree.Element:
        """Send a payload and return the element that answers it; raises NotHanded when it does not come."""
        answer = self.send(payload)
        for _ in range(3):
            found = answer.find(f".//{tag}")
            if found is not None:
                return found
            answer = self.send("")
        raise NotHanded(f"{self._domain} gives no answer: {tag.rpartition('}')[2]}")

    def _post(self, attributes: str, payload: str) -> ElementTree.Element:
        self._rid += 1
        body = f"<body xmlns='{_BOSH}' xmlns:xmpp='urn:xmpp:xbosh' rid='{self._rid}' {attributes}>{payload}</body>"
        self._site.request("POST", "/http-bind", body, {"Content-Type": "text/xml; charset=utf-8"})
        answer = self._site.getresponse()
        self.clock = _seconds(answer.getheader("Date") or "")
        text = answer.read(512 * 1024)
        if answer.status != 200:
            raise NotHanded(f"/http-bind answers {answer.status}")
        return ElementTree.fromstring(text)


def _seconds(date: str) -> int | None:
    """Return the second since 1970 that an HTTP date tells (RFC 9110 5.6.7), None where it tells none."""
    try:
        return int(email.utils.parsedate_to_datetime(date).timestamp())
    except ValueError:
        return None


def services(address: str, guest: str, name: str) -> tuple[list[dict[str, str]], int | None]:
    """Return what a guest is told of by the site at an address, under its name, and the site's own clock; raises NotHanded."""
    site = _Site(address, name)
    try:
        session = _Session(site, guest)
        session.wanted(f"<auth xmlns='{_SASL}' mechanism='ANONYMOUS'/>", f"{{{_SASL}}}success")
        session.restart()
        session.wanted(_BIND, "{jabber:client}iq[@id='bind']")
        # The main domain, as the web client does for guests, too (lib-jitsi-meet:modules/xmpp/strophe.jingle.js).
        asked = f"<iq type='get' id='handed' to='{name}' xmlns='jabber:client'><services xmlns='{_EXTDISCO}'/></iq>"
        answer = session.wanted(asked, "{jabber:client}iq[@id='handed']")
    except (OSError, http.client.HTTPException, ElementTree.ParseError) as error:
        raise NotHanded(f"{name} at {address}: {type(error).__name__}: {error}") from error
    finally:
        site.close()
    return [dict(row.attrib) for row in answer.iter(f"{{{_EXTDISCO}}}service")], session.clock


def handed_credentials(job: dict[str, Any]) -> tuple[str, str, int | None]:
    """Return user name and password of the first TURN service that a guest is told of; raises NotHanded.

    With them comes the second since 1970 at which they were handed out, by the site's own clock: they are good by that one,
    whatever ours says. None where the site tells no time. The job names the `addresses` at which the site may be asked, its
    `name`, and the `guest` domain.
    """
    reason = "nobody to ask"
    for address in job["addresses"]:
        try:
            found, clock = services(address, job["guest"], job["name"])
        except NotHanded as error:
            reason = str(error)
            continue
        for row in found:
            if row.get("type", "").startswith("turn") and row.get("username") and row.get("password"):
                return row["username"], row["password"], clock
        reason = f"guests are told of {len(found)} services, none with TURN credentials"
    raise NotHanded(reason)
