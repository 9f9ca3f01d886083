"""The one module that starts pytest: the child process that runs the checks, and what it gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKS = Path(__file__).parent / "checks"
# By its name: to import it would import pytest and testinfra, which only the child needs.
_PLUGIN = "orchestrator.verification.plugin"
# The file descriptor from which the child reads its job: it holds secrets, so it lies in no file and in no variable.
JOB = "RATSSAAL_VERIFY_JOB"
# For one host; each further one has its port scan and, where it hangs, the time until that is known.
_SECONDS = 600
_SECONDS_MORE = 60
# testinfra's own plugin would add hosts of its own; its backend class is all that the checks need. The others have work with
# each check, together as much as the check itself.
_WITHOUT = (
    *("pytest11.testinfra", "xdist", "cacheprovider", "logging", "warnings", "unraisableexception", "threadexception"),
    *("faulthandler", "doctest", "unittest", "junitxml", "pastebin", "stepwise", "setuponly", "setupplan", "recwarn"),
    "subtests",
)
_GRACE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Ran:
    """What the child process gave: its lines, what it printed, and how it ended, None where its time was over."""

    rows: list[dict[str, Any]]
    output: str
    code: int | None
    seconds: int = _SECONDS

    @property
    def whole(self) -> bool:
        """Say whether pytest collected and ran everything: all checks passed, some failed, or there was none to run."""
        return self.code in (0, 1, 5)

    @property
    def end(self) -> str:
        """Return how it ended, in words."""
        ended = f"were ended after {self.seconds} s" if self.code is None else f"ended with {self.code}"
        return f"the checks {ended}: {' '.join(self.output.split())[-300:]}"


def run(job: dict[str, Any], tell: Callable[[Mapping[str, Any]], None]) -> Ran:
    """Run the checks in a child process."""
    seconds = _limit(len(job["hosts"]))
    with tempfile.TemporaryDirectory(prefix="ratssaal-verify-") as folder:
        results, output = (Path(folder) / name for name in ("results.jsonl", "output"))
        results.touch()
        described = os.memfd_create("job")
        try:
            os.write(described, json.dumps({**job, "results": str(results)}, default=str).encode())
            os.lseek(described, 0, os.SEEK_SET)
            with output.open("wb") as printed:
                child = subprocess.Popen(
                    _argv(),
                    env={**_environment(), JOB: str(described)},
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=printed,
                    pass_fds=(described,),
                )
        finally:
            os.close(described)
        try:
            rows = list(_follow(child, results, tell, seconds))
            code = child.poll()
        finally:
            _end(child)
        return Ran(rows, output.read_text(errors="replace"), code, seconds)


def _limit(hosts: int) -> int:
    """Return the seconds that all checks of so many hosts have together."""
    return _SECONDS + _SECONDS_MORE * (hosts - 1)


def _environment() -> dict[str, str]:
    """Return our environment without what somebody wants of other runs of pytest, such as to stop at the first failure."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let the child leave nothing at the vantage point; kill it when it does not end."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _argv() -> list[str]:
    # The checks note what they see on a sheet and assert nothing, so that there is nothing to rewrite.
    options = ["-q", "-s", "--assert=plain", "--tb=line", "-c", os.devnull, f"--rootdir={CHECKS}"]
    without = [word for name in _WITHOUT for word in ("-p", f"no:{name}")]
    return [sys.executable, "-m", "pytest", *options, "-p", _PLUGIN, *without, str(CHECKS)]


def _follow(
    child: subprocess.Popen[bytes], results: Path, tell: Callable[[Mapping[str, Any]], None], seconds: int
) -> Iterator[dict[str, Any]]:
    deadline = time.monotonic() + seconds
    with results.open(encoding="utf-8") as lines:
        rest, ended = "", False
        while True:
            rest += lines.read()
            *whole, rest = rest.split("\n")
            for line in whole:
                row = json.loads(line)
                tell(row)
                yield row
            if ended or time.monotonic() > deadline:
                return
            ended = child.poll() is not None
            if not ended:
                time.sleep(0.05)
