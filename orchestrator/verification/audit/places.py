"""Where auditors run: at the vantage point, or on the host as root, each within its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.inventory.site import Host, Site
from orchestrator.inventory.vantagepoint import VantagePoint
from orchestrator.transport import ssh
from orchestrator.verification.subject import Subject

# Several auditors begin at once, which a slow host takes its time to let in.
_CONNECT_SECONDS = 60
# No program of this name, by POSIX's shell.
MISSING = 127
# Python programs whose libraries fight with ours have an environment of their own beside our interpreter's.
AUDITORS = Path(sys.prefix) / "auditors/bin"


class OutOfTime(Exception):
    """An auditor did not end within its time."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a script printed, and with which code it ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """Return the end of what it complained of."""
        return (self.stderr.strip() or self.stdout.strip())[-300:] or f"exit code {self.code}"


class Outside:
    """The vantage point: the control node, a network namespace of it, or a host that is reached by SSH."""

    def __init__(self, point: VantagePoint, key_file: str, known_hosts: Path) -> None:
        self.point = point
        self._host = Host("vantage point", point.name, "", point.port, point.user, key_file, ())
        self._known_hosts = known_hosts

    def run(self, script: str, *, seconds: int) -> Ran:
        """Run a shell script there; raises OutOfTime, or Unreachable where the vantage point does not answer."""
        if self.point.kind == "ssh":
            return self._by_ssh(script, seconds)
        prefix = ["ip", "netns", "exec", self.point.name] if self.point.kind == "netns" else []
        return run_here([*prefix, "sh", "-s"], script, seconds=seconds)

    def _by_ssh(self, script: str, seconds: int) -> Ran:
        with ssh.connect(self._host, self._known_hosts) as connection:
            return run_there(connection, script, seconds=seconds)


def run_here(argv: list[str], given: str, *, seconds: int) -> Ran:
    """Run a program of this machine with everything that it starts; raises OutOfTime after having ended all of it."""
    ours = f"{AUDITORS}:{Path(sys.executable).parent}"
    child = subprocess.Popen(
        # What a killed session started must not go on.
        ["setpriv", "--pdeathsig", "TERM", "--", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', '')}:{ours}"},
    )
    try:
        stdout, stderr = child.communicate(given, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise OutOfTime(f"it did not end within {seconds} s") from error
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    return Ran(child.returncode, stdout, stderr)


def run_there(connection: ssh.Connection, program: str, *, seconds: int, command: str = "sh -s") -> Ran:
    """Run a program by SSH; raises OutOfTime."""
    began = time.monotonic()
    try:
        answer = connection.run(program, command=command, timeout=seconds)
    except ssh.ConnectionFailed as error:
        # A host that does not even begin is another fault.
        if error.reason is ssh.Reason.TIMEOUT and time.monotonic() - began >= seconds:
            raise OutOfTime(f"it did not end within {seconds} s") from error
        raise
    return Ran(answer.code, answer.stdout, answer.stderr)


@dataclass(frozen=True, slots=True)
class Target:
    """One host for the auditors: what the inventory says of it, and the ways to it."""

    site: Site
    host: Host
    subject: Subject
    outside: Outside
    # Private to this host: raw outputs are written here and nowhere else.
    folder: Path

    def as_root(self, program: str, *, seconds: int) -> Ran:
        """Run a Python program on the host as root; raises OutOfTime, or ConnectionFailed."""
        with ssh.connect(self.host, self.site.known_hosts, timeout=_CONNECT_SECONDS) as connection:
            return run_there(connection, program, seconds=seconds, command=ssh.PYTHON_AS_ROOT)

    def keep(self, name: str, text: str) -> str:
        """Write a raw output and return the name of its file; the name is the auditor's, the host's is put before it."""
        file = self.folder / f"{self.host.name}-{name}"
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
        return file.name
