"""How the checks' commands get to where they run: a host, or the vantage point outside."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from orchestrator.errors import Problem, Unreachable
from orchestrator.inventory.site import Host
from orchestrator.inventory.vantagepoint import VantagePoint
from orchestrator.transport import ssh
from orchestrator.transport.exchange import Answer
from orchestrator.verification.batch import Answers, answers, script

# One command, and all of a round trip: most of our commands take milliseconds, an emulated host a hundred times as long.
COMMAND_SECONDS = 30
SLOW_COMMAND_SECONDS = 120
INSIDE_SECONDS = 240
# The host says every two seconds that it is at work; one under full load is later, one that hangs says nothing.
SILENT_SECONDS = 30
OUTSIDE_SECONDS = 120
# The answers are told before the one who waits for them gives up.
_TELLING_SECONDS = 20
_PASSWORD = "the user may become root without a password: visudo -f /etc/sudoers.d/ratssaal"
# Pure Python, shipped along with the probes: the vantage point needs no more than python3.
LIBRARIES = ("aioice", "dns", "ifaddr", "websockets")


class Line:
    """A connection to one host, opened when it is first needed; several checks may use it at once.

    `clock_offset` is how far the host's clock is ahead of the control node's, in seconds, once it was asked anything.
    """

    def __init__(self, host: Host, known_hosts: Path) -> None:
        self._host = host
        self._known_hosts = known_hosts
        self._lock = threading.Lock()
        self._connection: ssh.Connection | None = None
        self._failed: Exception | None = None
        self.clock_offset: float | None = None

    def ship(self, commands: list[str]) -> Answers:
        """Run commands on the host as root; raises ConnectionFailed, or Unreachable where the host did not run them."""
        together = INSIDE_SECONDS - _TELLING_SECONDS
        program, mark = script(commands, seconds=COMMAND_SECONDS, most=SLOW_COMMAND_SECONDS, together=together)
        began = time.time()
        answer = self._run(program)
        try:
            clock, rows = answers(commands, answer.stdout, mark)
        except ValueError as error:
            said = answer.stderr.strip()[-300:] or f"exit code {answer.code}"
            hint = _PASSWORD if "password" in said else "look at what a login prints: ssh HOST true"
            raise Unreachable([Problem(f"the checks' commands did not run: {said}", self._host.name, hint)]) from error
        self.clock_offset = min(clock - began, 0.0) + max(clock - time.time(), 0.0)
        return rows

    def _run(self, program: str) -> Answer:
        """Run a program as root. A host that hangs, or answers without end, costs its time once, whoever asks it after that."""
        connection, command = self.connection(), ssh.PYTHON_AS_ROOT
        try:
            return connection.run(program, command=command, timeout=INSIDE_SECONDS, silent=SILENT_SECONDS)
        except Unreachable as error:
            self._failed = error
            raise

    def open_soon(self) -> None:
        """Begin to open the connection: hosts let us in while the checks are still being read. A failure is told to who asks."""

        def opened() -> None:
            with suppress(Exception):
                self.connection()

        threading.Thread(target=opened, daemon=True).start()

    def connection(self) -> ssh.Connection:
        """Return the open connection; raises what opening it raised, at once when it has failed before."""
        with self._lock:
            if self._failed is not None:
                raise self._failed
            if self._connection is None:
                try:
                    self._connection = ssh.connect(self._host, self._known_hosts)
                except Exception as error:
                    self._failed = error
                    raise
            return self._connection

    def close(self) -> None:
        """Close the connection if it was opened."""
        if self._connection is not None:
            self._connection.close()


class Vantage:
    """The vantage point: runs commands there, with the probes at `$RATSSAAL_PROBES`.

    Secrets reach the probes through memory only: they stand in no file, no argument and no variable.
    """

    def __init__(self, point: VantagePoint, key_file: str, known_hosts: Path, secrets: Mapping[str, str]) -> None:
        self.point = point
        self._secrets = dict(secrets)
        host = Host("vantage point", point.name, "", point.port, point.user, key_file, ())
        self._line = Line(host, known_hosts) if point.kind == "ssh" else None
        self._lock = threading.Lock()
        self._folder = ""
        self._failed: Exception | None = None
        self._asked: dict[str, Future[tuple[int, bytes, bytes]]] = {}

    def ship(self, commands: list[str]) -> Answers:
        """Run commands at the vantage point; raises Unreachable where that is not possible.

        What several checks ask, such as a whole conversation, is asked once: the others wait for its answer.
        """
        with self._lock:
            new = [command for command in dict.fromkeys(commands) if command not in self._asked]
            self._asked.update({command: Future() for command in new})
        try:
            told = self._ask(new) if new else {}
        except BaseException as error:
            for command in new:
                self._asked[command].set_exception(error)
            raise
        for command, row in told.items():
            self._asked[command].set_result(row)
        return {command: self._asked[command].result() for command in commands}

    def _ask(self, commands: list[str]) -> Answers:
        seconds = OUTSIDE_SECONDS
        program, mark = script(commands, seconds=seconds, together=seconds, prelude=self._prelude())
        printed, said = self._run(program, seconds + _TELLING_SECONDS)
        try:
            return answers(commands, printed, mark)[1]
        except ValueError as error:
            hint = "it needs python3; verification_vantage names it"
            message = f"the vantage point ({self.point}) ran no command: {said.strip()[-300:]}"
            raise Unreachable([Problem(message, "", hint)]) from error

    def close(self) -> None:
        """Remove what was brought there and close the connection."""
        if self._folder:
            self._run(f"import shutil; shutil.rmtree({self._folder!r}, ignore_errors=True)", 20)
        if self._line is not None:
            self._line.close()

    def _prelude(self) -> str:
        """Return what lets commands find the probes; brings them there once."""
        with self._lock:
            if self._failed is not None:
                raise self._failed
            if not self._folder:
                try:
                    self._folder = self._bring()
                except Unreachable as error:
                    self._failed = error
                    raise
        encoded = base64.b64encode(json.dumps(self._secrets).encode()).decode()
        return (
            f"{'' if self._line else _own_python()}os.environ['RATSSAAL_PROBES'] = {self._folder + '/probes.zip'!r}\n"
            f"FILES = (os.memfd_create('secrets'),); os.write(FILES[0], base64.b64decode('{encoded}'))\n"
            "os.environ['RATSSAAL_PROBE_SECRETS'] = f'/dev/fd/{FILES[0]}'\n"
        )

    def _bring(self) -> str:
        encoded = base64.b64encode(packed_probes()).decode()
        program = (
            "import base64, pathlib, tempfile\n"
            "folder = pathlib.Path(tempfile.mkdtemp(prefix='ratssaal-probes-'))\n"
            f"(folder / 'probes.zip').write_bytes(base64.b64decode('{encoded}'))\n"
            "print(); print(folder)\n"
        )
        printed, said = self._run(program, 60)
        lines = printed.split()
        if not lines:
            hint = "it needs python3; verification_vantage names it"
            raise Unreachable([Problem(f"the vantage point ({self.point}) does not answer: {said[-300:]}", "", hint)])
        return lines[-1]

    def _run(self, program: str, seconds: int) -> tuple[str, str]:
        """Run a Python program there, given by standard input; return what it printed on both outputs."""
        if self._line is not None:
            answer = self._line.connection().run(program, command="python3 -", timeout=seconds)
            return answer.stdout, answer.stderr
        prefix = ["ip", "netns", "exec", self.point.name] if self.point.kind == "netns" else []
        # The commands belong to the tool's own session: one that is interrupted leaves nothing running.
        argv = ["setpriv", "--pdeathsig", "TERM", "--", *prefix, sys.executable, "-"]
        try:
            done = subprocess.run(
                argv, input=program, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            message = f"the vantage point ({self.point}) cannot be used: {error}"
            raise Unreachable([Problem(message, "", "verification_vantage names it")]) from error
        return done.stdout, done.stderr


def _own_python() -> str:
    """Return what puts our own Python first: the python3 on PATH may be a version manager's shim, ten times as slow to start."""
    folder = str(Path(sys.executable).parent)
    return (
        f"os.environ['RATSSAAL_PYTHON'] = {sys.executable!r}\n"
        f"os.environ['PATH'] = {folder!r} + os.pathsep + os.environ.get('PATH', os.defpath)\n"
    )


def packed_probes() -> bytes:
    """Return the probes and the libraries that they use as one zip file that Python can run."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", "from ratssaal_probes.__main__ import main\nmain()\n")
        _add(archive, Path(__file__).parent / "probes", "ratssaal_probes")
        for name in LIBRARIES:
            spec = find_spec(name)
            if spec is None or not spec.submodule_search_locations:
                raise LookupError(f"the library {name} is not installed")
            _add(archive, Path(spec.submodule_search_locations[0]), name)
    return packed.getvalue()


def _add(archive: zipfile.ZipFile, folder: Path, name: str) -> None:
    for path in sorted(folder.rglob("*.py")):
        archive.write(path, f"{name}/{path.relative_to(folder)}")
