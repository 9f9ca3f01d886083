# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the kernel: in one sysctl.d file and in the running kernel."""

from __future__ import annotations

import fnmatch
import glob
import os

from .disk import FileProblem, explained, read_bytes
from .files import applied_file, diff, differences, write_entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from .steps import Step

_KERNEL = "/proc/sys/"
# Of two files of one name the one in the later folder counts (sysctl.d(5)).
_FOLDERS = ("/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d")


def _kernel_path(name: str) -> str:
    return _KERNEL + (name if "/" in name else name.replace(".", "/"))


def each(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return settings one by one: a name with * stands for every interface that there is now, which is told `of` what it is.

    An interface keeps what it had when it appeared, whatever `all` and `default` say (kernel: ip-sysctl.rst).
    """
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        paths = glob.glob(_kernel_path(item["name"])) if "*" in item["name"] else []
        found.update((_name(path), item | {"name": _name(path), "of": item["name"]}) for path in paths)
    found.update((item["name"], item) for item in items if "*" not in item["name"])
    return [found[name] for name in sorted(found)]


def _name(path: str) -> str:
    """Return a setting's usual name with dots; with slashes where an interface's name holds a dot (sysctl.d(5))."""
    name = path[len(_KERNEL) :]
    return name if "." in name else name.replace("/", ".")


def now(name: str) -> str | None:
    """Return the running kernel's value of a setting, None where it has no such setting."""
    content = read_bytes(_kernel_path(name))
    return None if content is None else _words(content.decode())


def fits(item: Mapping[str, Any], value: str | None) -> bool:
    """Say whether a setting's value is the wanted one, or a better one: any that is `larger`, or one of a list."""
    better = item.get("better", [])
    if better == "larger":
        return value is not None and value.isdigit() and int(value) >= int(item["value"])
    return value in (item["value"], *better)


def settable(name: str) -> bool:
    """Say whether this host may set it: a container's /proc/sys is the machine's below, or is mounted read-only."""
    path = _kernel_path(name)
    return os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY


def _set(name: str, value: str) -> bool:
    """Try to set; True if the kernel took it."""
    try:
        with open(_kernel_path(name), "w") as handle:
            handle.write(value)
    except OSError:
        return False
    return now(name) == value


def _words(value: object) -> str:
    return " ".join(str(value).split())


def _wanted(step: Step) -> list[dict[str, Any]]:
    """Return the settings as the manifest keeps them; where another's file says better than we want, that is wanted.

    The files of others decide, since what runs may run by our own file only: it would stay for ever once we want less. What runs
    and is better is left alone all the same; it goes with the next boot.
    """
    others, items = _of_others(step.params["path"]), []
    for name, raw in sorted(step.params["values"].items()):
        rule = raw if isinstance(raw, dict) else {"value": raw}
        item = {"kind": "sysctl", "name": name, "value": _words(rule["value"])}
        if "better" in rule:
            item["better"] = rule["better"] if rule["better"] == "larger" else [_words(one) for one in rule["better"]]
            _raise(item, _said(others, _kernel_path(name)))
        items.append(item)
    return items


def _raise(item: dict[str, Any], said: str | None) -> None:
    """Let a setting be what somebody else says, where that is better; what is better still stands behind it in a list."""
    if not fits(item, said):
        return
    if item["better"] != "larger":
        order = [item["value"], *item["better"]]
        item["better"] = order[order.index(said) + 1 :]
    item["value"] = said


def _of_others(path: str) -> dict[str, str | None]:
    """Return what all files but ours set at a boot, by path below /proc/sys, the last word last; None: no pattern sets it."""
    files = {os.path.basename(one): one for folder in _FOLDERS for one in glob.glob(folder + "/*.conf")}
    files.pop(os.path.basename(path), None)
    found: dict[str, str | None] = {}
    for _, file in sorted(files.items()):
        content = read_bytes(file) if os.path.isfile(file) else None
        for line in (content or b"").decode(errors="replace").splitlines():
            name, equals, value = line.strip().partition("=")
            if not name or name[0] in "#;" or not (equals or name.startswith("-")):
                continue
            key = _kernel_path(name.removeprefix("-").strip())
            found.pop(key, None)
            found[key] = _words(value) if equals else None
    return found


def _said(others: dict[str, str | None], path: str) -> str | None:
    """Return what others' files say of a setting; its own name wins over a pattern (sysctl.d(5))."""
    if path in others:
        return others[path]
    return next((value for key, value in reversed(others.items()) if fnmatch.fnmatchcase(path, key)), None)


def _file(step: Step, items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    text = "# Kept by Ratssaal (role hardening); changes are found and put back.\n"
    text += "".join("%s = %s\n" % (item["name"], item["value"]) for item in items)
    wanted = {"dest": step.params["path"], "state": "file", "bytes": text.encode(), "mode": "0644"}
    return wanted | {"owner": "root", "group": "root", "force": True, "validate": None}


def applied(step: Step) -> list[dict[str, Any]]:
    """Return what the manifest keeps: the file, patterns, and the values that are in force; others this host cannot set."""
    items = _wanted(step)
    kept = [item for item in items if "*" in item["name"] or fits(item, now(item["name"]))]
    return [applied_file(_file(step, items)), *kept]


def bring(step: Step) -> dict[str, Any]:
    """Compare file and kernel, write what differs; return that, and what the kernel does not let this host set."""
    items, changed, not_settable, diffs = _wanted(step), [], [], []
    entry = _file(step, items)
    reasons = differences(entry)
    if reasons:
        changed.append(entry["dest"])
        diffs += [diff(entry, reasons)] if step.diff else []
        if not step.check_mode:
            step.begins()
            try:
                write_entry(entry)
            except (FileProblem, OSError) as problem:
                step.fail(msg=explained(problem))
    for item in each(items):
        name = item["name"]
        if fits(item, now(name)):
            continue
        if settable(name) and (step.check_mode or _set(name, item["value"])):
            changed.append(name)
        else:
            not_settable.append(name)
    return {"changed": bool(changed), "changed_settings": changed, "not_settable": not_settable, "diff": diffs}
