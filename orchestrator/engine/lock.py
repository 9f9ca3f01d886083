"""One operator at a time: the lock lies on a host of the site, so that two laptops exclude each other."""

from __future__ import annotations

import getpass
import json
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import processes
from orchestrator.engine.journal import now
from orchestrator.errors import LockHeld, Problem, TaskFailed
from orchestrator.inventory.site import Site
from orchestrator.inventory.yamlfiles import show
from orchestrator.transport import ssh

LOCK = "/var/lib/ratssaal/lock.json"
# The name appears whole or not at all. One rival at a time: the slower of two that take over a dead run's lock must find the
# faster one's, not remove it.
_TAKE = """set -eu
umask 077
mkdir -p /var/lib/ratssaal
cd /var/lib/ratssaal
exec 9>.lock-guard
flock --wait 20 9
printf '%s' {content} > .lock.{run}
if [ -n {stale} ] && [ "$(cat lock.json 2>/dev/null)" = {stale} ]; then rm -f lock.json; fi
if ln .lock.{run} lock.json 2>/dev/null; then echo taken; else cat lock.json 2>/dev/null || echo gone; fi
rm -f .lock.{run}
"""
_RELEASE = """set -eu
umask 077
cd /var/lib/ratssaal
exec 9>.lock-guard
flock --wait 20 9
if [ -s lock.json ] && grep -qF {run} lock.json; then rm -f lock.json; fi
mkdir -p journal
printf '%s' {journal} > journal/.{run}
mv journal/.{run} journal/{run}.jsonl
ls -1 journal | sort -r | tail -n +201 | while read -r old; do rm -f "journal/$old"; done
"""

# What was looked at goes, nothing else: the lock of a run that has begun since stays.
_CLEAR = """set -eu
umask 077
cd /var/lib/ratssaal
exec 9>.lock-guard
flock --wait 20 9
if [ ! -e lock.json ]; then echo gone; exit 0; fi
if [ "$(cat lock.json)" != {seen} ]; then cat lock.json; exit 0; fi
mkdir -p journal
printf '%s\\n' {note} >> journal/cleared-locks
rm -f lock.json
echo cleared
"""


def owner() -> str:
    """Return who works: user and control node."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


class SiteLock:
    """The lock of one run on its site. Taking it again after a killed run of this machine needs no hand."""

    def __init__(self, site: Site, run: str, verb: str) -> None:
        self._site = site
        self._run = run
        self._content = {
            "run": run,
            "owner": owner(),
            "machine": machine(),
            **processes.mine(),
            "reason": verb,
            "since": now(),
        }

    def take(self) -> str:
        """Take the lock; return the run of ours whose lock was stale, or "". Raises LockHeld, Unreachable."""
        held = self._try(stale="")
        if held is None:
            return ""
        if held and _is_dead(held):
            if self._try(stale=json.dumps(held, sort_keys=True)) is None:
                return str(held["run"])
            held = read(self._site) or held
        raise LockHeld(
            _sentence(held),
            where=self._site.name,
            hint=f"if that run is dead: ratssaal unlock {shlex.quote(show(self._site.path))} --reason 'why it is dead'",
        )

    def release(self, journal: str) -> None:
        """Give the lock back and leave a copy of the journal beside it, in one round trip."""
        _on_first_host(self._site, _RELEASE.format(run=shlex.quote(self._run), journal=shlex.quote(journal)))

    def _try(self, *, stale: str) -> dict[str, Any] | None:
        content = json.dumps(self._content, sort_keys=True)
        script = _TAKE.format(content=shlex.quote(content), run=self._run, stale=shlex.quote(stale))
        answer = _on_first_host(self._site, script).strip()
        return None if answer == "taken" else _parse(answer)


def read(site: Site) -> dict[str, Any] | None:
    """Return the lock that lies on the site's first host, None when there is none."""
    answer = _read(site)
    return _parse(answer) if answer else None


def _read(site: Site) -> str:
    return _on_first_host(site, f"cat {LOCK} 2>/dev/null || true").strip()


def clear(site: Site, reason: str) -> dict[str, Any] | None:
    """Remove a lock by hand; who did it and why is kept on the host. Returns what was removed.

    Raises LockHeld when another run has taken the lock since it was looked at: that one is not dead.
    """
    seen = _read(site)
    if not seen:
        return None
    held = _parse(seen)
    note = json.dumps({"at": now(), "what": "lock-cleared", "by": owner(), "reason": reason, "lock": held})
    left = _on_first_host(site, _CLEAR.format(seen=shlex.quote(seen), note=shlex.quote(note))).strip()
    if left == "cleared":
        return held
    if left == "gone":
        return None
    raise LockHeld(_sentence(_parse(left)), where=site.name, hint="it has only now begun: wait for it")


def machine() -> str:
    """Return this control node's identity, the same until it is installed anew or gets another name.

    The name is part of it because clones of a machine often share the rest.
    """
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        if Path(path).is_file() and (text := Path(path).read_text().strip()):
            return f"{text}@{socket.gethostname()}"
    return socket.gethostname()


def _is_dead(held: Mapping[str, Any]) -> bool:
    """Say whether the holder was a process of this machine that is gone: only then nobody has to be asked."""
    return held.get("machine") == machine() and not processes.lives(held)


def _sentence(held: Mapping[str, Any]) -> str:
    if not held:
        return "somebody else has just worked on this site"
    return (
        f"{held.get('owner', 'somebody')} works on this site since {held.get('since', '?')}: {held.get('reason', '')}"
    )


def _parse(answer: str) -> dict[str, Any]:
    try:
        value = json.loads(answer)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _on_first_host(site: Site, script: str) -> str:
    host = site.hosts[0]
    with ssh.connect(host, site.known_hosts) as connection:
        answer = connection.run(script, command=ssh.SHELL_AS_ROOT)
    if answer.code != 0:
        tail = (answer.stderr.strip().splitlines() or ["no output"])[-1]
        raise TaskFailed([Problem(f"the lock cannot be handled: {tail}", host.name, f"look at {LOCK} on the host")])
    return answer.stdout
