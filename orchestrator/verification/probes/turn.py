"""What a TURN server gives to whom (RFC 8656): allocations by credentials, permissions by peer, over every way to it."""

from __future__ import annotations

import secrets
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aioice import stun, turn

from .handed import NotHanded, handed_credentials

SECONDS = 30.0
"""How long the whole probe may take."""
GRANTED = "granted"
SILENT = "no answer"
_FAMILIES = {"4": 0x01000000, "6": 0x02000000}
_LIFETIME = 60
_REPEAT = (0.4, 0.8, 1.6)
_CONNECT = 5.0
_HEADER = 20

# aioice does not know this one (RFC 8656 18.6).
_FAMILY = (0x0017, "REQUESTED-ADDRESS-FAMILY", stun.pack_unsigned, stun.unpack_unsigned)
stun.ATTRIBUTES_BY_TYPE[_FAMILY[0]] = stun.ATTRIBUTES_BY_NAME[_FAMILY[1]] = _FAMILY


class _Way:
    """One client's connection to the server: UDP, or TLS over TCP under a name."""

    def __init__(self, way: dict[str, Any], end: float) -> None:
        self._end = end
        self._rest = b""
        address, port = way["address"], way["port"]
        self._repeat: tuple[float, ...] = _REPEAT
        if way["transport"] == "udp":
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
            self._socket.connect((address, port))
        else:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            plain = socket.create_connection((address, port), min(_CONNECT, self._left()))
            self._socket = context.wrap_socket(plain, server_hostname=way["name"])
            self._repeat = (sum(_REPEAT),)
        self._stream = way["transport"] != "udp"

    def __enter__(self) -> _Way:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _left(self) -> float:
        return max(self._end - time.monotonic(), 0.01)

    def ask(self, message: stun.Message) -> stun.Message | None:
        """Send a request, again where UDP may have lost it; return its answer, None for silence."""
        for seconds in self._repeat:
            if time.monotonic() > self._end:
                return None
            try:
                self._socket.sendall(bytes(message))
                for answer in self._answers(time.monotonic() + seconds):
                    if answer.transaction_id == message.transaction_id:
                        return answer
            except OSError:
                return None
        return None

    def _answers(self, until: float) -> Iterator[stun.Message]:
        while (left := until - time.monotonic()) > 0:
            self._socket.settimeout(min(left, self._left()))
            try:
                data = self._socket.recv(4096)
            except TimeoutError:
                return
            if not data:
                raise ConnectionError("the server hung up")
            for frame in self._frames(data):
                try:
                    yield stun.parse_message(frame)
                except ValueError:
                    continue

    def _frames(self, data: bytes) -> Iterator[bytes]:
        if not self._stream:
            yield data
            return
        self._rest += data
        while len(self._rest) >= _HEADER:
            length = _HEADER + struct.unpack("!H", self._rest[2:4])[0]
            if len(self._rest) < length:
                return
            frame, self._rest = self._rest[:length], self._rest[length:]
            yield frame


