"""Forged tokens: what is forged, what each kind of weak reader lets in, and how the check judges it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from orchestrator.verification.checks import test_forged_tokens as checks
from orchestrator.verification.probes import forged, forgeries, xmpp
from orchestrator.verification.sheet import NotApplicable, Sheet
from tests.scenarios.identity_provider import membership, published, signed_membership
from tests.unit.asked import FakeHost, faults_of, subject_of

NOW = 1_800_000_000
KEY = rsa.generate_private_key(65537, 2048)
PEM = (
    KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
)
KEYS = [{"kid": "k1", "pem": PEM}]
JOB: dict[str, Any] = {
    "addresses": ["127.0.0.9"],
    "domain": "meet.example",
    "pin": "00",
    "app_id": "town",
    "issuer": "https://id.example",
    "audience": "meet",
    "keys": [],
}
DECLARED = signed_membership(KEY, "k1")
Reader = Callable[[dict[str, Any], dict[str, Any], str], bool]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> forgeries.OwnKey:
    """A key of ours."""
    return forgeries.OwnKey(tmp_path_factory.mktemp("own"))


def _kinds(own: forgeries.OwnKey | None, declared: str = "", **job: Any) -> dict[str, str]:
    """Return the forged tokens by their kinds; of those with one kind the last."""
    return {each.kind: each.token for each in forgeries.forgeries({**JOB, **job}, declared, own, NOW)}


def _body(token: str) -> str:
    return token.rpartition(".")[0]


def _by_secret(secret: str) -> Reader:
    return lambda header, _, token: (
        header["alg"] == "HS256"
        and forgeries.coded(forgeries.by_secret(secret)(_body(token).encode())) == token.rpartition(".")[2]
    )


def _verifies(key: rsa.RSAPublicKey, token: str) -> bool:
    signature = base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")
    try:
        key.verify(signature, _body(token).encode(), padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def _brought(header: dict[str, Any], _: dict[str, Any], token: str) -> bool:
    """Say whether a reader takes a token that believes whichever key it brings along."""
    if "jwk" not in header:
        return False
    modulus, exponent = (int.from_bytes(base64.urlsafe_b64decode(header["jwk"][name] + "=="), "big") for name in "ne")
    return _verifies(rsa.RSAPublicNumbers(exponent, modulus).public_key(), token)


UNSIGNED = {"without a signature (alg none)", "with a signature of nothing (alg none)"}
AS_SECRET = {"signed with the published key k1 as a secret"}
READERS: dict[str, tuple[Reader, set[str]]] = {
    "takes none": (lambda header, _, token: header["alg"] == "none", UNSIGNED),
    "takes none in any case, if nothing is signed": (
        lambda header, _, token: header["alg"].lower() == "none" and token.endswith("."),
        {"without a signature (alg none)", "without a signature (alg NoNe)"},
    ),
    "takes the key for a secret": (_by_secret(PEM), AS_SECRET),
    "takes the key without its last line's end for a secret": (_by_secret(PEM.strip()), AS_SECRET),
    "has no secret": (_by_secret(""), {"signed with no secret at all"}),
    "has an easy secret": (_by_secret("town"), {"signed with app_id as the secret"}),
    "believes the key that comes along": (_brought, {"signed with a key of our own that it brings along"}),
    "reads claims and no signature": (
        lambda header, claims, _: header["alg"] == "RS256" and claims["exp"] > NOW and claims["iss"] == "https://id.example",
        {"signed with a key of our own", "signed with a key of our own that it brings along"},
    ),
    "looks at the right key": (lambda header, _, token: header["alg"] == "RS256" and _verifies(KEY.public_key(), token), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_each_weak_reader_lets_its_forgery_in_and_a_good_one_none(own: forgeries.OwnKey, name: str) -> None:
    reader, kinds = READERS[name]
    let_in = set()
    for each in forgeries.forgeries({**JOB, "keys": KEYS}, "", own, NOW):
        header, claims, _ = forgeries.parts(each.token)
        assert header["kid"] == "k1"
        if reader(header, claims, each.token):
            let_in.add(each.kind)
    assert let_in == kinds


def test_forgeries_fit_what_the_site_declares(own: forgeries.OwnKey) -> None:
    header, claims, _ = forgeries.parts(_kinds(own)["signed with a key of our own"])
    assert header == {"typ": "JWT", "alg": "RS256"}
    assert (claims["iss"], claims["aud"], claims["room"], claims["exp"] - NOW) == (
        "https://id.example",
        "meet",
        "*",
        600,
    )
    assert claims["context"]["user"]["moderator"] is True
    over = forgeries.parts(_kinds(own)["that is over, signed with a key of our own"])[1]
    assert over["nbf"] < over["exp"] < NOW
    assert not any(each.lent for each in forgeries.forgeries(JOB, "", own, NOW))
    assert "signed with a key of our own" not in _kinds(None)


def test_a_declared_token_lends_its_claims_and_its_keys_name_and_is_never_used(own: forgeries.OwnKey) -> None:
    tokens = list(forgeries.forgeries(JOB, DECLARED, own, NOW))
    assert all(each.lent for each in tokens)
    assert DECLARED not in {each.token for each in tokens}
    kinds = {each.kind: forgeries.parts(each.token) for each in tokens}
    header, claims, signature = kinds["with a true signature, but other claims"]
    assert signature == DECLARED.rpartition(".")[2]
    assert (header["kid"], claims["iss"], claims["room"]) == ("k1", "town", "*")
    # As good as it may be, a moment before the declared one is over.
    assert claims["exp"] == NOW + forgeries.SOON
    assert not any(
        _verifies(KEY.public_key(), each.token) for each in tokens if each.kind.startswith(("with a", "signed"))
    )
    assert kinds["without a signature (alg none)"][1]["aud"] == "town"
    others = kinds["of another issuer, for another audience, signed with a key of our own"][1]
    assert (others["iss"], others["aud"]) == ("nobody", "nobody")


class _Server:
    """In a client's place: logs in whoever a reader lets in, over connections that may fail."""

    reader: Reader = staticmethod(lambda *_: False)
    silent = 0
    opened: list[tuple[str, str]]

    def __init__(self, address: str, domain: str) -> None:
        del address, domain
        self._token = ""

    async def open(self, *, query: str, pin: str) -> None:
        self._token = query.partition("&token=")[2].replace("%2E", ".")
        type(self).opened.append((self._token, pin))
        if type(self).silent:
            type(self).silent -= 1
            raise xmpp.NoAnswer("no WebSocket: InvalidStatus: 429")

    async def login(self, domain: str) -> None:
        header, claims, _ = forgeries.parts(self._token)
        if not type(self).reader(header, claims, self._token):
            raise xmpp.Refused("not-allowed")

    async def close(self) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[_Server]:
    """A server that refuses everybody."""

    class Server(_Server):
        opened: list[tuple[str, str]] = []  # noqa: RUF012

    monkeypatch.setattr(xmpp, "Client", Server)
    monkeypatch.setattr(forged, "AGAIN", 0.0)
    return Server


