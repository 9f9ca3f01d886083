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
from pathlib import Path
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult

MAXIMUM_ROUNDS = 3
# What one command may print, and all of a round trip together: far above any honest answer, far below a host's memory.
_COMMAND_BYTES = 8 << 20
_ROUND_BYTES = 32 << 20
# A command may take this many times as long as the import of a few modules: that takes 0.1 s on a small server.
_PACE = 40
_SCRIPT = Path(__file__).with_name("sidebyside.py").read_text(encoding="utf-8")

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


def script(
    commands: list[str], *, seconds: int, most: int = 0, together: int = 3600, prelude: str = ""
) -> tuple[str, str]:
    """Return the Python program that runs commands side by side, and its answers' mark.

    Each may take `seconds`, and on a host that is slow just now up to `most`; all of them may take `together`.
    """
    mark = secrets.token_hex(16)
    encoded = base64.b64encode(json.dumps([_program(command) or command for command in commands]).encode()).decode()
    parameters = {
        "commands": encoded,
        "mark": mark,
        "prelude": prelude,
        "seconds": seconds,
        "most": max(most, seconds),
        "together": together,
        "pace": _PACE,
        "command_bytes": _COMMAND_BYTES,
        "round_bytes": _ROUND_BYTES,
    }
    return f"PARAMETERS = {parameters!r}\n{_SCRIPT}", mark


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
