"""What on the hosts differs from what was applied last: each host against its own manifest, in one round trip.

The roles' tasks write the manifest (playbooks/host/ratssaal_host/manifest.py), also under plain Ansible, and the comparison runs
on the host; no playbook runs. Listening sockets are compared with those that follow from the topology.
"""

from __future__ import annotations

import base64
import io
import json
import shlex
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from orchestrator import content
from orchestrator.errors import RatssaalError
from orchestrator.inventory.derivations import flows, listeners
from orchestrator.inventory.site import Host, Site
from orchestrator.inventory.yamlfiles import show
from orchestrator.transport import ssh
from orchestrator.verification.sockets import Socket, loopback, undeclared

# dpkg reads every packaged file, several gigabytes from a slow disk at worst.
_SECONDS, _DEEP_SECONDS = 60, 600
_MARK = "== ratssaal_host =="
_PROGRAM = """
import base64, os, sys
code = os.memfd_create("ratssaal")
os.write(code, base64.b64decode("{code}"))
sys.path.insert(0, "/proc/self/fd/%d" % code)
from ratssaal_host import drift
drift.main(deep={deep})
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was applied.

    `kind` and `name` say what it is, `what` says in a word for programs in which respect it differs; `role` and `task` are ""
    where no task of ours applied it.
    """

    kind: str
    name: str
    what: str
    wanted: str
    found: str
    remedy: str
    role: str = ""
    task: str = ""


@dataclass(frozen=True, slots=True)
class HostDrift:
    """One host: `error` says why it could not be looked at; without a manifest nothing could be compared.

    `applied` has role, task, at (seconds since 1970) and finished of each task, the latest last; `other_tables` are loaded
    nftables tables that are not ours.
    """

    name: str
    differences: tuple[Difference, ...] = ()
    applied: tuple[Mapping[str, Any], ...] = ()
    other_tables: tuple[str, ...] = ()
    manifest: bool = True
    error: str = ""
    hint: str = ""

    @property
    def clean(self) -> bool:
        """Say whether the host was looked at and nothing differs."""
        return self.manifest and not self.error and not self.differences


def drift(
    site: Site,
    names: Iterable[str] = (),
    *,
    deep: bool = False,
    on_host: Callable[[HostDrift], None] = lambda seen: None,
) -> tuple[HostDrift, ...]:
    """Look at the hosts on which roles run (all, or the named ones) at the same time; return them in the inventory's order.

    `on_host` is told of each as soon as it has answered, from that host's thread. Touches nothing.
    """
    chosen = [host for host in hosts_with_roles(site) if host.name in names or not names]
    program = _PROGRAM.format(code=base64.b64encode(host_code()).decode(), deep=deep)

    def look(host: Host) -> HostDrift:
        seen = _look(host, site, program, _DEEP_SECONDS if deep else _SECONDS)
        on_host(seen)
        return seen

    with ThreadPoolExecutor(max_workers=min(32, len(chosen) or 1)) as pool:
        return tuple(pool.map(look, chosen))


def hosts_with_roles(site: Site) -> list[Host]:
    """Return the hosts that are in a group of ours; on others nothing is ever applied."""
    return [host for host in site.hosts if host.name in site.topology["hosts"]]


def host_code() -> bytes:
    """Return what runs on a host as a zip file that Python can import from; the action managed_host sends the same."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((content.root() / "playbooks/host/ratssaal_host").glob("*.py")):
            archive.write(path, f"ratssaal_host/{path.name}")
    return packed.getvalue()


def _look(host: Host, site: Site, program: str, seconds: float) -> HostDrift:
    try:
        with ssh.connect(host, site.known_hosts) as connection:
            answer = connection.run(program, command=ssh.PYTHON_AS_ROOT, timeout=seconds)
    except RatssaalError as error:
        return HostDrift(host.name, error=str(error), hint=error.problems[0].hint)
    _, mark, told = answer.stdout.rpartition(_MARK)
    if not mark:
        said = (answer.stderr.strip().splitlines() or [f"exit code {answer.code}"])[-1]
        hint = "the user may become root without a password: visudo -f /etc/sudoers.d/ratssaal"
        return HostDrift(
            host.name, error=f"the comparison did not run: {said}", hint=hint if "password" in said else ""
        )
    return judge(host.name, json.loads(told), site)


def judge(name: str, told: Mapping[str, Any], site: Site) -> HostDrift:
    """Return what a host told, with its sockets compared and a remedy at each difference; pure."""
    if not told["manifest"]:
        return HostDrift(name, manifest=False, hint=_converge(site))
    rows = [Difference(**_kept(row), remedy=_remedy(row, name, _converge(site))) for row in told["differences"]]
    rows += _sockets(name, told, site)
    return HostDrift(name, tuple(rows), tuple(told["parts"]), tuple(told["other_tables"]))


def _kept(row: Mapping[str, str]) -> dict[str, str]:
    return {key: row[key] for key in ("kind", "name", "what", "wanted", "found", "role", "task")}


def _converge(site: Site) -> str:
    return f"ratssaal provision {shlex.quote(show(site.path))} --harden"


def _remedy(row: Mapping[str, str], host: str, converge: str) -> str:
    """Return one command that puts a difference right, or shows it first where a hand may have meant it."""
    kind, what = row["kind"], row["what"]
    if kind == "package file":
        package = row["package"]
        return f"on the host: apt-get install --reinstall {package}" if package else "on the host: dpkg --verify"
    if kind == "group" and what == "members added":
        users = row["found"].split(", ")
        return "on the host: " + "; ".join(f"gpasswd --delete {user} {row['name']}" for user in users)
    if kind == "unit" and what == "settings added":
        files = row["found"].replace(", ", " ")
        return (
            f"on the host: systemctl cat {row['name']}; what nobody wants there: rm {files} && systemctl daemon-reload"
        )
    if kind == "file" and what in ("content", "link", "type", "present"):
        return f"{converge} --replace-altered (with --check --diff --limit {host} it only shows what)"
    return converge


def _sockets(name: str, told: Mapping[str, Any], site: Site) -> Iterator[Difference]:
    """Yield the listening sockets that do not follow from the topology, and that they could not be looked at."""
    shown = told["sockets"]
    if shown is None:
        problem = f"it cannot be looked at: {told['sockets_problem']}"
        yield Difference("socket", "ss", "unknown", "a look at it", problem, "on the host: apt-get install iproute2")
        return
    for socket in undeclared(shown, listeners(site.topology, name), flows(site.topology, name)):
        process = socket.process or "an unseen process"
        yield Difference("socket", str(socket), "present", "nothing listens there", process, _stop(socket))


def _stop(socket: Socket) -> str:
    """Return how a socket is stopped, or declared; one that only the host itself reaches without letting the world in."""
    sources = ' with sources: ["127.0.0.0/8"]' if loopback(socket.address) else ""
    seen = f"see `ss -lntup sport = :{socket.port}`"
    return f"on the host: {seen} and stop it, or declare it in firewall_extra_flows{sources}"
