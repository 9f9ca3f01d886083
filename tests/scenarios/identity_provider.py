"""Stands for an identity provider: prints a token. Arguments: the shared secret, and whether its holder moderates (yes, no)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time


def token(secret: str, **claims: object) -> str:
    """Return claims signed with a shared secret (RFC 7519, HS256)."""

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    body = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    signature = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return (body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def membership(secret: str, *, moderator: bool) -> str:
    """Return a token that is good for every room for ten minutes."""
    now = int(time.time())
    user = {"id": "1", "name": "probe", "moderator": moderator}
    times = {"exp": now + 600, "nbf": now - 10}
    return token(secret, iss="town", aud="town", sub="*", room="*", context={"user": user}, **times)


if __name__ == "__main__":
    print(membership(sys.argv[1], moderator=sys.argv[2] == "yes"))
