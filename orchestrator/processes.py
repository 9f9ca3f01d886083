"""Processes of this machine, as /proc tells of them: which one it is that wrote itself down, and whether it still runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def mine() -> dict[str, Any]:
    """Return what tells this process from all others, to be written down."""
    return {"pid": os.getpid(), "process": token(os.getpid())}


def lives(written: Mapping[str, Any]) -> bool:
    """Say whether the process that was written down may still run: one that is hidden from us (/proc with hidepid) may."""
    pid, known = int(written.get("pid") or 0), str(written.get("process") or "")
    if pid <= 0 or known.partition(":")[0] != boot():
        return False
    return token(pid) == known if fields(pid) else _answers(pid)


def token(pid: int) -> str:
    """Return what tells a process from a later one with the same number: boot, start time; "" when it is not seen."""
    found = fields(pid)
    return f"{boot()}:{found[19]}" if found and found[0] != "Z" else ""


def fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat behind the name, which may be any bytes: state, parent, ...; [] when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def boot() -> str:
    """Return what tells this boot of the machine from others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
