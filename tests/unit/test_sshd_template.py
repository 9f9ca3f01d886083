"""What sshd offers, as rendered: nothing beyond the crypto profiles, and on each Debian what its OpenSSH knows."""

from __future__ import annotations

from typing import Any, cast

import pytest

from orchestrator.verification.crypto import CryptoProfile, load_profiles, signs_by
from tests.unit.test_hardening_templates import ENVIRONMENT

OFFERED = cast("dict[str, list[str]]", ENVIRONMENT.globals["__hardening_ssh"])


def _lines(major: int) -> list[str]:
    given: dict[str, Any] = {"ansible_facts": {"ratssaal_host": {"major": major}}, "hardening_skip": {}}
    return ENVIRONMENT.get_template("sshd.conf.j2").render(given, hardening_ssh_allow_groups=[]).splitlines()


@pytest.mark.parametrize("profile", load_profiles().values(), ids=load_profiles())
def test_sshd_offers_nothing_beyond_the_profiles(profile: CryptoProfile) -> None:
    assert set(OFFERED) == {"kex", "ciphers", "macs", "host_keys", "public_keys"}
    for kind, names in OFFERED.items():
        listed = getattr(profile.ssh, kind)
        assert [name for name in names if not profile.ssh.allows(signs_by(name), listed)] == [], kind


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
