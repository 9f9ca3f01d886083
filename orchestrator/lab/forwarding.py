"""The machine's forwarding switches: turned on for the labs, put back exactly as they were after the last one."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from orchestrator.processes import boot

_SYS = Path("/proc/sys/net")
_SWITCHES = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
# Turning forwarding on or off resets these as well (kernel: net/ipv4/devinet.c inet_forward_change,
# net/ipv6/addrconf.c dev_forward_change).
_AFFECTED = (
    "ipv4/conf/*/forwarding",
    "ipv4/conf/all/accept_redirects",
    "ipv6/conf/*/forwarding",
    "ipv6/conf/*/accept_ra",
)


def enable(record: Path, system: Path = _SYS) -> None:
    """Turn IPv4 and IPv6 forwarding on. What that changes is written to `record` first, unless an earlier lab did so."""
    if all((system / name).read_text().strip() == "1" for name in _SWITCHES):
        return
    if not _recorded(record):
        _write_whole(record, json.dumps({"boot": boot(), "values": _snapshot(system)}))
    # An interface that forwards ignores router advertisements unless accept_ra is 2: without this the machine would
    # lose its own IPv6 route (kernel: Documentation/networking/ip-sysctl.rst, accept_ra).
    for path in system.glob("ipv6/conf/*/accept_ra"):
        if path.read_text().strip() == "1":
            path.write_text("2\n")
    for name in _SWITCHES:
        (system / name).write_text("1\n")


def restore(record: Path, system: Path = _SYS) -> None:
    """Put back what `enable` changed and remove `record`; a record from before the last boot is only removed."""
    values = _recorded(record)
    for name in _SWITCHES:
        if name in values and (system / name).read_text().strip() != values[name]:
            (system / name).write_text(values[name] + "\n")
    for name, value in values.items():
        path = system / name
        with suppress(OSError):  # the interface went away meanwhile
            if name not in _SWITCHES and path.read_text().strip() != value:
                path.write_text(value + "\n")
    record.unlink(missing_ok=True)


def _snapshot(system: Path) -> dict[str, str]:
    paths = [system / name for name in _SWITCHES]
    paths += [path for pattern in _AFFECTED for path in sorted(system.glob(pattern))]
    return {str(path.relative_to(system)): path.read_text().strip() for path in paths if not path.match("rs-*/*")}


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
