"""Who gets in, and who can read the secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.sheet import Sheet

WANTED = {
    "passwordauthentication": ("no",),
    "kbdinteractiveauthentication": ("no",),
    "permitemptypasswords": ("no",),
    "pubkeyauthentication": ("yes",),
    "permitrootlogin": ("no", "without-password", "prohibit-password"),
    "allowagentforwarding": ("no",),
    "x11forwarding": ("no",),
    "permituserenvironment": ("no",),
}
MINIMUM_TRIES = 3
# A random text of 22 characters of base64 carries 128 bits.
MINIMUM_LENGTH = 22

# Another name of the same option (sshd_config(5)).
_ALIASES = {"challengeresponseauthentication": "kbdinteractiveauthentication"}
# What `sshd -T` does not tell: what holds under a condition only, by whatever file; with which arguments sshd runs and will run;
# whether it has read its files. A reload changes the unit's state for a moment (systemd: core/unit.c, unit_notify).
_FURTHER = r"""python3 - <<'END'
import glob, json, os, re, subprocess
rows, files = [], {}
def note(path):
    if os.path.exists(path):
        files[path] = os.stat(path).st_mtime
def read(path, scope):
    note(path)
    for line in open(path, errors="replace"):
        found = re.match(r"\s*([A-Za-z]\w*)(?:\s*=\s*|\s+)(.*)", line)
        if not found:
            continue
        word, value = found[1].lower(), re.sub(r"\s+#.*", "", found[2]).strip().strip('"')
        if word == "match":
            scope = "Match " + value + " in " + path
        elif word == "include":
            for each in value.split():
                pattern = os.path.join("/etc/ssh", each.strip('"'))
                note(os.path.dirname(pattern))
                for inner in sorted(glob.glob(pattern)):
                    read(inner, scope)
        elif scope:
            rows.append([scope, word, value.lower()])
read("/etc/ssh/sshd_config", "")
later = []
if os.path.exists("/etc/default/ssh"):
    later = re.findall(r"^\s*SSHD_OPTS=(.*)", open("/etc/default/ssh").read(), re.M)[-1:]
shown = subprocess.run(
    ["systemctl", "show", "--timestamp=unix", "-p", "MainPID", "-p", "StateChangeTimestamp", "ssh.service"],
    capture_output=True, text=True, check=True,
).stdout
unit = dict(line.partition("=")[::2] for line in shown.splitlines())
pid = unit["MainPID"]
# sshd shows its arguments in its title.
title = open("/proc/" + pid + "/cmdline", errors="replace").read().replace("\0", " ") if pid != "0" else ""
newest = max(files, key=files.get)
print(json.dumps({
    "conditional": rows, "arguments": title.partition(" [listener]")[0], "later": "".join(later).strip("\"'"),
    "newest": newest, "changed": files[newest], "read": float(unit["StateChangeTimestamp"].lstrip("@") or 0), "runs": pid != "0",
}))
END"""

# Runs on the host, so that no secret ever leaves it: only names, lengths and modes are printed.
_SECRETS = r"""python3 - <<'END'
import glob, json, os, pwd, grp, re, stat
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
for path in glob.glob("/etc/prosody/*.cfg.lua") + glob.glob("/etc/prosody/conf.avail/*.cfg.lua"):
    maybe[path] = r"^(?![ \t]*--).*?(?:external_service_secret|app_secret|component_secret)\s*=\s*[\x22\x27]([^\x22\x27]+)"
named = re.compile(
    r"^(?!\s*(?:#|--|//)).*?(?:secret|passw|credential)\w*[\x22\x27\]]*\s*[=:]\s*[\x22\x27]?[^\s\x22\x27{]{4}", re.I | re.M
)
places.update(maybe)
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
people = {person.pw_name for person in pwd.getpwall() if 1000 <= person.pw_uid != 65534}
rows, known = [], set()
for path, pattern in sorted(places.items()):
    if not os.path.exists(path):
        continue
    info = os.stat(path)
    content = open(path, errors="replace").read() if pattern else ""
    found = re.findall(pattern, content, re.M) if pattern else []
    known.update(secret.encode() for secret in found if len(secret) >= 8)
    if path in maybe and not found and not named.search(content):
        continue
    group, mode = grp.getgrgid(info.st_gid), stat.S_IMODE(info.st_mode)
    # Prosody 13 writes accounts as 0644, into a directory that nobody else can enter.
    if path.startswith("/var/lib/prosody/") and not os.stat("/var/lib/prosody").st_mode & 0o001:
        mode &= 0o770
    rows.append({
        "path": path, "mode": mode, "owner": pwd.getpwuid(info.st_uid).pw_name, "group": group.gr_name,
        "people": [name for name in group.gr_mem if name in people], "anybody": path in readable, "sought": bool(pattern),
        "lengths": [len(secret) for secret in found], "distinct": [len(set(secret)) for secret in found],
        "in_arguments": sum(secret.encode() in command for secret in found for command in commands),
    })
