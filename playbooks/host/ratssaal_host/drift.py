# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a host with its manifest and changes nothing: what differs from what the roles' tasks applied last."""

from __future__ import annotations

import json
import re

from . import comparisons, manifest, sysctl
from .steps import MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

_INTERRUPTED = ("unfinished", "a task that ended well", "it began and has not ended: interrupted, or at work now")


def wanted_of(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what all tasks together applied: of two that applied the same thing, what the later one says holds."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for part in parts:
        for item in part["items"] or []:
            key = (item["kind"], item["name"])
            before = found.get(key, {})
            # Who only repeats what another said is not whom to ask about it.
            if before | item != before:
                found[key] = before | item | {"role": part["role"], "task": part["task"]}
    return [found[key] for key in sorted(found)]


def compare(parts: Sequence[dict[str, Any]], begun: Sequence[manifest.Begun] = ()) -> list[dict[str, Any]]:
    """Return what differs: dictionaries with kind, name, what, wanted, found, role and task.

    `parts` is the manifest, `begun` the tasks that had begun and not ended when it was read.
    """
    rows = [_row({"kind": "manifest", "name": _name(part), **part}, fault) for part in parts for fault in _faults(part)]
    items = wanted_of(parts)
    host = comparisons.Host(items, begun)
    told = {(row["role"], row["task"]) for row in rows}
    for role, task, _, _ in begun:
        if (role, task) not in told:
            part = {"kind": "manifest", "role": role, "task": task}
            rows.append(_row(part | {"name": _name(part)}, _INTERRUPTED))
    for item in _one_by_one(items):
        try:
            rows += [_row(item, found) for found in comparisons.BY_KIND[item["kind"]](item, host)]
        except (OSError, LookupError) as problem:
            rows.append(_row(item, ("unknown", "a look at it", "it cannot be looked at: %s" % problem)))
    return rows


def _one_by_one(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items with each pattern's settings in its place."""
    settings = [item for item in items if item["kind"] == "sysctl"]
    others = [item for item in items if item["kind"] != "sysctl"]
    return sorted(others + sysctl.each(settings), key=lambda item: (item["kind"], item["name"]))


def _name(part: Mapping[str, Any]) -> str:
    return "%s : %s" % (part["role"], part["task"])


def _faults(part: Mapping[str, Any]) -> Iterator[comparisons.Difference]:
    if part["items"] is None:
        yield "unreadable", "what the task applied", "the manifest's file cannot be read"
    elif not part["finished"]:
        yield "unfinished", "a task that ended well", "it failed when it ran last"


def _row(item: Mapping[str, Any], difference: comparisons.Difference) -> dict[str, Any]:
    what, wanted, found = difference
    kept = {key: item[key] for key in ("kind", "name", "role", "task")}
    return kept | {"what": what, "wanted": wanted, "found": found}


def other_tables(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the nftables tables that are loaded and are not ours, as nft names them."""
    ours = {item["name"] for item in items if item["kind"] == "ruleset"}
    names = (line.partition(" ")[2] for line in comparisons.run("nft", "list", "tables")[1].splitlines())
    return sorted(name for name in names if name not in ours)


def verified(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what dpkg itself finds altered in installed packages: rows as of `compare`; our own files are left out."""
    ours = {item["dest"] for item in items if item["kind"] == "file" and item.get("state") != "given_back"}
    code, printed, said = comparisons.run("dpkg", "--verify")
    # dpkg --verify ends with 1 where it finds something (dpkg:src/main/verify.c).
    if code not in (0, 1):
        raise OSError("dpkg --verify: %s" % (said or "exit code %d" % code))
    rows = []
    for line in printed.splitlines():
        match = re.fullmatch(r"(missing|[?.5M]{9})\s+(?:[a-z] )?\s*(/.*?)(?: \((.*)\))?", line)
        if match is None:
            rows.append((line.strip(), "told so by dpkg"))
        elif match.group(2) not in ours:
            rows.append((match.group(2), "missing" if match.group(1) == "missing" else "altered"))
    owners = _owners([path for path, _ in rows])
    common = {"kind": "package file", "what": "content", "wanted": "as in its package", "role": "", "task": ""}
    return [common | {"name": path, "found": found, "package": owners.get(path, "")} for path, found in rows]


def _owners(paths: Sequence[str]) -> dict[str, str]:
    owners = {}
    for line in (comparisons.run("dpkg-query", "-S", *paths)[1] if paths else "").splitlines():
        package, _, path = line.partition(": ")
        owners[path] = package.partition(":")[0]
    return owners


def look(*, deep: bool) -> dict[str, Any]:
    """Return what the host is against its manifest; `deep` asks dpkg about every packaged file, which takes a while."""
    # First: what ends meanwhile is in the manifest then.
    begun = manifest.begun()
    parts = manifest.read()
    if parts is None:
        return {"manifest": False}
    items = wanted_of(parts)
    code, sockets, said = comparisons.run("ss", "-Hlntup")
    return {
        "manifest": True,
        "parts": [{key: part[key] for key in ("role", "task", "at", "finished")} for part in parts],
        "differences": compare(parts, begun) + (verified(items) if deep else []),
        "other_tables": other_tables(items),
        "sockets": sockets if code == 0 else None,
        "sockets_problem": said,
    }


def main(*, deep: bool) -> None:
    """Print what was seen, behind a mark."""
    print("\n" + MARK + json.dumps(look(deep=deep)), flush=True)
