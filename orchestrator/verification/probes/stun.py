"""Whether a bridge answers a session's STUN binding request (RFC 8445), and only with the session's password."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from aioice import stun

ANSWER = 2.5
"""Seconds that an answer may take; the request is repeated meanwhile."""
SILENCE = 1.0
"""Seconds after which a request counts as not answered where no answer is wanted."""
_REPEAT = 0.5


def request(ufrag: str, password: str) -> stun.Message:
    """Return the binding request of the controlled side, which a participant is (jitsi-videobridge: the bridge controls)."""
    message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"{ufrag}:{secrets.token_hex(4)}"
    message.attributes["PRIORITY"] = 0x7E0000FF
    message.attributes["ICE-CONTROLLED"] = secrets.randbits(63)
    message.add_message_integrity(password.encode())
    return message


def verdict(data: bytes, asked: stun.Message, password: str) -> dict[str, Any] | None:
    """Return what an answer says, None for what is no answer to this request."""
    try:
        answer = stun.parse_message(data)
    except ValueError:
        return None
    if answer.transaction_id != asked.transaction_id:
        return None
    if answer.message_class == stun.Class.ERROR:
        code = answer.attributes.get("ERROR-CODE", (0, ""))[0]
        return {"answered": False, "reason": f"refused with {code}"}
    if answer.message_class != stun.Class.RESPONSE:
        return None
    signed = answer.check_message_integrity(password.encode())
    return {"answered": True, "signed": signed, "mapped": list(answer.attributes.get("XOR-MAPPED-ADDRESS", ()))}


class _Answers(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self.problem: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.arrived.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        if not self.problem.done():
            self.problem.set_result(str(exc))


async def bind(address: str, port: int, ufrag: str, password: str, seconds: float = ANSWER) -> dict[str, Any]:
    """Ask once and again until an answer comes; an unreachable address is a fact, not an error."""
    loop = asyncio.get_running_loop()
    try:
        transport, answers = await loop.create_datagram_endpoint(_Answers, remote_addr=(address, port))
    except OSError as error:
        return {"answered": False, "reason": f"no way there: {error}"}
    asked = request(ufrag, password)
    end = loop.time() + seconds
    try:
        while (left := end - loop.time()) > 0:
            transport.sendto(bytes(asked))
            try:
                data = await asyncio.wait_for(answers.arrived.get(), min(_REPEAT, left))
            except TimeoutError:
                continue
            seen = verdict(data, asked, password)
            if seen is not None:
                return seen
    finally:
        transport.close()
    reason = answers.problem.result() if answers.problem.done() else f"no answer within {seconds:g} s"
    return {"answered": False, "reason": reason}


async def candidate(address: str, port: int, ufrag: str, password: str) -> dict[str, Any]:
    """Return whether a candidate answers the right password, and what it says to a wrong one."""
    right, wrong = await asyncio.gather(
        bind(address, port, ufrag, password), bind(address, port, ufrag, secrets.token_hex(12), SILENCE)
    )
    return {**right, "wrong_password_answered": wrong["answered"]}
