"""Accounts, what they may do as root, and how long a forgotten session stays open."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification import acl, pam, sshd
from orchestrator.verification.asking import ask, json_of, text
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
# The rules as sudo itself reads them, and doas's; who may change the programs that they name: each by its name and by what that
# stands for, with every directory above it. Of a program that does not exist comes the nearest directory in which it could be made.
# A pattern, or a directory that stands for all its programs, is what it fits. What doas sets in the environment stays on the host.
_SUDO = (
    r"""python3 - <<'END'
import errno, glob, grp, json, os, pwd, re, shutil, stat, subprocess"""
    + acl.READ
    + pam.READ
    + r"""
said = {"installed": [name for name in ("sudo", "doas", "sudo-rs") if shutil.which(name)], "failed": "", "rules": {}, "doas": ""}
services = {"doas"} if "doas" in said["installed"] else set()
named = set()
def commands(node):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node if isinstance(node, list) else []):
        if key == "command" and isinstance(value, str) and value.startswith("/"):
            named.add(re.match(r"[^\" ]*", value)[0])
        if key in ("pam_service", "pam_login_service") and isinstance(value, str):
            services.add(value)
        commands(value)
if "sudo" in said["installed"]:
    services |= {"sudo", "sudo-i"}
    try:
        shown = subprocess.run(["cvtsudoers", "-e", "-f", "json", "/etc/sudoers"], capture_output=True, text=True, errors="replace")
        said["failed"] = (shown.stderr + shown.stdout or "?") if shown.returncode else ""
    except OSError as error:
        said["failed"] = str(error)
    said["rules"] = {} if said["failed"] else json.loads(shown.stdout)
    commands(said["rules"])
if "doas" in said["installed"] and os.path.exists("/etc/doas.conf"):
    said["doas"] = re.sub(r"\{[^}]*\}", "{}", open("/etc/doas.conf", errors="replace").read().replace("\\\n", " "))
    named |= set(re.findall(r"\bcmd\s+\x22?(/[^\x22\s]+)", said["doas"]))
def named_by(look, number):
    try:
        return look(number)[0]
    except KeyError:
        return str(number)
def writers(path):
    looks = {"user": pwd.getpwuid, "group": grp.getgrgid}
    return [kind + " " + named_by(looks[kind], number) for kind, number in named_in_list(path, 2) if number]
places = {}
def look(at, kind="program"):
    while True:
        try:
            info = os.stat(at or "/")
            places[kind, at or "/"] = {
                "mode": stat.S_IMODE(info.st_mode), "owner": named_by(pwd.getpwuid, info.st_uid),
                "group": named_by(grp.getgrgid, info.st_gid), "writers": writers(at or "/"),
            }
            kind = "directory"
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            kind = "place" if kind == "program" else kind
        if not at:
            return
        at = at.rpartition("/")[0]
for path in sorted(named):
    path += "*" if path.endswith("/") else ""
    for name in glob.glob(path) or [path]:
        look(name)
        look(os.path.realpath(name))
