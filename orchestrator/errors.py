"""Errors that a user can act on: what, where, and one hint to paste."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.exitcodes import ExitCode


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in what the operator wrote or in what a host is.

    `where` is "file:line" for a file, a host's name for a host, "" where neither applies.
    """

    message: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        """Return the one line that a person reads first."""
        return f"{self.where}: {self.message}" if self.where else self.message


class Ended(SystemExit):
    """A signal ends the process; `name` is the signal's, the exit code is the one that a shell gives for it."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(128 + number)
        self.name = name


class RatssaalError(Exception):
    """Base of every error that is shown without a traceback."""

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = (Problem(message, where, hint),)


class ProblemsError(RatssaalError):
    """Several independent problems, reported all at once."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class UsageError(RatssaalError):
    """The command was called in a way that cannot work."""

    exit_code = ExitCode.USAGE


class InvalidSite(ProblemsError):
    """The inventory, its variables or its vault cannot be used."""

    exit_code = ExitCode.INVALID_SITE


class PreflightFailed(ProblemsError):
    """Hosts or files are not fit for what was asked; nothing was touched."""

    exit_code = ExitCode.INVALID_SITE


class Unreachable(ProblemsError):
    """A host cannot be reached or its key is not the pinned one."""

    exit_code = ExitCode.UNREACHABLE


class TaskFailed(ProblemsError):
    """A playbook task or a host-side step failed."""

    exit_code = ExitCode.TASK_FAILED


class LockHeld(RatssaalError):
    """Somebody else works on the site."""

    exit_code = ExitCode.LOCKED
