"""Stands for an identity provider: makes tokens, and publishes the keys that it signs them with.

As a program it prints a token. Arguments: the shared secret, and whether its holder moderates (yes, no).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

Sign = Callable[[bytes], bytes]


def _coded(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def _token(header: dict[str, str], claims: dict[str, object], sign: Sign) -> str:
    """Return signed claims (RFC 7519)."""
    body = b".".join(_coded(json.dumps(part).encode()) for part in ({"typ": "JWT", **header}, claims))
    return (body + b"." + _coded(sign(body))).decode()


def _claims(*, moderator: bool, room: str = "*") -> dict[str, object]:
    """Return what is good for a room, or for every one, for ten minutes."""
    now = int(time.time())
    user = {"id": "1", "name": "probe", "moderator": moderator}
    meant = {"iss": "town", "aud": "town", "sub": "*", "room": room}
    return {**meant, "context": {"user": user}, "exp": now + 600, "nbf": now - 10}


def membership(secret: str, *, moderator: bool, room: str = "*") -> str:
    """Return a token for a room, or for every one, signed with a shared secret (HS256)."""

    def sign(body: bytes) -> bytes:
        return hmac.new(secret.encode(), body, hashlib.sha256).digest()

    return _token({"alg": "HS256"}, _claims(moderator=moderator, room=room), sign)


def signed_membership(key: rsa.RSAPrivateKey, name: str, *, moderator: bool = True) -> str:
    """Return a token for every room, signed with the provider's key of that name (RS256)."""
    header = {"alg": "RS256", "kid": name}
    return _token(header, _claims(moderator=moderator), lambda body: key.sign(body, padding.PKCS1v15(), SHA256()))


def published(key: rsa.RSAPrivateKey, name: str) -> str:
    """Return the public half of a key as a JWKS (RFC 7517)."""

    def number(value: int) -> str:
        return _coded(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode()

    public = key.public_key().public_numbers()
    row = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": name, "n": number(public.n), "e": number(public.e)}
    return json.dumps({"keys": [row]})


if __name__ == "__main__":
    print(membership(sys.argv[1], moderator=sys.argv[2] == "yes"))
