"""Turns: so many hosts are asked at the same time, and those that hang do not keep the others waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """So many turns at the same time. Where none ends for `patience` seconds, those under way may hang, and one more begins."""

    def __init__(self, at_once: int, patience: float) -> None:
        self._at_once = at_once
        self._patience = patience
        self._under_way = 0
        self._moved = time.monotonic()
        self._change = threading.Condition()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a turn and hold it."""
        with self._change:
            self._wait()
            self._under_way += 1
            self._moved = time.monotonic()
        try:
            yield
        finally:
            with self._change:
                self._under_way -= 1
                self._moved = time.monotonic()
                self._change.notify()

    def _wait(self) -> None:
        while self._under_way >= self._at_once:
            left = self._moved + self._patience - time.monotonic()
            if left > 0:
                self._change.wait(left)
            else:
                self._at_once += 1
