"""What our services offer under each crypto profile: nothing beyond it, and on each Debian what its OpenSSH knows."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from orchestrator.verification.crypto import CryptoProfile, load_profiles, signs_by
from tests.unit.test_hardening_templates import ENVIRONMENT

OFFERED = load_profiles()["bsi-2026"].ssh.offer.model_dump()
# OpenSSL's names for groups that the profiles call by their IANA names.
GROUPS = {"prime256v1": "secp256r1", "X25519": "x25519"}


def _lines(major: int) -> list[str]:
    given: dict[str, Any] = {"ansible_facts": {"ratssaal_host": {"major": major}}, "hardening_skip": {}}
    return ENVIRONMENT.get_template("sshd.conf.j2").render(given, hardening_ssh_allow_groups=[]).splitlines()


@pytest.mark.parametrize("profile", load_profiles().values(), ids=load_profiles())
def test_sshd_offers_nothing_beyond_the_profile(profile: CryptoProfile) -> None:
    for kind, names in profile.ssh.offer.model_dump().items():
        listed = getattr(profile.ssh, kind)
        assert [name for name in names if not profile.ssh.allows(signs_by(name), listed)] == [], kind


@pytest.mark.parametrize("profile", load_profiles().values(), ids=load_profiles())
def test_tls_services_offer_nothing_beyond_the_profile(profile: CryptoProfile) -> None:
    tls, offer = profile.tls, profile.tls.offer
    argv = ["openssl", "ciphers", "-stdname", "-s", "-tls1_2", ":".join(offer.ciphers)]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    suites = [line.split()[0] for line in printed.splitlines()]
    assert len(suites) == len(offer.ciphers)
    assert [name for name in (*suites, *offer.suites) if not tls.allows(name, tls.tls_suites)] == []
    groups = [GROUPS.get(name, name) for name in (*offer.groups, "X25519MLKEM768")]
    assert [name for name in groups if not tls.allows(name, tls.tls_groups)] == []


def test_sshd_config_names_what_it_offers() -> None:
    for keyword, kind in (("MACs", "macs"), ("PubkeyAcceptedAlgorithms", "public_keys"), ("KexAlgorithms", "kex")):
        assert f"{keyword} {','.join(OFFERED[kind])}" in _lines(12)


def test_the_hybrid_with_ml_kem_comes_first_where_openssh_knows_it() -> None:
    assert f"KexAlgorithms mlkem768x25519-sha256,{','.join(OFFERED['kex'])}" in _lines(13)
    assert load_profiles()["bsi-2026"].ssh.allows("mlkem768x25519-sha256", ())


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("ssh-ed25519", "ssh-ed25519"),
        ("ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519"),
        ("sk-ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com"),
        ("ssh-rsa-cert-v01@openssh.com", "ssh-rsa"),
    ],
)
def test_a_certificate_counts_as_its_key(name: str, algorithm: str) -> None:
    assert signs_by(name) == algorithm
