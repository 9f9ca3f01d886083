"""Whom hardening would shut out, and whether sshd would heed it: told beforehand, by names and never by a key."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.operations import preflight_facts
from orchestrator.operations.preflight_logins import DROP_IN, Hardening, judge_logins, sshd_settings
from tests.unit.test_hardening_templates import ENVIRONMENT

WANTED = Hardening(sshd_settings({}), ("root", "sudo", "ssh-login", "helpdesk"), "ansible", now=True)
GOOD, SMALL = {"name": "anna@desk", "rsa_bits": 0}, {"name": "old@desk", "rsa_bits": 2048}
DEBIAN = {"passwordauthentication": "yes", "permitrootlogin": "without-password", "requiredrsasize": "1024"}


def told(
    user: str,
    groups: Sequence[str],
    *,
    keys: Sequence[dict[str, Any]] = (GOOD,),
    password: bool = False,
    wanted: Hardening = WANTED,
    **sshd: str,
) -> list[tuple[str, bool]]:
    """Return what is said of one account of a host, and whether that is blocking."""
    login = {"user": user, "groups": list(groups), "keys": list(keys), "password": password}
    remarks = list(judge_logins("meet", {"logins": [login], "sshd": {**DEBIAN, **sshd}}, wanted))
    assert all(remark.problem.hint and remark.problem.where == "meet" for remark in remarks)
    return [(remark.problem.message, remark.blocking) for remark in remarks]


def shut(user: str, way: str = "key") -> list[tuple[str, bool]]:
    return [(f"{user} logs in by a {way} now and will not after `ratssaal harden`", False)]


def test_who_is_in_none_of_the_groups_is_shut_out() -> None:
    """hardening_ssh_allow_groups names helpdesk; Ansible's own user is taken into ssh-login."""
    assert told("ansible", ["ansible"]) == []
    assert told("anna", ["anna", "sudo"]) == []
    assert told("carla", ["carla", "helpdesk"]) == []
    assert told("berta", ["berta"]) == shut("berta")
    # Two things are wanted of her, and both are told at once.
    assert told("berta", ["berta"], keys=[], password=True)[:1] == shut("berta", "password")
    assert len(told("berta", ["berta"], keys=[], password=True)) == len(told("berta", ["berta"], keys=[SMALL])) == 2
    assert told("berta", ["berta"], password=True) == shut("berta", "key or a password")
    # Where sshd is left alone, nobody is shut out; who does not get in now is not shut out either.
    assert told("berta", ["berta"], wanted=replace(WANTED, groups=())) == []
    assert told("berta", ["berta"], allowgroups="root sudo ssh-login") == []
    assert told("berta", ["berta"], keys=[], password=True, passwordauthentication="no") == []


def test_nobody_is_told_to_hand_out_roots_rights_for_a_login() -> None:
    login = {"user": "backup", "groups": ["backup"], "keys": [GOOD], "password": False}
    (remark,) = judge_logins("meet", {"logins": [login]}, WANTED)
    assert "--groups ssh-login backup" in remark.problem.hint
    assert "hardening_ssh_allow_groups" in remark.problem.hint
    assert "sudo" not in remark.problem.hint


def test_root_is_shut_out_where_ansible_is_somebody_else() -> None:
    assert told("root", ["root"]) == shut("root")
    assert told("root", ["root"], permitrootlogin="no") == []
    assert told("root", ["root"], wanted=replace(WANTED, user="root")) == []
    # Debian's sshd takes no password of root's, which many an image has.
    assert told("root", ["root"], keys=[], password=True) == []
    assert told("root", ["root"], keys=[], password=True, permitrootlogin="yes") == shut("root", "password")


@pytest.mark.parametrize(("user", "now", "blocking"), [("anna", True, False), ("ansible", True, True)])
def test_keys_that_become_too_small(user: str, now: bool, blocking: bool) -> None:
    said = f"{user}'s key old@desk (RSA, 2048 bits) will be refused after `ratssaal harden`"
    assert told(user, ["sudo"], keys=[SMALL]) == [(said, blocking)]
    # One that is good may be the one in use.
    assert told(user, ["sudo"], keys=[SMALL, GOOD]) == [(said, False)]
    assert told(user, ["sudo"], keys=[SMALL], authorizedkeyscommand="/usr/bin/sss_ssh_authorizedkeys") == [
        (said, False)
    ]
    assert told(user, ["sudo"], keys=[SMALL], wanted=replace(WANTED, now=False)) == [(said, False)]
    assert told(user, ["sudo"], keys=[SMALL], requiredrsasize="3072") == []
    left_alone = replace(WANTED, settings=sshd_settings({"CRY-10": {}}))
    assert told(user, ["sudo"], keys=[SMALL], wanted=left_alone) == []


@pytest.mark.parametrize(("user", "blocking"), [("anna", False), ("ansible", True)])
def test_who_has_a_password_and_no_key(user: str, blocking: bool) -> None:
    said = f"{user} logs in by a password now and has no key, which `ratssaal harden` asks for"
    assert told(user, ["sudo"], keys=[], password=True) == [(said, blocking)]
    assert told(user, ["sudo"], keys=[], password=True, wanted=replace(WANTED, now=False)) == [(said, False)]
    assert told(user, ["sudo"], password=True) == []
    assert told(user, ["sudo"], keys=[], password=True, passwordauthentication="no") == []


