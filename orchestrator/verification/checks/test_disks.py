"""Whether what lies on the disks is readable by whoever carries them away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.declarations import answered_for
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

# Where keys and accounts, what was written and recorded, logs and backups lie; what is not there is left out. Some are often links.
PLACES = (
    *("/etc", "/etc/ratssaal", "/var/lib", "/var/lib/prosody", "/var/log", "/var/tmp", "/srv", "/srv/recordings"),
    *("/tmp/recordings", "/var/lib/postgresql", "/var/backups", "/usr/share/jitsi-meet", "/root", "/home"),
)
MEMORY = ("tmpfs", "ramfs")
# What findmnt calls file systems without anything of their own, though these hold files of the machine below.
_SHARED = ("virtiofs", "vboxsf")
# With where Jibri records (as VKS-09 looks for it); the mounts stand in their order, each below the one that it lies on.
_DISKS = (
    "read -r kind 2>/dev/null </run/systemd/container; echo ${kind:-none}; echo == next ==; cat /proc/swaps; echo == next ==; "
    f"readlink -e {' '.join(PLACES)} $(cat /etc/jitsi/jibri/*.conf /etc/jitsi/jibri/*.json 2>/dev/null | "
    'sed -nE \'s/^[^#]*recordings?[-_]directory"?[[:space:]]*[=:][[:space:]]*"?([^",}]+).*/\\1/p\'); echo == next ==; '
    "findmnt -nro SOURCE,FSTYPE,TARGET; echo == next ==; findmnt -nro FSTYPE --pseudo; echo == next ==; "
    "lsblk -rpno NAME,KNAME,PKNAME,TYPE 2>/dev/null; echo == next ==; "
    'awk \'NR > 1 && $2 == "file" {print $1}\' /proc/swaps | while read -r file; do findmnt -nro SOURCE -T "$file"; done; true'
)


@pytest.mark.control("CRY-11")
def test_disks_are_encrypted(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Volumes with anything worth keeping to oneself, and swap, which holds a piece of every process's memory."""
    (shown,) = ask(host, _DISKS)
    container, swaps, places, mounts, pseudo, devices, files = text(shown).split("== next ==\n")
    if container.strip() != "none":
        matter = f"the disks belong to the machine below this container ({container.strip()})"
        answered_for(subject, "CRY-11", sheet, matter)
        return
    known = _devices(devices)
    for mount in _mounts(mounts, places.splitlines(), {*pseudo.split()} - {*_SHARED}):
        closed = _encrypted(mount.source.partition("[")[0], known)
        if closed:
            sheet.expect(True, f"{mount.target} lies on an encrypted disk", "")
        else:
            seen = "is not known to be encrypted" if closed is None else "lies on a disk that is not encrypted"
            answered_for(subject, "CRY-11", sheet, f"{mount.target} {seen} ({mount.source})", wanted="LUKS")
    _judge_swap(swaps, files, known, sheet)


class Mount(NamedTuple):
    """What is mounted where."""

    source: str
    kind: str
    target: str


def _mounts(shown: str, places: list[str], empty: set[str]) -> list[Mount]:
    """Return each mount on which a place lies, and those below the places; no file systems in memory, none of the kinds `empty`."""
    rows = [Mount(*map(_plain, line.split(" ")[:3])) for line in shown.splitlines()]
    if not rows:
        raise RuntimeError("findmnt tells of no mount")
    # The last one hides those before it.
    found = [[row for row in rows if _lies(place, row.target)][-1] for place in places]
    found += [row for row in rows if row.kind not in empty and any(_lies(row.target, place) for place in places)]
    return sorted({row for row in found if row.kind not in MEMORY}, key=lambda row: row.target)


def _lies(path: str, folder: str) -> bool:
    """Say whether a path is a folder's or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _plain(word: str) -> str:
    """Return a word of findmnt's without its escapes."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda code: chr(int(code.group(1), 16)), word)


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
