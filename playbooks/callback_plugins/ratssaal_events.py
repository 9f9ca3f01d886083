# Copyright: Ratssaal
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt)
"""Writes what a run does as JSON Lines, so that Ratssaal can show progress and keep a journal.

Only whitelisted fields are written, never a task's arguments or its result: those may hold secrets.
"""

from __future__ import annotations

DOCUMENTATION = """
name: ratssaal_events
type: notification
short_description: Events of a run as JSON Lines
description:
  - Writes one JSON object a line to the file that the environment variable C(RATSSAAL_EVENTS) names.
  - Without the variable it does nothing.
requirements:
  - enabled by C(callbacks_enabled)
"""

import json
import os
import time
from typing import Any, TextIO

from ansible.plugins.callback import CallbackBase

_MESSAGE_LENGTH = 2000
# What our own actions say of what they changed: paths, packages, units and settings, never a content.
_CHANGES = ("changed_paths", "actions", "changed_settings")


class CallbackModule(CallbackBase):
    """Notification callback: one line an event, flushed at once."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "ratssaal_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        path = os.environ.get("RATSSAAL_EVENTS", "")
        self._file: TextIO | None = open(path, "a", encoding="utf-8") if path else None  # noqa: SIM115
        self._started: dict[str, float] = {}

    def _write(self, event: str, **fields: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"event": event, "at": round(time.time(), 3), **fields}) + "\n")
            self._file.flush()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Tell that a step begins."""
        self._write("play", name=play.get_name())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Tell that a task begins."""
        self._started[task._uuid] = time.monotonic()
        self._write("task", name=task.get_name(), action=task.action)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Tell a result; `changed` is a word of its own."""
        self._result(result, "changed" if result.is_changed() else "ok", changes=self._changes(result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Tell a failure with its first lines."""
        self._result(result, "ignored" if ignore_errors else "failed", self._message(result))

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Tell that a task did not apply."""
        self._result(result, "skipped")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Tell that a host could not be reached."""
        self._result(result, "unreachable", self._message(result))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Tell each host's sums at the end."""
        self._write("stats", hosts={host: stats.summarize(host) for host in sorted(stats.processed)})

    def _result(self, result: Any, status: str, message: str = "", changes: tuple[str, ...] = ()) -> None:
        task = result.task if hasattr(result, "task") else result._task
        host = result.host if hasattr(result, "host") else result._host
        seconds = time.monotonic() - self._started.get(task._uuid, time.monotonic())
        fields: dict[str, Any] = {"host": host.get_name(), "task": task.get_name(), "action": task.action}
        if message:
            fields["message"] = message
        if changes:
            fields["changes"] = changes
        self._write("result", status=status, seconds=round(seconds, 3), **fields)

    @staticmethod
    def _changes(result: Any) -> tuple[str, ...]:
        """Return what was changed, in words; accounts only by their number, since their names are people's."""
        content = result.result if hasattr(result, "result") else result._result
        told = [str(change) for key in _CHANGES for change in content.get(key) or ()]
        accounts = len(content.get("accounts") or ())
        return (*told, *([f"{accounts} accounts"] if accounts else []))

    @staticmethod
    def _message(result: Any) -> str:
        """Return why a task failed, unless it may hold a secret (no_log replaces the whole result)."""
        content = result.result if hasattr(result, "result") else result._result
        if content.get("censored"):
            return "the task's output is kept secret"
        return str(content.get("msg") or content.get("stderr") or "")[:_MESSAGE_LENGTH]
