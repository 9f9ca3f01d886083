"""As much of OpenPGP as it takes to tell which key made a signature: no cryptography, only identities.

apt verifies; this module lets preflight say "signed by another key" before anything is touched, and the role compare a key
with its pin: `playbooks/filter_plugins/ratssaal.py` loads this file. Standard library only. RFC 9580 (and 4880) sections
4 (packets), 5.2 (signatures) and 5.5 (keys).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_SIGNATURE, _PUBLIC_KEY, _USER_ID, _PUBLIC_SUBKEY = 2, 6, 13, 14
_ISSUER_KEY_ID, _ISSUER_FINGERPRINT = 16, 33


class NotOpenPGP(ValueError):
    """The bytes are no OpenPGP data."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A primary key as a person compares it. `users` are the names that it claims, `made` is the day (ISO)."""

    fingerprint: str
    made: str
    users: tuple[str, ...] = ()


def public_keys(data: bytes) -> tuple[PublicKey, ...]:
    """Return the primary keys in a key file, armoured or binary; raises NotOpenPGP."""
    found: list[PublicKey] = []
    for tag, body in _packets(_dearmour(data)):
        if tag == _PUBLIC_KEY and (fingerprint := _fingerprint(body)):
            made = datetime.fromtimestamp(int.from_bytes(body[1:5], "big"), UTC)
            found.append(PublicKey(fingerprint, f"{made:%Y-%m-%d}"))
        elif tag == _USER_ID and found:
            key = found[-1]
            found[-1] = PublicKey(key.fingerprint, key.made, (*key.users, body.decode(errors="replace")))
    if not found:
        raise NotOpenPGP("there is no public key in it")
    return tuple(found)


def key_fingerprints(data: bytes, *, subkeys: bool = True) -> tuple[str, ...]:
    """Return the fingerprints of all keys, and of their subkeys, in a key file, armoured or binary; raises NotOpenPGP."""
    wanted = {_PUBLIC_KEY, _PUBLIC_SUBKEY} if subkeys else {_PUBLIC_KEY}
    found = tuple(filter(None, (_fingerprint(body) for tag, body in _packets(_dearmour(data)) if tag in wanted)))
    if not found:
        raise NotOpenPGP("there is no public key in it")
    return found


def _fingerprint(body: bytes) -> str:
    """Return a key packet's fingerprint, "" for a version that nobody uses any more."""
    if body[:1] == b"\x04":
        return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()
    if body[:1] == b"\x06":
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    return ""


def signers(data: bytes) -> tuple[str, ...]:
    """Return the fingerprint, or else the 16-digit key id, behind each signature; raises NotOpenPGP."""
    found = []
    for tag, body in _packets(_dearmour(data)):
        if tag == _SIGNATURE:
            subpackets = dict(_subpackets(body))
            if _ISSUER_FINGERPRINT in subpackets:
                found.append(subpackets[_ISSUER_FINGERPRINT][1:].hex().upper())
            elif _ISSUER_KEY_ID in subpackets:
                found.append(subpackets[_ISSUER_KEY_ID].hex().upper())
    return tuple(found)


def same_key(signer: str, fingerprint: str) -> bool:
    """Say whether a signer's fingerprint or key id belongs to a key's fingerprint."""
    short = fingerprint[:16] if len(fingerprint) == 64 else fingerprint[-16:]
    return signer in {fingerprint, short}


def _dearmour(data: bytes) -> bytes:
    if b"-----BEGIN PGP" not in data:
        return data
    result = b""
    for block in data.split(b"-----BEGIN PGP")[1:]:
        _, _, text = block.replace(b"\r", b"").partition(b"\n\n")
        lines = [line for line in text.split(b"-----END", 1)[0].split(b"\n") if line and not line.startswith(b"=")]
        try:
            result += base64.b64decode(b"".join(lines), validate=True)
        except binascii.Error as error:
            raise NotOpenPGP("its armour is damaged") from error
    return result


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        header = data[position]
        if not header & 0x80:
            raise NotOpenPGP("it is no OpenPGP data")
        if header & 0x40:
            tag, (length, size) = header & 0x3F, _new_length(data, position + 1)
        else:
            tag, size = (header >> 2) & 0x0F, 1 << (header & 3)
            if header & 3 == 3:
                raise NotOpenPGP("it has a packet without a length")
            length = int.from_bytes(data[position + 1 : position + 1 + size], "big")
        start = position + 1 + size
        if start + length > len(data):
            raise NotOpenPGP("it is cut off")
        yield tag, data[start : start + length]
        position = start + length


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    """Return (length, bytes that the length took) in the newer format; also that of subpackets."""
    first = data[position] if position < len(data) else 0
    if first < 192:
        return first, 1
    if first < 224:
        return ((first - 192) << 8) + int.from_bytes(data[position + 1 : position + 2], "big") + 192, 2
    if first == 255:
        return int.from_bytes(data[position + 1 : position + 5], "big"), 5
    raise NotOpenPGP("it has a packet of partial length")


def _subpackets(body: bytes) -> Iterator[tuple[int, bytes]]:
    if not body or body[0] not in {4, 6}:
        return
    width = 2 if body[0] == 4 else 4
    position = 4
    for _ in ("hashed", "unhashed"):
        size = int.from_bytes(body[position : position + width], "big")
        position += width
        area, position = body[position : position + size], position + size
        inner = 0
        while inner < len(area):
            length, taken = _new_length(area, inner)
            content = area[inner + taken : inner + taken + length]
            if content:
                yield content[0] & 0x7F, content[1:]
            inner += taken + length
