"""What `provision` and `harden` mean: a plan of playbooks, after a look at the hosts."""

from __future__ import annotations

from orchestrator.engine.plan import Plan, build
from orchestrator.inventory.site import Site

PLAYBOOKS = {"provision": ("provision.yml",), "harden": ("harden.yml",), "provision+harden": ("site.yml",)}


def converge_plan(site: Site, verb: str) -> Plan:
    """Return the plan of `provision`, `harden` or both in one run; pure but for reading the playbooks."""
    return build(verb, site, PLAYBOOKS[verb])
