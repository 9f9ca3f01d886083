"""Tokens that the identity provider never signed, made of what everybody may know (RFC 7515, RFC 7519, RFC 8725).

A declared token lends its claims, so that nothing but the signature is wrong, and its key's name; it is never used itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOON = 600
"""Seconds for which a forged token claims to be good."""
Claims = dict[str, Any]
_Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Forgery:
    """One forged token. `lent` says that it shows what a declared token holds, so it is told to the site's own server only."""

    kind: str
    token: str
    lent: bool


class OwnKey:
    """An RSA key that nobody else knows, and no provider publishes; OpenSSL makes it in a folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "own.pem"
        _openssl("genrsa", "-out", str(self._file), "2048")

    def sign(self, body: bytes) -> bytes:
        """Return a signature by RS256."""
        return _openssl("dgst", "-sha256", "-sign", str(self._file), given=body)

    def public(self) -> dict[str, str]:
        """Return its public half as a JWK (RFC 7517); OpenSSL's exponent is 65537."""
        shown = _openssl("rsa", "-in", str(self._file), "-noout", "-modulus").decode()
        number = bytes.fromhex(shown.strip().rpartition("=")[2])
        return {"kty": "RSA", "n": coded(number), "e": coded((65537).to_bytes(3, "big"))}


def _openssl(*words: str, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *words], input=given, capture_output=True, check=True, timeout=20).stdout


def coded(value: bytes) -> str:
    """Return bytes as tokens hold them."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def parts(token: str) -> tuple[Claims, Claims, str]:
    """Return a token's header, its claims and its signature; raises ValueError for what is no token."""
    head, body, signature = token.split(".")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (head, body))
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise ValueError("no token")
    return header, claims, signature


def made(header: Claims, claims: Claims, sign: _Sign) -> str:
    """Return a token with this header and these claims, signed as given."""
    body = ".".join(coded(json.dumps(part).encode()) for part in ({"typ": "JWT", **header}, claims))
    return f"{body}.{coded(sign(body.encode()))}"


def by_secret(secret: str) -> _Sign:
    """Return how a shared secret signs (HS256)."""
    return lambda body: hmac.new(secret.encode(), body, hashlib.sha256).digest()


def claimed(job: dict[str, Any], now: int) -> Claims:
    """Return claims that fit what the site declares of its provider."""
    user = {"id": str(uuid.uuid4()), "name": "probe", "moderator": True}
    return {
        **{"iss": job["issuer"], "aud": job["audience"], "sub": "*", "room": "*"},
        **{"context": {"user": user}, "nbf": now - 10, "exp": now + SOON},
    }


def forgeries(job: dict[str, Any], declared: str, own: OwnKey | None, now: int) -> Iterator[Forgery]:
    """Yield the forged tokens: by what a declared token holds, or else by what the site declares."""
    if not declared:
        yield from (Forgery(kind, token, False) for kind, token in _of(claimed(job, now), "", job, own, now))
        return
    header, claims, signature = parts(declared)
    better = {**claims, **{name: claimed(job, now)[name] for name in ("room", "context", "exp")}}
    kept = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    yield Forgery("with a true signature, but other claims", made(header, better, lambda _: kept), True)
    # The declared one may be over in a moment.
    rows = _of({**claims, "exp": now + SOON}, str(header.get("kid") or ""), job, own, now)
    yield from (Forgery(kind, token, True) for kind, token in rows)


def _of(claims: Claims, kid: str, job: dict[str, Any], own: OwnKey | None, now: int) -> Iterator[tuple[str, str]]:
    keys = job["keys"]
    kid = kid or next((key["kid"] for key in keys), "")
    named = {"kid": kid} if kid else {}
    for algorithm in ("none", "NoNe"):
        yield f"without a signature (alg {algorithm})", made({"alg": algorithm, **named}, claims, lambda _: b"")
    # Some readers want three parts that are not empty.
    yield "with a signature of nothing (alg none)", made({"alg": "none", **named}, claims, lambda _: b"\0")
    for secret, what in (("", "no secret at all"), (job["app_id"], "app_id as the secret")):
        yield f"signed with {what}", made({"alg": "HS256", **named}, claims, by_secret(secret))
    for key in keys:
        # As files have it, and as programs hand it on.
        for text in dict.fromkeys((key["pem"], key["pem"].strip())):
            forged = made({"alg": "HS256", "kid": key["kid"]}, claims, by_secret(text))
            yield f"signed with the published key {key['kid']} as a secret", forged
    if own:
        yield from _signed(claims, named, own, now)


def _signed(claims: Claims, named: Claims, own: OwnKey, now: int) -> Iterator[tuple[str, str]]:
    header = {"alg": "RS256", **named}
    yield "signed with a key of our own", made(header, claims, own.sign)
    brought = {**header, "jwk": {**own.public(), **named}}
    yield "signed with a key of our own that it brings along", made(brought, claims, own.sign)
    over = {**claims, "nbf": now - 2 * SOON, "exp": now - SOON}
    yield "that is over, signed with a key of our own", made(header, over, own.sign)
    others = {**claims, "iss": "nobody", "aud": "nobody"}
    yield "of another issuer, for another audience, signed with a key of our own", made(header, others, own.sign)
