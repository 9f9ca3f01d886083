# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the steps of one task in turn and tells what was done."""

from __future__ import annotations

import importlib
import json
import sys

KINDS = ("accounts", "capabilities", "certificate", "files", "guard", "packages", "sysctl", "units")
# Stands before the result: a login shell's profile may print, too.
MARK = "== ratssaal_host =="


class Failed(Exception):
    """A step failed; `done` is the task's result."""

    def __init__(self, done):
        super().__init__(done["msg"])
        self.done = done


class Step:
    """One step: what is asked of its kind's code, and whether steps before it changed anything."""

    def __init__(self, raw, task, before):
        self.kind = next(kind for kind in KINDS if raw.get(kind) is not None)
        self.params = raw[self.kind]
        self.contents, self.settle = raw.get("contents", {}), raw.get("settle", 0)
        self.check_mode, self.diff = task["check_mode"], task["diff"]
        self.changed = before["changed"]
        self._before = before

    def bring(self):
        """Bring the host into the wanted state and return what was done."""
        return importlib.import_module("." + self.kind, __package__).bring(self)

    def fail(self, msg, **done):
        """End the task; what was done before is told, too. Raises Failed."""
        raise Failed(joined(self._before, done) | {"failed": True, "msg": msg})


def joined(before, done):
    """Return two results as one: lists one after the other, changed if either is."""
    both = dict(before)
    for key, value in done.items():
        both[key] = before.get(key, []) + value if isinstance(value, list) else before.get(key, False) or value
    return both


def run(task):
    """Take the steps of a task in turn and return its result."""
    result = {"changed": False}
    try:
        for raw in task["steps"]:
            result = joined(result, Step(raw, task, result).bring())
    except Failed as failed:
        return failed.done
    return result


def main():
    """Read the task from standard input, print its result."""
    print("\n" + MARK + json.dumps(run(json.loads(sys.stdin.buffer.read()))), flush=True)
