"""Finding and ending processes by what they were started with, never by what a state file remembers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator.processes import fields


def ids() -> list[int]:
    """Return the id of every process on this machine; each may end at any moment."""
    # Not by a pattern: pathlib looks at each match again, and fails where the process has ended meanwhile.
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """Yield (process id, arguments) of every process on this machine but this one; kernel threads have no arguments."""
    for pid in ids():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if words[0] and pid != os.getpid():
                yield pid, words


def parent(pid: int) -> int:
    """Return the parent's process id, 0 if the process is gone."""
    found = fields(pid)
    return int(found[1]) if found else 0


def alive(pid: int) -> bool:
    """Return whether the process still runs; one that waits to be collected does not."""
    found = fields(pid)
    return bool(found) and found[0] not in "ZX"


def works_in(pid: int, folder: Path) -> bool:
    """Return whether the process's working directory is this one, also if that is deleted meanwhile."""
    try:
        return os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)") == str(folder)
    except OSError:
        return False


def kill_all(find: Callable[[], list[int]], seconds: float) -> list[int]:
    """Send SIGKILL to what `find` returns until it returns nothing alive; return what is left after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        left = [pid for pid in find() if alive(pid)]
        if not left or time.monotonic() > deadline:
            return left
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.03)


def wait_until_gone(pids: list[int], seconds: float) -> None:
    """Wait until none of the processes is alive, at most `seconds`."""
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.03)
