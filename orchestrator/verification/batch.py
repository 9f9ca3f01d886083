"""A testinfra backend that collects the checks' commands and ships them together: few round trips a host.

Every check is first run for its questions only: an unknown command is noted and the check is left by an exception. All
noted commands go to the host in one script; then the checks run again and get the answers. A check that asks for more,
depending on an answer, gets it in the next round. After MAXIMUM_ROUNDS a command is asked on its own, and counted.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult

MAXIMUM_ROUNDS = 3
# What one command may print, and all of a round trip together: far above any honest answer, far below a host's memory.
_COMMAND_BYTES = 8 << 20
_ROUND_BYTES = 32 << 20
# Runs where the commands are to run. They run side by side; what one prints cannot be mistaken for the answer of another,
# nor what a shell's profile prints for an answer: the answers follow a mark that nobody can guess. A command that does not
# end, or prints without end, is killed with everything that it started; all are when the program itself is told to end, or
# when nobody listens any more to the empty lines that it prints meanwhile: by them, a slow host is told from one that hangs.
_SCRIPT = """
import os, threading
def end(*_):
    for group in list(RUNNING):
        try:
            os.killpg(group, 9)
        except OSError:
            pass
    os._exit(1)
def beat():
    while True:
        try:
            print(flush=True)
        except OSError:
            end()
        if DONE.wait(2):
            return
FILES, RUNNING, KEPT, DONE = (), set(), [], threading.Event()
# Before the other modules are there: just after its boot, that took an emulated host more than 20 s.
beats = threading.Thread(target=beat, daemon=True)
beats.start()
import base64, concurrent.futures, json, selectors, signal, subprocess, time
{prelude}
signal.signal(signal.SIGTERM, end)
def read(child):
    ends, size, parts = time.monotonic() + {seconds}, 0, {{child.stdout: [], child.stderr: []}}
    with selectors.PollSelector() as pipes:
        for pipe in parts:
            pipes.register(pipe, selectors.EVENT_READ)
        while pipes.get_map():
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer within {seconds} s")
            for key, _ in pipes.select(left):
                part = os.read(key.fd, 65536)
                parts[key.fileobj].append(part)
                size += len(part)
                if not part:
                    pipes.unregister(key.fileobj)
            if size > {command_bytes}:
                raise OverflowError("more than {command_bytes} bytes of output")
    if sum(KEPT) + size > {round_bytes}:
        raise OverflowError("more than {round_bytes} bytes of output with that of the other commands")
    KEPT.append(size)
    try:
        child.wait(max(0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError("no answer within {seconds} s")
    return [b"".join(told) for told in parts.values()]
def run(command):
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=quiet, stdout=pipe, stderr=pipe, start_new_session=True, pass_fds=FILES
    ) as child:
        RUNNING.add(child.pid)
        try:
            out, err = read(child)
            code = child.returncode
        except (TimeoutError, OverflowError) as error:
            os.killpg(child.pid, signal.SIGKILL)
            code, out, err = 124, b"", str(error).encode()
    RUNNING.discard(child.pid)
    return [code, base64.b64encode(out).decode(), base64.b64encode(err).decode()]
commands = json.loads(base64.b64decode("{commands}"))
now = time.time()
try:
    with concurrent.futures.ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        rows = list(pool.map(run, commands))
finally:
    DONE.set()
    beats.join()
print("\\n{mark}" + json.dumps([now, rows]))
"""

Answers = Mapping[str, tuple[int, bytes, bytes]]
Ship = Callable[[list[str]], Answers]


class Pending(BaseException):
    """Raised in a round of questions where an answer is not known yet; no check catches it by accident."""


class BatchBackend(BaseBackend):  # type: ignore[misc]
    """Answers from what was shipped. `ship` sends commands to the host and returns their answers.

    Once `ship` has failed, every further question fails at once in the same way: a host that hangs costs its time only
    once, and all its checks say so.
    """

    NAME = "batch"

    def __init__(self, hostname: str, ship: Ship) -> None:
        super().__init__(hostname)
        self._ship = ship
        self._known: dict[str, tuple[int, bytes, bytes]] = {}
        self._wanted: dict[str, None] = {}
        self._failed: Exception | None = None
        self.asking = False
        self.round_trips = 0
        self.seconds = 0.0

    def decode(self, data: bytes) -> str:
        """Return text; a host may print anything, so what is no UTF-8 shows as U+FFFD."""
        return data.decode("utf-8", errors="replace")

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """Answer a command; while asking, note an unknown one and raise Pending."""
        text = self.quote(command, *args)
        if text not in self._known:
            if self.asking:
                self._wanted[text] = None
                raise Pending
            self._fetch([text])
        code, out, err = self._known[text]
        return self.result(code, text.encode(), out, err)

    def ask(self, *commands: str) -> None:
        """Note commands that a check will need anyway, so that one that needs several asks for them at once."""
        if self.asking:
            self._wanted.update(dict.fromkeys(c for c in commands if c not in self._known))

    def send(self) -> bool:
        """Ship what was noted and say whether there was anything; a failure is kept and told to each check."""
        wanted, self._wanted = list(self._wanted), {}
        if wanted and self._failed is None:
            try:
                self._fetch(wanted)
            except Exception:
                return False  # `run` tells it again to whoever asks
        return bool(wanted)

    def _fetch(self, commands: list[str]) -> None:
        if self._failed is not None:
            raise self._failed
        self.round_trips += 1
        began = time.monotonic()
        try:
            self._known.update(self._ship(commands))
        except Exception as error:
            self._failed = error
            raise
        finally:
            self.seconds += time.monotonic() - began


def prefetch(checks: Iterable[Callable[[], Any]], *backends: BatchBackend) -> None:
    """Run the checks for their questions, in at most MAXIMUM_ROUNDS round trips; no outcome counts yet."""
    pending = list(checks)
    for backend in backends:
        backend.asking = True
    try:
        for _ in range(MAXIMUM_ROUNDS):
            pending = [check for check in pending if _asks(check)]
            if not any([backend.send() for backend in backends]):
                return
    finally:
        for backend in backends:
            backend.asking = False


def _asks(check: Callable[[], Any]) -> bool:
    try:
        check()
    except Pending:
        return True
    except Exception:
        return False  # it will fail again, and be heard, when it runs in earnest
    return False


def script(commands: list[str], *, seconds: int, prelude: str = "") -> tuple[str, str]:
    """Return the Python program that runs commands side by side, each for at most `seconds`, and its answers' mark."""
    mark = secrets.token_hex(16)
    encoded = base64.b64encode(json.dumps(commands).encode()).decode()
    limits = {"seconds": seconds, "command_bytes": _COMMAND_BYTES, "round_bytes": _ROUND_BYTES}
    return _SCRIPT.format(commands=encoded, mark=mark, prelude=prelude, **limits), mark


def answers(commands: list[str], printed: str, mark: str) -> tuple[float, Answers]:
    """Return the clock there (seconds since 1970) and each command's answer; raises ValueError for no answer at all."""
    _, found, text = printed.rpartition(mark)
    if not found:
        raise ValueError("no answer")
    clock, rows = json.loads(text)
    return clock, {
        command: (code, base64.b64decode(out), base64.b64decode(err))
        for command, (code, out, err) in zip(commands, rows, strict=True)
    }
