"""What people read goes to standard error, what programs read to standard output."""

from __future__ import annotations

import sys

import click

from orchestrator.errors import RatssaalError


def interactive() -> bool:
    """Say whether somebody sits at a terminal and can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def say(text: str) -> None:
    """Print a line for a person."""
    click.echo(text, err=True)


def fail(error: RatssaalError) -> int:
    """Print every problem of an error with its hint and return the process's exit code."""
    for problem in error.problems:
        click.secho(f"error: {problem}", fg="red", err=True)
        if problem.hint:
            click.echo(f"  hint: {problem.hint}", err=True)
    if len(error.problems) > 1:
        click.echo(f"{len(error.problems)} problems.", err=True)
    return int(error.exit_code)
