"""Shows long work as it goes: a line for what is done, on a terminal another for what runs now."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from orchestrator.engine.events import Event
from orchestrator.engine.executor import StepResult
from orchestrator.evidence.results import Finding, Result
from orchestrator.evidence.visible import one_line

_COLOURS = {Result.PASS: "green", Result.FAIL: "red", Result.ERROR: "red", Result.WAIVED: "yellow"}


class _Lines:
    """Lines on standard error; on a terminal with a last one that says what runs now and for how long."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._live.add_task("connecting", total=None)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _now(self, words: str) -> None:
        """Say what runs now."""
        self._live.update(self._task, description=words)

    def _print(self, line: str) -> None:
        """Print a line as it is, however long: a log is searched for it."""
        self._console.print(line, soft_wrap=True, emoji=False)


class RunProgress(_Lines):
    """A watcher for the executor."""

    def __init__(self, *, check: bool = False, console: Console | None = None) -> None:
        super().__init__(console)
        self._check = check
        self._step = ""
        self._failed = False

    def step(self, name: str, number: int, total: int) -> None:
        """A step begins."""
        self._step = f"[{number}/{total}] {name}"
        self._failed = False
        self._now(escape(self._step))

    def event(self, event: Event) -> None:
        """A task begins, or a host's failure is told at once."""
        if event.kind == "task" and not event.name.split(" : ")[-1].startswith("Validating arguments"):
            task = escape(event.name.split(" : ")[-1])
            self._now(f"{escape(self._step)}: [dim]{task}[/dim]")
        if event.status in {"failed", "unreachable"}:
            self._failed = True
            self._print(f"  [red]{event.status}[/red] {escape(f'{event.host}: {event.name}')}")

    def step_done(self, result: StepResult) -> None:
        """A step ended."""
        verb = "would change" if self._check else "changed"
        colour, word = ("yellow", f"{result.changed} {verb}") if result.changed else ("green", "nothing to do")
        if self._failed:
            colour, word = "red", "failed"
        self._print(f"  {escape(f'{self._step:<28}')} [{colour}]{word:<22}[/{colour}] {result.seconds:7.1f} s")


class LookProgress(_Lines):
    """A watcher for a verification: a line for each result of a check, and which checks are still awaited."""

    def result(self, check: str, finding: Finding, to_come: Sequence[str]) -> None:
        """A check came to its result."""
        word = f"{finding.result.replace('_', ' '):<14}"
        told = escape(detail(finding) or check)
        colour = _COLOURS.get(finding.result, "blue")
        self._print(f"  {finding.control:<8} {escape(f'{finding.host:<10}')} [{colour}]{word}[/{colour}] {told}")
        if to_come:
            self._now(f"{len(to_come)} checks to come, among them: {escape(one_line(to_come[0]))}")


def detail(finding: Finding) -> str:
    """Return in one line what was seen and wanted; where nothing was wanted, why it came to this result."""
    return one_line(f"{finding.seen} (wanted: {finding.wanted})" if finding.wanted else finding.reason)


class Phases:
    """Names the phases of long work and how long each took: the profile of a rehearsal."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name = ""
        self._began = time.monotonic()

    def begin(self, name: str) -> None:
        """End the phase that runs and begin another."""
        self.end()
        self._name, self._began = name, time.monotonic()
        Console(stderr=True, highlight=False).print(f"[bold]{name}[/bold]")
        sys.stderr.flush()

    def end(self) -> None:
        """End the phase that runs."""
        if self._name:
            self.seconds[self._name] = round(time.monotonic() - self._began, 1)
        self._name = ""
