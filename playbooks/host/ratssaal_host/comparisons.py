# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares one thing on the host with what the manifest says of it, each kind in its own way."""

from __future__ import annotations

import collections
import functools
import grp
import os
import pwd
import shlex
import stat
import subprocess

from . import accounts, packages, sysctl, units, users
from .files import differences

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from .manifest import Begun

    Difference = tuple[str, str, str]

# How long after a task has begun a file may have changed by it, apt's own time included.
_TASK_SECONDS = 3600
_OF_A_FILE = {"owner": lambda at: _named(pwd.getpwuid, at.st_uid), "group": lambda at: _named(grp.getgrgid, at.st_gid)}


def _named(look_up: Callable[[int], Sequence[Any]], number: int) -> str:
    try:
        return look_up(number)[0]
    except KeyError:
        return str(number)


def run(*argv: str) -> tuple[int, str, str]:
    """Run a command and return its exit code and what it printed; 127, as of a shell, where there is no such program."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False, errors="replace"
        )
    except FileNotFoundError:
        return 127, "", "no program %s" % argv[0]
    return done.returncode, done.stdout, done.stderr.strip()


class Host:
    """What several comparisons look at, looked at once."""

    def __init__(self, items: Sequence[Mapping[str, Any]], begun: Sequence[Begun]) -> None:
        self.items = items
        self._begun = begun

    @functools.cached_property
    def packages(self) -> dict[str, tuple[str, str]]:
        """Return version, wish and state of each package that dpkg knows."""
        code, printed, said = run(*packages.QUERY)
        if code != 0:
            raise LookupError("dpkg-query: %s" % said)
        rows = (line.split("\t") for line in printed.splitlines())
        return {name: (version, state) for name, version, state in rows}

    @functools.cached_property
    def units(self) -> dict[str, dict[str, str]]:
        """Return systemd's properties of each unit in the manifest."""
        found = units.states_of([item["name"] for item in self.items if item["kind"] == "unit"])
        if not found:
            raise LookupError("systemctl show tells nothing")
        return found

    @functools.cached_property
    def files(self) -> set[str]:
        """Return the paths of the files in the manifest."""
        return {item["dest"] for item in self.items if item["kind"] == "file"}

    def left_halfway(self, path: str) -> bool:
        """Say whether a task that has not ended may have left a file so: not long after it had begun."""
        at = max((at for _, _, at, files in self._begun if path in files), default=None)
        return at is not None and (not os.path.lexists(path) or os.lstat(path).st_ctime < at + _TASK_SECONDS)


# Each yields (what, wanted, found) of one item: `what` is a word for programs, the others are for people.


def _file(item: Mapping[str, Any], host: Host) -> Iterator[Difference]:
    path, state = item["dest"], item["state"]
    found = differences(item)
    if found and host.left_halfway(path):
        yield "unfinished", "as applied", "as an interrupted run left it"
        return
    for what in found:
        if what == "missing":
            yield what, "a %s" % state, "nothing"
            continue
        at = os.lstat(path)
        if what == "present":
            yield what, "nothing", _type(at.st_mode)
        elif what == "link":
            yield what, "-> %s" % item["link"], "-> %s" % os.readlink(path) if _is_link(at) else _type(at.st_mode)
        elif what == "type":
            yield what, "a %s" % state, _type(at.st_mode)
        elif what == "content":
            yield what, "as applied", "altered" if at.st_size else "empty"
        elif what == "mode":
            yield what, item["mode"], "%04o" % stat.S_IMODE(at.st_mode)
        else:
            yield what, item[what], _OF_A_FILE[what](at)


def _is_link(at: os.stat_result) -> bool:
    return stat.S_ISLNK(at.st_mode)


def _type(mode: int) -> str:
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a directory", stat.S_IFLNK: "a link"}
    return kinds.get(stat.S_IFMT(mode), "something else")


def _package(item: Mapping[str, Any], host: Host) -> Iterator[Difference]:
    version, state = host.packages.get(item["name"], ("", " n "))
    installed = state[1] == "i" and state[2] == " "
    if "installed" in item and item["installed"] != installed:
        if item["installed"]:
            found = "not installed" if state[1] in "nc" else "left half-way by dpkg (%s)" % state.strip()
            yield "missing", item.get("version", "installed"), found
        else:
            yield "present", "not installed", version
        return
    if item.get("version", version) != version:
        yield "version", item["version"], version
    if installed and item.get("held") and state[0] != "h":
        yield "hold", "held", "not held"


