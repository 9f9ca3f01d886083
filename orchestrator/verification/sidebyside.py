"""Runs where the commands of checks are to run, fed to Python by standard input behind a line that sets PARAMETERS.

The commands run side by side; what one prints cannot be mistaken for the answer of another, nor what a shell's profile prints
for an answer: the answers follow a mark that nobody can guess. A command that does not end, or prints without end, is killed
with everything that it started; all are when the program itself is told to end, or when nobody listens any more to the empty
lines that it prints meanwhile: by them, a slow host is told from one that hangs. What is a Python program itself runs in a fork
that has most modules already: importing them costs more than most programs do. How long importing them takes tells how slow the
host is just now, and how much more time a command gets there. All commands together have their time, too: where many wait for a
service that says nothing, those whose turn does not come are told as such, and the answers of the others are kept.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-any-generics
# PARAMETERS stand before it, modules are imported late, and files stay open on purpose.
# ruff: noqa: E402, F401, F821, SIM105, SIM115
import os
import threading
import time

PARAMETERS: dict
BEGAN = time.monotonic()


def end(*_):
    """Kill everything that was started, and end."""
    for group in list(RUNNING):
        try:
            os.killpg(group, 9)
        except OSError:
            pass
    os._exit(1)


def beat():
    """Print an empty line now and then, until all is done; end where nobody listens."""
    while True:
        try:
            print(flush=True)
        except OSError:
            end()
        if DONE.wait(2):
            return


FILES: tuple = ()
RUNNING: set = set()
KEPT: list = []
DONE = threading.Event()
# Before the other modules are there: just after its boot, that took an emulated host more than 20 s.
beats = threading.Thread(target=beat, daemon=True)
beats.start()
# Some of them for the forks only.
import base64
import concurrent.futures
import glob
import json
import pathlib
import pwd
import re
import selectors
import shlex
import signal
import socket
import stat
import subprocess
import sys
import traceback
import warnings

exec(PARAMETERS["prelude"])
SECONDS = min(PARAMETERS["most"], max(PARAMETERS["seconds"], round(PARAMETERS["pace"] * (time.monotonic() - BEGAN))))
# For what a command asks one after the other: three of these fit into its time, which is longer on a slow host.
os.environ["PATIENCE"] = str(max(1, SECONDS * 3 // 10))


def left():
    """Return the seconds that are left for all commands together."""
    return PARAMETERS["together"] - (time.monotonic() - BEGAN)


class Fork:
    """A Python program that waits for its start; it is made while there is no other thread that holds a lock."""

    def __init__(self, program, argv):
        (stdin, self.start), (out, stdout), (err, stderr) = (os.pipe() for _ in range(3))
        self.returncode, self.pid = None, os.fork()
        if not self.pid:
            be(program, argv, (stdin, stdout, stderr))
        for end in (stdin, stdout, stderr):
            os.close(end)
        self.stdout, self.stderr = open(out, "rb", 0), open(err, "rb", 0)

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
                raise subprocess.TimeoutExpired("a fork", seconds)
            time.sleep(0.002)


def be(program, argv, ends):
    """Become a Python program, once it is started."""
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
    names: dict = {"encoding": sys.stdout.encoding, "errors": sys.stdout.errors, "closefd": False}
    sys.argv, sys.stdout, sys.stderr = argv, open(1, "w", **names), open(2, "w", **names)
    try:
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as left:
        code = (
            left.code
            if isinstance(left.code, int)
            else 0
            if left.code is None
            else print(left.code, file=sys.stderr) or 1
        )
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 255)


signal.signal(signal.SIGTERM, end)


def read(child):
    """Return what a child prints on both outputs until it ends, within its time and its bytes."""
    seconds, size = min(SECONDS, max(0, left())), 0
    ends = time.monotonic() + seconds
    parts: dict = {child.stdout: [], child.stderr: []}
    with selectors.PollSelector() as pipes:
        for pipe in parts:
            pipes.register(pipe, selectors.EVENT_READ)
        while pipes.get_map():
            rest = ends - time.monotonic()
            if rest <= 0:
                raise TimeoutError(f"no answer within {seconds:.0f} s")
            for key, _ in pipes.select(rest):
                part = os.read(key.fd, 65536)
                parts[key.fileobj].append(part)
                size += len(part)
                if not part:
                    pipes.unregister(key.fileobj)
            if size > PARAMETERS["command_bytes"]:
                raise OverflowError(f"more than {PARAMETERS['command_bytes']} bytes of output")
    if sum(KEPT) + size > PARAMETERS["round_bytes"]:
        raise OverflowError(f"more than {PARAMETERS['round_bytes']} bytes of output with that of the other commands")
    KEPT.append(size)
    try:
        child.wait(max(0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    return [b"".join(told) for told in parts.values()]


def begun(command):
    """Start a shell's command."""
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=quiet, stdout=pipe, stderr=pipe, start_new_session=True, pass_fds=FILES
    )


def run(command):
    """Return a command's exit code and its outputs; 124, and why, where it had to be killed or could not begin."""
    if left() <= 0:
        late = f"its turn did not come: the others took all of {PARAMETERS['together']} s"
        return [124, "", base64.b64encode(late.encode()).decode()]
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


commands = json.loads(base64.b64decode(PARAMETERS["commands"]))
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
print("\n" + PARAMETERS["mark"] + json.dumps([now, rows]))
