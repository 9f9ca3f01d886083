"""Every certificate of a served chain is judged: who signed it, how, for how long, with which key."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.verification.checks import test_crypto
from tests.unit.outside_cases import BSI, faults, noted

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def _shown(owner: str, issuer: str, *, kind: str = "id-ecPublicKey", bits: int = 256, **other: str) -> str:
    """Return a certificate as openssl shows it."""
    signed, end = other.get("signed", "ecdsa-with-SHA256"), other.get("end", "Nov  6 12:00:00 2026 GMT")
    return (
        f"Certificate:\n    Data:\n        Signature Algorithm: {signed}\n        Issuer: CN = {issuer}\n"
        f"            Not After : {end}\n        Subject: CN = {owner}\n        Subject Public Key Info:\n"
        f"            Public Key Algorithm: {kind}\n                Public-Key: ({bits} bit)\n"
        f"    Signature Algorithm: {signed}\n         30:45\n"
    )


OK = "Verify return code: 0 (ok)\n"
LEAF = _shown("m", "between")
BETWEEN = _shown("between", "root", bits=384)
ROOT = _shown("root", "root", kind="rsaEncryption", bits=4096, signed="sha1WithRSAEncryption")


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (OK + LEAF + BETWEEN + ROOT, []),
        (OK + LEAF + LEAF, []),
        (OK, ["m: verification says no certificate"]),
        ("connect:errno=111\n", ["m: verification says no certificate"]),
        (
            "Verify return code: 10 (certificate has expired)\n" + LEAF,
            ["m: verification says 10 (certificate has expired)"],
        ),
        (OK + _shown("m", "between", end="Jun 10 12:00:00 2026 GMT"), ["m: 9 days left"]),
        (OK + _shown("m", "m", signed="ecdsa-with-SHA1"), ["m: signed by ecdsa-with-SHA1"]),
        (
            OK + LEAF + _shown("between", "root", kind="rsaEncryption", bits=2047),
            ["m, above it CN = between: rsaEncryption key of 2047 bit"],
        ),
        (OK + LEAF + _shown("between", "root", kind="rsaEncryption", bits=2048), []),
        (
            OK + _shown("m", "between", kind="rsaEncryption", bits=2048),
            ["m: rsaEncryption key of 2048 bit"],
        ),
        (
            OK + LEAF + _shown("between", "root", signed="sha1WithRSAEncryption"),
            ["m, above it CN = between: signed by sha1WithRSAEncryption"],
        ),
        (
            OK + LEAF + _shown("between", "root", end="Jun  3 00:00:00 2026 GMT"),
            ["m, above it CN = between: 2 days left"],
        ),
        (
            OK + LEAF + ROOT.replace("4096", "1024"),
            ["m, above it CN = root: rsaEncryption key of 1024 bit"],
        ),
    ],
)
def test_every_certificate_of_a_chain_is_judged(said: str, seen: list[str]) -> None:
    assert faults(noted(test_crypto.judge_chain, "m", said, NOW, BSI)) == seen


def test_a_certificate_that_openssl_does_not_show_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="did not show the certificate of m"):
        noted(test_crypto.judge_chain, "m", OK + LEAF.replace("Public-Key", "Key"), NOW, BSI)
