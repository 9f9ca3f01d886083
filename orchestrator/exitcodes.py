"""The exit codes that every command promises."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its caller; documented in docs/exit-codes.md."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    INVALID_SITE = 3
    UNREACHABLE = 4
    TASK_FAILED = 5
    FINDINGS = 6
    LOCKED = 7
    DRAIN = 8
    INTERRUPTED = 130