def test_what_the_template_sets_is_known() -> None:
    """All but what a host or the site decides."""
    given = {"ansible_facts": {"ratssaal_host": {"major": 13}}, "hardening_skip": {}, "hardening_ssh_allow_groups": []}
    lines = ENVIRONMENT.get_template("sshd.conf.j2").render(given).splitlines()
    rendered = {word.lower(): value for word, _, value in (line.partition(" ") for line in lines) if word[:1].isalpha()}
    known = sshd_settings({})
    assert {word: rendered[word] for word in known} == known
    computed = {"kexalgorithms", "ciphers", "macs", "hostkeyalgorithms", "pubkeyacceptedalgorithms"}
    assert set(rendered) - set(known) == computed | {"permitrootlogin", "allowgroups"}
    assert set(known) - set(sshd_settings({"ACC-01": {}, "ACC-08": {}})) >= {"passwordauthentication", "tcpkeepalive"}
    assert sshd_settings(dict.fromkeys(("ACC-01", "ACC-06", "ACC-08", "CRY-10"))) == {}


def order(tmp_path: Path, main: str, **others: str) -> list[tuple[str, bool]]:
    """Return what is said of a sshd_config, and of other files, by the word before their suffix."""
    (tmp_path / "sshd_config.d").mkdir()
    for name, text in others.items():
        (tmp_path / "sshd_config.d" / f"{name.replace('_', '-')}.conf").write_text(text)
    (tmp_path / "sshd_config").write_text(main.replace("/etc/ssh", str(tmp_path)))
    drop_in = DROP_IN.replace("/etc/ssh", str(tmp_path))
    seen = preflight_facts.sshd_before(drop_in, str(tmp_path / "sshd_config"))
    remarks = list(judge_logins("meet", {"sshd_before": seen}, WANTED))
    return [(remark.problem.message.replace(str(tmp_path), "/etc/ssh"), remark.blocking) for remark in remarks]


_DEAD = [(f"sshd does not read {DROP_IN} for everybody, so `ratssaal harden` fails", True)]
_INCLUDE = "Include /etc/ssh/sshd_config.d/*.conf\n"


@pytest.mark.parametrize(
    ("main", "said"),
    [
        (f"# Debian's\n\n{_INCLUDE}PasswordAuthentication yes\n", []),
        (f"PasswordAuthentication no\nUsePAM yes\n{_INCLUDE}", []),
        ("PasswordAuthentication yes\n", _DEAD),
        (f"# {_INCLUDE}", _DEAD),
        (f"Match User backup\n{_INCLUDE}", _DEAD),
        (f"Match all\n{_INCLUDE}", []),
        ("Include /etc/ssh/sshd_config.d/10*.conf\n", _DEAD),
        (
            f"port 22\npasswordauthentication=yes # the panel's\nPasswordAuthentication no\n{_INCLUDE}",
            [
                (
                    "passwordauthentication yes (/etc/ssh/sshd_config:2) comes before `ratssaal harden` sets no, so that fails",
                    True,
                )
            ],
        ),
    ],
)
def test_what_sshd_reads_before_the_settings_of_ours(tmp_path: Path, main: str, said: list[tuple[str, bool]]) -> None:
    assert order(tmp_path, main) == said


def test_files_that_are_read_before_ours(tmp_path: Path) -> None:
    said = order(
        tmp_path, _INCLUDE, **{"00_cloud": "X11Forwarding yes\nMatch User x\nMaxAuthTries 9", "50_x": "MaxAuthTries 9"}
    )
    place = "/etc/ssh/sshd_config.d/00-cloud.conf:1"
    assert said == [(f"X11Forwarding yes ({place}) comes before `ratssaal harden` sets no, so that fails", True)]


@pytest.mark.parametrize(("kind", "bits"), [("rsa", 2048), ("rsa", 3072), ("ed25519", 0), ("ecdsa", 0)])
def test_a_key_is_told_by_its_comment_or_fingerprint_and_its_size(tmp_path: Path, kind: str, bits: int) -> None:
    argv = ["ssh-keygen", "-q", "-t", kind, *(["-b", str(bits)] if bits else []), "-N", "", "-C", "", "-f", "key"]
    subprocess.run(argv, cwd=tmp_path, check=True)
    argv = ["ssh-keygen", "-lf", "key.pub"]
    fingerprint = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()[1]
    key = (tmp_path / "key.pub").read_text().strip()
    (tmp_path / "authorized_keys").write_text(
        f'# {key}\n{key}\n\nfrom="192.0.2.0/24",command="echo a b" {key} anna \x1b[31m@desk\nno key\n'
        "ssh-rsa AAAAB shortened\nssh-rsa AAAAB3NzaC1yc2E= shortened\n"
    )
    found = preflight_facts.authorized_keys(str(tmp_path / "authorized_keys"))
    assert found == [{"name": name, "rsa_bits": bits} for name in (fingerprint, "anna [31m@desk")]
    assert preflight_facts.authorized_keys(str(tmp_path / "none")) == []
    os.mkfifo(tmp_path / "pipe")
    assert preflight_facts.authorized_keys(str(tmp_path / "pipe")) == []


def test_accounts_with_a_key_or_a_password_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"anna": "/bin/bash", "berta": "/bin/bash", "daemon": "/usr/sbin/nologin", "carla": "/bin/sh"}
    people = [
        pwd.struct_passwd((user, "x", 1000 + number, 1000, "", str(tmp_path / user), shell))
        for number, (user, shell) in enumerate(rows.items())
    ]
    monkeypatch.setattr(pwd, "getpwall", lambda: people)
    (tmp_path / "shadow").write_text("anna:!:1::\nberta:$y$x:1::\ndaemon:$y$x:1::\ncarla:*:1::\n")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/anna").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== anna@desk\n")
    settings = {"authorizedkeysfile": f".ssh/authorized_keys {tmp_path}/keys/%u"}
    found = preflight_facts.logins(settings, str(tmp_path / "shadow"))
    keys = [{"name": "anna@desk", "rsa_bits": 0}]
    assert [(row["user"], row["keys"], row["password"]) for row in found] == [
        ("anna", keys, False),
        ("berta", [], True),
    ]
