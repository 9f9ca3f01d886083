"""Accounts, what they may do as root, and how long a forgotten session stays open."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

# Debian policy 9.2.2: below are accounts of the system and its services; 65534 is nobody.
FIRST_PERSON = 1000
NOBODY = 65534
CLOSED_SHELLS = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync")
IDLE_SECONDS = 1800
# A hash never leaves the host: only whether there is one.
_ACCOUNTS = (
    'awk -F: -v OFS=: \'FILENAME == "/etc/shadow" {print "shadow", $1, ($2 == "" ? "empty" : "set"); next} '
    '$1 != "" {print (FILENAME == "/etc/group" ? "group" : "passwd"), $0}\' /etc/passwd /etc/group /etc/shadow'
)
# The rules as sudo itself reads them, and who may change the programs that they name: each by its name and by what that stands for,
# with every directory above it. Of a program that does not exist comes the nearest directory in which it could be made. A
# pattern, or a directory that stands for all its programs, is what it fits.
_SUDO = (
    "command -v sudo >/dev/null || { echo none; exit 0; }; rules=$(cvtsudoers -e -f json /etc/sudoers 2>&1) || "
    '{ echo "failed $rules"; exit 0; }; '
    'echo "$rules" | sed -n \'s/.*"command": "\\(\\/[^" ]*\\).*/\\1/p\' | sort -u | '
    'while read -r path; do case $path in */) path="$path*";; esac; for name in $path; do '
    'for at in "$name" "$(readlink -m "$name")"; do kind=program; while :; do '
    'if stat -Lc "$kind %a %U %G %n" "${at:-/}" 2>/dev/null; then kind=directory; elif [ $kind = program ]; then kind=place; fi; '
    '[ "$at" ] || break; at=${at%/*}; done; done; done; done | sort -u; echo == next ==; echo "$rules"'
)
# What tests a new password, whether it refuses a bad one, and what length it asks for: as the library itself has read its files, and
# as passwd's PAM lines change that (pam_pwquality(8), pam_passwdqc(8)). Of a hash only its method leaves the host (crypt(5)): the
# part up to the salt.
_TESTED = r"""python3 - <<'END'
import ctypes, re
LINE = re.compile(r"\s*-?password\s+(\w+|\[[^\]]*\])\s+\S*pam_(pwquality|passwdqc)\.so([^#]*)")
def lines(name, depth=0):
    for line in open("/etc/pam.d/" + name, errors="replace"):
        include = re.match(r"\s*(?:@include|-?password\s+(?:include|substack))\s+(\S+)", line)
        yield from lines(include.group(1), depth + 1) if include and depth < 5 else [line]
def refuses(control):
    # A bad password is PAM_AUTHTOK_ERR; other words than these go on in spite of it (pam.conf(5)).
    actions = dict(re.findall(r"(\w+)=(\w+)", control))
    return control in ("required", "requisite") or actions.get("authtok_err", actions.get("default")) in ("bad", "die")
def configured():
    found = {}
    try:
        library = ctypes.CDLL("libpwquality.so.1")
    except OSError:
        return found
    library.pwquality_default_settings.restype = ctypes.c_void_p
    settings, error = ctypes.c_void_p(library.pwquality_default_settings()), ctypes.c_void_p()
    if library.pwquality_read_config(settings, None, ctypes.byref(error)) == 0:
        # libpwquality: src/pwquality.h, PWQ_SETTING_MIN_LENGTH and PWQ_SETTING_ENFORCING
        for name, number in (("minlen", 3), ("enforcing", 17)):
            value = ctypes.c_int()
            if library.pwquality_get_int_value(settings, number, ctypes.byref(value)) == 0:
                found[name] = value.value
    return found
def state(control, module, options):
    if not refuses(control):
        return "untested", ""
    if module == "passwdqc":
        return ("warned" if re.search(r"(?<!\S)enforce=none(?!\S)", options) else "passwdqc"), ""
    values = {**configured(), **{name: int(value) for name, value in re.findall(r"(?<!\S)(minlen|enforcing)=(\d+)", options)}}
    known = "minlen" in values and "enforcing" in values
    return ("tested" if values.get("enforcing", 1) else "warned"), (values["minlen"] if known else "")
