"""Certificate files, key files and names, judged on the control node."""

from __future__ import annotations

import datetime
import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.inventory.secret import Secret
from orchestrator.operations.preflight_checks import Remark
from orchestrator.operations.preflight_local import judge_control_node, judge_pem, judge_pkcs12
from tests.unit.site_cases import Case

NAMES = ["meet.example.org", "turn.meet.example.org"]
NOW = datetime.datetime.now(datetime.UTC)
Key = ec.EllipticCurvePrivateKey


class Authority:
    """Root, intermediate and leaf, made for one test."""

    def __init__(self) -> None:
        self.root_key, self.middle_key, self.leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        self.root = self.issue("root", self.root_key, "root", self.root_key, ca=True)
        self.middle = self.issue("middle", self.middle_key, "root", self.root_key, ca=True)
        self.leaf = self.issue("leaf", self.leaf_key, "middle", self.middle_key, names=NAMES)

    def issue(
        self,
        subject: str,
        key: Key,
        issuer: str,
        by: Key,
        *,
        names: list[str] | None = None,
        days: int = 90,
        since: int = -100,
        ca: bool | None = False,
        usages: Sequence[x509.ObjectIdentifier] = (),
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + datetime.timedelta(days=since))
            .not_valid_after(NOW + datetime.timedelta(days=days, hours=1))
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
            )
        return builder.sign(by, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def key_pem(key: Key, password: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., list[Remark]]:
    def run(chain: bytes, key: bytes, names: list[str] = NAMES) -> list[Remark]:
        (tmp_path / "chain.pem").write_bytes(chain)
        (tmp_path / "key.pem").write_bytes(key)
        return list(judge_pem(tmp_path / "chain.pem", tmp_path / "key.pem", names))

    return run


def only(remarks: list[Remark], *, blocking: bool = True) -> str:
    (remark,) = remarks
    assert remark.blocking is blocking
    assert remark.problem.where.endswith((".pem", ".p12"))
    assert remark.problem.hint
    return remark.problem.message


def test_fitting_files(judge: Callable[..., list[Remark]]) -> None:
    a = Authority()
    assert judge(pem(a.leaf, a.middle), key_pem(a.leaf_key)) == []
    assert judge(pem(a.leaf, a.middle, a.root), key_pem(a.leaf_key)) == []


def test_wildcard_covers_one_label(judge: Callable[..., list[Remark]]) -> None:
    a = Authority()
    leaf = a.issue("leaf", a.leaf_key, "middle", a.middle_key, names=["*.example.org"])
    assert judge(pem(leaf, a.middle), key_pem(a.leaf_key), ["meet.example.org"]) == []
    assert "is not for turn.meet.example.org" in only(judge(pem(leaf, a.middle), key_pem(a.leaf_key)))


def test_wrong_name(judge: Callable[..., list[Remark]]) -> None:
    a = Authority()
    remarks = judge(pem(a.leaf, a.middle), key_pem(a.leaf_key), ["other.example.org"])
    assert only(remarks) == "the certificate is not for other.example.org"
    assert "it is for meet.example.org" in remarks[0].problem.hint
    assert "jitsi_turn_domain" not in remarks[0].problem.hint


def test_a_wildcard_that_misses_only_the_derived_turn_name_is_fit_for_another(
    judge: Callable[..., list[Remark]],
) -> None:
    a = Authority()
    leaf = a.issue("leaf", a.leaf_key, "middle", a.middle_key, names=["*.example.org"])
    (remark,) = judge(pem(leaf, a.middle), key_pem(a.leaf_key))
    assert remark.problem.message == "the certificate is not for turn.meet.example.org"
    assert "it is for *.example.org; " in remark.problem.hint
    assert "choose jitsi_turn_domain" in remark.problem.hint


def test_wrong_key(judge: Callable[..., list[Remark]]) -> None:
    a = Authority()
    message = only(judge(pem(a.leaf, a.middle), key_pem(a.middle_key)))
    assert message == "the private key does not belong to the certificate"


def test_wrong_chain(judge: Callable[..., list[Remark]]) -> None:
    a, b = Authority(), Authority()
    assert only(judge(pem(a.leaf, b.middle), key_pem(a.leaf_key))).startswith("the chain is broken")
    assert only(judge(pem(a.leaf, a.root), key_pem(a.leaf_key))).startswith("the chain is broken")


def test_missing_intermediate_warns(judge: Callable[..., list[Remark]]) -> None:
    a = Authority()
    assert only(judge(pem(a.leaf), key_pem(a.leaf_key)), blocking=False).startswith("the chain may be incomplete")


SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
# What an issued certificate says of itself -> what preflight says of it, and what the role does.
USES: dict[str, tuple[dict[str, Any], str]] = {
    "for servers": ({"usages": [SERVER]}, ""),
    "for servers and clients": ({"usages": [CLIENT, SERVER]}, ""),
    "says nothing of what it is": ({"ca": None}, ""),
    "for clients": (
        {"usages": [CLIENT]},
        "the certificate is for no server: CN=leaf has other extended key usages",
    ),
    "for anything, which Firefox takes for no server": (
        {"usages": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]},
        "the certificate is for no server: CN=leaf has other extended key usages",
    ),
    "an authority's": (
        {"ca": True, "usages": [SERVER]},
        "the first certificate is an authority's and no server's: CN=leaf",
    ),
}


