"""Files that somebody altered since the roles applied them: a run would replace them, so it asks first.

Plain `ansible-playbook` replaces them without a question, as Ansible always does.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.engine.plan import Plan
from orchestrator.errors import Problem
from orchestrator.inventory.site import Site
from orchestrator.operations.drift import Difference, drift

# What would be lost. A missing file, another mode or what a killed run left is put right without a question.
_LOST = {
    "content": "was altered",
    "link": "was altered",
    "type": "was replaced",
    "present": "was made by somebody else",
}


def altered(site: Site, plan: Plan, hosts: Iterable[str] = ()) -> list[Problem]:
    """Return the altered files that the plan's roles would replace, and each host that cannot be compared.

    Looks at all hosts (or the named ones) at the same time, one round trip each, and touches nothing.
    """
    found = []
    for host in drift(site, hosts):
        roles = {role for step in plan.steps if host.name in step.hosts for role in step.roles}
        found += [_problem(host.name, row) for row in host.differences if row.role in roles and _is_lost(row)]
        if host.error:
            found.append(Problem(f"cannot be compared with what was applied: {host.error}", host.name, host.hint))
    return found


def _is_lost(row: Difference) -> bool:
    return row.kind == "file" and row.what in _LOST and row.found != "empty"


def _problem(host: str, row: Difference) -> Problem:
    return Problem(
        f"{row.name} {_LOST[row.what]} since the last run ({row.found}, {row.role} wants: {row.wanted})", host
    )
