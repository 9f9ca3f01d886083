"""What a converge would change now: the hosts against the inventory, by Ansible's check mode."""

from __future__ import annotations

from typing import Any

from orchestrator.engine.events import Event
from orchestrator.engine.executor import Options, StepResult, Watcher, execute
from orchestrator.errors import TaskFailed, Unreachable
from orchestrator.inventory.site import Site
from orchestrator.inventory.vault import VaultAccess
from orchestrator.operations.converge import converge_plan


class _Changes:
    """Notes what would change on which host, and passes everything on to who looks on."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.tasks: dict[str, list[str]] = {}

    def step(self, name: str, number: int, total: int) -> None:
        self._watcher.step(name, number, total)

    def event(self, event: Event) -> None:
        if event.kind == "result" and event.status == "changed":
            self.tasks.setdefault(event.host, []).extend(event.changes or [event.name])
        self._watcher.event(event)

    def step_done(self, result: StepResult) -> None:
        self._watcher.step_done(result)


def would_change(site: Site, vault: VaultAccess, watcher: Watcher) -> dict[str, dict[str, Any]]:
    """Run provision and harden in check mode; return per host what would change, and why it failed, if so.

    Raises LockHeld when somebody else works on the site.
    """
    changes = _Changes(watcher)
    failed: dict[str, str] = {}
    try:
        execute(converge_plan(site, "provision+harden"), site, vault, changes, Options(check=True))
    except (TaskFailed, Unreachable) as error:
        names = {host.name for host in site.hosts}
        for problem in error.problems:
            for name in (problem.where,) if problem.where in names else names:
                failed[name] = problem.message
    return {h.name: {"tasks": changes.tasks.get(h.name, []), "failed": failed.get(h.name, "")} for h in site.hosts}