def _judged(facts: dict[str, Any]) -> Sheet:
    sheet = Sheet()
    checks.judge(facts, sheet)
    return sheet


def test_whom_nobody_lets_in_has_been_refused(server: type[_Server]) -> None:
    facts = forged.run({**JOB, "keys": KEYS}, {})
    assert facts["gaps"] == []
    assert [row["admitted"] for row in facts["tried"]] == [False] * 11
    assert _judged(facts).seen == ["11 forged tokens are refused (not-allowed)"]
    # Nothing is told that everybody may not know, so whose certificate it is does not matter.
    assert {pin for _, pin in server.opened} == {""}


def test_whoever_is_let_in_is_a_fault(server: type[_Server]) -> None:
    server.reader = staticmethod(lambda header, *_: header["alg"] == "none")
    sheet = _judged(forged.run(JOB, {}))
    assert faults_of(sheet) == "; ".join(
        f"a token {kind} logs in"
        for kind in ("without a signature (alg none)", "with a signature of nothing (alg none)")
    )
    assert sheet.seen == ["7 forged tokens are refused (not-allowed)"]


def test_what_is_lent_is_told_to_the_sites_own_server_only(server: type[_Server]) -> None:
    facts = forged.run(JOB, {"token": DECLARED})
    assert {pin for _, pin in server.opened} == {"00"}
    assert "with a true signature, but other claims" in {row["kind"] for row in facts["tried"]}
    server.opened.clear()
    unknown = forged.run({**JOB, "pin": ""}, {"token": DECLARED})
    assert unknown["gaps"] == ["tokens with the declared one's claims: the certificate is not known, so none is told"]
    assert len(server.opened) == 9
    lent = DECLARED.split(".")[1]
    assert not any(lent in token for token, _ in server.opened)
    assert "no token that can be read" in forged.run(JOB, {"token": "opaque"})["gaps"][0]


