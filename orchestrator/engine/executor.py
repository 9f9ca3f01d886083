"""Runs a plan: lock, journal, one Ansible process a playbook, and a result whatever happens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from orchestrator import processes
from orchestrator.engine import ansible, journal
from orchestrator.engine.events import Event
from orchestrator.engine.lock import SiteLock, owner
from orchestrator.engine.plan import Plan
from orchestrator.errors import Ended, Problem, RatssaalError, TaskFailed, Unreachable
from orchestrator.inventory.site import Site
from orchestrator.inventory.vault import VaultAccess


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a plan."""

    check: bool = False
    diff: bool = False
    limit: str = ""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did; `seconds` is wall time, `changed` counts changes over all hosts."""

    name: str
    ok: int
    changed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did; `lock_stays` is why its lock could not be given back, "" where it was."""

    id: str
    path: Path
    steps: tuple[StepResult, ...]
    changed: int
    seconds: float
    took_over: str = ""
    lock_stays: str = ""


class Watcher(Protocol):
    """Somebody who looks on: the terminal's progress."""

    def step(self, name: str, number: int, total: int) -> None:
        """A step begins."""

    def event(self, event: Event) -> None:
        """A task begins or a host answered."""

    def step_done(self, result: StepResult) -> None:
        """A step ended."""


class _Recorder:
    """Turns Ansible's events into journal lines and step results."""

    def __init__(self, plan: Plan, log: journal.Journal, watcher: Watcher) -> None:
        self._total = len(plan.steps)
        self._log = log
        self._watcher = watcher
        self._current = ""
        self._began = 0.0
        self._counts = {"ok": 0, "changed": 0}
        self.steps: list[StepResult] = []
        self.problems: list[Problem] = []
        self.unreachable: list[Problem] = []

    def __call__(self, event: Event) -> None:
        if event.kind == "play":
            self.end_step()
            self._begin(event)
        elif event.kind == "result":
            self._count(event)
        self._watcher.event(event)

    def _begin(self, event: Event) -> None:
        self._current, self._began = event.name, time.monotonic()
        self._counts = {"ok": 0, "changed": 0}
        self._log.write("step-started", step=event.name)
        self._watcher.step(event.name, len(self.steps) + 1, self._total)

    def _count(self, event: Event) -> None:
        if event.status == "changed":
            self._counts["changed"] += max(1, len(event.changes))
        elif event.status == "ok":
            self._counts["ok"] += 1
        elif event.status == "failed":
            # A hint of the task's own stands in its message.
            hint = f"the whole output: {self._log.console}; once that is repaired, the same command again goes on"
            self.problems.append(Problem(f"{event.name}: {event.message}", event.host, hint))
        elif event.status == "unreachable":
            hint = f"once the host answers, the same command again goes on; the whole output: {self._log.console}"
            self.unreachable.append(Problem(event.message or "cannot be reached", event.host, hint))

    def end_step(self) -> None:
        """Write the end of the step that runs, if one does."""
        if not self._current:
            return
        seconds = round(time.monotonic() - self._began, 1)
        result = StepResult(self._current, self._counts["ok"], self._counts["changed"], seconds)
        failed = bool(self.problems or self.unreachable)
        self._log.write(
            "step-ended",
            step=result.name,
            changed=result.changed,
            seconds=seconds,
            result="failed" if failed else "done",
        )
        self.steps.append(result)
        self._watcher.step_done(result)
        self._current = ""


def execute(plan: Plan, site: Site, vault: VaultAccess, watcher: Watcher, options: Options | None = None) -> RunResult:
    """Run the plan under the site's lock.

    Every transition is in the journal before the next thing happens. A run that was killed needs nothing but the same
    command again: its lock is recognised as stale, and each step looks at the host itself, not at what the journal says
    was done. Raises LockHeld, Unreachable, TaskFailed; KeyboardInterrupt passes after the lock was given back.
    """
    chosen = options or Options()
    log = journal.Journal(site.name, "check" if chosen.check else plan.verb)
    log.keep("plan.json", json.dumps(asdict(plan), indent=2) + "\n")
    log.write(
        "run-started",
        verb=plan.verb,
        check=chosen.check,
        limit=chosen.limit,
        owner=owner(),
        **processes.mine(),
    )
    lock = SiteLock(site, log.id, plan.verb)
    try:
        took_over = lock.take()
    except BaseException as error:
        _despite(error, "the journal has no end", _write_end, log, error)
        raise
    began = time.monotonic()
    recorder = _Recorder(plan, log, watcher)
    try:
        log.write("lock-taken", took_over=took_over)
        _run_playbooks(plan, site, vault, chosen, log, recorder)
        log.write("run-ended", result=journal.DONE)
    except BaseException as error:
        _despite(error, "the journal lacks the end of the step", recorder.end_step)
        _despite(error, "the journal has no end", _write_end, log, error)
        # It is recognised as stale by the next run.
        _despite(error, "the lock stays", lambda: lock.release(log.text()))
        raise
    stays = ""
    try:
        lock.release(log.text())
    except RatssaalError as error:  # The hosts are done; a network that is gone now does not make the run a failed one.
        stays = str(error)
    steps = tuple(recorder.steps)
    seconds = round(time.monotonic() - began, 1)
    return RunResult(log.id, log.path, steps, sum(step.changed for step in steps), seconds, took_over, stays)


def _despite(error: BaseException, told: str, act: Callable[..., None], *arguments: Any) -> None:
    """Do one more thing after an error; what fails in it is a note on that error, which the user must read first."""
    try:
        act(*arguments)
    except Exception as other:
        error.add_note(f"{told}: {other}")


def _run_playbooks(
    plan: Plan, site: Site, vault: VaultAccess, chosen: Options, log: journal.Journal, recorder: _Recorder
) -> None:
    for playbook in plan.playbooks:
        converge = ansible.Converge(
            playbook, site.hosts_file, tuple(vault.ansible_args()), chosen.check, chosen.diff, chosen.limit
        )
        code = ansible.run(converge, events=log.events, console=log.console, on_event=recorder)
        _require(code, recorder, log, playbook)
        recorder.end_step()


def _require(code: int, recorder: _Recorder, log: journal.Journal, playbook: str) -> None:
    if code == 0:
        return
    if recorder.problems:
        raise TaskFailed([*recorder.problems, *recorder.unreachable])
    if recorder.unreachable:
        raise Unreachable(recorder.unreachable)
    hint = f"the whole output: {log.console}"
    tail = "\n".join(log.console.read_text(errors="replace").strip().splitlines()[-5:])
    raise TaskFailed([Problem(f"ansible-playbook ended with code {code}: {tail}", playbook, hint)])


def _write_end(log: journal.Journal, error: BaseException) -> None:
    if isinstance(error, RatssaalError):
        log.write("run-ended", result=journal.FAILED, message="; ".join(str(p)[:300] for p in error.problems))
    else:
        log.write(
            "run-ended",
            result=journal.INTERRUPTED,
            message=error.name if isinstance(error, Ended) else type(error).__name__,
        )
