"""Files that somebody altered since the roles applied them: a run would replace them, so it asks first.

Plain `ansible-playbook` replaces them without a question, as Ansible always does.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.errors import Problem
from orchestrator.inventory.site import Site
from orchestrator.operations.drift import Difference, drift

# What would be lost. A missing file, another mode or what a killed run left is put right without a question.
_LOST = {"content": "was altered", "link": "was altered", "present": "was made by somebody else"}
_HARDENING = "hardening"


def altered(site: Site, verb: str, hosts: Iterable[str] = ()) -> tuple[list[Problem], list[Problem]]:
    """Return the altered files that a run of `verb` would replace, and the hosts of which that cannot be told.

    Looks at all hosts (or the named ones) at the same time, one round trip each, and touches nothing.
    """
    found, unknown = [], []
    for host in drift(site, hosts):
        if host.error:
            unknown.append(Problem(f"cannot be compared with what was applied: {host.error}", host.name, host.hint))
        found += [_problem(host.name, row) for row in host.differences if _would_go(row, verb)]
    return found, unknown


def _would_go(row: Difference, verb: str) -> bool:
    """Say whether a file is one of the verb's roles and something of it would be lost."""
    concerned = {"harden": row.role == _HARDENING, "provision": row.role != _HARDENING}.get(verb, True)
    return row.kind == "file" and row.what in _LOST and concerned


def _problem(host: str, row: Difference) -> Problem:
    return Problem(
        f"{row.name} {_LOST[row.what]} since the last run ({row.found}, {row.role} wants: {row.wanted})", host
    )
