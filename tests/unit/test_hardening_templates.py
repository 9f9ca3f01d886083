"""The units' sandboxes as rendered: no line may run into the next one, or systemd ignores both."""

from __future__ import annotations

import re

import jinja2
import pytest
import yaml

from orchestrator import content
from orchestrator.verification.crypto import CryptoProfile, load_profiles, signs_by

TEMPLATES = content.root() / "roles/hardening/templates"
# As playbooks/action_plugins/managed_host.py renders them.
ENVIRONMENT = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
UNITS = sorted(path.name for path in TEMPLATES.glob("*.conf.j2") if "_sandbox.j2" in path.read_text())


def test_every_service_has_a_sandbox() -> None:
    assert len(UNITS) == 6


@pytest.mark.parametrize("name", UNITS)
def test_every_line_is_one_setting(name: str) -> None:
    lines = ENVIRONMENT.get_template(name).render().splitlines()
    assert "SystemCallErrorNumber=EPERM" in lines
    for line in lines:
        assert re.fullmatch(r"(#.*|\[\w+\]|[A-Z]\w+=[^=]*|ExecStart=.*|)", line), line


@pytest.mark.parametrize("profile", load_profiles().values(), ids=load_profiles())
def test_sshd_offers_nothing_beyond_the_profiles(profile: CryptoProfile) -> None:
    offered = yaml.safe_load((content.root() / "roles/hardening/vars/main.yml").read_text())["__hardening_ssh"]
    assert set(offered) == {"kex", "ciphers", "macs", "host_keys", "public_keys"}
    for kind, names in offered.items():
        listed = getattr(profile.ssh, kind)
        assert [name for name in names if not profile.ssh.allows(signs_by(name), listed)] == [], kind


def test_sshd_config_names_what_it_offers() -> None:
    offered = yaml.safe_load((content.root() / "roles/hardening/vars/main.yml").read_text())["__hardening_ssh"]
    facts = {"ratssaal_host": {"major": 12}}
    text = ENVIRONMENT.get_template("sshd.conf.j2").render(
        __hardening_ssh=offered, hardening_ssh_allow_groups=[], hardening_skip={}, ansible_facts=facts
    )
    for keyword, kind in (("MACs", "macs"), ("PubkeyAcceptedAlgorithms", "public_keys"), ("KexAlgorithms", "kex")):
        assert f"\n{keyword} {','.join(offered[kind])}\n" in text
    facts["ratssaal_host"]["major"] = 13
    newer = ENVIRONMENT.get_template("sshd.conf.j2").render(
        __hardening_ssh=offered, hardening_ssh_allow_groups=[], hardening_skip={}, ansible_facts=facts
    )
    assert f"\nKexAlgorithms mlkem768x25519-sha256,{','.join(offered['kex'])}\n" in newer
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
