"""What people read goes to standard error, what programs read to standard output.

Texts from hosts are in both: a terminal would obey what it is told by escapes, and show another text than was found.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from orchestrator.errors import RatssaalError
from orchestrator.evidence.visible import visible


def interactive() -> bool:
    """Say whether somebody sits at a terminal and can be asked."""
    # None: closed by whoever called.
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def watched() -> bool:
    """Say whether somebody looks at standard error: there progress stands beside JSON, too."""
    return sys.stderr is not None and sys.stderr.isatty()


def colours() -> bool | None:
    """Say whether colours are unwanted (False, by NO_COLOR or a dumb terminal), or whether it depends on the stream (None)."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def say(text: str) -> None:
    """Print a line for a person."""
    click.echo(visible(text), err=True)


def red(text: str) -> None:
    """Print a line for a person that says what is wrong."""
    click.secho(visible(text), fg="red", err=True, color=colours())


def answer(text: str, *, colour: str | None = None) -> None:
    """Print a line of what was asked for."""
    click.secho(visible(text), fg=colour, color=colours())


def undecided(sentences: Sequence[str], *, listed_by: str = "") -> None:
    """Print what the operator has yet to decide; only how much it is where the command `listed_by` lists it."""
    if listed_by and sentences:
        say(f"undecided: {len(sentences)} of this site's settings, see: {listed_by}")
        return
    for sentence in sentences:
        say(f"undecided: {sentence}")


def fail(error: RatssaalError) -> int:
    """Print every problem of an error with its hint and return the process's exit code."""
    for problem in error.problems:
        red(f"error: {problem}")
        if problem.hint:
            say(f"  hint: {problem.hint}")
    notes(error)
    if len(error.problems) > 1:
        click.echo(f"{len(error.problems)} problems.", err=True)
    return int(error.exit_code)


def notes(error: BaseException) -> None:
    """Print what else went wrong after an error, such as that the lock stays."""
    for each in (error, error.__cause__):
        for note in getattr(each, "__notes__", ()):
            say(f"  note: {note}")