def test_who_gets_no_answer_is_asked_once_more_and_was_not_refused(server: type[_Server]) -> None:
    server.silent = 4
    assert _judged(forged.run(JOB, {})).untested == []
    server.silent = 100
    sheet = _judged(forged.run(JOB, {}))
    assert (sheet.seen, sheet.faults) == ([], [])
    assert sheet.untested[0] == "a token without a signature (alg none): no WebSocket: InvalidStatus: 429"


def test_without_openssl_the_rest_is_tried(
    server: type[_Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = forged.run(JOB, {})
    assert "tokens signed with a key of our own: the vantage point's openssl made none" in facts["gaps"][0]
    assert len(facts["tried"]) == 5


def test_published_keys_are_read_however_they_are_published() -> None:
    jwks = published(KEY, "k1")
    assert checks.published(jwks) == KEYS
    other = {"kty": "EC", "kid": "k2"}
    secret = {**json.loads(jwks)["keys"][0], "kid": "k3", "use": "enc"}
    assert checks.published(json.dumps({"keys": [other, secret, *json.loads(jwks)["keys"]]})) == KEYS
    assert checks.published(json.dumps({"k1": PEM})) == KEYS
    for nothing in ("", "<html>", "[]", "{}", '{"keys": {}}', '{"keys": [{"kty": "RSA", "kid": "k", "n": "AA"}]}'):
        assert checks.published(nothing) == []


JWT = {"jitsi_auth": "jwt", "jitsi_jwt": {"app_id": "town", "issuers": ["*", "https://id.example"], "audiences": ["*"]}}
REFUSED = json.dumps({"gaps": [], "tried": [{"kind": "x", "admitted": False, "condition": "not-allowed"}]})


def _checked(keys: str | None = None, **settings: Any) -> tuple[Sheet, dict[str, Any]]:
    """Return what the check notes, and the job that the probe was given."""
    asked: list[str] = []

    class Outside(FakeHost):
        def _answer(self, command: str) -> tuple[int, bytes, bytes]:
            asked.append(command)
            return super()._answer(command)

    host = FakeHost({"timeout ${PATIENCE:-9} openssl s_client": "SHA256 Fingerprint=AA:BB\n", "curl -sfk": keys or ""})
    sheet = Sheet()
    outside = Outside({"python3 ": REFUSED})
    checks.test_no_forged_token_logs_in(host, outside, subject_of(**{**JWT, **settings}), sheet)
    return sheet, json.loads(asked[0].partition("forged ")[2].strip("'").replace("'\"'\"'", "'"))


def test_the_probe_is_told_what_the_site_declares() -> None:
    sheet, job = _checked()
    assert sheet.untested == []
    assert {name: job[name] for name in ("app_id", "issuer", "audience", "keys", "pin")} == {
        **{"app_id": "town", "issuer": "https://id.example", "audience": "town", "keys": [], "pin": "aabb"},
    }


def test_keys_are_asked_for_where_the_provider_publishes_them() -> None:
    with_keys = {"jitsi_jwt": {"app_id": "town", "jwks_url": "https://id.example/certs"}}
    assert _checked(published(KEY, "k1"), **with_keys)[1]["keys"] == KEYS
    sheet, job = _checked("", **with_keys)
    assert job["keys"] == []
    assert "no RSA key is found at https://id.example/certs" in sheet.untested[0]


def test_where_people_log_in_with_accounts_there_is_no_token() -> None:
    with pytest.raises(NotApplicable):
        _checked(jitsi_auth="internal")


def test_the_declared_tokens_of_the_tests_are_read() -> None:
    """HS256 ones, too: their signature is kept, whatever it is."""
    token = membership("a-shared-secret", moderator=True)
    (altered, *_) = forgeries.forgeries(JOB, token, None, NOW)
    assert altered.token.rpartition(".")[2] == token.rpartition(".")[2]
