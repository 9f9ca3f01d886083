"""An XMPP client over WebSocket (RFC 7395), as far as a Jitsi participant needs one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import ssl
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

CLIENT = "jabber:client"
FRAMING = "urn:ietf:params:xml:ns:xmpp-framing"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
PING = "urn:xmpp:ping"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
SECONDS = 6.0
"""How long an answer may take."""
_MAXIMUM = 512 * 1024

Element = ElementTree.Element


class Refused(Exception):
    """The server answered, and said no; the text is its condition."""


class NoAnswer(Exception):
    """Nothing came in time, or the connection ended."""


def has_way(address: str) -> bool:
    """Say whether the kernel knows a way to an address; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        # A kernel without this family makes no socket of it.
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((address, 9))
    except OSError:
        return False
    return True


def parse(frame: str) -> Element:
    """Read one frame; raises NoAnswer for what is not XMPP (RFC 6120 11.1 forbids document types)."""
    if "<!DOCTYPE" in frame:
        raise NoAnswer("the answer holds a document type, which XMPP forbids")
    try:
        return ElementTree.fromstring(frame)
    except ElementTree.ParseError as error:
        raise NoAnswer(f"the answer is no XML: {error}") from error


def condition(stanza: Element) -> str:
    """Return the name of a stanza's error condition, "" where it is no error."""
    error = stanza.find(f"{{{CLIENT}}}error")
    if error is None:
        return ""
    names = [child.tag.rpartition("}")[2] for child in error if child.tag.startswith(f"{{{STANZAS}}}")]
    return next((name for name in names if name != "text"), error.get("type") or "error")


def bare(jid: str) -> str:
    """Return a JID without its resource."""
    return jid.partition("/")[0]


def _fingerprint(connection: ssl.SSLObject) -> str:
    return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()


def _pinned(pin: str) -> type[ssl.SSLObject]:
    """Return what ends a handshake with another certificate before anything of ours is sent; "" takes any."""

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            if pin and _fingerprint(self) != pin:
                raise ssl.SSLCertVerificationError("another certificate than the pinned one")

    return Pinned