class _Client:
    """A client with credentials on one way; none means that it has none."""

    def __init__(self, way: _Way, credentials: tuple[str, str] | None) -> None:
        self._way = way
        self._credentials = credentials
        self._realm, self._nonce = "", b""

    def request(self, method: stun.Method, **attributes: Any) -> tuple[Any, stun.Message | None]:
        """Return what came of a request, GRANTED, an error code or SILENT, and the answer."""
        for _ in range(3):
            message = stun.Message(message_method=method, message_class=stun.Class.REQUEST)
            message.attributes.update({name.replace("_", "-"): value for name, value in attributes.items()})
            key = self._sign(message)
            answer = self._way.ask(message)
            if answer is None:
                return SILENT, None
            if answer.message_class == stun.Class.RESPONSE:
                if key and not answer.check_message_integrity(key):
                    return "granted by somebody who does not know the password", answer
                return GRANTED, answer
            code = answer.attributes.get("ERROR-CODE", (0, ""))[0]
            first = code == 401 and not self._nonce and self._credentials is not None
            if not (first or code == 438) or "NONCE" not in answer.attributes:
                return code, answer
            self._nonce = answer.attributes["NONCE"]
            self._realm = answer.attributes.get("REALM", self._realm)
        return code, answer

    def _sign(self, message: stun.Message) -> bytes:
        if self._credentials is None or not self._nonce:
            return b""
        name, password = self._credentials
        message.attributes.update({"USERNAME": name, "REALM": self._realm, "NONCE": self._nonce})
        key = turn.make_integrity_key(name, self._realm, password)
        message.add_message_integrity(key)
        return key

    def allocate(self, family: str = "") -> tuple[Any, stun.Message | None]:
        """Ask for a relay, of a family where one is named."""
        more = {"REQUESTED_ADDRESS_FAMILY": _FAMILIES[family]} if family else {}
        return self.request(stun.Method.ALLOCATE, REQUESTED_TRANSPORT=turn.UDP_TRANSPORT, LIFETIME=_LIFETIME, **more)

    def permissions(self, peers: list[str]) -> dict[str, Any]:
        """Ask to send to each peer; a server that falls silent twice is asked no more."""
        found: dict[str, Any] = {}
        for peer in peers:
            if list(found.values())[-2:] == [SILENT, SILENT]:
                found[peer] = SILENT
                continue
            found[peer] = self.request(stun.Method.CREATE_PERMISSION, XOR_PEER_ADDRESS=(peer, 9))[0]
        return found

    def leave(self) -> None:
        """Give the relay back."""
        self.request(stun.Method.REFRESH, LIFETIME=0)


def _tried(way: dict[str, Any], credentials: tuple[str, str] | None, end: float) -> Any:
    """Return what an allocation with these credentials gives, on a connection of its own."""
    with _Way(way, end) as line:
        client = _Client(line, credentials)
        outcome, _ = client.allocate()
        if outcome == GRANTED:
            client.leave()
        return outcome


def _relayed(way: dict[str, Any], credentials: tuple[str, str], family: str, peers: list[str], end: float) -> Any:
    """Return what a relay of a family gives, and to which peers it may send."""
    with _Way(way, end) as line:
        client = _Client(line, credentials)
        outcome, answer = client.allocate(family)
        if outcome != GRANTED or answer is None:
            return {"allocated": outcome, "relay": "", "peers": {}}
        relay = answer.attributes.get("XOR-RELAYED-ADDRESS", ("", 0))[0]
        found = client.permissions(peers)
        client.leave()
        return {"allocated": outcome, "relay": relay, "peers": found}


def _way_facts(
    way: dict[str, Any], job: dict[str, Any], credentials: tuple[str, str] | None, end: float
) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    try:
        if "strangers" in job:
            facts["nothing"] = _tried(way, None, end)
            name = credentials[0] if credentials else str(int(time.time()) + 3600)
            facts["wrong"] = _tried(way, (name, secrets.token_urlsafe(15)), end)
            for label, (user, password) in job["strangers"].items():
                facts[label] = _tried(way, (user, password), end)
        if credentials:
            facts["handed"] = _tried(way, credentials, end)
            for family, peers in job.get("peers", {}).items():
                facts[f"relay{family}"] = _relayed(way, credentials, family, peers, end)
    except OSError as error:
        facts["failed"] = f"{type(error).__name__}: {error}"
    return facts


def run(job: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """Return what the server gave on each way.

    `ways`: rows of label, address, port, transport (udp or tls) and name; `handing`: where a guest is handed credentials
    (see `handed`); `strangers`: credentials that must be refused, by label; `peers`: addresses by family, "4" and "6".
    """
    del known  # a guest is enough
    end = time.monotonic() + SECONDS
    facts: dict[str, Any] = {"handed": "", "ends": None, "clock": None, "ways": {}}
    credentials = None
    try:
        name, password, facts["clock"] = handed_credentials(job["handing"])
        credentials, ends = (name, password), name.partition(":")[0]
        facts["ends"] = int(ends) if ends.isdigit() else None
    except NotHanded as error:
        facts["handed"] = str(error)
    with ThreadPoolExecutor(max(len(job["ways"]), 1)) as pool:
        found = pool.map(lambda way: _way_facts(way, job, credentials, end), job["ways"])
        facts["ways"] = {way["label"]: facts_of for way, facts_of in zip(job["ways"], found, strict=True)}
    return facts
