"""What ACC-02, ACC-03, ACC-04 and ACC-08 make of accounts, keys, passwords and conditions that a lab host does not have."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.verification.checks import test_accounts, test_admins
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import faults_of, printed, sheet_of, subject_of


def _accounts(*rows: str) -> Sheet:
    said = "\n".join(["passwd:root:x:0:0:root:/root:/bin/bash", "group:root:x:0:", "group:jitsi:x:106:", *rows])
    return sheet_of(test_accounts.test_accounts, {"awk": said}, subject=subject_of())


def test_accounts_that_should_not_be() -> None:
    assert _accounts("passwd:jvb:x:105:106::/:/usr/sbin/nologin", "shadow:root:set").faults == []
    assert "toor is root" in faults_of(_accounts("passwd:toor:x:0:0::/:/usr/sbin/nologin"))
    assert "user ID 105 stands twice" in faults_of(_accounts(*[f"passwd:{n}:x:105:106::/:/bin/false" for n in "ab"]))
    assert "group name jitsi stands twice" in faults_of(_accounts("group:jitsi:x:107:"))
    assert "in the group 9" in faults_of(_accounts("passwd:a:x:105:9::/:/bin/false"))
    assert "a needs no password (/etc/shadow)" in faults_of(_accounts("shadow:a:empty"))
    assert "service account a logs in with /bin/sh" in faults_of(_accounts("passwd:a:x:105:106::/:/bin/sh"))
    assert _accounts("passwd:person:x:1000:106::/:/bin/bash").faults == []


def _passwords(said: str) -> Sheet:
    return sheet_of(test_accounts.test_passwords, {"python3": said})


def test_a_password_is_tested_and_hashed_slowly() -> None:
    hashes = "root y \na 2b \nb 6 100000\nc 6 \n"
    sheet = _passwords(f"tested 12\n{hashes}")
    assert sheet.faults == []
    sheet.finish()
    assert faults_of(_passwords("untested 12\n")) == "a new password is not tested (pam_pwquality)"
    assert faults_of(_passwords("tested 8\n")) == "it needs 8 characters"
    assert faults_of(_passwords("tested 12\nroot 1 \n")) == "root's password is hashed by MD5"
    assert faults_of(_passwords("tested 12\nroot des \n")) == "root's password is hashed by DES"
    assert faults_of(_passwords("tested 12\nroot 6 1000\n")) == "root's password is hashed by SHA-512 in 1000 rounds"
    assert faults_of(_passwords("tested 12\nroot sha1 \n")) == "root's password is hashed by the method sha1"
    # Another module than pwquality knows no such length.
    other = _passwords("passwdqc \n")
    assert (other.faults, other.untested) == ([], [])


def test_a_test_of_passwords_that_is_not_seen_or_refuses_nothing_is_no_pass() -> None:
    unknown = _passwords("tested \n")
    assert unknown.faults == []
    assert unknown.untested == [
        "how long a new password must be, and whether a bad one is refused: pwquality does not tell"
    ]
    assert faults_of(_passwords("warned 12\n")) == "a new password is tested, but a bad one is not refused"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("password requisite pam_pwquality.so retry=3 minlen=14 enforcing=1", "tested 14"),
        ("-password required /lib/security/pam_pwquality.so enforcing=1 minlen=8 # minlen=20", "tested 8"),
        ("password requisite pam_pwquality.so minlen=14 enforcing=0", "warned 14"),
        # No library says what holds where the line is silent.
        ("password requisite pam_pwquality.so retry=3", "tested"),
        ("password requisite pam_pwquality.so minlen=14", "tested"),
        ("password [success=ok default=die] pam_pwquality.so minlen=14 enforcing=1", "tested 14"),
        ("password [default=ignore] pam_pwquality.so minlen=14 enforcing=1", "untested"),
        ("password [success=1 default=bad authtok_err=ignore] pam_pwquality.so minlen=14 enforcing=1", "untested"),
        ("password optional pam_pwquality.so minlen=14 enforcing=1", "untested"),
        ("# password requisite pam_pwquality.so minlen=14 enforcing=1", "untested"),
        ("password requisite pam_passwdqc.so min=disabled,24,11,8,7", "passwdqc"),
        ("password requisite pam_passwdqc.so enforce=none", "warned"),
        ("password optional pam_pwquality.so\npassword required pam_passwdqc.so", "passwdqc"),
    ],
)
def test_what_passwds_lines_say_of_the_test_counts(line: str, told: str, tmp_path: Path) -> None:
    """The command itself, with files of this test's own and without the library."""
    (tmp_path / "passwd").write_text("@include common-password\n")
    (tmp_path / "common-password").write_text(f"{line}\npassword required pam_unix.so yescrypt\n")
    (tmp_path / "shadow").write_text("root:!:1::::::\nanna:$6$rounds=1000$salt$hash:1::::::\n")
    command = test_accounts._TESTED
    for old, new in (
        ("/etc/pam.d/", f"{tmp_path}/"),
        ("/etc/shadow", f"{tmp_path}/shadow"),
        ("libpwquality", "libnowhere"),
    ):
        command = command.replace(old, new)
    assert [row.strip() for row in printed(command).splitlines()] == [told, "anna 6 1000"]


def _fingerprint(blob: str) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode().rstrip("=")


