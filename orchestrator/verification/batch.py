"""A testinfra backend that collects the checks' commands and ships them together: few round trips a host.

Every check is first run for its questions only: an unknown command is noted and the check is left by an exception. All
noted commands go to the host in one script; then the checks run again and get the answers. A check that asks for more,
depending on an answer, gets it in the next round. After MAXIMUM_ROUNDS a command is asked on its own, and counted.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult

from orchestrator.inventory.site import Host
from orchestrator.transport import ssh

MAXIMUM_ROUNDS = 3
COMMAND_SECONDS = 20
_AS_ROOT = "sh -c 'if [ \"$(id -u)\" = 0 ]; then exec python3 -; else exec sudo -n python3 -; fi'"
# Runs on the host. Commands run side by side; what one prints cannot be mistaken for the answer of another.
_SCRIPT = """
import base64, concurrent.futures, json, subprocess
def run(command):
    try:
        quiet = subprocess.DEVNULL
        done = subprocess.run(["/bin/sh", "-c", command], stdin=quiet, capture_output=True, timeout={seconds})
        row = (done.returncode, done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        row = (124, b"", b"no answer within {seconds} s")
    return [row[0], base64.b64encode(row[1]).decode(), base64.b64encode(row[2]).decode()]
commands = json.loads(base64.b64decode("{commands}"))
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(json.dumps(list(pool.map(run, commands))))
"""

Answers = Mapping[str, tuple[int, bytes, bytes]]
Ship = Callable[[list[str]], Answers]


class Pending(BaseException):
    """Raised in a round of questions where an answer is not known yet; no check catches it by accident."""


class BatchBackend(BaseBackend):  # type: ignore[misc]
    """Answers from what was shipped. `ship` sends commands to the host and returns their answers."""

    NAME = "batch"

    def __init__(self, hostname: str, ship: Ship) -> None:
        super().__init__(hostname)
        self._ship = ship
        self._encoding = "utf-8"
        self._known: dict[str, tuple[int, bytes, bytes]] = {}
        self._wanted: dict[str, None] = {}
        self.asking = False
        self.round_trips = 0

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

    def prefetch(self, checks: Iterable[Callable[[], Any]]) -> None:
        """Run the checks for their questions, in at most MAXIMUM_ROUNDS round trips; no outcome counts yet."""
        pending = list(checks)
        self.asking = True
        try:
            for _ in range(MAXIMUM_ROUNDS):
                pending = [check for check in pending if _asks(check)]
                if not self._wanted:
                    return
                self._fetch(list(self._wanted))
                self._wanted.clear()
        finally:
            self.asking = False

    def _fetch(self, commands: list[str]) -> None:
        self.round_trips += 1
        self._known.update(self._ship(commands))


def _asks(check: Callable[[], Any]) -> bool:
    try:
        check()
    except Pending:
        return True
    except Exception:
        return False  # it will fail again, and be heard, when it runs in earnest
    return False


def ship_by_ssh(host: Host, connection: ssh.Connection) -> Ship:
    """Return how to send commands to a host over an open connection, as root."""

    def ship(commands: list[str]) -> Answers:
        encoded = base64.b64encode(json.dumps(commands).encode()).decode()
        script = _SCRIPT.format(seconds=COMMAND_SECONDS, commands=encoded)
        answer = connection.run(script, command=_AS_ROOT, timeout=3 * COMMAND_SECONDS)
        if answer.code != 0:
            raise RuntimeError(f"{host.name} did not run the checks' commands: {answer.stderr.strip()[-300:]}")
        rows = json.loads(answer.stdout)
        return {
            command: (code, base64.b64decode(out), base64.b64decode(err))
            for command, (code, out, err) in zip(commands, rows, strict=True)
        }

    return ship