said["places"] = [{"kind": kind, "path": path, **row} for (kind, path), row in sorted(places.items())]
said["pam"] = {name: stack(name) for name in sorted(services)}
print(json.dumps(said))
END"""
)
# A password that was given once is asked for again after so many minutes at most.
MAXIMUM_MINUTES = 24 * 60
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
_ALIVE = ("clientaliveinterval", "clientalivecountmax")
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
    said = json_of(shown)
    if not said["installed"]:
        raise NotApplicable("neither sudo nor doas is installed")
    declared = [name for name in (subject.user, *subject.settings.get("verification_sudo_users", ())) if name]
    if "sudo-rs" in said["installed"]:
        sheet.could_not_look("what sudo-rs allows: only the rules of sudo and doas are read")
    if said["failed"]:
        seen = f"sudo does not accept its rules: {' '.join(said['failed'].split())[:120]}"
        sheet.expect(False, seen, "visudo -c is content")
    for program, who, commands in (*_without_password(said["rules"]), *_doas_without_password(said["doas"])):
        seen = f"{program} asks {who} for no password ({commands})"
        sheet.expect(who in declared, seen, f"only {', '.join(declared) or 'nobody'}, as declared")
    for row in said["places"]:
        _judge_place(row, sheet)
    _judge_defaults(said["rules"], declared, sheet)
    for rule in _doas_rules(said["doas"]):
        if "nolog" in rule["options"]:
            sheet.expect(False, f"doas does not log what {rule['who']} does", "without nolog")
    for service, stack in said["pam"].items():
        _judge_stack(service, stack, sheet)


def _judge_defaults(rules: Mapping[str, Any], declared: Collection[str], sheet: Sheet) -> None:
    """Judge what holds for every rule: what hides a command, and who is asked for no password, or once and never again."""
    defaults = [pair for entry in rules.get("Defaults", ()) for pair in _options(entry)]
    silent = [f"!{name}" for name, value in defaults if value is False and name in ("syslog", "authenticate")]
    sheet.expect(
        not silent, f"sudo's defaults say {', '.join(silent) or 'nothing that hides it'}", "logged, with a password"
    )
    for name, value in defaults:
        if name == "exempt_group" and value:
            sheet.expect(f"%{value}" in declared, f"sudo asks %{value} for no password (exempt_group)", "without it")
        # false is 0: sudo asks each time (sudoers(5)).
        elif name == "timestamp_timeout" and value and not 0 <= _minutes(value) <= MAXIMUM_MINUTES:
            seen = f"sudo asks once, and then for {value} minutes no more (timestamp_timeout)"
            sheet.expect(False, seen, f"0 to {MAXIMUM_MINUTES} minutes")


def _minutes(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return -1


def _judge_stack(service: str, stack: Sequence[pam.Line], sheet: Sheet) -> None:
    """Judge whether what sudo or doas asks for a password may be content without one."""
    module = pam.open_by(stack)
    if module:
        sheet.expect(False, f"/etc/pam.d/{service} is content without a password ({module})", "pam_unix, or as strict")
        return
    doubtful = pam.open_by(stack, trusting=False)
    if doubtful:
        names = ", ".join(sorted(pam.unknown(stack)))
        sheet.could_not_look(f"whether /etc/pam.d/{service} is content without a password: it asks {names}")
    else:
        sheet.expect(True, f"/etc/pam.d/{service} wants a password", "")


_PLACES = {
    "program": "which sudo runs",
    "directory": "above a program that sudo runs",
    "place": "where a program that sudo would run does not exist",
}


def _judge_place(row: Mapping[str, Any], sheet: Sheet) -> None:
    """Judge a program that sudo runs, a directory above it, or the place where a missing one could be made."""
    kind, mode, owner, group = row["kind"], row["mode"], row["owner"], row["group"]
    # With an ACL, the group's bits are what it grants at most (acl(5)); whom it really lets write stands beside them.
    loose = mode & (0o002 if group == "root" else 0o022) or row["writers"]
    # Where everybody may make files, but replace only one's own, what is root's stays; what is missing anybody makes.
    kept = kind == "directory" and mode & 0o1000
    fits = owner == "root" and (not loose or bool(kept))
    if kind == "program" or not fits:
        listed = f", and its ACL lets the {', the '.join(row['writers'])} write" if row["writers"] else ""
        seen = f"{row['path']}, {_PLACES[kind]}, is {mode:o} {owner}:{group}{listed}"
        sheet.expect(fits, seen, "changed by root only")


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


def _options(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the options of a rule or of a default; what is switched off is False."""
    for option in entry.get("Options", ()):
        yield from option.items()


def _without_password(rules: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield by what program who runs what without a password; root needs none to become root."""
    for spec in rules.get("User_Specs", ()):
        for part in spec.get("Cmnd_Specs", ()):
            if ("authenticate", False) not in _options(part):
                continue
            commands = ", ".join(row.get("command", "?") for row in part.get("Commands", ()))
            for user in spec.get("User_List", ()):
                ((kind, name),) = [(kind, name) for kind, name in user.items() if kind != "negated"][:1] or [("?", "?")]
                who = str(name) if kind == "username" else f"%{name}"
                if who != "root":
                    yield "sudo", who, commands


_DOAS_OPTIONS = ("nopass", "nolog", "persist", "keepenv", "setenv", "{}")


def _doas_rules(written: str) -> Iterator[dict[str, Any]]:
    """Yield the options of each rule that permits something, who may, and what (doas.conf(5))."""
    for line in written.splitlines():
        action, *words = shlex.split(line, comments=True) or [""]
        if action != "permit":
            continue
        options = list(takewhile(lambda word: word in _DOAS_OPTIONS, words))
        who, *further = words[len(options) :] or ["?"]
        commands = " ".join(further[further.index("cmd") + 1 :]) if "cmd" in further else "ALL"
        yield {"options": options, "who": f"%{who[1:]}" if who.startswith(":") else who, "commands": commands}


def _doas_without_password(written: str) -> Iterator[tuple[str, str, str]]:
    for rule in _doas_rules(written):
        if "nopass" in rule["options"] and rule["who"] != "root":
            yield "doas", rule["who"], rule["commands"]


@pytest.mark.control("ACC-08")
def test_idle_sessions(host: testinfra.host.Host, sheet: Sheet) -> None:
    """A connection whose other end is gone, and a shell at whose prompt nobody types, end by themselves."""
    effective, further, idle = ask(host, sshd.EFFECTIVE, sshd.FURTHER, _IDLE)
    said = json_of(further)
    for where, rows in sshd.variants(sshd.effective(text(effective)), said, _ALIVE):
        values = [rows[option] for option in _ALIVE]
        under = f" ({where})" if where else ""
        if not all(value.isdigit() for value in values):
            sheet.could_not_look(f"when sshd gives a dead connection up: {' '.join(values)}{under}")
            continue
        interval, count = map(int, values)
        seen = f"sshd asks {count} times, every {interval} s, whether somebody is there{under}"
        sheet.expect(0 < interval * count <= IDLE_SECONDS, seen, f"a limit of at most {IDLE_SECONDS} s")
    limit = text(idle).strip().removeprefix("idle=")
    seconds = int(limit) if limit.isdigit() else 0
    shown = f"after {seconds} s" if seconds else "never"
    sheet.expect(0 < seconds <= IDLE_SECONDS, f"an idle shell ends {shown}", f"after at most {IDLE_SECONDS} s (TMOUT)")