def _unit(item: Mapping[str, Any], host: Host) -> Iterator[Difference]:
    name, state = item["name"], host.units[item["name"]]
    masked = state["LoadState"] == "masked"
    if item["masked"] != masked:
        yield "masked", "masked" if item["masked"] else "not masked", "masked" if masked else "not masked"
    if item["masked"]:
        return
    if state["LoadState"] == "not-found":
        if item["started"]:
            yield "missing", "a unit", "no such unit"
        return
    enabled = units.enabled(name, state)
    if not masked and item.get("enabled", enabled) != enabled:
        yield "enabled", _enabled(item["enabled"]), _enabled(enabled)
    if item["started"] is not None and item["started"] != (state["ActiveState"] in units.ACTIVE):
        yield "state", "active" if item["started"] else "inactive", state["ActiveState"]
    elif not units.in_force(item):
        yield "effect", "what it sets in force", "altered since"
    now = units.drop_ins(name)
    added = sorted(set(now) - set(item.get("drop_ins", now)) - host.files)
    if added:
        yield "settings added", "nobody else's drop-in", ", ".join(added)


def _enabled(yes: bool) -> str:
    return "enabled" if yes else "disabled"


def _sysctl(item: Mapping[str, Any], host: Host) -> Iterator[Difference]:
    value = sysctl.now(item["name"])
    if sysctl.fits(item, value):
        return
    # Of a pattern's interfaces those are compared that a converge would set: one may belong to the machine below, or be gone by now.
    if "of" not in item or sysctl.settable(item["name"]):
        yield "value", item["value"], "no such setting" if value is None else value


def _user(item: Mapping[str, Any], host: Host) -> Iterator[Difference]:
    shell = users.shell_of(item["name"])
    if shell is None:
        yield "missing", "a user", "no such user"
    elif shell != item.get("shell", shell):
        yield "shell", item["shell"], shell


def _group(item: Mapping[str, Any], host: Host) -> Iterator[Difference]:
    try:
        group = grp.getgrnam(item["name"])
    except KeyError:
        yield "missing", "a group", "no such group"
        return
    members = set(group.gr_mem) | {user.pw_name for user in pwd.getpwall() if user.pw_gid == group.gr_gid}
    lost, added = sorted(set(item["members"]) - members), sorted(members - set(item["members"]))
    if lost:
        yield "members lost", ", ".join(lost), "not in the group"
    if added:
        yield "members added", "nobody else", ", ".join(added)


def _account(item: Mapping[str, Any], host: Host) -> Iterator[Difference]:
    now = accounts.keys_hash(item["name"])
    if now is None:
        yield "missing", "an account", "no such account"
    elif now != item["hash"]:
        yield "password", "as applied", "altered"


def _accounts(item: Mapping[str, Any], host: Host) -> Iterator[Difference]:
    others = sorted(set(accounts.in_domain(item["name"])) - set(item["only"]))
    if others:
        yield "present", "no other account", ", ".join(others)


def _roster(item: Mapping[str, Any], host: Host) -> Iterator[Difference]:
    if not accounts.is_watched(item["jid"], item["by"]):
        yield "missing", "a subscription", "none"


def _ruleset(item: Mapping[str, Any], host: Host) -> Iterator[Difference]:
    """Compare the loaded rules of a table with those that its file gives in an empty network namespace."""
    table, path = item["name"], item["file"]
    if not os.path.exists(path):
        return  # told as a missing file; what it would load is not known
    code, now, said = run("nft", "--stateless", "list", "table", *table.split())
    if code == 127:
        raise LookupError(said)
    if code != 0:
        yield "missing", "the table that %s gives" % path, "not loaded"
        return
    script = "nft --file %s && nft --stateless list table %s" % (shlex.quote(path), table)
    code, tried, said = run("unshare", "--net", "sh", "-c", script)
    if code != 0:
        yield "file", "rules that nft takes from %s" % path, (said.splitlines() or ["refused"])[0]
        return
    loaded, given = (_lines(text) for text in (now, tried))
    lost, added = (
        collections.Counter(one) - collections.Counter(other) for one, other in ((given, loaded), (loaded, given))
    )
    for line in lost.elements():
        yield "rule lost", line, "not loaded"
    for line in added.elements():
        yield "rule added", "not there", line
    if not lost and not added and loaded != given:
        yield "order", "the order of %s" % path, "another order"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() not in ("", "}")]


BY_KIND = {
    "account": _account,
    "accounts": _accounts,
    "file": _file,
    "group": _group,
    "package": _package,
    "roster": _roster,
    "ruleset": _ruleset,
    "sysctl": _sysctl,
    "unit": _unit,
    "user": _user,
}
