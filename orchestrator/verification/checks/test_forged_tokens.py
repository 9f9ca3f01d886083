"""Tokens that the identity provider never signed: none of them logs in. Tried from outside, with what everybody may know."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping
from typing import Any

import pytest
import testinfra.host
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from orchestrator.verification.asking import ask, json_of, probe
from orchestrator.verification.checks.test_conference import served_pin
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

# Asked for on the host, which has to reach the provider, where the vantage point may not. It is no secret: whose server it is does
# not matter to a forger. A mebibyte is more than any provider publishes.
_PUBLISHED = "curl -sfk -m 10 {} | head -c 1048576"
# Each is tried in turn; a provider keeps an old one beside the one in use.
_MOST_KEYS = 2


@pytest.mark.control("VKS-01")
def test_no_forged_token_logs_in(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Unsigned, signed with a key of our own, with the public key as a secret, over, for others: Prosody refuses each at log-in."""
    if subject.settings.get("jitsi_auth") != "jwt":
        raise NotApplicable("people log in with accounts, not with tokens")
    pin = served_pin(host, subject)
    keys = _keys(host, subject, sheet)
    (told,) = ask(outside, probe("forged", _job(subject, pin, keys)))
    judge(json_of(told), sheet)


def _job(subject: Subject, pin: str, keys: list[dict[str, str]]) -> dict[str, Any]:
    declared = subject.settings.get("jitsi_jwt") or {}
    app_id = str(declared.get("app_id") or "")
    return {
        "addresses": list(subject.addresses),
        "domain": str(subject.settings["jitsi_domain"]),
        "pin": pin,
        "app_id": app_id,
        "keys": keys,
        "issuer": _first(declared.get("issuers"), app_id),
        "audience": _first(declared.get("audiences"), app_id),
    }


def _first(named: Any, otherwise: str) -> str:
    """Return a name that is accepted; `*` stands for any."""
    return next((str(name) for name in named or [] if name != "*"), otherwise)


def _keys(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> list[dict[str, str]]:
    """Return the keys that the provider publishes; [] where a shared secret takes their place, or where they cannot be had."""
    url = str((subject.settings.get("jitsi_jwt") or {}).get("jwks_url") or "")
    if not url:
        return []
    (told,) = ask(host, _PUBLISHED.format(shlex.quote(url)))
    keys = published(str(told.stdout))
    if not keys:
        sheet.could_not_look(f"tokens signed with the published key as a secret: no RSA key is found at {url}")
    return keys[:_MOST_KEYS]


def published(text: str) -> list[dict[str, str]]:
    """Return the RSA keys of a provider with their names, as PEM: out of a JWKS (RFC 7517), or of names with PEM beside them."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    if not isinstance(found, dict):
        return []
    rows = found.get("keys")
    if not isinstance(rows, list):
        return [{"kid": kid, "pem": pem} for kid, pem in found.items() if str(pem).startswith("-----BEGIN ")]
    named = ((str(row["kid"]), _pem(row)) for row in rows if isinstance(row, dict) and row.get("kid"))
    return [{"kid": kid, "pem": pem} for kid, pem in named if pem]


def _pem(row: Mapping[str, Any]) -> str:
    """Return an RSA key of a JWKS as PEM; "" for what is none, as those that encrypt."""
    if row.get("kty") != "RSA" or row.get("use", "sig") != "sig":
        return ""
    try:
        modulus, exponent = (int.from_bytes(_decoded(str(row[name])), "big") for name in ("n", "e"))
        key = RSAPublicNumbers(exponent, modulus).public_key()
    except (KeyError, ValueError):
        return ""
    way = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, way).decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def judge(facts: Mapping[str, Any], sheet: Sheet) -> None:
    """Note each token that is let in; who got no answer has not been refused."""
    for gap in facts["gaps"]:
        sheet.could_not_look(gap)
    refused = dict[str, None]()
    for row in facts["tried"]:
        if "admitted" not in row:
            sheet.could_not_look(f"a token {row['kind']}: {row['reason']}")
        elif row["admitted"]:
            sheet.expect(False, f"a token {row['kind']} logs in", "refused")
        else:
            refused[row["condition"]] = None
    count = sum(row.get("admitted") is False for row in facts["tried"])
    if count:
        sheet.expect(True, f"{count} forged tokens are refused ({', '.join(refused)})", "")
