"""What ACC-04 makes of rules of sudo and doas, of PAM's stacks and of ACLs that a lab host does not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.verification import pam
from orchestrator.verification.checks import test_accounts
from orchestrator.verification.sheet import NotApplicable, Sheet
from tests.unit.asked import faults_of, printed, set_acl, sheet_of, subject_of

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
    subject = subject_of(user=user, verification_sudo_users=may)
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
    cvtsudoers = f"echo '{json.dumps(rules)}'; echo warning >&2"
    said = json.loads(printed(command, tmp_path, sudo="", doas="", cvtsudoers=cvtsudoers))
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
    failed = json.loads(printed(command, tmp_path, cvtsudoers="echo broken >&2; exit 1"))
    assert (failed["failed"], failed["rules"]) == ("broken\n", {})


def _sudo(user: str, place: str = "", *, option: str = "authenticate", value: bool = False, **defaults: bool) -> Sheet:
    """Return what is found where sudo has a rule with an option for `town`, and runs what is at a place."""
    commands = [{"Options": [{option: value}], "Commands": [{"command": "ALL"}]}]
    rules = {
        "Defaults": [{"Options": [defaults]}],
        "User_Specs": [{"User_List": [{"username": "town"}], "Cmnd_Specs": commands}],
    }
    places = []
    if place:
        kind, mode, owner, group, path = place.split()
        row = {"kind": kind, "mode": int(mode, 8), "owner": owner, "group": group, "path": path}
        places.append({**row, "writers": []})
    return _rights(user=user, rules=rules, places=places)


def test_sudo_without_a_password_is_for_the_declared_user_only() -> None:
    assert _sudo("town").faults == []
    assert faults_of(_sudo("other")) == "sudo asks town for no password (ALL)"
    assert _sudo("", option="setenv", value=True).faults == []
    assert "changed by root only" in str(_sudo("town", "program 755 town town /opt/x").faults)
    assert "777" in faults_of(_sudo("town", "program 777 root root /opt/x"))
    assert _sudo("town", "program 755 root root /opt/x").faults == []
    assert "!syslog" in faults_of(_sudo("town", syslog=False))


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ("directory 755 root root /opt", True),
        ("directory 755 anna anna /home/anna", False),
        ("directory 775 root root /opt", True),
        ("directory 775 root staff /opt", False),
        ("directory 777 root root /opt", False),
        ("directory 1777 root root /tmp", True),
        ("directory 1777 anna root /tmp", False),
        ("place 755 root root /opt", True),
        ("place 755 anna anna /home/anna", False),
        ("place 1777 root root /tmp", False),
    ],
)
def test_who_may_replace_or_make_what_sudo_runs(row: str, fits: bool) -> None:
    sheet = _sudo("town", row)
    _, mode, owner, _, path = row.split()
    assert (sheet.faults == []) is fits
    assert fits or faults_of(sheet).startswith(f"{path}, ")
    assert fits or f"is {mode} {owner}:" in faults_of(sheet)


def test_places_of_what_sudo_runs_are_told(tmp_path: Path) -> None:
    """The command itself, with rules of this test's own."""
    root = tmp_path / "root"
    for name in ("bin", "real/deep", "tools", "empty"):
        (root / name).mkdir(parents=True)
    for name in ("bin/plain", "real/deep/tool", "tools/one", "tools/two"):
        (root / name).touch()
    (root / "bin/link").symlink_to(root / "real/deep/tool")
    named = ["bin/plain", "bin/link", "gone/away/later", "tools/", "empty/", "to*/o*"]
    listed = [{"command": f"{root}/{name} -x"} for name in named]
    rules = {"User_Specs": [{"Cmnd_Specs": [{"Commands": [*listed, {"command": "ALL"}]}]}]}
    cvtsudoers = f"cat <<'END'\n{json.dumps(rules)}\nEND"
    said = json.loads(printed(test_accounts._SUDO, tmp_path, sudo="", cvtsudoers=cvtsudoers))
    assert said["rules"] == rules
    rows = [(row["kind"], row["path"]) for row in said["places"]]
    found = {(kind, path.removeprefix(str(root))) for kind, path in rows if path.startswith(str(root))}
    assert found == {
        *(("program", name) for name in ("/bin/plain", "/bin/link", "/real/deep/tool", "/tools/one", "/tools/two")),
        *(("directory", name) for name in ("", "/bin", "/real", "/real/deep", "/tools")),
        *(("place", name) for name in ("", "/empty")),
    }
    assert ("directory", "/") in rows
