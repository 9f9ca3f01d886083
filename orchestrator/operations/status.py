"""How a site is now: services, the bridge by its own word and by Jicofo's, versions, lock, last run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.engine import journal, lock
from orchestrator.errors import RatssaalError
from orchestrator.inventory.derivations import BRIDGES, SIGNALLING
from orchestrator.inventory.site import Host, Site
from orchestrator.operations import status_facts
from orchestrator.transport import ssh


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host as it answered; `faults` are sentences, `error` says why it could not be looked at."""

    name: str
    facts: Mapping[str, Any]
    faults: tuple[str, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The whole site."""

    hosts: tuple[HostStatus, ...]
    lock: Mapping[str, Any] | None
    last_run: journal.RunRecord | None
    undecided: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Say whether every host answered and shows no fault."""
        return not any(host.faults or host.error for host in self.hosts)


def status(site: Site) -> Status:
    """Look at all hosts at the same time, one round trip each; touches nothing."""
    with ThreadPoolExecutor(max_workers=min(16, len(site.hosts))) as pool:
        hosts = tuple(pool.map(lambda host: _look(host, site), site.hosts))
    try:
        held = lock.read(site)
    except RatssaalError:
        held = None
    runs = journal.runs(site.name)
    return Status(hosts, held, runs[0] if runs else None, site.undecided)


def _look(host: Host, site: Site) -> HostStatus:
    script = Path(status_facts.__file__).read_text() + "\n\nmain()\n"
    try:
        with ssh.connect(host, site.known_hosts) as connection:
            answer = connection.run(script, command=ssh.PYTHON_AS_ROOT, timeout=30)
        facts = json.loads(answer.stdout)
    except RatssaalError as error:
        return HostStatus(host.name, {}, (), str(error))
    except json.JSONDecodeError:
        return HostStatus(host.name, {}, (), (answer.stderr.strip().splitlines() or ["no answer"])[-1])
    return HostStatus(host.name, facts, tuple(judge(host.groups, facts)))


def judge(groups: tuple[str, ...], facts: Mapping[str, Any]) -> list[str]:
    """Return what is wrong on a host, one sentence a fault; pure."""
    units = facts["units"]
    faults = [f"{name} is {row['state']}" for name, row in units.items() if row["state"] != "active"]
    if not units:
        faults.append("nothing is provisioned yet")
    if BRIDGES in groups and facts["bridge_health"] != 200:
        faults.append(f"the bridge answers {facts['bridge_health'] or 'nothing'} when asked for its health")
    if SIGNALLING in groups:
        bridges = facts["bridges"]
        if bridges is None:
            faults.append("Jicofo does not answer")
        elif not any(bridge["operational"] for bridge in bridges):
            faults.append("Jicofo knows no operational bridge")
    faults += [f"{unit} waits for a restart: run provision again" for unit in facts["pending"]]
    return faults