def _keys(tmp_path: Path, config: str, shown: str, **people: str) -> Any:
    """Return the answer of ACC-03's command itself; sshd shows what it shows by the name of the user it is asked for."""
    (tmp_path / "sshd_config").write_text(config)
    (tmp_path / "shadow").write_text("root:!:1::::::\n")
    accounts = (
        "class P: pass\ndef person(*row):\n    found = P()\n    found.pw_name, found.pw_uid, found.pw_dir = row\n"
    )
    accounts += "    return found\n"
    rows = ", ".join(f"person('{name}', {number}, '{tmp_path}/{name}')" for name, number in people.items())
    command = test_admins._ACCOUNTS.replace("pwd.getpwall()", f"[{rows}]")
    command = command.replace("hashes = {", f"{accounts}hashes = {{")
    for old, new in (
        ("/etc/ssh", str(tmp_path)),
        ("/run/sshd", f"{tmp_path}/run"),
        ("/etc/shadow", f"{tmp_path}/shadow"),
    ):
        command = command.replace(old, new)
    answer = f"who=${{3%%,*}}; case ${{who#user=}} in {shown} esac"
    return json.loads(printed(command, tmp_path, sshd=answer, journalctl="exit 0"))


BLOB = base64.b64encode(b"\0\0\0\x07ssh-rsa" + bytes(40)).decode()
OTHER = base64.b64encode(b"\0\0\0\x07ssh-rsa" + bytes(39) + b"\x01").decode()


def test_every_key_that_sshd_takes_is_seen(tmp_path: Path) -> None:
    (tmp_path / "anna/.ssh").mkdir(parents=True)
    (tmp_path / "keys").mkdir()
    (tmp_path / "anna/.ssh/authorized_keys").write_text(
        f'# ssh-rsa {OTHER}\nfrom="192.0.2.1",command="a b" rsa-sha2-512 {BLOB} anna\n'
    )
    (tmp_path / "keys/1001").write_text(f"rsa-sha2-256 {OTHER}\n")
    shown = f"*) echo 'authorizedkeysfile .ssh/authorized_keys {tmp_path}/keys/%U {tmp_path}/%q none';;"
    said = _keys(tmp_path, "PasswordAuthentication no\n", shown, anna="1001", bob="1002")
    assert [(row["account"], row["keys"]) for row in said["accounts"]] == [
        ("anna", sorted([_fingerprint(BLOB), _fingerprint(OTHER)]))
    ]
    assert said["further"] == [f"{tmp_path}/%q"]


def test_keys_that_open_one_account_only_are_seen_for_it(tmp_path: Path) -> None:
    (tmp_path / "extra").write_text(f"ssh-rsa {BLOB}\n")
    config = "Match User root\n AuthorizedKeysFile {0}/extra\nMatch User git\n AuthorizedKeysCommand /srv/keys %u\n"
    shown = (
        f"root) echo 'authorizedkeysfile {tmp_path}/extra';; git) echo authorizedkeysfile .ssh/none;"
        " echo authorizedkeyscommand /srv/keys %u;; *) echo authorizedkeysfile .ssh/none;; "
    )
    said = _keys(tmp_path, config.format(tmp_path), shown, root="0", git="1001", anna="1002")
    assert [(row["account"], row["keys"]) for row in said["accounts"]] == [("root", [_fingerprint(BLOB)])]
    assert said["further"] == ["/srv/keys %u"]


def test_keys_for_some_addresses_only_are_named_and_not_taken_for_none(tmp_path: Path) -> None:
    config = (
        "Match User root Address 192.0.2.0/24\nTrustedUserCAKeys /srv/CA\n"
        "Match Address 192.0.2.0/24\nAuthorizedKeysFile .ssh/none\nAuthorizedKeysCommand none\n"
    )
    said = _keys(tmp_path, config, "*) echo authorizedkeysfile .ssh/none .ssh/more;;", root="0")
    assert said["further"] == [f"/srv/CA (Match User root Address 192.0.2.0/24 in {tmp_path}/sshd_config)"]


def _idle(*conditional: list[str], arguments: str = "", idle: str = "idle=900\n") -> Sheet:
    further = {"conditional": conditional, "arguments": arguments, "later": ""}
    said = {
        "python3 - <<": json.dumps(further),
        "mkdir -p /run/sshd; sshd -T": "clientaliveinterval 300\nclientalivecountmax 2\n",
        "env -i": idle,
    }
    return sheet_of(test_accounts.test_idle_sessions, said)


def test_dead_connections_end_under_every_condition() -> None:
    assert _idle().faults == []
    assert faults_of(_idle(idle="idle=0\n")) == "an idle shell ends never"
    where = "Match User backup in /f"
    assert faults_of(_idle([where, "clientaliveinterval", "0"])) == (
        f"sshd asks 2 times, every 0 s, whether somebody is there ({where})"
    )
    assert _idle([where, "clientaliveinterval", "600"], [where, "x11forwarding", "no"]).faults == []
    # Of two values in one condition, sshd takes the first.
    first, second = [where, "clientalivecountmax", "0"], [where, "clientalivecountmax", "2"]
    assert _idle(first, second).faults
    assert _idle(second, first).faults == []
    unknown = _idle([where, "clientaliveinterval", "5m"])
    assert unknown.faults == []
    assert unknown.untested == [f"when sshd gives a dead connection up: 5m 2 ({where})"]
    assert faults_of(_idle(arguments="sshd: /usr/sbin/sshd -Do ClientAliveCountMax=0")).startswith("sshd asks 0 times")
