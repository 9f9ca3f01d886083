"""A testinfra backend that collects the checks' commands and ships them together: few round trips a host.

Every check is first run for its questions only: an unknown command is noted and the check is left by an exception. All
noted commands go to the host in one script; then the checks run again and get the answers. A check that asks for more,
depending on an answer, gets it in the next round. After MAXIMUM_ROUNDS a command is asked on its own, and counted.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult

MAXIMUM_ROUNDS = 3
# What one command may print, and all of a round trip together: far above any honest answer, far below a host's memory.
_COMMAND_BYTES = 8 << 20
_ROUND_BYTES = 32 << 20
# A command may take this many times as long as the import of a few modules: that takes 0.1 s on a small server.
_PACE = 40
# Runs where the commands are to run. They run side by side; what one prints cannot be mistaken for the answer of another,
# nor what a shell's profile prints for an answer: the answers follow a mark that nobody can guess. A command that does not
# end, or prints without end, is killed with everything that it started; all are when the program itself is told to end, or
# when nobody listens any more to the empty lines that it prints meanwhile: by them, a slow host is told from one that hangs.
# What is a Python program itself runs in a fork that has most modules already: importing them costs more than most programs do.
# How long importing them takes tells how slow the host is just now, and how much more time a command gets there.
_SCRIPT = """
import os, threading, time
BEGAN = time.monotonic()
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
import base64, concurrent.futures, glob, json, pathlib, pwd, re, selectors, shlex, signal, socket, stat, subprocess, sys
import traceback, warnings
{prelude}
SECONDS = min({most}, max({seconds}, round({pace} * (time.monotonic() - BEGAN))))
class Fork:
    "A Python program that waits for its start; it is made while there is no other thread that holds a lock."
    def __init__(self, program, argv):
        (stdin, self.start), (self.stdout, stdout), (self.stderr, stderr) = (os.pipe() for _ in range(3))
        self.returncode, self.pid = None, os.fork()
        if not self.pid:
            be(program, argv, (stdin, stdout, stderr))
        for end in (stdin, stdout, stderr):
            os.close(end)
        self.stdout, self.stderr = open(self.stdout, "rb", 0), open(self.stderr, "rb", 0)
    def __enter__(self):
        os.write(self.start, b"s")
        os.close(self.start)
        return self
    def __exit__(self, *_):
        self.stdout.close()
        self.stderr.close()
        if self.returncode is None:
            os.waitpid(self.pid, 0)
    def wait(self, seconds):
        ends = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                return
            if time.monotonic() > ends:
                raise subprocess.TimeoutExpired(self.pid, seconds)
            time.sleep(0.002)
def be(program, argv, ends):
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number, end in enumerate(ends):
        os.dup2(end, number)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number not in FILES:
            try:
                os.close(number)
            except OSError:
                pass
    if not os.read(0, 1):
        os._exit(0)
    code = 1
    names = {{"encoding": sys.stdout.encoding, "errors": sys.stdout.errors, "closefd": False}}
    sys.argv, sys.stdout, sys.stderr = argv, open(1, "w", **names), open(2, "w", **names)
    try:
        exec(compile(program, "<string>", "exec"), {{"__name__": "__main__"}})
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0 if left.code is None else print(left.code, file=sys.stderr) or 1
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 255)
signal.signal(signal.SIGTERM, end)
def read(child):
    ends, size, parts = time.monotonic() + SECONDS, 0, {{child.stdout: [], child.stderr: []}}
    with selectors.PollSelector() as pipes:
        for pipe in parts:
            pipes.register(pipe, selectors.EVENT_READ)
        while pipes.get_map():
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {{SECONDS}} s")
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
        raise TimeoutError(f"no answer within {{SECONDS}} s")
    return [b"".join(told) for told in parts.values()]
def begun(command):
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=quiet, stdout=pipe, stderr=pipe, start_new_session=True, pass_fds=FILES
    )
def run(command):
    with begun(command) if isinstance(command, str) else command as child:
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
# The one other thread prints empty lines, and imports nothing.
warnings.simplefilter("ignore", DeprecationWarning)
commands = [command if isinstance(command, str) else Fork(*command) for command in commands]
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


def script(commands: list[str], *, seconds: int, most: int = 0, prelude: str = "") -> tuple[str, str]:
    """Return the Python program that runs commands side by side, and its answers' mark.

    Each may take `seconds`, and on a host that is slow just now up to `most`.
    """
    mark = secrets.token_hex(16)
    encoded = base64.b64encode(json.dumps([_program(command) or command for command in commands]).encode()).decode()
    limits = {
        "seconds": seconds,
        "most": max(most, seconds),
        "pace": _PACE,
        "command_bytes": _COMMAND_BYTES,
        "round_bytes": _ROUND_BYTES,
    }
    return _SCRIPT.format(commands=encoded, mark=mark, prelude=prelude, **limits), mark


_HERE_DOCUMENT = re.compile(r"python3 - <<'END'\n(.*)\nEND\n*", re.DOTALL)


def _program(command: str) -> tuple[str, list[str]] | None:
    """Return the Python program, with its sys.argv, that a shell command is and nothing else."""
    found = _HERE_DOCUMENT.fullmatch(command)
    if found is not None:
        return found.group(1), ["-"]
    if not command.startswith("python3 -c "):
        return None
    words = shlex.split(command)
    return (words[2], ["-c", *words[3:]]) if shlex.join(words) == command else None


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