@pytest.mark.parametrize(("given", "said"), list(USES.values()), ids=list(USES))
def test_what_a_certificate_is_for(judge: Callable[..., list[Remark]], given: dict[str, Any], said: str) -> None:
    a = Authority()
    leaf = a.issue("leaf", a.leaf_key, "middle", a.middle_key, names=NAMES, **given)
    remarks = judge(pem(leaf, a.middle), key_pem(a.leaf_key))
    assert (only(remarks) if said else remarks) == (said or [])


@pytest.mark.parametrize("ca", [True, False, None])
def test_self_signed_certificate(judge: Callable[..., list[Remark]], ca: bool | None) -> None:
    a = Authority()
    leaf = a.issue("leaf", a.leaf_key, "leaf", a.leaf_key, names=NAMES, ca=ca, usages=[SERVER])
    remarks = judge(pem(leaf), key_pem(a.leaf_key))
    assert only(remarks) == "the certificate is self-signed: CN=leaf vouches for itself"
    assert "certificates_source: own_ca" in remarks[0].problem.hint


def test_everything_that_a_certificate_is_not_for(judge: Callable[..., list[Remark]]) -> None:
    a = Authority()
    remarks = judge(pem(a.middle, a.root), key_pem(a.middle_key))
    assert [remark.problem.message.partition(":")[0] for remark in remarks] == [
        "the first certificate is an authority's and no server's",
        "the certificate is not for meet.example.org",
        "the certificate is not for turn.meet.example.org",
    ]
    assert all(remark.blocking for remark in remarks)


@pytest.mark.parametrize(("days", "part", "blocking"), [(-1, "has expired", True), (5, "expires in 5 days", False)])
def test_expiry(judge: Callable[..., list[Remark]], days: int, part: str, blocking: bool) -> None:
    a = Authority()
    leaf = a.issue("leaf", a.leaf_key, "middle", a.middle_key, names=NAMES, days=days)
    assert part in only(judge(pem(leaf, a.middle), key_pem(a.leaf_key)), blocking=blocking)


def test_not_yet(judge: Callable[..., list[Remark]]) -> None:
    a = Authority()
    leaf = a.issue("leaf", a.leaf_key, "middle", a.middle_key, names=NAMES, since=1)
    assert only(judge(pem(leaf, a.middle), key_pem(a.leaf_key))) == "CN=leaf is not valid yet"


