"""Judges whether sshd would do what the role hardening sets, and whom that shuts out; nothing of it stops a plain provision."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from orchestrator import content
from orchestrator.errors import Problem
from orchestrator.operations.preflight_checks import Facts, Remark

DROP_IN = "/etc/ssh/sshd_config.d/00-ratssaal.conf"
_INCLUDE = '"Include /etc/ssh/sshd_config.d/*.conf"'


@dataclass(frozen=True, slots=True)
class Hardening:
    """What will be hardened: `settings` of sshd's, keyword to value; what a host decides is not among them.

    `user` is who Ansible logs in as, `groups` whose members may log in afterwards (() where log-ins are left alone); `now`
    says whether this run does it, and so must not begin where it cannot succeed.
    """

    settings: Mapping[str, str]
    groups: Sequence[str]
    user: str
    now: bool = False


def sshd_settings(skipped: Mapping[str, Any]) -> dict[str, str]:
    """Return what the role's template gives sshd on every host, without the controls that are left alone."""
    text = (content.root() / "roles/hardening/templates/sshd.conf.j2").read_text()
    _, *parts = re.split(r"(?m)^# ([A-Z]+-\d+)$", text)
    kept = "".join(part for control, part in zip(parts[::2], parts[1::2], strict=True) if control not in skipped)
    return {word.lower(): value for word, value in re.findall(r"(?m)^([A-Z]\w+) ([^{}\n]+)$", kept)}


def judge_logins(name: str, facts: Facts, wanted: Hardening) -> Iterator[Remark]:
    """Yield what hardening would meet on one host; only what would fail the run is blocking, and only for a run that hardens."""
    yield from _order(name, facts.get("sshd_before"), wanted)
    sshd = facts.get("sshd") or {}
    for login in facts.get("logins") or ():
        ways = _ways(login, sshd)
        if ways:
            yield from _one(name, login, ways, sshd, wanted)


def _order(name: str, seen: Mapping[str, Any] | None, wanted: Hardening) -> Iterator[Remark]:
    if seen is None or not wanted.settings:
        return
    if not seen["read"]:
        message = f"sshd does not read {DROP_IN} for everybody, so `ratssaal harden` fails"
        yield Remark(Problem(message, name, f"put {_INCLUDE} first in /etc/ssh/sshd_config"), wanted.now)
        return
    told: set[str] = set()
    for word, value, place in seen["above"]:
        own = wanted.settings.get(word.lower(), value)
        if word.lower() not in told and value.lower() != own.lower():
            message = f"{word} {value} ({place}) comes before `ratssaal harden` sets {own}, so that fails"
            hint = f"take the line out, or put {_INCLUDE} above it; then systemctl reload ssh"
            yield Remark(Problem(message, name, hint), wanted.now)
        told.add(word.lower())


def _ways(login: Mapping[str, Any], sshd: Mapping[str, str]) -> list[str]:
    """Return by what an account gets in now, of "key" and "password"; what sshd does not tell counts as allowed."""
    allowed = sshd.get("allowgroups", "").split()
    root = sshd.get("permitrootlogin", "yes") if login["user"] == "root" else "yes"
    if root == "no" or (allowed and not any(fnmatch(group, each) for group in login["groups"] for each in allowed)):
        return []
    asks = (sshd.get("passwordauthentication", "yes"), sshd.get("kbdinteractiveauthentication", "no"))
    by_password = login["password"] and "yes" in asks and root == "yes"
    by_key = login["keys"] and sshd.get("pubkeyauthentication", "yes") == "yes"
    return [way for way, open_ in (("key", by_key), ("password", by_password)) if open_]


def _one(
    name: str, login: Mapping[str, Any], ways: Sequence[str], sshd: Mapping[str, str], wanted: Hardening
) -> Iterator[Remark]:
    user = login["user"]
    ours = user == wanted.user
    # Where keys come from a command or an authority as well, what lies in files does not tell who is locked out.
    only = {sshd.get(word, "none") for word in ("authorizedkeyscommand", "trustedusercakeys")} == {"none"}
    shut = _shut_out(user, login["groups"], wanted)
    if shut:
        message = f"{user} logs in by a {' or a '.join(ways)} now and will not after `ratssaal harden`"
        yield Remark(Problem(message, name, shut), blocking=False)
    if shut and user == "root":
        return
    if wanted.groups and ways == ["password"]:
        message = f"{user} logs in by a password now and has no key, which `ratssaal harden` asks for"
        hint = f"from where {user} works: ssh-copy-id {user}@HOST"
        yield Remark(Problem(message, name, hint), blocking=ours and only and wanted.now)
    least = int(wanted.settings.get("requiredrsasize", 0))
    now = int(sshd.get("requiredrsasize", 1024))
    last = all(0 < key["rsa_bits"] < least for key in login["keys"])
    for key in (key for key in login["keys"] if now <= key["rsa_bits"] < least):
        message = f"{user}'s key {key['name']} (RSA, {key['rsa_bits']} bits) will be refused after `ratssaal harden`"
        hint = f"at least {least} bits; another one: ssh-keygen -t ed25519, then ssh-copy-id {user}@HOST"
        yield Remark(Problem(message, name, hint), blocking=ours and only and last and wanted.now)


def _shut_out(user: str, groups: Sequence[str], wanted: Hardening) -> str:
    """Return what helps an account that may not log in afterwards, "" where it may; Ansible's own is let in by the role."""
    if not wanted.groups or user == wanted.user:
        return ""
    if user == "root":
        return f"log in as {wanted.user} and use sudo; a program gets an account of its own in the group ssh-login"
    if set(groups) & set(wanted.groups):
        return ""
    join = f"groupadd --force --system ssh-login && usermod --append --groups ssh-login {user}"
    return f"on the host: {join}; or hardening_ssh_allow_groups: [a group of {user}]"
