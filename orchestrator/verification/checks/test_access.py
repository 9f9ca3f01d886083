"""Who gets in, and who can read the secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification import acl, sshd
from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.crypto import SshPart, chosen, signs_by
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

WANTED = {
    "passwordauthentication": ("no",),
    "kbdinteractiveauthentication": ("no",),
    "permitemptypasswords": ("no",),
    "pubkeyauthentication": ("yes",),
    # By the name of the host that somebody comes from, or by a ticket of a domain's: with no key of theirs here.
    "hostbasedauthentication": ("no",),
    "gssapiauthentication": ("no",),
    "gssapikeyexchange": ("no",),
    "permitrootlogin": ("no", "without-password", "prohibit-password"),
    "allowagentforwarding": ("no",),
    "x11forwarding": ("no",),
    "permituserenvironment": ("no",),
}
# An sshd that is built without these knows no such option.
_BUILT_IN = ("gssapiauthentication", "gssapikeyexchange")
MINIMUM_TRIES = 3
# A random text of 22 characters of base64 carries 128 bits.
MINIMUM_LENGTH = 22

# Runs on the host, so that no secret ever leaves it: only names, lengths and modes are printed.
_SECRETS = (
    r"""python3 - <<'END'
import glob, json, os, pwd, grp, re, stat, subprocess"""
    + acl.READ
    + r"""
places = {
    "/etc/turnserver.conf": r"^\s*static-auth-secret\s*=\s*\x22?([^\x22\s]+)",
    "/etc/jitsi/videobridge/jvb.conf": r"PASSWORD\s*[=:]\s*\x22?([^\x22\s]+)",
    "/etc/jitsi/jicofo/jicofo.conf": r"password\s*[=:]\s*\x22?([^\x22\s]+)",
    "/etc/ratssaal/tls/key.pem": None,
    "/etc/ratssaal/tls-internal/key.pem": None,
}
for pattern in ("/var/lib/prosody/*/accounts/*.dat", "/var/lib/prosody/*.key", "/etc/prosody/certs/*.key"):
    places.update(dict.fromkeys(map(os.path.realpath, glob.glob(pattern))))
# These count where they hold one, as the pattern finds it or by any name.
maybe = {
    "/etc/jitsi/jicofo/config": r"^\s*JICOFO_AUTH_PASSWORD=(\S+)",
    "/etc/jitsi/videobridge/config": r"^\s*JVB_SECRET=(\S+)",
    "/etc/jitsi/videobridge/sip-communicator.properties": r"PASSWORD\s*=\s*(\S+)",
}
# What Prosody reads, and what it would where somebody links it; each under its own name, where that lies there, too.
includes = ["/etc/prosody/*.cfg.lua", "/etc/prosody/conf.avail/*.cfg.lua", "/etc/prosody/conf.d/*.cfg.lua"]
if os.path.exists("/etc/prosody/prosody.cfg.lua"):
    main = open("/etc/prosody/prosody.cfg.lua", errors="replace").read()
    named_there = re.findall(r"^\s*Include\s*\(?\s*[\x22\x27]([^\x22\x27]+)", main, re.M)
    includes += [os.path.join("/etc/prosody", pattern) for pattern in named_there]
for path in sum(map(glob.glob, includes), []):
    real = os.path.realpath(path)
    path = real if real.startswith("/etc/prosody/") else path
    maybe[path] = r"^(?![ \t]*--).*?(?:external_service_secret|app_secret|component_secret)\s*=\s*[\x22\x27]([^\x22\x27]+)"
named = re.compile(
    r"^(?!\s*(?:#|--|//)).*?(?:secret|passw|credential)\w*[\x22\x27\]]*\s*[=:]\s*[\x22\x27]?[^\s\x22\x27{]{4}", re.I | re.M
)
places.update(maybe)
# The keys that nginx reads, wherever they lie.
rows, of_nginx = [], set()
try:
    shown = subprocess.run(["nginx", "-T"], capture_output=True, text=True, errors="replace")
except OSError:
    shown = None
if shown and shown.returncode:
    rows.append({"unread": "which keys nginx reads: nginx -T ends with " + str(shown.returncode)})
lines = re.sub(r"(?m)^\s*#.*", "", shown.stdout) if shown else ""
for path in re.findall(r"(?:\w+_)?ssl_(?:certificate_key|password_file|session_ticket_key)\s+[\x22\x27]?([^;\x22\x27]+)", lines):
    path = path.strip()
    if re.match("data:|engine:|store:", path) or "$" in path:
        rows.append({"unread": "a key that nginx takes from " + path.partition(":")[0]})
    else:
        of_nginx.add(os.path.join("/etc/nginx", path))
of_nginx = {path for path in of_nginx if os.path.realpath(path) not in set(map(os.path.realpath, places))}
places.update(dict.fromkeys(of_nginx))
commands = []
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        commands.append(open(path, "rb").read())
    except OSError:
        pass