class Client:
    """One connection. `features` are what it says that it can do when it is asked (XEP-0030)."""

    def __init__(self, address: str, domain: str, features: tuple[str, ...] = ()) -> None:
        self.jid = ""
        self.certificate = ""
        self.mechanisms: list[str] = []
        self.on_request: Callable[[Element], bool] = lambda stanza: False
        self._address, self._domain, self._features = address, domain, features
        self._socket: ClientConnection | None = None
        self._seen: list[Element] = []
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self._ended = ""
        self._streaming = False

    @property
    def ended(self) -> str:
        """Return why nothing more will come, "" while the connection lasts."""
        return self._ended

    async def open(self, *, query: str = "", pin: str = "") -> None:
        """Connect by address under the site's name; raises NoAnswer, or Refused where the certificate is not the pinned one.

        The chain is judged elsewhere (CRY-03); here `pin`, the SHA-256 of the certificate that the host itself was seen to
        serve, keeps a password, or a token in `query`, from being told to somebody else.
        """
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.sslobject_class = _pinned(pin)
        url = f"wss://{self._domain}/xmpp-websocket{query}"
        try:
            self._socket = await connect(
                url,
                host=self._address,
                port=443,
                ssl=context,
                server_hostname=self._domain,
                subprotocols=[Subprotocol("xmpp")],
                proxy=None,
                compression=None,
                max_size=_MAXIMUM,
                open_timeout=SECONDS,
                close_timeout=1,
                ping_interval=None,
            )
        except ssl.SSLCertVerificationError as error:
            raise Refused("another certificate is served here than on the host itself") from error
        except (TimeoutError, OSError, WebSocketException) as error:
            raise NoAnswer(f"no WebSocket: {type(error).__name__}: {error}") from error
        if self._socket.subprotocol != "xmpp":
            raise NoAnswer("the WebSocket does not speak xmpp")
        self.certificate = _fingerprint(self._socket.transport.get_extra_info("ssl_object"))

    async def login(self, domain: str, *, account: str = "", password: str = "") -> None:
        """Log in to a domain: by PLAIN with an account, else ANONYMOUS; then bind. Raises Refused and NoAnswer."""
        await self._restart(domain)
        mechanism, first = "ANONYMOUS", ""
        if account:
            mechanism, first = "PLAIN", base64.b64encode(f"\0{account}\0{password}".encode()).decode()
        await self._send(f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{first}</auth>")
        answer = await self._receive()
        if answer.tag != f"{{{SASL}}}success":
            names = [child.tag.rpartition("}")[2] for child in answer]
            raise Refused(next((name for name in names if name != "text"), answer.tag.rpartition("}")[2]))
        await self._restart(domain)
        self._reader = asyncio.create_task(self._read())
        bound = await self.ask("set", "", f"<bind xmlns='{BIND}'/>")
        self.jid = bound.findtext(f"{{{BIND}}}bind/{{{BIND}}}jid") or ""
        if condition(bound) or not self.jid:
            raise Refused(condition(bound) or "no address was bound")

    async def ask(self, kind: str, to: str, payload: str, seconds: float = SECONDS) -> Element:
        """Send an IQ and return its answer, an error too; raises NoAnswer."""
        name = uuid.uuid4().hex[:12]
        target = f" to={quoteattr(to)}" if to else ""
        await self._send(f"<iq xmlns='{CLIENT}' type='{kind}' id='{name}'{target}>{payload}</iq>")
        return await self.wait(
            lambda stanza: stanza.get("id") == name and stanza.get("type") in ("result", "error"), seconds
        )

    async def presence(self, to: str, payload: str = "", kind: str = "") -> None:
        """Send presence to somebody."""
        shown = f" type='{kind}'" if kind else ""
        await self._send(f"<presence xmlns='{CLIENT}' to={quoteattr(to)}{shown}>{payload}</presence>")

    async def message(self, to: str, payload: str) -> None:
        """Send a message."""
        await self._send(f"<message xmlns='{CLIENT}' to={quoteattr(to)}>{payload}</message>")

    async def wait(self, fits: Callable[[Element], bool], seconds: float = SECONDS) -> Element:
        """Return the first stanza that fits, a past one too, and forget it; raises NoAnswer."""

        def found() -> Element | None:
            return next((stanza for stanza in self._seen if fits(stanza)), None)

        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(lambda: self._ended or found() is not None), seconds)
            except TimeoutError:
                raise NoAnswer(f"nothing within {seconds:g} s") from None
            stanza = found()
            if stanza is None:
                raise NoAnswer(self._ended)
            self._seen.remove(stanza)
            return stanza

    async def close(self) -> None:
        """End the stream and the connection; never raises for what the peer does."""
        if self._socket is None:
            return
        if self._streaming:
            with contextlib.suppress(NoAnswer):
                await self._send(f"<close xmlns='{FRAMING}'/>")
        if self._reader is not None:
            self._reader.cancel()
        await self._socket.close()

    async def _restart(self, domain: str) -> None:
        self._streaming = True
        await self._send(f"<open xmlns='{FRAMING}' to={quoteattr(domain)} version='1.0'/>")
        opened = await self._receive()
        if opened.tag != f"{{{FRAMING}}}open":
            raise Refused(f"the stream was not opened: {''.join(opened.itertext()).strip()[:80] or opened.tag}")
        features = await self._receive()
        self.mechanisms = [item.text or "" for item in features.iter(f"{{{SASL}}}mechanism")] or self.mechanisms

    async def _send(self, text: str) -> None:
        try:
            assert self._socket is not None
            await self._socket.send(text)
        except WebSocketException as error:
            raise NoAnswer(f"the connection ended: {error}") from error

    async def _receive(self) -> Element:
        assert self._socket is not None
        try:
            frame = await asyncio.wait_for(self._socket.recv(), SECONDS)
        except TimeoutError:
            raise NoAnswer(f"no answer within {SECONDS:g} s") from None
        except WebSocketException as error:
            raise NoAnswer(f"the connection ended: {error}") from error
        return parse(frame if isinstance(frame, str) else frame.decode(errors="replace"))

    async def _read(self) -> None:
        """Take stanzas as they come, answer what a participant is asked, keep the rest for `wait`."""
        assert self._socket is not None
        try:
            async for frame in self._socket:
                stanza = parse(frame if isinstance(frame, str) else frame.decode(errors="replace"))
                if stanza.tag == f"{{{CLIENT}}}iq" and stanza.get("type") in ("get", "set"):
                    await self._send(self._reply(stanza))
                async with self._news:
                    self._seen.append(stanza)
                    self._news.notify_all()
            self._ended = "the server ended the connection"
        except (NoAnswer, WebSocketException) as error:
            self._ended = str(error)
        async with self._news:
            self._news.notify_all()

    def _reply(self, stanza: Element) -> str:
        head = f"<iq xmlns='{CLIENT}' to={quoteattr(stanza.get('from') or '')} id={quoteattr(stanza.get('id') or '')}"
        query = stanza.find(f"{{{DISCO_INFO}}}query")
        if query is not None:
            node = f" node={quoteattr(query.get('node') or '')}" if query.get("node") else ""
            said = "".join(f"<feature var={quoteattr(name)}/>" for name in self._features)
            identity = "<identity category='client' type='bot' name='probe'/>"
            return f"{head} type='result'><query xmlns='{DISCO_INFO}'{node}>{identity}{said}</query></iq>"
        if stanza.find(f"{{{PING}}}ping") is not None or self.on_request(stanza):
            return f"{head} type='result'/>"
        refusal = f"<error type='cancel'><service-unavailable xmlns='{STANZAS}'/></error>"
        return f"{head} type='error'>{refusal}</iq>"


def token_query(token: str, room: str) -> str:
    """Return the query of the WebSocket's address, as the web client makes it (lib-jitsi-meet:modules/xmpp/xmpp.ts)."""
    return f"?room={quote(room, safe='')}" + (f"&token={quote(token, safe='')}" if token else "")


def attributes(element: Element, *names: str) -> dict[str, Any]:
    """Return those attributes of an element that it has."""
    return {name: element.get(name) for name in names if element.get(name) is not None}
