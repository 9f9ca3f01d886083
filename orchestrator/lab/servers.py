"""Servers for a lab's hosts, in the background of this machine; each is known by a word of its command line and its directory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.lab import processes

_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Server:
    """A Python module that serves from a lab's directory, where its log lies, too."""

    module: str
    log: str

    def serve(self, folder: Path, arguments: list[str], answers: Callable[[], bool]) -> bool:
        """Start it until `end`, unless it runs, and wait until it answers; False if it does not after 20 s."""
        if not self._ids(folder):
            argv = ["setsid", "--fork", sys.executable, "-m", self.module, *arguments]
            with (folder / self.log).open("ab") as log:
                subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        deadline = time.monotonic() + _SECONDS
        while not answers():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def end(self, folder: Path) -> bool:
        """End it; False if none ran."""
        found = bool(self._ids(folder))
        processes.kill_all(lambda: self._ids(folder), seconds=5)
        return found

    def _ids(self, folder: Path) -> list[int]:
        """Return the processes that were started in the lab's directory, also if that is deleted meanwhile."""
        running = processes.command_lines()
        return [pid for pid, words in running if self.module in words and processes.works_in(pid, folder)]
