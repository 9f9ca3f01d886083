"""What ACC-03, ACC-04 and ACC-08 make of keys, PAM's stacks, doas, ACLs and conditions that a lab host does not have."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.verification import pam
from orchestrator.verification.checks import test_accounts, test_admins
from orchestrator.verification.sheet import NotApplicable, Sheet
from tests.unit.asked import faults_of, set_acl, sheet_of, subject_of

# As Debian's pam-auth-update writes it.
COMMON: list[pam.Line] = [
    ["[success=1 default=ignore]", "pam_unix.so", "nullok"],
    ["requisite", "pam_deny.so", ""],
    ["required", "pam_permit.so", ""],
    ["optional", "pam_cap.so", ""],
]


def _stack(*lines: str) -> list[pam.Line]:
    return [[*line.rsplit(" ", 1), ""] for line in lines]


@pytest.mark.parametrize(
    "lines",
    [
        COMMON,
        [["substack", COMMON]],
        [["required", "pam_env.so", ""], ["sufficient", "pam_unix.so", ""], ["required", "pam_deny.so", ""]],
        # Where a directory answers, too; behind a lock; for some only; with a second factor.
        _stack(
            *("[success=2 default=ignore] pam_unix.so", "[success=1 default=ignore] pam_sss.so"),
            *("requisite pam_deny.so", "required pam_permit.so"),
        ),
        _stack(
            *("required pam_faillock.so", "[success=1 default=ignore] pam_unix.so"),
            *("[default=die] pam_faillock.so", "sufficient pam_faillock.so"),
        ),
        [["required", "pam_succeed_if.so", "user ingroup ops"], *COMMON],
        [["required", "pam_wheel.so", "trust"], *COMMON],
        [*COMMON, ["required", "pam_google_authenticator.so", "nullok"]],
        _stack("required pam_unix.so", "optional pam_permit.so"),
        _stack("[success=9 default=ignore] pam_env.so", "required pam_unix.so"),
        [],
    ],
)
def test_a_stack_that_wants_a_password(lines: list[pam.Line]) -> None:
    assert pam.open_by(lines) == ""
    assert pam.open_by(lines, trusting=False) == ""


@pytest.mark.parametrize(
    ("lines", "module"),
    [
        ([["sufficient", "pam_permit.so", ""], *COMMON], "pam_permit.so"),
        ([["sufficient", "/lib/security/pam_rootok.so", ""], *COMMON], "/lib/security/pam_rootok.so"),
        ([["sufficient", "pam_wheel.so", "trust group=ops"], *COMMON], "pam_wheel.so"),
        ([["[success=2 default=ignore]", "pam_succeed_if.so", "user = kiosk"], *COMMON], "pam_permit.so"),
        ([["sufficient", "pam_u2f.so", "nouserok"], *COMMON], "pam_u2f.so"),
        ([["substack", _stack("[success=done] pam_permit.so")]], "pam_permit.so"),
        (
            _stack("[success=1 default=ignore] pam_unix.so", "optional pam_deny.so", "required pam_permit.so"),
            "pam_permit.so",
        ),
        (_stack("[success=1 default=ignore] pam_unix.so", "required pam_permit.so"), "pam_permit.so"),
        (_stack("required pam_deny.so", "[default=reset] pam_unix.so", "required pam_permit.so"), "pam_permit.so"),
        (_stack("optional pam_unix.so", "SUFFICIENT pam_localuser.so"), "pam_localuser.so"),
    ],
)
def test_a_stack_that_lets_in_who_answers_nothing(lines: list[pam.Line], module: str) -> None:
    assert pam.open_by(lines) == module


def test_what_a_module_asks_for_that_we_do_not_know_is_not_guessed() -> None:
    lines = [["sufficient", "pam_exec.so", "/srv/ask"], *COMMON]
    assert (pam.open_by(lines), pam.open_by(lines, trusting=False)) == ("", "pam_exec.so")
    assert pam.unknown([["substack", lines]]) == {"pam_exec.so"}
    harmless = [*COMMON, ["optional", "pam_exec.so", "/srv/tell"]]
    assert pam.open_by(harmless, trusting=False) == ""


def _rights(*, user: str = "", may: tuple[str, ...] = (), **changed: Any) -> Sheet:
    subject = subject_of(verification_sudo_users=may)
    object.__setattr__(subject, "user", user)
    said = {"installed": ["sudo"], "failed": "", "rules": {}, "doas": "", "places": [], "pam": {"sudo": COMMON}}
    return sheet_of(test_accounts.test_sudo_rules, {"python3": json.dumps({**said, **changed})}, subject=subject)


def test_sudos_own_stack_must_want_a_password() -> None:
    sheet = _rights()
    assert sheet.faults == []
    sheet.finish()
    assert "/etc/pam.d/sudo wants a password" in sheet.seen
    open_ = {"sudo": COMMON, "sudo-i": [["sufficient", "pam_permit.so", ""], *COMMON]}
    assert faults_of(_rights(pam=open_)) == "/etc/pam.d/sudo-i is content without a password (pam_permit.so)"
    doubtful = _rights(pam={"sudo": [["sufficient", "pam_exec.so", "/srv/ask"], *COMMON]})
    assert doubtful.faults == []
    assert doubtful.untested == ["whether /etc/pam.d/sudo is content without a password: it asks pam_exec.so"]


def _defaults(*, may: tuple[str, ...] = (), **option: Any) -> str:
    return faults_of(_rights(rules={"Defaults": [{"Options": [option]}]}, may=may))


def test_sudos_defaults_that_ask_nobody_or_only_once_are_faults() -> None:
    assert _defaults(exempt_group="ops") == "sudo asks %ops for no password (exempt_group)"
    assert _defaults(exempt_group="ops", may=("%ops",)) == ""
    assert _defaults(exempt_group=False) == ""
    assert _defaults(timestamp_timeout="-1") == "sudo asks once, and then for -1 minutes no more (timestamp_timeout)"
    for minutes in ("-0.5", "1000000", "?"):
        assert "(timestamp_timeout)" in _defaults(timestamp_timeout=minutes)
    for usual in ("0", "15", "2.5", False):
        assert _defaults(timestamp_timeout=usual) == ""
    assert "!authenticate" in _defaults(authenticate=False)


DOAS = """# it's ours
permit nopass setenv {} bob cmd /usr/local/bin/backup args -x
permit persist :ops as root
permit nopass keepenv root
deny nopass eve
"""


def test_doas_is_judged_as_sudo_is() -> None:
    doas: dict[str, Any] = {"installed": ["doas"], "pam": {"doas": COMMON}}
    assert faults_of(_rights(doas=DOAS, **doas)) == "doas asks bob for no password (/usr/local/bin/backup args -x)"
    assert _rights(doas=DOAS, may=("bob",), **doas).faults == []
    assert _rights(doas=DOAS, user="bob", **doas).faults == []
    assert faults_of(_rights(doas="permit nopass :ops\n", **doas)) == "doas asks %ops for no password (ALL)"
    assert faults_of(_rights(doas="permit nolog anna\n", **doas)) == "doas does not log what anna does"
    assert "/etc/pam.d/doas is content" in faults_of(
        _rights(**doas | {"pam": {"doas": _stack("required pam_permit.so")}})
    )


def test_only_a_host_with_neither_of_them_has_nothing_of_the_kind() -> None:
    with pytest.raises(NotApplicable, match="neither sudo nor doas"):
        _rights(installed=[], pam={})
    assert "sudo-rs" in _rights(installed=["sudo-rs"], pam={}).untested[0]
    assert faults_of(_rights(failed="/etc/sudoers:3: syntax error\n")).startswith("sudo does not accept its rules")


def test_who_may_write_by_an_acl_may_replace_what_sudo_runs() -> None:
    row: dict[str, Any] = {"kind": "program", "path": "/opt/x", "mode": 0o775, "owner": "root", "group": "root"}
    assert _rights(places=[row | {"writers": []}]).faults == []
    found = faults_of(_rights(places=[row | {"writers": ["user bob"]}]))
    assert found == "/opt/x, which sudo runs, is 775 root:root, and its ACL lets the user bob write"
    assert _rights(places=[row | {"kind": "directory", "writers": ["group ops"]}]).faults


def _run(command: str, folder: Path, **programs: str) -> Any:
    """Return the answer of a command itself, with programs of a test's own."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def test_rules_stacks_and_acls_are_told_as_they_are(tmp_path: Path) -> None:
    """The command itself, with files of this test's own; what doas sets in the environment is not told."""
    etc = tmp_path / "etc"
    (etc / "pam.d").mkdir(parents=True)
    for name, text in (
        ("sudo", "session required pam_limits.so\n@include common-auth # all\n@include gone\n"),
        ("common-auth", "# auth sufficient pam_permit.so\nauth [success=1 \\\n default=ignore] pam_unix.so nullok\n"),
        ("kiosk", "-auth sufficient pam_permit.so\nauth substack common-auth\nauth include common-auth\n"),
        ("other", "auth required pam_deny.so\n"),
        ("doas", "session required pam_limits.so\n"),
    ):
        (etc / "pam.d" / name).write_text(text)
    tools = [tmp_path / name for name in ("tool", "other")]
    for tool in tools:
        tool.touch()
        tool.chmod(0o750)
    set_acl(tools[0], user=(12345, 7), mask=7)
    (etc / "doas.conf").write_text(f"permit nopass setenv {{ TOKEN=abc }} \\\n bob cmd {tools[1]} args x\n")
    rules = {"Defaults": [{"Options": [{"pam_service": "kiosk"}]}], "x": [{"command": f"{tools[0]} -x"}]}
    command = test_accounts._SUDO.replace('"/etc/', f'"{etc}/').replace("/usr/lib/pam.d", str(tmp_path / "none"))
    said = _run(command, tmp_path, sudo="", doas="", cvtsudoers=f"echo '{json.dumps(rules)}'; echo warning >&2")
    assert (said["installed"][:2], said["failed"], said["rules"]) == (["sudo", "doas"], "", rules)
    assert "TOKEN" not in json.dumps(said)
    assert said["doas"] == f"permit nopass setenv {{}}   bob cmd {tools[1]} args x\n"
    unix, deny = ["[success=1   default=ignore]", "pam_unix.so", "nullok"], ["required", "pam_deny.so", ""]
    assert said["pam"] == {
        "doas": [deny],
        "kiosk": [["sufficient", "pam_permit.so", ""], ["substack", [unix]], unix],
        "sudo": [unix, deny],
        "sudo-i": [deny],
    }
    writers = {row["path"]: row["writers"] for row in said["places"] if row["kind"] == "program"}
    assert writers == {str(tools[0]): ["user 12345"], str(tools[1]): []}
    failed = _run(command, tmp_path, cvtsudoers="echo broken >&2; exit 1")
    assert (failed["failed"], failed["rules"]) == ("broken\n", {})


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
    return _run(command, tmp_path, sshd=f"who=${{3%%,*}}; case ${{who#user=}} in {shown} esac", journalctl="exit 0")


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