def test_encrypted_and_missing_keys(judge: Callable[..., list[Remark]]) -> None:
    a = Authority()
    assert only(judge(pem(a.leaf, a.middle), key_pem(a.leaf_key, b"x"))) == "the private key is encrypted"
    assert only(judge(pem(a.leaf, a.middle), b"")) == "there is no private key in the file"
    assert only(judge(b"nothing", key_pem(a.leaf_key))) == "there is no certificate in the file"


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such file or directory", "put it there"),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "Permission denied",
            "you must be able to read it: ls -l ",
        ),
    ],
)
@pytest.mark.parametrize("spoiled", ["chain.pem", "key.pem", "all.p12"])
def test_files_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiled: str, error: OSError, said: str, hint: str
) -> None:
    a, real = Authority(), Path.read_bytes
    (tmp_path / "chain.pem").write_bytes(pem(a.leaf, a.middle))

    def read_bytes(path: Path) -> bytes:
        if path.name == spoiled:
            raise error
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    pair = judge_pem(tmp_path / "chain.pem", tmp_path / "key.pem", NAMES)
    remarks = list(judge_pkcs12(tmp_path / "all.p12", None, NAMES) if spoiled == "all.p12" else pair)
    assert only(remarks) == f"cannot be read: {said}"
    assert remarks[0].problem.where == str(tmp_path / spoiled)
    assert remarks[0].problem.hint.startswith(hint)


def test_pkcs12(tmp_path: Path) -> None:
    a, path = Authority(), tmp_path / "all.p12"

    def write(leaf: x509.Certificate, key: Key, *others: x509.Certificate) -> None:
        protection = serialization.BestAvailableEncryption(b"word")
        path.write_bytes(pkcs12.serialize_key_and_certificates(b"x", key, leaf, others, protection))

    write(a.leaf, a.leaf_key, a.root, a.middle)
    assert list(judge_pkcs12(path, Secret("word"), NAMES)) == []
    assert "cannot be opened" in only(list(judge_pkcs12(path, Secret("canary"), NAMES)))
    assert "canary" not in str(list(judge_pkcs12(path, Secret("canary"), NAMES)))
    assert "cannot be opened" in only(list(judge_pkcs12(path, None, NAMES)))
    assert "is not for x.example" in only(list(judge_pkcs12(path, Secret("word"), ["x.example"])))
    write(a.issue("leaf", a.leaf_key, "leaf", a.leaf_key, names=NAMES), a.leaf_key)
    assert "is self-signed" in only(list(judge_pkcs12(path, Secret("word"), NAMES)))


NO_VENDOR_KEY = "is not given (vendor_repository_key)"


