"""Whether what lies on the disks is readable by whoever carries them away."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.declarations import answered_for
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

# Where keys and accounts, what was written and recorded, logs and backups lie; what is not there is left out.
PLACES = (
    *("/etc/ratssaal", "/var/lib/prosody", "/var/log", "/var/tmp", "/srv", "/var/lib/postgresql", "/var/backups"),
    *("/usr/share/jitsi-meet", "/root", "/home"),
)
MEMORY = ("tmpfs", "ramfs")
_DISKS = (
    "read -r kind 2>/dev/null </run/systemd/container; echo ${kind:-none}; echo == next ==; cat /proc/swaps; echo == next ==; "
    f"for place in {' '.join(PLACES)}; do findmnt -nro SOURCE,FSTYPE,TARGET -T $place 2>/dev/null; done | sort -u; "
    "echo == next ==; lsblk -rpno NAME,KNAME,PKNAME,TYPE 2>/dev/null; echo == next ==; "
    'awk \'NR > 1 && $2 == "file" {print $1}\' /proc/swaps | while read -r file; do findmnt -nro SOURCE -T "$file"; done; true'
)


@pytest.mark.control("CRY-11")
def test_disks_are_encrypted(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Volumes with anything worth keeping to oneself, and swap, which holds a piece of every process's memory."""
    (shown,) = ask(host, _DISKS)
    container, swaps, mounts, devices, files = text(shown).split("== next ==\n")
    if container.strip() != "none":
        matter = f"the disks belong to the machine below this container ({container.strip()})"
        answered_for(subject, "CRY-11", sheet, matter)
        return
    known = _devices(devices)
    for line in mounts.splitlines():
        source, kind, target = line.split(" ")[:3]
        if kind in MEMORY:
            continue
        closed = _encrypted(source.partition("[")[0], known)
        if closed:
            sheet.expect(True, f"{target} lies on an encrypted disk", "")
        else:
            seen = "is not known to be encrypted" if closed is None else "lies on a disk that is not encrypted"
            answered_for(subject, "CRY-11", sheet, f"{target} {seen} ({source})", wanted="LUKS")
    _judge_swap(swaps, files, known, sheet)


def _judge_swap(swaps: str, files: str, known: Mapping[str, tuple[str, list[str]]], sheet: Sheet) -> None:
    rows = [line.split() for line in swaps.splitlines()[1:] if line.strip()]
    below = iter(files.splitlines())
    for name, kind, *_ in rows:
        if name.startswith("/dev/zram"):
            sheet.expect(True, f"swap {name} is in memory", "")
            continue
        source = next(below, "") if kind == "file" else name
        fits = bool(_encrypted(source.partition("[")[0], known))
        sheet.expect(fits, f"swap {name} is {'' if fits else 'not '}encrypted", "encrypted, or none (swapoff)")
    if not rows:
        sheet.expect(True, "no swap", "")


def _devices(shown: str) -> dict[str, tuple[str, list[str]]]:
    """Return each device's kind and what it lies on, by both of its names."""
    found: dict[str, tuple[str, list[str]]] = {}
    for line in shown.splitlines():
        name, kernel, parent, kind = line.split(" ")[:4]
        _, parents = found.get(kernel, (kind, []))
        row = (kind, [*parents, *([parent] if parent else [])])
        found[name] = found[kernel] = row
    return found


def _encrypted(device: str, known: Mapping[str, tuple[str, list[str]]]) -> bool | None:
    """Say whether every way down from a device leads through an encrypted one; None for what lsblk does not know."""
    if device not in known:
        return None
    kind, parents = known[device]
    if kind == "crypt":
        return True
    return bool(parents) and all(_encrypted(parent, known) for parent in parents)
