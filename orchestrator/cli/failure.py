"""How a failed command is told: to people on standard error, and to programs that asked for JSON on standard output."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict

import click

from orchestrator.cli import console
from orchestrator.errors import Problem, RatssaalError
from orchestrator.exitcodes import ExitCode


def tell(error: Exception, *, as_json: bool) -> int:
    """Print an error and return the exit code; an internal one is raised again with --debug."""
    if isinstance(error, RatssaalError):
        problems, code = error.problems, console.fail(error)
    elif isinstance(error, click.ClickException):
        error.show()
        problems, code = (Problem(error.format_message()),), int(ExitCode.USAGE)
    else:
        if os.environ.get("RATSSAAL_DEBUG"):
            raise error
        problems, code = (Problem(f"{type(error).__name__}: {error}"),), int(ExitCode.INTERNAL)
        _tell_internal(error, problems[0].message)
    if as_json:
        _answer(problems, code)
    return code


def _tell_internal(error: Exception, message: str) -> None:
    console.red(f"internal error: {message}")
    console.say("  hint: run it again with `ratssaal --debug ...` and report the traceback")
    console.notes(error)


def _answer(problems: Sequence[Problem], code: int) -> None:
    error = "; ".join(str(problem) for problem in problems)
    rows = [asdict(problem) for problem in problems]
    click.echo(json.dumps({"error": error, "problems": rows, "exit_code": code}, indent=2))