for path in sorted(answers):
    content = open(path, "rb").read()
    if any(secret in content for secret in known):
        rows.append({"path": path, "mode": os.stat(path).st_mode & 0o7777, "copied": True, "anybody": path in readable})
print(json.dumps(rows))
END"""
# Who may own such files and which groups may read them, besides root.
_SERVICES = {
    "/etc/turnserver.conf": {"turnserver"},
    "/etc/jitsi/": {"jvb", "jicofo", "jitsi"},
    "/etc/prosody/": {"prosody"},
    "/var/lib/prosody/": {"prosody"},
    "/etc/ratssaal/": {"ssl-cert"},
    "/etc/ssl/private/": {"ssl-cert"},
}


@pytest.mark.control("ACC-01")
def test_sshd(host: testinfra.host.Host, sheet: Sheet) -> None:
    """What is in effect for root, for an ordinary user, for everybody, and for whoever meets a condition."""
    *shown, further = ask(
        host,
        "mkdir -p /run/sshd; sshd -T",
        "mkdir -p /run/sshd; sshd -T -C user=root,host=any,addr=192.0.2.1",
        "mkdir -p /run/sshd; sshd -T -C user=nobody,host=any,addr=192.0.2.1",
        _FURTHER,
    )
    for who, result in zip(("everybody", "root", "nobody"), shown, strict=True):
        rows = dict(line.partition(" ")[::2] for line in text(result).splitlines())
        for option in (*WANTED, "maxauthtries"):
            _judge_option(option, rows.get(option, "not there"), f"for {who}", sheet)
    groups = [line for line in text(shown[0]).splitlines() if line.startswith("allowgroups")]
    sheet.expect(bool(groups), groups[0] if groups else "everybody may try to log in", "allowgroups is set")
    _judge_further(json_of(further), sheet)


def _judge_option(option: str, value: str, where: str, sheet: Sheet) -> None:
    name = _ALIASES.get(option, option)
    if name == "maxauthtries":
        fits = value.isdigit() and int(value) >= MINIMUM_TRIES
        sheet.expect(fits, f"{option} {value} ({where})", f"at least {MINIMUM_TRIES}")
    elif name in WANTED:
        sheet.expect(value in WANTED[name], f"{option} {value} ({where})", f"{option} {' or '.join(WANTED[name])}")


def _judge_further(said: Mapping[str, Any], sheet: Sheet) -> None:
    """Judge conditions, arguments and the time of the last reload."""
    for scope, option, value in said["conditional"]:
        _judge_option(option, value, scope, sheet)
    for arguments, where in ((said["arguments"], "sshd's arguments"), (said["later"], "SSHD_OPTS in /etc/default/ssh")):
        for option, value in re.findall(r"(?:^|\s)-o\s*[\"']?(\w+)[=\s]+([^\s\"']+)", arguments):
            _judge_option(option.lower(), value.lower(), where, sheet)
        for path in re.findall(r"(?:^|\s)-f\s*(\S+)", arguments):
            sheet.expect(path == "/etc/ssh/sshd_config", f"{where} name {path}", "/etc/ssh/sshd_config")
    # Where a socket starts sshd for each connection, nothing that runs is older than its files.
    late = said["runs"] and int(said["changed"]) > said["read"]
    seen = f"sshd was {'not ' if late else ''}reloaded since {said['newest']} changed"
    sheet.expect(not late, seen, "systemctl reload ssh")


@pytest.mark.control("ACC-05")
def test_secrets(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Nobody else can read or change them, they are long, and no process list shows them."""
    (result,) = ask(host, _SECRETS)
    for row in json_of(result):
        path, mode = row["path"], row["mode"]
        if row.get("copied"):
            seen = f"{path} {mode:04o} holds a copy of a secret{' and can be read by anybody' * row['anybody']}"
            sheet.expect(not row["anybody"], seen, "no copy that others can read")
            continue
        place = f"{path} {mode:04o} {row['owner']}:{row['group']}"
        sheet.expect(
            not row["anybody"], f"{place}{' can be read by anybody' * row['anybody']}", "readable by its service only"
        )
        if mode & 0o037:
            sheet.expect(False, place, "0640 or stricter")
        services = {"root"}.union(*(names for folder, names in _SERVICES.items() if path.startswith(folder)))
        shared = mode & 0o070
        if row["owner"] not in services or (shared and row["group"] not in services):
            sheet.expect(False, place, f"owner and group among {', '.join(sorted(services))}")
        if shared and row["people"]:
            sheet.expect(False, f"{place}, to which {', '.join(row['people'])} belongs", "a group of services only")
        if row["sought"] and not row["lengths"]:
            sheet.could_not_look(f"how long the secret of {path} is: none was found in it")
        for length, distinct in zip(row["lengths"], row["distinct"], strict=True):
            strong = length >= MINIMUM_LENGTH and distinct >= MINIMUM_LENGTH // 3
            if not strong:
                sheet.expect(
                    False, f"{path} holds a secret of {length} characters", f"random, at least {MINIMUM_LENGTH}"
                )
        if row["in_arguments"]:
            sheet.expect(False, f"a secret of {path} stands in a process's arguments", "in files only")
