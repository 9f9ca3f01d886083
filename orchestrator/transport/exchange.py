"""One command on one channel of Paramiko: started, fed and listened to within its time, so that neither side waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import paramiko

_CHUNK = 65536
# What one command may answer: more is no answer but a host that fills our memory.
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command on a host gave back."""

    code: int
    stdout: str
    stderr: str


class TooMuch(Exception):
    """A command answers without end."""


class Lost(Exception):
    """The connection ended before the command did."""


def start(channel: paramiko.Channel, command: str, seconds: float) -> None:
    """Start a command; raises TimeoutError where the host takes the channel and then does not answer, and Lost.

    Paramiko waits for that answer without end (Channel._wait_for_event), until somebody closes the channel.
    """
    late = threading.Event()

    def give_up() -> None:
        late.set()
        with suppress(EOFError):  # the connection was ended meanwhile
            channel.close()

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        channel.exec_command(command)
    except (paramiko.SSHException, EOFError, OSError) as error:  # an OSError is the socket's, handed on by Paramiko
        if not late.is_set():
            if not channel.get_transport().is_active():
                raise Lost from error
            raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError(f"the host did not start a command within {seconds:.0f} s")


def exchange(
    channel: paramiko.Channel,
    data: bytes,
    out: list[bytes],
    seconds: float,
    silent: float,
    alive: Callable[[], None],
) -> Answer:
    """Send the input and collect both outputs at the same time, standard output in `out`, so that neither side waits.

    Raises TimeoutError after `seconds`, or when nothing came for `silent` seconds, TooMuch, and Lost.
    """
    channel.settimeout(0.05)
    err: list[bytes] = []
    size = 0
    rest: bytes | None = data
    began = heard = time.monotonic()
    while True:
        alive()
        now = time.monotonic()
        if now > began + seconds:
            raise TimeoutError(f"a command did not end within {seconds:.0f} s")
        if now > heard + silent:
            raise TimeoutError(f"the host said nothing for {silent:.0f} s")
        if rest is not None and channel.send_ready():
            rest = _send(channel, rest)
        ended = channel.exit_status_ready()
        if came := _collect(channel, out, err):
            heard, size = now, size + came
        if size > _MOST_BYTES:
            raise TooMuch(f"the host answered more than {_MOST_BYTES >> 20} MB")
        if ended and not channel.recv_ready() and not channel.recv_stderr_ready():
            if _is_lost(channel):
                raise Lost
            if channel.eof_received:
                return Answer(channel.recv_exit_status(), text(out), text(err))


def _send(channel: paramiko.Channel, rest: bytes) -> bytes | None:
    """Send a piece of the input and return what is left, None where it has ended."""
    # Otherwise the command ended without reading all of its input, or the connection is lost, which is seen when listening.
    with suppress(OSError):
        if left := rest[channel.send(rest[:_CHUNK]) :]:
            return left
    with suppress(OSError):
        channel.shutdown_write()
    return None


def _is_lost(channel: paramiko.Channel) -> bool:
    """Say whether a channel was closed by no host: without an end of the output, or with the connection before a status.

    A command that was ended by a signal has no status either.
    """
    if not channel.closed or (channel.eof_received and channel.exit_status != -1):
        return False
    # Paramiko closes the channels before it calls the connection inactive, but keeps the reason before that.
    transport = channel.transport
    gone = transport is None or not transport.is_active() or transport.saved_exception is not None
    return not channel.eof_received or gone


def _collect(channel: paramiko.Channel, out: list[bytes], err: list[bytes]) -> int:
    """Add what came, waiting a moment for it; return how many bytes that were."""
    size = 0
    # Not for ever: our limits are looked at between two calls.
    while channel.recv_stderr_ready() and size < 16 * _CHUNK:
        err.append(channel.recv_stderr(_CHUNK))
        size += len(err[-1])
    with suppress(TimeoutError):
        if received := channel.recv(_CHUNK):
            out.append(received)
            size += len(received)
        else:
            channel.status_event.wait(0.02)  # standard output is closed, the command has not ended yet
    return size


def text(parts: Sequence[bytes]) -> str:
    """Return what came, as text; a host may print anything."""
    return b"".join(parts).decode(errors="replace")