found = [state(*line.groups()) for line in map(LINE.match, lines("passwd")) if line]
order = ("tested", "passwdqc", "warned", "untested")
print(*min(found, key=lambda row: order.index(row[0]), default=("untested", "")))
END
awk -F: '$2 ~ /^[^!*]/ {
    split($2, part, "$"); print $1, $2 ~ /^\$/ ? part[2] : "des", part[3] ~ /^rounds=/ ? substr(part[3], 8) : ""
}' /etc/shadow"""
LENGTH = 12
# yescrypt and its kin, bcrypt, scrypt; SHA-2 is as quick to guess as its rounds are few (5000 where none are named).
_SLOW = ("y", "gy", "2a", "2b", "2y", "7")
ROUNDS = 5000
_SSHD = "mkdir -p /run/sshd; sshd -T"
# As a login has it, with what all its files say.
_IDLE = "env -i HOME=/root TERM=dumb bash -lc 'echo \"idle=${TMOUT:-0}\"' </dev/null 2>/dev/null | tail -n 1"


@pytest.mark.control("ACC-02")
def test_accounts(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Everybody is somebody else, only root is root, and services cannot log in."""
    (shown,) = ask(host, _ACCOUNTS)
    rows: dict[str, list[list[str]]] = {"passwd": [], "group": [], "shadow": []}
    for line in text(shown).splitlines():
        kind, *fields = line.split(":")
        rows[kind].append(fields)
    people, groups = rows["passwd"], rows["group"]
    for what, values in (
        ("user name", [row[0] for row in people]),
        ("user ID", [row[2] for row in people]),
        ("group name", [row[0] for row in groups]),
        ("group ID", [row[2] for row in groups]),
    ):
        twice = sorted(value for value, count in Counter(values).items() if count > 1)
        sheet.expect(not twice, f"{what} {', '.join(twice)} stands twice" if twice else f"every {what} once", "once")
    for row in people:
        if row[2].lstrip("0") == "" and row[0] != "root":
            sheet.expect(False, f"{row[0]} is root by its user ID 0", "root alone")
        if row[1] == "":
            sheet.expect(False, f"{row[0]} needs no password (/etc/passwd)", "x, and a hash in /etc/shadow")
        if row[3] not in {group[2] for group in groups}:
            sheet.expect(False, f"{row[0]} is in the group {row[3]}, which does not exist", "a group that exists")
    for name, password in rows["shadow"]:
        if password == "empty":
            sheet.expect(False, f"{name} needs no password (/etc/shadow)", "a hash, ! or *")
    services = [(name, shell) for name, shell in _services(people) if name != subject.user]
    for name, shell in services:
        if shell not in CLOSED_SHELLS:
            sheet.expect(False, f"the service account {name} logs in with {shell or '/bin/sh'}", "nologin")
    sheet.expect(True, f"{len(services)} accounts of services looked at", "")


def _services(people: list[list[str]]) -> Iterator[tuple[str, str]]:
    """Yield name and shell of each account of a service."""
    for name, _, number, *_, shell in people:
        if number.isdigit() and (0 < int(number) < FIRST_PERSON or int(number) == NOBODY):
            yield name, shell


@pytest.mark.control("ACC-04")
def test_sudo_rules(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Without a password only who is declared; no program that others could replace; logged."""
    (shown,) = ask(host, _SUDO)
    programs, _, rules = text(shown).partition("== next ==\n")
    if programs.startswith("none"):
        raise NotApplicable("sudo is not installed")
    if programs.startswith("failed"):
        sheet.expect(
            False, f"sudo does not accept its rules: {' '.join(programs.split()[1:])[:120]}", "visudo -c is content"
        )
        return
    said = json.loads(rules)
    declared = [name for name in (subject.user, *subject.settings.get("verification_sudo_users", ())) if name]
    for who, commands in _without_password(said):
        seen = f"sudo asks {who} for no password ({commands})"
        sheet.expect(who in declared, seen, f"only {', '.join(declared) or 'nobody'}, as declared")
    for line in programs.splitlines():
        _judge_place(*line.split(" ", 4), sheet=sheet)
    silent = [
        name for entry in said.get("Defaults", ()) for name in _options(entry) if name in ("!syslog", "!authenticate")
    ]
    sheet.expect(
        not silent, f"sudo's defaults say {', '.join(silent) or 'nothing that hides it'}", "logged, with a password"
    )


_PLACES = {
    "program": "which sudo runs",
    "directory": "above a program that sudo runs",
    "place": "where a program that sudo would run does not exist",
}


def _judge_place(kind: str, mode: str, owner: str, group: str, path: str, *, sheet: Sheet) -> None:
    """Judge a program that sudo runs, a directory above it, or the place where a missing one could be made."""
    bits = int(mode, 8)
    loose = bits & (0o002 if group == "root" else 0o022)
    # Where everybody may make files, but replace only one's own, what is root's stays; what is missing anybody makes.
    kept = kind == "directory" and bits & 0o1000
    fits = owner == "root" and (not loose or bool(kept))
    if kind == "program" or not fits:
        sheet.expect(fits, f"{path}, {_PLACES[kind]}, is {mode} {owner}:{group}", "changed by root only")


@pytest.mark.control("ACC-04")
def test_passwords(host: testinfra.host.Host, sheet: Sheet) -> None:
    """What sudo and the console ask for is not guessed: a new password is tested, and each is hashed so that guessing takes time."""
    (shown,) = ask(host, _TESTED)
    first, *hashes = text(shown).splitlines()
    tested, _, length = first.partition(" ")
    seen = f"a new password is {_TESTS.get(tested, 'not tested (pam_pwquality)')}"
    sheet.expect(tested in ("tested", "passwdqc"), seen, "tested by passwd, and refused where it is bad")
    if tested == "tested" and not length.strip():
        sheet.could_not_look(
            "how long a new password must be, and whether a bad one is refused: pwquality does not tell"
        )
    elif tested == "tested":
        sheet.expect(int(length) >= LENGTH, f"it needs {length} characters", f"at least {LENGTH}")
    for line in hashes:
        name, method, rounds = line.split(" ")
        slow = method in _SLOW or (method in ("5", "6") and int(rounds or ROUNDS) >= ROUNDS)
        told = f"{name}'s password is hashed by {_METHODS.get(method, f'the method {method}')}"
        sheet.expect(slow, f"{told}{f' in {rounds} rounds' if rounds else ''}", "yescrypt; passwd NAME hashes anew")


_TESTS = {
    "tested": "tested (pam_pwquality)",
    "passwdqc": "tested (pam_passwdqc)",
    "warned": "tested, but a bad one is not refused",
}
_METHODS = {"y": "yescrypt", "1": "MD5", "5": "SHA-256", "6": "SHA-512", "des": "DES"}


def _options(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is switched on, and with ! what is switched off."""
    for option in entry.get("Options", ()):
        for name, value in option.items():
            yield f"!{name}" if value is False else name


def _without_password(rules: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield who runs what without a password; root needs none to become root."""
    for spec in rules.get("User_Specs", ()):
        for part in spec.get("Cmnd_Specs", ()):
            if "!authenticate" not in _options(part):
                continue
            commands = ", ".join(row.get("command", "?") for row in part.get("Commands", ()))
            for user in spec.get("User_List", ()):
                ((kind, name),) = [(kind, name) for kind, name in user.items() if kind != "negated"][:1] or [("?", "?")]
                who = str(name) if kind == "username" else f"%{name}"
                if who != "root":
                    yield who, commands


@pytest.mark.control("ACC-08")
def test_idle_sessions(host: testinfra.host.Host, sheet: Sheet) -> None:
    """A connection whose other end is gone, and a shell at whose prompt nobody types, end by themselves."""
    effective, idle = ask(host, _SSHD, _IDLE)
    rows = dict(line.partition(" ")[::2] for line in text(effective).splitlines())
    interval, count = int(rows["clientaliveinterval"]), int(rows["clientalivecountmax"])
    seen = f"sshd asks {count} times, every {interval} s, whether somebody is there"
    sheet.expect(0 < interval * count <= IDLE_SECONDS, seen, f"a limit of at most {IDLE_SECONDS} s")
    limit = text(idle).strip().removeprefix("idle=")
    seconds = int(limit) if limit.isdigit() else 0
    shown = f"after {seconds} s" if seconds else "never"
    sheet.expect(0 < seconds <= IDLE_SECONDS, f"an idle shell ends {shown}", f"after at most {IDLE_SECONDS} s (TMOUT)")