def anybody(paths):
    # What a process without any rights of its own can really open, directories included.
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.write(writer, json.dumps([path for path in paths if os.access(path, os.R_OK)]).encode())
        os._exit(0)
    os.close(writer)
    os.wait()
    return json.loads(os.fdopen(reader).read())
# Where package scripts had their answers from; debconf guards only what a template calls a password (debconf.conf(5)).
answers = glob.glob("/var/cache/debconf/*.dat*")
readable = anybody(sorted([*places, *answers]))
people = {person.pw_name: person.pw_gid for person in pwd.getpwall() if 1000 <= person.pw_uid != 65534}
def named_by(look, number):
    try:
        return look(number)
    except KeyError:
        return [str(number)]
def members(number):
    listed = getattr(named_by(grp.getgrgid, number), "gr_mem", [])
    return {name for name, own in people.items() if name in listed or own == number}
known = set()
for path, pattern in sorted(places.items()):
    if not os.path.exists(path):
        continue
    info = os.stat(path)
    content = open(path, errors="replace").read() if pattern else ""
    found = re.findall(pattern, content, re.M) if pattern else []
    known.update(secret.encode() for secret in found if len(secret) >= 8)
    if path in maybe and not found and not named.search(content):
        continue
    mode = stat.S_IMODE(info.st_mode)
    # Prosody 13 writes accounts as 0644, into a directory that nobody else can enter.
    if path.startswith("/var/lib/prosody/") and not os.stat("/var/lib/prosody").st_mode & 0o001:
        mode &= 0o770
    access, look = named_in_list(path, 6), {"user": pwd.getpwuid, "group": grp.getgrgid}
    groups = [info.st_gid, *(number for kind, number in access if kind == "group")]
    rows.append({
        "path": path, "mode": mode, "owner": named_by(pwd.getpwuid, info.st_uid)[0], "group": named_by(grp.getgrgid, info.st_gid)[0],
        "people": sorted(set().union(*map(members, groups))), "anybody": path in readable, "sought": bool(pattern),
        "granted": [(kind, named_by(look[kind], number)[0]) for kind, number in access], "of_nginx": path in of_nginx,
        "lengths": [len(secret) for secret in found], "distinct": [len(set(secret)) for secret in found],
        "in_arguments": sum(secret.encode() in command for secret in found for command in commands),
    })
for path in sorted(answers):
    content = open(path, "rb").read()
    if any(secret in content for secret in known):
        rows.append({"path": path, "mode": os.stat(path).st_mode & 0o7777, "copied": True, "anybody": path in readable})
