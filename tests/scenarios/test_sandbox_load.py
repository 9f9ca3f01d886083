"""The sandboxes under load: 50 people in ten rooms with 200 media paths through TURN to the bridge, by UDP and TLS, IPv4 and IPv6.

The load lasts 30 s, with `make load` five minutes (RATSSAAL_LOAD_SECONDS in the environment).

A refused system call is answered with EPERM, which programs may keep to themselves. So here it kills the process instead: whoever
asks for something that the sandbox forbids dies, and the journal says of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from orchestrator.evidence.results import Result
from orchestrator.inventory.derivations import turn_domain, xmpp_domains
from orchestrator.inventory.vault import VaultAccess, read_vault
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios import crowd
from tests.scenarios.conftest import ROOT, load, ssh

SECONDS = float(os.environ.get("RATSSAAL_LOAD_SECONDS", "30"))
PEOPLE, IN_A_ROOM, PATHS = 50, 5, 4
UNITS = ("nginx", "prosody", "jicofo", "jitsi-videobridge2", "coturn", "haproxy")
# coturn asks for it at start and goes on without it; the kernel refuses it as well, for want of a capability.
_KNOWN = {"coturn": "SystemCallFilter=setgroups\n"}
_DENIED = r"31/SYS|signal 31|SIGSYS|seccomp|Operation not permitted|Permission denied|Read-only file system"
_LOGS = "/var/log/nginx /var/log/prosody /var/log/jitsi"


def _strictly(site: LabSite, units: tuple[str, ...], known: dict[str, str]) -> str:
    """Let forbidden system calls kill; restart the units and return what systemctl says of it."""
    lines = []
    for unit in units:
        folder = f"/run/systemd/system/{unit}.service.d"
        text = f"[Service]\\nSystemCallErrorNumber=kill\\n{known.get(unit, '')}".replace("\n", "\\n")
        lines.append(f"mkdir -p {folder} && printf '{text}' > {folder}/90-strict.conf")
    names = " ".join(units)
    return ssh(site, f"{'; '.join(lines)}; systemctl daemon-reload; systemctl restart {names} 2>&1", check=False)


def _healthy(site: LabSite) -> None:
    health = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8888/about/health"
    ssh(site, f'for i in $(seq 120); do test "$({health})" = 200 && exit 0; sleep 0.5; done; exit 1')


def _runs(site: LabSite) -> dict[str, str]:
    """Return what changes of a unit when it, or its first process, begins anew."""
    shown = "systemctl show -p ActiveState,NRestarts,InvocationID,MainPID"
    return {unit: ssh(site, f"{shown} {unit}.service") for unit in UNITS}


def _denials(site: LabSite) -> list[str]:
    """Return what the units and systemd have said of anything refused since the host was set up."""
    units = " ".join(f"-u {unit}.service" for unit in UNITS)
    journals = f"journalctl --no-pager {units}; journalctl --no-pager --namespace=conferencing"
    told = ssh(site, f"{{ {journals}; cat $(find {_LOGS} -type f -not -name '*.gz'); }} | grep -E '{_DENIED}'; true")
    return told.splitlines()


def _crowd(site: LabSite) -> list[dict[str, Any]]:
    """Let the people meet, from the outside namespace."""
    with VaultAccess(site.vault_password_file) as access:
        values = read_vault(site.path, access)
    settings, host = load(site).settings, site.hosts[0]
    names = xmpp_domains(settings)
    task = {name: names[name] for name in ("domain", "guest", "muc", "focus")}
    task |= {"turn": turn_domain(settings), "secret": values["coturn_secret"]}
    task |= {"account": "rehearsal", "password": values["jitsi_accounts"]["rehearsal"]}
    size = {"people": PEOPLE, "in_a_room": IN_A_ROOM, "paths": PATHS, "seconds": SECONDS}
    given = json.dumps({**task, **size, "addresses": [host.address, host.address6]})
    argv = ["ip", "netns", "exec", f"rs-{site.path.name}-out", sys.executable, "-m", crowd.__name__]
    done = subprocess.run(
        argv, input=given, capture_output=True, text=True, cwd=ROOT, timeout=SECONDS + 300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    people: list[dict[str, Any]] = json.loads(done.stdout)["people"]
    return people


@pytest.fixture(scope="module")
def strict(site: LabSite) -> LabSite:
    """The host, with every unit killed by what it may not do."""
    assert _strictly(site, UNITS, _KNOWN) == ""
    _healthy(site)
    return site


def test_a_meeting_of_fifty_with_two_hundred_relayed_paths(strict: LabSite) -> None:
    before = _runs(strict)
    people = _crowd(strict)
    assert [person for person in people if person["problem"]] == []
    assert min(person["pings"] for person in people) >= SECONDS / crowd.PING / 2
    paths = [path for person in people for path in person["paths"]]
    ways = Counter(path["way"] for path in paths)
    assert (len(ways), set(ways.values())) == (PATHS, {PEOPLE})
    for path in paths:
        assert path["problem"] == "", path
        assert path["sent"] >= SECONDS / crowd.PAUSE / 4, "the vantage point is too slow to load anybody"
        assert path["answered"] >= path["sent"] * 0.95, path
        assert path["silence"] < 5, path
    assert _runs(strict) == before
    assert all("ActiveState=active" in row for row in before.values()), before
    assert _denials(strict) == []


def test_the_sandbox_lets_services_be_reloaded_and_logs_be_rotated(strict: LabSite) -> None:
    before = _runs(strict)
    for unit in ("nginx", "prosody", "haproxy"):
        ssh(strict, f"systemctl reload {unit}")
    # The second time most of them are empty.
    for name in ("nginx", "prosody", "haproxy", "jicofo", "jitsi-videobridge") * 2:
        ssh(strict, f"logrotate -f /etc/logrotate.d/{name}")
    (kept,) = verify(load(strict), controls=("LOG-03",), quick=True).findings
    assert kept.result is Result.PASS, kept
    assert re.search(r"^OK: \d+ hosts", ssh(strict, "prosodyctl shell 'host:list()'"), re.M)
    ssh(strict, "prosodyctl reload; sleep 2")
    # A reloaded HAProxy and nginx keep their first process; logs go to files that the sandbox let them open anew.
    assert _runs(strict) == before
    assert ssh(strict, f"curl -sk -o /dev/null -w '%{{http_code}}' https://{strict.domain}/") == "200"
    assert ssh(strict, "readlink /proc/$(systemctl show -P MainPID nginx)/fd/* | grep deleted; true") == ""
    assert _denials(strict) == []


def test_what_is_refused_would_have_been_seen(strict: LabSite) -> None:
    """The one call that is let through above, forbidden again. Last: the unit is dead afterwards."""
    assert "coturn" in _strictly(strict, ("coturn",), {})
    assert any("coturn.service" in line and "31/SYS" in line for line in _denials(strict))
