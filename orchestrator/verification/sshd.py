"""What sshd does that `sshd -T` does not tell: under a condition, by its arguments, and since when."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

# For whom sshd is asked: root, and a stranger, whom a condition hits only if it names nobody in particular. Without lport it cannot
# tell where there is any `Match LocalPort`.
EFFECTIVE_FOR = {
    who: f"mkdir -p /run/sshd; sshd -T -C user={who},host=any,addr=192.0.2.1,laddr=192.0.2.2,lport=22"
    for who in ("nobody", "root")
}
EFFECTIVE = EFFECTIVE_FOR["nobody"]
# Python for a host: the files as sshd reads them, each line that holds under a condition as [condition, option, value], and when
# each file last became another. A file that tar or `cp -p` puts back has its old mtime; its ctime is that of the change (inode(7)).
READ = r"""
rows, files = [], {}
def note(path):
    if os.path.exists(path):
        files[path] = max(os.stat(path).st_mtime, os.stat(path).st_ctime)
def read(path, scope):
    note(path)
    for line in open(path, errors="replace"):
        found = re.match(r"\s*\x22?([A-Za-z]\w*)\x22?(?:\s*=\s*|\s+)(.*)", line)
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
            rows.append([scope, word, value])
read("/etc/ssh/sshd_config", "")
"""
# With which arguments sshd runs and will run; whether it has read its files. A reload changes the unit's state for a moment
# (systemd: core/unit.c, unit_notify). What a condition gives in words of its own ("5m", "+ssh-rsa") sshd is asked for: it starts
# from its own lists there, not from those that hold for everybody (OpenSSH: servconf.c, copy_set_server_options).
FURTHER = (
    r"""python3 - <<'END'
import glob, json, os, re, subprocess
os.makedirs("/run/sshd", exist_ok=True)"""
    + READ
    + r"""
def plain(word, value):
    if not re.match(r"[-+^]|\d+[a-z]", value):
        return value
    try:
        said = subprocess.run(["sshd", "-T", "-f", "/dev/null", "-o", word + "=" + value], capture_output=True, text=True).stdout
    except OSError:
        return value
    # Their older names end otherwise.
    word = word.replace("keytypes", "algorithms")
    return dict(line.partition(" ")[::2] for line in said.splitlines()).get(word, value)
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
    "conditional": [[scope, word, plain(word, value.lower())] for scope, word, value in rows],
    "arguments": title.partition(" [listener]")[0], "later": "".join(later).strip("\"'"),
    "newest": newest, "changed": files[newest], "read": float(unit["StateChangeTimestamp"].lstrip("@") or 0), "runs": pid != "0",
}))
END"""
)

# Other names of the same options (sshd_config(5); OpenSSH: servconf.c, keywords).
_ALIASES = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "hostbasedacceptedkeytypes": "hostbasedacceptedalgorithms",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
}
# Options that take no argument may stand before one that does, in one word (sshd(8)): -Do PasswordAuthentication=yes.
_ARGUMENT = r"(?:^|\s)[\"']?-[46DGQRTVdeiqrt]*"


def own_name(option: str) -> str:
    """Return an option's name as `sshd -T` shows it."""
    return _ALIASES.get(option, option)


def effective(shown: str) -> dict[str, str]:
    """Return the options that `sshd -T` shows."""
    return dict(line.partition(" ")[::2] for line in shown.splitlines())


def _given(said: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return (said["arguments"], "sshd's arguments"), (said["later"], "SSHD_OPTS in /etc/default/ssh")


def arguments(said: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield where, option and value of each setting among sshd's arguments, from FURTHER's answer."""
    for words, where in _given(said):
        for option, value in re.findall(_ARGUMENT + r"o\s*[\"']?(\w+)[=\s]+([^\s\"']+)", words):
            yield where, option.lower(), value.lower()
        for value in re.findall(_ARGUMENT + r"g\s*(\w+)", words):
            yield where, "logingracetime", value


def settings(said: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield where, option and value of each setting that `sshd -T` does not tell: conditions and arguments."""
    yield from said["conditional"]
    yield from arguments(said)


def other_files(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where, and which file sshd is told to read."""
    for words, where in _given(said):
        for path in re.findall(_ARGUMENT + r"f\s*(\S+)", words):
            yield where, path


def variants(
    rows: Mapping[str, str], said: Mapping[str, Any], options: Collection[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield "" and what holds for everybody; then what holds under each condition or argument that sets one of these options."""
    yield "", dict(rows)
    found: dict[str, dict[str, str]] = {}
    for where, option, value in settings(said):
        if own_name(option) in options:
            found.setdefault(where, {}).setdefault(own_name(option), value)
    for where, own in found.items():
        yield where, {**rows, **own}