def messages(case: Case, answers: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return all remarks but that a site just made has no vendor's key yet, which one test alone is about."""

    def lookup(name: str) -> tuple[str, ...]:
        return answers.get(name, ())

    problems = [remark.problem for remark in judge_control_node(case.load(), lookup=lookup)]
    assert all(problem.hint for problem in problems)
    return [message for message in map(str, problems) if not message.endswith(NO_VENDOR_KEY)]


def hints(case: Case, answers: Mapping[str, Sequence[str]]) -> str:
    remarks = judge_control_node(case.load(), lookup=lambda name: tuple(answers[name]))
    return " ".join(remark.problem.hint for remark in remarks)


def test_names_must_point_to_the_host(case: Case) -> None:
    right = {name: ("192.0.2.10",) for name in NAMES}
    at = case.at("jitsi_domain: ")
    assert messages(case, right) == []
    assert messages(case, {**right, NAMES[1]: ()}) == [f"{at}: turn.meet.example.org has no DNS entry"]
    assert messages(case, {**right, NAMES[0]: ("192.0.2.10", "192.0.2.66")}) == [
        f"{at}: meet.example.org points to 192.0.2.66"
    ]
    assert "base_address6" not in hints(case, {**right, NAMES[0]: ("192.0.2.10", "192.0.2.66")})
    assert "base_address6 in hosts.yml" in hints(case, {**right, NAMES[0]: ("192.0.2.10", "2001:db8::10")})
    case.append("jitsi_turn_domain: relay.example.org\n")
    assert messages(case, right) == [f"{case.at('jitsi_turn_domain: ')}: relay.example.org has no DNS entry"]


def test_site_in_the_lab_asks_no_dns(case: Case) -> None:
    case.replace("group_vars/all/site.yml", "jitsi_domain: meet.example.org", "jitsi_domain: meet.lab.test")

    def lookup(name: str) -> tuple[str, ...]:
        raise AssertionError(name)

    problems = [str(r.problem) for r in judge_control_node(case.load(), lookup=lookup)]
    assert all("reserved name" in p or p.endswith(NO_VENDOR_KEY) for p in problems)
    assert sum(p.startswith(f"{case.at('jitsi_domain: ')}: ") for p in problems) == 2


@pytest.mark.parametrize(
    ("source", "name"), [("pem", "certificates_chain_file"), ("pkcs12", "certificates_pkcs12_file")]
)
def test_the_sites_own_certificate_files_are_judged(case: Case, source: str, name: str) -> None:
    case.append(f"certificates_source: {source}\ncertificates_chain_file: x\ncertificates_key_file: x\n")
    case.append("certificates_pkcs12_file: x\n")
    (case.path / "x").write_text("nothing of the kind")
    blocking = [remark.problem for remark in judge_control_node(case.load()) if remark.blocking]
    (judged,) = [problem for problem in blocking if problem.where == str(case.path / "x")]
    assert judged.message.endswith(f" ({name} in {case.at(f'{name}: ')})")
    assert judged.hint


def test_a_key_that_does_not_fit_names_the_line_that_chose_it(case: Case) -> None:
    a = Authority()
    (case.path / "chain.pem").write_bytes(pem(a.leaf, a.middle))
    (case.path / "key.pem").write_bytes(key_pem(a.middle_key))
    case.append("certificates_source: pem\ncertificates_chain_file: chain.pem\ncertificates_key_file: key.pem\n")
    line = case.at("certificates_key_file: ")
    assert messages(case, dict.fromkeys(NAMES, ("192.0.2.10",))) == [
        f"{case.path / 'key.pem'}: the private key does not belong to the certificate (certificates_key_file in {line})"
    ]


def test_private_key_that_others_may_read(tmp_path: Path, case: Case) -> None:
    key = tmp_path / "id"
    case.append("")
    case.replace(
        "hosts.yml", "ansible_user: root\n", f"ansible_user: root\n          ansible_ssh_private_key_file: {key}\n"
    )
    answers: Any = {name: ("192.0.2.10",) for name in NAMES}
    at = case.at(f"ansible_ssh_private_key_file: {key}", "hosts.yml")
    assert messages(case, answers) == [f"{at}: the private key {key} does not exist"]
    key.write_text("x")
    key.chmod(0o644)
    assert messages(case, answers) == [f"{at}: others may read the private key {key}, so OpenSSH refuses it"]
    key.chmod(0o600)
    assert messages(case, answers) == []


def test_private_key_in_a_directory_that_may_not_be_entered(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.replace("hosts.yml", "ansible_user: root\n", "ansible_ssh_private_key_file: /keys of anna/id\n")
    site, real = case.load(), Path.stat

    def look(path: Path, **options: Any) -> Any:
        if path == Path("/keys of anna/id"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", look)
    (problem,) = [r.problem for r in judge_control_node(site, lookup=lambda name: ("192.0.2.10",)) if "id " in str(r)]
    assert problem.where == case.at("ansible_ssh_private_key_file: /keys", "hosts.yml")
    assert problem.message == "the private key /keys of anna/id cannot be read: Permission denied"
    assert problem.hint == "ls -ld '/keys of anna'"
