"""Shows a run as it goes: one line a step, on a terminal with the task that runs now."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from orchestrator.engine.events import Event
from orchestrator.engine.executor import StepResult


class RunProgress:
    """A watcher for the executor; writes to standard error. Without a terminal it prints plain lines."""

    def __init__(self, *, check: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._check = check
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._live.add_task("connecting", total=None)
        self._step = ""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def step(self, name: str, number: int, total: int) -> None:
        """A step begins."""
        self._step = f"[{number}/{total}] {name}"
        self._live.update(self._task, description=self._step)

    def event(self, event: Event) -> None:
        """A task begins, or a host's failure is told at once."""
        if event.kind == "task" and not event.name.split(" : ")[-1].startswith("Validating arguments"):
            self._live.update(self._task, description=f"{self._step}: [dim]{event.name.split(' : ')[-1]}[/dim]")
        if event.status in {"failed", "unreachable"}:
            self._console.print(f"  [red]{event.status}[/red] {event.host}: {event.name}")

    def step_done(self, result: StepResult) -> None:
        """A step ended."""
        verb = "would change" if self._check else "changed"
        changed = f"[yellow]{result.changed} {verb}[/yellow]" if result.changed else "[green]nothing to do[/green]"
        self._console.print(f"  {self._step:<28} {changed:<40} {result.seconds:6.1f} s")


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