print(json.dumps(rows))
END"""
)
# Who may own such files and which groups may read them, besides root.
_SERVICES = {
    "/etc/turnserver.conf": {"turnserver"},
    "/etc/jitsi/": {"jvb", "jicofo", "jitsi"},
    "/etc/prosody/": {"prosody"},
    "/var/lib/prosody/": {"prosody"},
    "/etc/ratssaal/": {"ssl-cert"},
    "/etc/ssl/private/": {"ssl-cert"},
}
# And where nginx reads a key from elsewhere.
_NGINX = {"ssl-cert", "www-data"}


@pytest.mark.control("ACC-01")
def test_sshd(host: testinfra.host.Host, sheet: Sheet) -> None:
    """What is in effect for an ordinary user, for root, and for whoever meets a condition."""
    *shown, further = ask(host, *sshd.EFFECTIVE_FOR.values(), sshd.FURTHER)
    for who, result in zip(sshd.EFFECTIVE_FOR, shown, strict=True):
        rows = sshd.effective(text(result))
        for option in (*WANTED, "maxauthtries"):
            if option in rows or option not in _BUILT_IN:
                _judge_option(option, rows.get(option, "not there"), f"for {who}", sheet)
    groups = [line for line in text(shown[0]).splitlines() if line.startswith("allowgroups")]
    sheet.expect(bool(groups), groups[0] if groups else "everybody may try to log in", "allowgroups is set")
    _judge_further(json_of(further), sheet)


def _judge_option(option: str, value: str, where: str, sheet: Sheet) -> None:
    name = sshd.own_name(option)
    if name == "maxauthtries":
        fits = value.isdigit() and int(value) >= MINIMUM_TRIES
        sheet.expect(fits, f"{option} {value} ({where})", f"at least {MINIMUM_TRIES}")
    elif name in WANTED:
        sheet.expect(value in WANTED[name], f"{option} {value} ({where})", f"{option} {' or '.join(WANTED[name])}")


def _judge_further(said: Mapping[str, Any], sheet: Sheet) -> None:
    """Judge conditions, arguments and the time of the last reload."""
    for where, option, value in sshd.settings(said):
        _judge_option(option, value, where, sheet)
    for where, path in sshd.other_files(said):
        sheet.expect(path == "/etc/ssh/sshd_config", f"{where} name {path}", "/etc/ssh/sshd_config")
    seen = f"sshd was {'not ' if _is_late(said) else ''}reloaded since {said['newest']} changed"
    sheet.expect(not _is_late(said), seen, "systemctl reload ssh")


def _is_late(said: Mapping[str, Any]) -> bool:
    """Say whether files became others since sshd read them; one that a socket starts for each connection is never late."""
    return bool(said["runs"] and int(said["changed"]) > said["read"])


@pytest.mark.control("CRY-10")
def test_ssh_algorithms_beyond_the_ordinary(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """What sshd would take under a condition, by its arguments, or in an exchange of keys by GSSAPI."""
    shown, further = ask(host, sshd.EFFECTIVE, sshd.FURTHER)
    rows, said, profile = sshd.effective(text(shown)), json_of(further), chosen(subject.settings).ssh
    if _is_late(said):
        sheet.could_not_look(
            f"what sshd takes now: it was not reloaded since {said['newest']} changed (systemctl reload ssh)"
        )
    allowed = {
        "kexalgorithms": profile.kex,
        "ciphers": profile.ciphers,
        "macs": profile.macs,
        "hostkeyalgorithms": profile.host_keys,
        "pubkeyacceptedalgorithms": profile.public_keys,
    }
    exchanged = rows.get("gssapikexalgorithms", "") if rows.get("gssapikeyexchange") == "yes" else ""
    _judge_algorithms("gssapikexalgorithms", exchanged, "for everybody", profile.kex, profile, sheet)
    for where, option, value in sshd.settings(said):
        name = sshd.own_name(option)
        if value.startswith(("+", "-", "^")) and name in allowed:
            sheet.could_not_look(f"{option} {value} ({where}): sshd does not say which algorithms that are")
        elif name in allowed:
            _judge_algorithms(option, value, where, allowed[name], profile, sheet)
    sheet.expect(True, f"{len(said['conditional'])} lines under a condition looked at", "")


def _judge_algorithms(
    option: str, value: str, where: str, listed: Iterable[str], profile: SshPart, sheet: Sheet
) -> None:
    weak = [name for name in value.split(",") if name and not profile.allows(signs_by(name), listed)]
    if value:
        wanted = f"only {', '.join(listed)}{profile.why_not(weak)}"
        sheet.expect(not weak, f"{option}: {profile.shown(weak or value.split(','))} ({where})", wanted)


@pytest.mark.control("ACC-05")
def test_secrets(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Nobody else can read or change them, they are long, and no process list shows them."""
    (result,) = ask(host, _SECRETS)
    for row in json_of(result):
        _judge_secret(row, sheet)


def _judge_secret(row: Mapping[str, Any], sheet: Sheet) -> None:
    if "unread" in row:
        sheet.could_not_look(row["unread"])
    elif row.get("copied"):
        seen = (
            f"{row['path']} {row['mode']:04o} holds a copy of a secret{' and can be read by anybody' * row['anybody']}"
        )
        sheet.expect(not row["anybody"], seen, "no copy that others can read")
    else:
        _judge_readers(row, sheet)
        _judge_strength(row, sheet)


def _services(row: Mapping[str, Any]) -> set[str]:
    """Return who may own a file with a secret and read it."""
    found = {"root"}.union(*(names for folder, names in _SERVICES.items() if row["path"].startswith(folder)))
    return found | _NGINX if row["of_nginx"] and found == {"root"} else found


def _judge_readers(row: Mapping[str, Any], sheet: Sheet) -> None:
    path, mode, services = row["path"], row["mode"], _services(row)
    place = f"{path} {mode:04o} {row['owner']}:{row['group']}"
    sheet.expect(
        not row["anybody"], f"{place}{' can be read by anybody' * row['anybody']}", "readable by its service only"
    )
    if mode & 0o037:
        sheet.expect(False, place, "0640 or stricter")
    shared = mode & 0o070
    if row["owner"] not in services or (shared and row["group"] not in services):
        sheet.expect(False, place, f"owner and group among {', '.join(sorted(services))}")
    if shared and row["people"]:
        sheet.expect(False, f"{place}, to which {', '.join(row['people'])} belongs", "a group of services only")
    strangers = [f"{kind} {name}" for kind, name in row["granted"] if name not in services]
    if strangers:
        sheet.expect(False, f"{place}, and its ACL lets the {', the '.join(strangers)} in", f"setfacl -b {path}")


def _judge_strength(row: Mapping[str, Any], sheet: Sheet) -> None:
    path = row["path"]
    if row["sought"] and not row["lengths"]:
        sheet.could_not_look(f"how long the secret of {path} is: none was found in it")
    for length, distinct in zip(row["lengths"], row["distinct"], strict=True):
        strong = length >= MINIMUM_LENGTH and distinct >= MINIMUM_LENGTH // 3
        if not strong:
            sheet.expect(False, f"{path} holds a secret of {length} characters", f"random, at least {MINIMUM_LENGTH}")
    if row["in_arguments"]:
        sheet.expect(False, f"a secret of {path} stands in a process's arguments", "in files only")
