"""Wall time and CPU time of a child process and all of its children."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took: seconds of wall time and of CPU on this machine; and what it printed."""

    wall: float
    cpu: float
    output: str = ""


def cost(argv: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> Cost:
    """Run `argv` once and return its cost; a command that fails raises CalledProcessError."""
    before = os.times()
    begun = time.monotonic()
    done = subprocess.run(argv, cwd=cwd, env=env, check=True, capture_output=True, text=True)
    wall = time.monotonic() - begun
    after = os.times()
    cpu = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return Cost(wall=wall, cpu=cpu, output=done.stdout)


def alternate(first: list[str], second: list[str], *, rounds: int) -> tuple[Cost, Cost]:
    """Return the median costs of two commands run in turn, so that a drifting machine hits both alike."""
    costs: tuple[list[Cost], list[Cost]] = ([], [])
    for _ in range(rounds):
        costs[0].append(cost(first))
        costs[1].append(cost(second))
    one, two = (Cost(median(each.wall for each in rows), median(each.cpu for each in rows)) for rows in costs)
    return one, two
