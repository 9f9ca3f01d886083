"""File locks that a killed process gives up by itself."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Busy(Exception):
    """Somebody else holds the lock and the caller did not want to wait."""


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None, *, remove: bool = False) -> Iterator[None]:
    """Hold the lock `path`, an empty file that is made for it; `remove` deletes it at the end, while still held.

    Where somebody else holds it, `waiting` is called once before the wait; without `waiting`, Busy is raised.
    """
    handle = _acquire(path, waiting)
    try:
        yield
    finally:
        if remove:
            path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path, waiting: Callable[[], None] | None) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is None:
                    raise Busy(str(path)) from None
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_same(path, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the former holder removed the file; what we hold is no longer the lock


def _is_same(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
