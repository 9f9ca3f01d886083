"""Plan and Step: what a verb will do, decided before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.engine.ansible import plays
from orchestrator.inventory.site import Site


@dataclass(frozen=True, slots=True)
class Step:
    """One play: the unit that the journal records."""

    name: str
    playbook: str
    hosts: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered steps of one verb on one site."""

    verb: str
    site: str
    steps: tuple[Step, ...]

    @property
    def playbooks(self) -> tuple[str, ...]:
        """Return the playbooks in order, each once: one Ansible process each."""
        return tuple(dict.fromkeys(step.playbook for step in self.steps))


def build(verb: str, site: Site, playbooks: tuple[str, ...]) -> Plan:
    """Return the plan that runs the playbooks on the site; plays without hosts of this site are left out."""
    steps = []
    for playbook in playbooks:
        for name, groups, roles in plays(playbook):
            hosts = tuple(host.name for host in site.hosts if set(groups) & set(host.groups))
            if hosts:
                steps.append(Step(name, playbook, hosts, roles))
    return Plan(verb, site.name, tuple(steps))
