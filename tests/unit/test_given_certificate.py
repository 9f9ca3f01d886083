"""A certificate that the operator gave, as the role takes it: what does not fit is named before a host is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.unit.applied import load
from tests.unit.test_preflight_local import NAMES, USES, Authority, Key, key_pem, pem

given_certificate = load("filter_plugins/ratssaal.py").given_certificate
A = Authority()


def _given(names: list[str], **more: str) -> dict[str, Any]:
    return {"names": names, "dest": "/etc/tls", "group": "ratssaal-tls", "reloads": ["nginx.service"], **more}


def _from_pem(folder: Path, chain: bytes, key: bytes, names: list[str] = NAMES) -> list[dict[str, Any]]:
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    given = _given(names, source="pem", chain_file="chain.pem", key_file="key.pem")
    files: list[dict[str, Any]] = given_certificate(given, str(folder))
    return files


def _from_pkcs12(folder: Path, content: bytes, password: str) -> list[dict[str, Any]]:
    (folder / "all.p12").write_bytes(content)
    given = _given(NAMES, source="pkcs12", pkcs12_file="all.p12", pkcs12_password=password)
    files: list[dict[str, Any]] = given_certificate(given, str(folder))
    return files


def _pkcs12(leaf: x509.Certificate | None, key: Key | None, *others: x509.Certificate, password: str = "word") -> bytes:
    protection = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return pkcs12.serialize_key_and_certificates(b"x", key, leaf, others, protection)


def _leaf(**given: Any) -> x509.Certificate:
    return A.issue("leaf", A.leaf_key, "middle", A.middle_key, **{"names": NAMES, **given})


def _refused(folder: Path, chain: bytes, key: bytes = key_pem(A.leaf_key), names: list[str] = NAMES) -> str:
    with pytest.raises(AnsibleFilterError) as caught:
        _from_pem(folder, chain, key, names)
    return str(caught.value)


def test_what_fits_becomes_the_hosts_files(tmp_path: Path) -> None:
    key, chain, authority = _from_pem(tmp_path, pem(A.leaf, A.middle, A.root), key_pem(A.leaf_key))
    protected = {"mode": "0640", "group": "ratssaal-tls", "secret": True}
    reloads = {"reloads": ["nginx.service"]}
    assert key == {"dest": "/etc/tls/key.pem", "content": key_pem(A.leaf_key).decode(), **protected, **reloads}
    whole = pem(A.leaf, A.middle, A.root).decode()
    assert chain == {"dest": "/etc/tls/fullchain.pem", "content": whole, **reloads}
    assert authority == {"dest": "/etc/tls/ca.pem", "content": pem(A.root).decode()}


def test_a_chain_of_one_is_taken(tmp_path: Path) -> None:
    """A root that everybody trusts may have signed it; `ratssaal preflight` warns of other ones."""
    assert len(_from_pem(tmp_path, pem(A.leaf), key_pem(A.leaf_key))) == 3


@pytest.mark.parametrize("password", ["word", ""])
def test_pkcs12_in_any_order_becomes_a_chain(tmp_path: Path, password: str) -> None:
    """PKCS#12 keeps no order; what preflight calls fit must not fail on the host."""
    content = _pkcs12(A.leaf, A.leaf_key, A.root, A.middle, password=password)
    _, chain, authority = _from_pkcs12(tmp_path, content, password)
    assert chain["content"] == pem(A.leaf, A.middle, A.root).decode()
    assert authority["content"] == pem(A.root).decode()


@pytest.mark.parametrize(
    ("carried", "missing"),
    [
        (["*.example.org", "*.meet.example.org"], ""),
        (["Meet.Example.org", "turn.meet.EXAMPLE.org"], ""),
        (["*.example.org"], "turn.meet.example.org (it is for *.example.org; "),
        (["meet.example.org"], "turn.meet.example.org (it is for meet.example.org; "),
        (["example.org", "x.meet.example.org"], "meet.example.org (it is for example.org, x.meet.example.org; "),
        ([], "meet.example.org (it is for no DNS name; "),
    ],
)
def test_every_name_is_carried(tmp_path: Path, carried: list[str], missing: str) -> None:
    chain = pem(_leaf(names=carried), A.middle)
    if missing:
        assert f"does not fit: the certificate is not for {missing}" in _refused(tmp_path, chain)
    else:
        assert len(_from_pem(tmp_path, chain, key_pem(A.leaf_key))) == 3


def test_the_key_of_another_certificate(tmp_path: Path) -> None:
    said = _refused(tmp_path, pem(A.leaf, A.middle), key_pem(A.middle_key))
    assert said == "the given certificate does not fit: the private key does not belong to the certificate"


@pytest.mark.parametrize(
    ("chain", "after"),
    [
        ((A.leaf, Authority().middle), "CN=leaf"),
        ((A.leaf, A.root), "CN=leaf"),
        ((A.leaf, A.root, A.middle), "CN=leaf"),
        ((A.leaf, A.middle, Authority().root), "CN=middle"),
    ],
    ids=["another authority's", "one missing", "wrong order", "another root"],
)
def test_a_chain_that_does_not_lead_to_the_certificate(
    tmp_path: Path, chain: tuple[x509.Certificate, ...], after: str
) -> None:
    assert f"the chain is broken: {after} was not issued by " in _refused(tmp_path, pem(*chain))


