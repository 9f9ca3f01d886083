"""Switches of the machine's kernel: set as the labs need them, put back exactly as they were after the last one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orchestrator.processes import boot

_SYS = Path("/proc/sys")
_FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
# All hosts count as one user here, each takes about ten, and a systemd for which none is left ends at its start without a word
# (kernel: fs/notify/inotify/inotify_user.c, 128 for each user).
_LEAST = {"fs/inotify/max_user_instances": 8192}
# Turning forwarding on or off resets these as well (kernel: net/ipv4/devinet.c inet_forward_change,
# net/ipv6/addrconf.c dev_forward_change).
_AFFECTED = (
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/all/accept_redirects",
    "net/ipv6/conf/*/forwarding",
    "net/ipv6/conf/*/accept_ra",
)


def enable(record: Path, system: Path = _SYS) -> None:
    """Turn IPv4 and IPv6 forwarding on, let many hosts watch files. What that changes is written to `record` first, unless an
    earlier lab did so.
    """
    forwards = all((system / name).read_text().strip() == "1" for name in _FORWARDING)
    few = {name: least for name, least in _LEAST.items() if int((system / name).read_text()) < least}
    if forwards and not few:
        return
    if not _recorded(record):
        paths = _paths(system, _LEAST) if forwards else _paths(system, (*_FORWARDING, *_LEAST, *_AFFECTED))
        _write_whole(record, json.dumps({"boot": boot(), "values": _snapshot(system, paths)}))
    for name, least in few.items():
        (system / name).write_text(f"{least}\n")
    if forwards:
        return
    # An interface that forwards ignores router advertisements unless accept_ra is 2: without this the machine would
    # lose its own IPv6 route (kernel: Documentation/networking/ip-sysctl.rst, accept_ra).
    for path in system.glob("net/ipv6/conf/*/accept_ra"):
        if path.read_text().strip() == "1":
            path.write_text("2\n")
    for name in _FORWARDING:
        (system / name).write_text("1\n")


def restore(record: Path, system: Path = _SYS) -> None:
    """Put back what `enable` changed and remove `record`; a record from before the last boot is only removed."""
    values = _recorded(record)
    for name in _FORWARDING:
        if name in values and (system / name).read_text().strip() != values[name]:
            (system / name).write_text(values[name] + "\n")
    for name, value in values.items():
        path = system / name
        with suppress(OSError):  # the interface went away meanwhile
            if name not in _FORWARDING and path.read_text().strip() != value:
                path.write_text(value + "\n")
    record.unlink(missing_ok=True)


def _paths(system: Path, patterns: Iterable[str]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(system.glob(pattern)) if not path.match("rs-*/*")]


def _snapshot(system: Path, paths: Iterable[Path]) -> dict[str, str]:
    return {str(path.relative_to(system)): path.read_text().strip() for path in paths}


def _recorded(record: Path) -> dict[str, str]:
    try:
        content = json.loads(record.read_text())
    except (OSError, ValueError):
        return {}
    return dict(content["values"]) if content.get("boot") == boot() else {}


def _write_whole(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text)
    unfinished.rename(path)
