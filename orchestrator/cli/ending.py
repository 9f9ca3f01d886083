"""SIGTERM and a closed terminal (SIGHUP) end a command in good order, as Ctrl-C does.

By themselves they would leave the vault's password behind in its temporary file, the lock on the host and the journal without
its end.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.errors import Ended

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def in_good_order() -> Iterator[None]:
    """Raise Ended for the first of these signals while the block runs; what one ignores (`nohup`) stays ignored."""
    ours: list[signal.Signals] = []

    def end(number: int, _: FrameType | None) -> None:
        # A second one must not cut the clean-up short: they come in pairs when a session is closed. Not SIG_IGN, which the
        # programs that clean up would inherit.
        for each in ours:
            signal.signal(each, lambda *_: None)
        raise Ended(number, signal.Signals(number).name)

    try:
        for each in _SIGNALS:
            if signal.getsignal(each) is signal.SIG_DFL:
                signal.signal(each, end)
                ours.append(each)
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)