@pytest.mark.parametrize(("given", "said"), list(USES.values()), ids=list(USES))
def test_what_a_certificate_is_for(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    chain = pem(_leaf(**given), A.middle)
    if said:
        assert _refused(tmp_path, chain).startswith(f"the given certificate does not fit: {said} (")
    else:
        assert len(_from_pem(tmp_path, chain, key_pem(A.leaf_key))) == 3


@pytest.mark.parametrize("ca", [True, False, None])
def test_a_certificate_that_vouches_for_itself(tmp_path: Path, ca: bool | None) -> None:
    leaf = A.issue("leaf", A.leaf_key, "leaf", A.leaf_key, names=NAMES, ca=ca)
    said = "the certificate is self-signed: CN=leaf vouches for itself"
    assert _refused(tmp_path, pem(leaf)).startswith(
        f"the given certificate does not fit: {said} (certificates_source: "
    )
    with pytest.raises(AnsibleFilterError, match=said):
        _from_pkcs12(tmp_path, _pkcs12(leaf, A.leaf_key), "word")


def test_whose_certificate_comes_last_is_told_by_its_key_too(tmp_path: Path) -> None:
    said = _refused(tmp_path, pem(A.middle, A.leaf))
    assert "the private key does not belong to the certificate; the first certificate is an authority's" in said
    assert "the chain is broken: CN=middle was not issued by CN=leaf" in said


@pytest.mark.parametrize(
    ("dates", "said"),
    [({"days": -1}, "has expired (renew it"), ({"since": 1}, "is not valid yet (check this machine's clock")],
)
def test_dates(tmp_path: Path, dates: dict[str, Any], said: str) -> None:
    assert _refused(tmp_path, pem(_leaf(**dates), A.middle)).endswith(f"does not fit: CN=leaf {said})")
    middle = A.issue("middle", A.middle_key, "root", A.root_key, ca=True, **dates)
    assert _refused(tmp_path, pem(A.leaf, middle)).endswith(f"does not fit: CN=middle {said})")


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    said = _refused(tmp_path, pem(_leaf(names=["a.example"], days=-1), A.root), key_pem(A.root_key))
    for part in ("private key does not belong", "not for meet.example.org", "CN=leaf has expired", "chain is broken"):
        assert part in said


@pytest.mark.parametrize("password", ["canary", ""])
def test_a_password_that_does_not_open_the_pkcs12_file(tmp_path: Path, password: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"certificates_pkcs12_file: .*/all.p12 cannot.*password") as caught:
        _from_pkcs12(tmp_path, _pkcs12(A.leaf, A.leaf_key, A.middle), password)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [_pkcs12(None, A.leaf_key, A.middle), _pkcs12(None, None, A.leaf, A.middle)], ids=["key", "certificates"]
)
def test_a_pkcs12_file_that_lacks_one_of_both(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(AnsibleFilterError, match="holds no certificate with its key"):
        _from_pkcs12(tmp_path, content, "word")


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN CERTIFICATE-----\nx\n", pem(A.leaf)], ids=["empty", "torn", "PEM"]
)
def test_what_is_no_pkcs12_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(AnsibleFilterError, match=r"certificates_pkcs12_file: .*/all.p12 cannot be read: "):
        _from_pkcs12(tmp_path, content, "word")


def test_a_key_behind_a_password(tmp_path: Path) -> None:
    said = _refused(tmp_path, pem(A.leaf, A.middle), key_pem(A.leaf_key, b"canary"))
    assert f"certificates_key_file: {tmp_path}/key.pem cannot be read: " in said
    assert "encrypted" in said


@pytest.mark.parametrize("content", [b"", b"nothing of the kind\n", pem(A.leaf)], ids=["empty", "text", "certificate"])
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    said = _refused(tmp_path, pem(A.leaf, A.middle), content)
    assert f"certificates_key_file: {tmp_path}/key.pem cannot be read: " in said


@pytest.mark.parametrize("content", [b"", b"nothing of the kind\n", key_pem(A.leaf_key)], ids=["empty", "text", "key"])
def test_what_is_no_certificate(tmp_path: Path, content: bytes) -> None:
    said = _refused(tmp_path, content)
    assert f"certificates_chain_file: {tmp_path}/chain.pem cannot be read: " in said


@pytest.mark.parametrize(("name", "value"), [("chain_file", "gone.pem"), ("key_file", "gone.pem"), ("key_file", "")])
def test_a_file_that_is_not_there(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "chain.pem").write_bytes(pem(A.leaf))
    (tmp_path / "key.pem").write_bytes(key_pem(A.leaf_key))
    given = _given(NAMES, source="pem", **{"chain_file": "chain.pem", "key_file": "key.pem", name: value})
    with pytest.raises(
        AnsibleFilterError, match=f"certificates_{name}: no file {tmp_path}/?{value} on the control node"
    ):
        given_certificate(given, str(tmp_path))
