# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the steps of one task in turn and tells what was done."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import sys
import time

from . import certificate, digest, manifest, originals
from .disk import FileProblem, explained

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

KINDS = ("accounts", "capabilities", "certificate", "files", "guard", "packages", "sysctl", "units", "users")
# Stands before the result: a login shell's profile may print, too.
MARK = "== ratssaal_host =="
_AT_WORK = "/run/ratssaal/at-work"
_PATIENCE_SECONDS = 300


class Failed(Exception):
    """A step failed; `done` is the task's result."""

    def __init__(self, done: dict[str, Any]) -> None:
        super().__init__(done["msg"])
        self.done = done


class Step:
    """One step: what is asked of its kind's code, and whether steps before it changed anything."""

    def __init__(self, raw: Mapping[str, Any], task: Mapping[str, Any], before: dict[str, Any]) -> None:
        self.kind = next(kind for kind in KINDS if raw.get(kind) is not None)
        self.params = raw[self.kind]
        self.contents, self.settle = raw.get("contents", {}), raw.get("settle", 0)
        self.check_mode, self.diff = task["check_mode"], task["diff"]
        self.changed = before["changed"]
        self._task, self._noted = task, False
        self._before = before
        self._code = importlib.import_module("." + self.kind, __package__)
        self.done: dict[str, Any] = {}

    def bring(self) -> dict[str, Any]:
        """Bring the host into the wanted state and return what was done."""
        self.done = self._code.bring(self)
        return self.done

    def begins(self) -> None:
        """Note that the host changes now, so that what a kill leaves is not taken for somebody's own change."""
        if self._noted or self.check_mode or not self._task.get("part"):
            return
        try:
            files = [path for raw in self._task["steps"] for path in _paths(raw)]
            originals.keep(files)
            manifest.begin(self._task["part"], files)
            self._noted = True
        except (FileProblem, OSError) as problem:
            self.fail(msg="what is to change cannot be noted in %s: %s" % (digest.FOLDER, explained(problem)))

    def gives_up(self) -> None:
        """Forget that the host was to change: everything is as it was."""
        if self._task.get("part") and not self.check_mode:
            manifest.give_up(self._task["part"])

    def applied(self) -> list[dict[str, Any]] | None:
        """Return what the manifest keeps of this step, None where a later phase of the task tells."""
        return self._code.applied(self)

    def fail(self, msg: str, **done: Any) -> NoReturn:
        """End the task; what was done before is told, too. Raises Failed."""
        raise Failed(joined(self._before, done) | {"failed": True, "msg": msg})


def _paths(raw: Mapping[str, Any]) -> list[str]:
    """Return the files that a step may write."""
    found = [entry["dest"] for entry in (raw.get("files") or []) + (raw.get("guard") or {}).get("files", [])]
    found += [raw["sysctl"]["path"]] if raw.get("sysctl") else []
    return found + (certificate.paths(raw["certificate"]) if raw.get("certificate") else [])


def joined(before: Mapping[str, Any], done: Mapping[str, Any]) -> dict[str, Any]:
    """Return two results as one: lists one after the other, changed if either is."""
    both = dict(before)
    for key, value in done.items():
        both[key] = before.get(key, []) + value if isinstance(value, list) else before.get(key, False) or value
    return both


def run(task: Mapping[str, Any]) -> dict[str, Any]:
    """Take the steps of a task in turn, note in the manifest what was applied, and return the task's result."""
    result: dict[str, Any] = {"changed": False}
    steps, finished = [], False
    try:
        for raw in task["steps"]:
            step = Step(raw, task, result)
            result = joined(result, step.bring())
            steps.append(step)
        finished = True
    except Failed as failed:
        result = failed.done
    except (FileProblem, OSError) as problem:
        result = result | {"failed": True, "msg": explained(problem)}
    if task.get("part") and not task["check_mode"]:
        try:
            _note(task["part"], steps, finished)
        except (OSError, FileProblem) as problem:
            unnoted = "what was applied cannot be noted in %s: %s" % (digest.FOLDER, explained(problem))
            result = {"msg": unnoted} | result | {"failed": True}
    return result


def _note(part: dict[str, Any], steps: Sequence[Step], finished: bool) -> None:
    """Write a task's part of the manifest, also where a step failed: what the ones before it applied is there.

    A task of several phases is written by the one that found all of it in place. Where it fails the part of before stays, and so
    does the note that it has begun, unless it has put back the old state.
    """
    digest.make_key()
    items = [step.applied() for step in steps]
    if None not in items and (finished or part["phased"] is False):
        manifest.write(part, [item for several in items for item in several or ()], finished)


def _alone() -> None:
    """Wait until no other task works on this host: a run that was killed leaves its last one, and apt, to finish.

    The kernel keeps others out until this process ends, whatever ends it. Raises TimeoutError.
    """
    os.makedirs(os.path.dirname(_AT_WORK), mode=0o755, exist_ok=True)
    descriptor = os.open(_AT_WORK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError from None
            time.sleep(0.5)


def main() -> None:
    """Read the task from standard input, print its result."""
    # What is made on the way, by programs too, is as the roles and packages mean it, whatever root's log-in masks (UMASK 027).
    os.umask(0o022)
    task = json.loads(sys.stdin.buffer.read())
    try:
        _alone()
        done = run(task)
    except TimeoutError:
        busy = "another run is at work on this host since more than %s s. Hint: fuser -v %s"
        done = {"failed": True, "msg": busy % (_PATIENCE_SECONDS, _AT_WORK)}
    except OSError as problem:
        done = {"failed": True, "msg": explained(problem)}
    print("\n" + MARK + json.dumps(done), flush=True)
