"""What the checks make of declarations, keys, profiles, links and disks that a lab host cannot show."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from orchestrator.evidence.results import Finding, Result
from orchestrator.verification.checks import (
    test_admins,
    test_apparmor,
    test_disks,
    test_links,
    test_malware,
)
from orchestrator.verification.declarations import answered_for, over
from orchestrator.verification.runner import joined
from orchestrator.verification.sheet import Declared, NotApplicable, NotTested, Sheet
from orchestrator.verification.subject import Subject
from tests.unit.asked import HELD, TOPOLOGY, faults_of, further_sshd, printed, sheet_of, subject_of

OVER = {**HELD, "until": "2020-01-31"}


def test_a_declaration_is_no_pass_and_ends_with_its_day() -> None:
    def note(row: Any, **given: Any) -> Sheet:
        sheet = Sheet()
        sheet.expect(True, "something seen", "")
        subject = subject_of(verification_declarations={"OS-14": row} if row else {})
        answered_for(subject, "OS-14", sheet, "no scanner", **given)
        return sheet

    with pytest.raises(Declared, match="the IT department answers for it until 2999-12-31: ticket 17"):
        note(HELD).finish()
    with pytest.raises(NotTested, match=r"nobody has declared it \(verification_declarations: OS-14\)"):
        note(None).finish()
    with pytest.raises(AssertionError, match="ran out on 2020-01-31"):
        note(OVER).finish()
    with pytest.raises(AssertionError, match="a scanner, or declared"):
        note(None, wanted="a scanner").finish()
    assert not over("2026-11-26", date(2026, 11, 26))
    assert over("2026-11-25", date(2026, 11, 26))


def test_what_is_declared_outweighs_what_passed_and_nothing_worse() -> None:
    def together(*results: Result) -> Result:
        return joined([Finding("ACC-07", "h1", each, "s", "w", "r") for each in results]).result

    assert together(Result.PASS, Result.DECLARED) is Result.DECLARED
    assert together(Result.DECLARED, Result.NOT_TESTED) is Result.NOT_TESTED
    assert together(Result.FAIL, Result.DECLARED) is Result.FAIL


KEY, OTHER = "SHA256:" + "a" * 43, "SHA256:" + "b" * 43
NOW = 1_795_600_000.0
DAY = 86400


def _account(name: str = "root", *keys: str, used: float = NOW, changed: float = 0) -> dict[str, Any]:
    return {"account": name, "keys": list(keys or (KEY,)), "used": used, "changed": changed}


def _said(*accounts: Any, further: tuple[str, ...] = (), days: float = 90) -> dict[str, str]:
    said = {"accounts": accounts, "further": further, "now": NOW, "since": NOW - days * DAY}
    return {"python3 -": json.dumps(said)}


# What sshd does not tell of itself, where there is nothing of the kind.


def _keys(*accounts: Any, admins: Any = None, arguments: str = "", **given: Any) -> Sheet:
    declared = admins if admins is not None else [{"account": "root", "who": "A", "keys": [KEY]}]
    said = {**further_sshd(arguments=arguments), **_said(*accounts, **given)}
    subject = subject_of(verification_admins=declared)
    return sheet_of(test_admins.test_every_key_is_somebodys, said, subject=subject)


def test_keys_are_judged_by_what_is_declared() -> None:
    assert _keys(_account()).faults == []
    assert faults_of(_keys(_account("root", KEY, OTHER))) == f"a key that nobody declared opens root: {OTHER}"
    assert faults_of(_keys(_account("jane"))) == "jane may log in and is nobody's"
    two = [{"account": "root", "who": "A", "keys": [KEY]}, {"account": "root", "who": "B", "keys": [OTHER]}]
    assert faults_of(_keys(_account("root", KEY, OTHER), admins=two)) == "root is opened by keys of 2 people"
    assert _keys(_account("root", KEY), admins=two).faults == []
    ended = [{"account": "root", "who": "A", "keys": [KEY], "until": "2020-01-31"}]
    assert faults_of(_keys(_account(), admins=ended)) == f"{KEY} still opens root"
    assert "sshd also takes keys that /usr/bin/keys names" in _keys(_account(), further=("/usr/bin/keys",)).untested[0]
    given = _keys(_account(), arguments="sshd: /usr/sbin/sshd -D -o AuthorizedKeysFile=/srv/keys")
    assert "sshd also takes keys that /srv/keys (sshd's arguments) names" in given.untested[0]


def test_without_a_declaration_no_key_is_judged_and_no_person_is_named() -> None:
    sheet = _keys(_account(), admins=[])
    assert sheet.faults == []
    assert sheet.untested == ["1 keys open root; nobody is named whose they are (verification_admins)"]
    named = _keys(_account("root", KEY, OTHER), admins=[{"account": "root", "who": "A. Meier", "keys": [KEY]}])
    assert "Meier" not in str(named)


def test_an_account_that_nobody_uses_is_found_where_the_journal_tells() -> None:
    ours = _account("town", used=NOW)

    def look(account: Any, *others: Any, user: str = "", **given: Any) -> Sheet:
        said = _said(account, *(others or [ours]), **given)
        return sheet_of(test_admins.test_accounts_are_used, said, subject=subject_of(user=user))

    never = _account(used=0, changed=NOW - 200 * DAY)
    assert look(_account(used=NOW - 80 * DAY)).faults == []
    assert look(_account(used=0, changed=NOW - 3 * DAY)).faults == []
    assert faults_of(look(_account(used=NOW - 100 * DAY), days=400)) == "root was not used for 100 days"
    assert faults_of(look(never)) == "root was not used for 90 or more days"
    short = look(never, days=30)
    assert short.faults == []
    assert short.untested == ["root: the journal reaches back 30 days only"]
    assert look(never, days=NOW / DAY).untested
    assert "not even ours" in look(never, _account("town", used=0, changed=NOW)).untested[0]
    assert look(never, user="root").seen[0] == "root is in use"


def _profiles(
    loaded: str,
    *,
    shipped: str = "",
    talking: str = "",
    idle: str = "",
    both: str = "",
    away: str = "",
    container: str = "none",
    first: str = "container=none",
    on: str = "Y",
    unit: str = "enabled",
) -> Sheet:
    services = "nginx|unconfined\nchronyd|/usr/sbin/chronyd (enforce)\n"
    parts = [f"{container}\n{first}\n{on}\n", loaded, away, shipped, talking, idle, both, f"{unit}\n", services]
    return sheet_of(test_apparmor.test_apparmor, {"read": "== next ==\n".join(parts)})


GOOD_PROFILES = "/usr/sbin/chronyd (enforce)\nlsb_release (enforce)\nchrome (unconfined)\n"


def test_profiles_must_be_loaded_and_enforced() -> None:
    good, idle = GOOD_PROFILES, "chrome\n"
    whole = _profiles(good, shipped="/usr/sbin/chronyd\n", idle=idle)
    assert whole.faults == []
    assert "services on the network without a profile: nginx" in whole.seen
    assert (
        faults_of(_profiles(good, shipped="man\nlsb_release\n", idle=idle)) == "the shipped profile man is not loaded"
    )
    assert faults_of(_profiles(f"{good}man (complain)\n", idle=idle)) == "man is in complain mode"
    assert _profiles(f"{good}Xorg (complain)\nXorg//inner (complain)\n", talking="Xorg\n", idle=idle).faults == []
    assert _profiles(f"{good}man (complain)\nsh (unconfined)\n", both="man\nsh\n", idle=idle).faults == []
    assert _profiles(f"{good}man (kill)\n", idle=idle).faults == []
    assert "AppArmor is off" in faults_of(_profiles("", on="N"))
    assert "0 profiles" in faults_of(_profiles(""))
    assert "apparmor.service is not there" in faults_of(_profiles(good, unit="", idle=idle))
    assert "complain" in faults_of(_profiles("man (complain)\n", container="lxc", first="container=lxc"))


def test_profiles_that_were_switched_off_or_removed_are_named() -> None:
    away = "off /etc/apparmor.d/usr.sbin.chronyd\ngone /etc/apparmor.d/usr.bin.man\n"
    assert faults_of(_profiles(GOOD_PROFILES, away=away, idle="chrome\n")) == (
        "the shipped profile /etc/apparmor.d/usr.sbin.chronyd is switched off (/etc/apparmor.d/disable/usr.sbin.chronyd); "
        "the shipped profile /etc/apparmor.d/usr.bin.man is gone"
    )


def test_a_profile_may_confine_nobody_only_where_its_file_says_so() -> None:
    shipped = "/usr/sbin/chronyd\nlsb_release\n"
    loose = GOOD_PROFILES.replace("chronyd (enforce)", "chronyd (unconfined)")
    assert faults_of(_profiles(loose, shipped=shipped, idle="chrome\n")) == "/usr/sbin/chronyd is in unconfined mode"
    assert faults_of(_profiles(GOOD_PROFILES, shipped=f"{shipped}chrome\n")) == "chrome is in unconfined mode"
    # A second file that has the same profile says something else.
    twice = _profiles(loose, shipped=shipped, idle="chrome\n/usr/sbin/chronyd\n")
    assert faults_of(twice) == "/usr/sbin/chronyd is in unconfined mode"
    asking = GOOD_PROFILES.replace("chronyd (enforce)", "chronyd (prompt)")
    assert faults_of(_profiles(asking, shipped=shipped, idle="chrome\n")) == "/usr/sbin/chronyd is in prompt mode"
    broken = "AppArmor parser error for /etc/apparmor.d/x in profile x at line 2: syntax error\n"
    assert _profiles(GOOD_PROFILES, shipped=shipped + broken, idle="chrome\n").untested


def test_a_container_is_one_by_its_first_process_too() -> None:
    with pytest.raises(NotApplicable, match="lxc"):
        _profiles("", container="lxc", first="container=lxc", on="N")
    made = faults_of(_profiles("", container="lxc", on="N"))
    assert "/run/systemd/container says lxc; the first process knows of no container" in made
    assert "AppArmor is off in the kernel" in made
    with pytest.raises(NotTested, match="does not tell"):
        _profiles("", container="lxc", first="unknown")


def test_what_the_command_tells_of_files_of_profiles(tmp_path: Path) -> None:
    """Its own words, on files and packages that are made up; apparmor_parser tells the files in place of the names."""
    profiles = tmp_path / "etc/apparmor.d"
    (profiles / "disable").mkdir(parents=True)
    rows, brought = [], ("plain", "loose", "loud", "altered", "off", "shipped_off", "gone", "mixed")
    modes = {
        "plain": "enforce",
        "loud": "complain",
        "own_loud": "complain",
        "mixed": "complain) {} flags = (unconfined",
    }
    for name in (*brought, "own", "own_loud", "loose.dpkg-old"):
        content = (
            f"profile {name} flags=({modes.get(name, 'unconfined')}) {{\n  signal (receive) peer=unconfined,\n}}\n"
        )
        (profiles / name).write_text(content)
        if name in brought:
            rows.append(f" {profiles / name} {hashlib.md5(content.encode()).hexdigest()}")
    (profiles / "altered").write_text("profile altered flags=(unconfined) { capability, }\n")
    (profiles / "gone").unlink()
    for name in ("off", "shipped_off"):
        (profiles / "disable" / name).symlink_to(f"../{name}")
    rows += [f" {profiles / 'abstractions/base'} 0", f" {profiles / 'old'} 0 obsolete"]
    told = "\n".join(["== installed", *rows, "== config-files", f" {profiles / 'removed'} 0"])
    programs = {
        "dpkg-query": f"cat <<'END'\n{told}\nEND",
        "dpkg": f'[ "$2" = "{profiles}/disable/shipped_off" ]',
        "apparmor_parser": 'shift; for file; do echo "${file##*/}"; done',
        "ss": ":",
        "systemctl": "echo enabled",
    }
    (tmp_path / "profiles").write_text("plain (enforce)\n")
    command = test_apparmor._LOOK.replace("/sys/kernel/security/apparmor/profiles", f"{tmp_path}/profiles")
    command = command.replace("/etc/apparmor.d", str(profiles)).replace("/etc/apparmor[.]d", str(profiles))
    told = printed(command, tmp_path / "bin", **programs)
    _, loaded, away, *names, unit, _ = told.split("== next ==\n")
    assert (loaded, unit) == ("plain (enforce)\n", "enabled\n")
    assert sorted(away.replace(f"{profiles}/", "").splitlines()) == ["gone gone", "off off"]
    assert [sorted(each.split()) for each in names] == [
        ["altered", "own_loud", "plain"],
        ["loud"],
        ["loose", "own"],
        ["mixed"],
    ]


def _scanner(there: str, state: str = "", newest: str = "", **settings: Any) -> Sheet:
    said = {"dpkg-query": "== next ==\n".join([f"{there}\n", f"{state}\n", f"{newest}\n", f"{NOW:.0f}\n"])}
    return sheet_of(test_malware.test_malware_protection, said, subject=subject_of(**settings))


def test_a_scanner_works_or_somebody_answers_for_having_none() -> None:
    assert _scanner("installed", "active", str(NOW - DAY)).faults == []
    assert "inactive" in faults_of(_scanner("installed", "inactive", str(NOW - DAY)))
    assert "9 days old" in faults_of(_scanner("installed", "active", str(NOW - 9 * DAY)))
    assert "not there" in faults_of(_scanner("installed", "active"))
    assert "OS-14" in _scanner("").untested[0]
    assert _scanner("", verification_declarations={"OS-14": HELD}).declared


SESSIONS = """
Method     | Type         | Security | IP address
TCP        | c2s          | TLSv1.3  | 127.0.0.1
WebSocket  | c2s          | secure   | 2001:db8::7
TCP        | c2s_unauthed | insecure | 127.0.0.1
OK: 3 c2s sessions shown
"""


def test_sessions_at_prosody_must_be_encrypted() -> None:
    def look(shown: str) -> Sheet:
        return sheet_of(test_links.test_sessions_at_prosody, {"prosodyctl": shown}, subject=subject_of())

    whole = look(SESSIONS)
    assert (whole.faults, whole.untested) == ([], [])
    assert whole.seen == ["1 sessions of services at Prosody: TLSv1.3"]
    plain = SESSIONS.replace("TLSv1.3  | 127.0.0.1", "insecure | 192.0.2.11")
    assert faults_of(look(plain)) == "a session from 192.0.2.11 at Prosody is insecure"
    bound = SESSIONS.replace("c2s          | TLSv1.3 ", "c2s_unbound  | insecure")
    assert faults_of(look(bound)) == "a session from 127.0.0.1 at Prosody is insecure"
    assert look("OK: 0 c2s sessions shown\n").untested
    assert look("Unable to connect\n").untested


def _connected(*lines: str, **settings: Any) -> Sheet:
    second = {"address": "192.0.2.11", "address6": "2001:db8::11", "groups": ["jitsi_bridges"], "ssh_port": 22}
    hosts: Any = TOPOLOGY["hosts"]
    topology = {"hosts": {**hosts, "h2": second}, "settings": settings}
    subject = Subject("h1", "192.0.2.10", "", ("jitsi_signalling",), topology)
    return sheet_of(test_links.test_connections_between_own_hosts, {"ss": "\n".join(lines)}, subject=subject)


def test_plain_connections_between_own_hosts_are_found() -> None:
    assert _connected("0 0 192.0.2.10:5222 192.0.2.11:40000", "0 0 192.0.2.10:22 192.0.2.11:40001").faults == []
    assert _connected("0 0 192.0.2.10:9100 198.51.100.7:40000").faults == []
    plain = "0 0 [::ffff:192.0.2.10]:9100 [2001:db8::11]:40000"
    assert "1 connections to h2 on port 9100/tcp" in faults_of(_connected(plain))
    assert _connected(plain, verification_declarations={"CRY-08": HELD}).declared


VG = "/dev/mapper/vg-root /dev/dm-1 /dev/dm-0 lvm\n/dev/mapper/luks /dev/dm-0 /dev/vda2 crypt\n"
DISK = "/dev/vda2 /dev/vda2 /dev/vda part\n/dev/vda /dev/vda  disk\n"


def _disks(
    mounts: str, *, swaps: str = "", files: str = "", devices: str = VG + DISK, places: str = "/srv\n", **settings: Any
) -> Sheet:
    container, pseudo = f"{settings.pop('container', 'none')}\n", "proc\noverlay\ntmpfs\nvirtiofs\n"
    parts = [container, f"Filename Type\n{swaps}", places, mounts, pseudo, devices, files]
    said = {"read": "== next ==\n".join(parts)}
    return sheet_of(test_disks.test_disks_are_encrypted, said, subject=subject_of(**settings))


def test_volumes_are_followed_down_to_what_encrypts_them() -> None:
    assert _disks("/dev/mapper/vg-root ext4 /\ntmpfs tmpfs /var/tmp\n").faults == []
    assert "not encrypted (/dev/vda2)" in faults_of(_disks("/dev/vda2 ext4 /\n"))
    assert "not known" in faults_of(_disks("rpool/ROOT zfs /\n"))
    assert _disks("/dev/mapper/vg-root[/@var] btrfs /var\n", places="/var/log\n").faults == []
    assert _disks("/dev/vda2 ext4 /\n", verification_declarations={"CRY-11": HELD}).faults == []
    assert "ran out" in faults_of(_disks("/dev/vda2 ext4 /\n", verification_declarations={"CRY-11": OVER}))
    half = "/dev/md0 /dev/md0 /dev/dm-0 raid1\n/dev/md0 /dev/md0 /dev/vda2 raid1\n"
    assert "not encrypted" in faults_of(_disks("/dev/md0 ext4 /srv\n", devices=half + VG + DISK))


def test_what_is_mounted_below_a_place_counts_for_itself() -> None:
    places = "/etc\n/srv\n/srv/recordings\n/var/log\n/home\n/data/backups\n"
    root = "/dev/mapper/vg-root ext4 /\nproc proc /proc\n"
    good = f"{root}/dev/mapper/vg-root[/home] ext4 /home\noverlay overlay /srv/x\ntmpfs tmpfs /var/log/t\n/dev/vda2 ext4 /boot\n"
    assert _disks(good, places=places).faults == []
    for target in ("/srv/recordings", "/var/log/journal", "/home/anna", "/data/backups/db", "/srv/a\\x20b"):
        seen = f"{target.replace(chr(92) + 'x20', ' ')} lies on a disk that is not encrypted (/dev/vda2)"
        plain = f"{good}/dev/vda2 ext4 {target}\n"
        assert faults_of(_disks(plain, places=places)) == seen
        assert _disks(plain, places=places, verification_declarations={"CRY-11": HELD}).declared
    assert "not known" in faults_of(_disks(f"{good}media virtiofs /srv/recordings\n", places=places))
    # One that hides another, and one whose name only begins alike.
    assert _disks(f"/dev/vda2 ext4 /\n{root}/dev/vda2 ext4 /srvx\n", places=places).faults == []
    with pytest.raises(RuntimeError, match="no mount"):
        _disks("", places=places)


def test_places_are_told_by_what_they_link_to() -> None:
    """What the command itself tells of this machine."""
    parts = printed(test_disks._DISKS).split("== next ==\n")
    assert len(parts) == 7
    assert os.path.realpath("/etc") in parts[2].splitlines()
    assert test_disks._mounts(parts[3], ["/proc/self"], set()) != []


def test_swap_has_no_exception() -> None:
    root, held = "/dev/mapper/vg-root ext4 /\n", {"CRY-11": HELD}
    plain = _disks(root, swaps="/dev/vda2 partition\n", verification_declarations=held)
    assert faults_of(plain) == "swap /dev/vda2 is not encrypted"
    assert _disks(root, swaps="/dev/dm-1 partition\n/dev/zram0 partition\n").faults == []
    assert _disks(root, swaps="/swap file\n", files="/dev/mapper/vg-root\n").faults == []
    assert faults_of(_disks(root, swaps="/swap file\n", files="/dev/vda2\n")) == "swap /swap is not encrypted"


def test_disks_of_a_container_are_not_its_own() -> None:
    assert _disks("", container="lxc").untested
    assert _disks("", container="lxc", verification_declarations={"CRY-11": HELD}).declared
