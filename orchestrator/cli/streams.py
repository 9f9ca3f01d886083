"""Standard output and error whose reader may go away (`| head`, a closed terminal): what is told then is told nobody.

A command goes on and ends with its own exit code; in the middle of a run, hosts are not left half-done for a lost log.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO


class _Forgiving(io.FileIO):
    """A file descriptor; after the first failed write everything goes to /dev/null.

    A lost reader is no error; what else fails (a full disk) is raised once.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        # A terminal that was closed does not say any more that it is one.
        self._lost = {errno.EPIPE, errno.EIO} if self.isatty() else {errno.EPIPE}
        self.unread = False

    def write(self, data: Any, /) -> Any:
        """Write what can be written; what nobody reads counts as written."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno not in self._lost:
                raise
            self.unread = True
            return len(memoryview(data).cast("B"))


def forgive() -> None:
    """Let the process's standard output and error be forgiving."""
    sys.stdout, sys.stderr = _wrapped(sys.stdout), _wrapped(sys.stderr)


def unread() -> bool:
    """Say whether the reader of standard output has gone away, as far as that was noticed by writing."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Forgiving) and raw.unread


def _wrapped(stream: TextIO | None) -> Any:
    # None: it was closed by whoever called.
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Forgiving(stream.fileno())),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
