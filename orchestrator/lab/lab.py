"""The lab: throwaway hosts on the operator's own machine, and the site that describes them."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.lab import hosts as machinery
from orchestrator.lab import network as networking
from orchestrator.lab.hosts import LabHost
from orchestrator.lab.network import Network
from orchestrator.lab.rootfs import root_file_system

STATE = Path("/var/lib/ratssaal-lab")
_NAME = re.compile(r"^[a-z][a-z0-9]{0,7}$")
_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
}


@dataclass(frozen=True, slots=True)
class LabSite:
    """What a lab hands out: a complete site directory, its hosts, and where its vault password lies."""

    path: Path
    hosts: tuple[LabHost, ...]
    vault_password_file: Path
    domain: str


class Lab:
    """Starts and ends labs; several may run at once under different names."""

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        self._say = say

    def up(self, name: str, debian: int = 13, hosts: int = 1, repository: bool = True) -> LabSite:
        """Start lab `name` with `hosts` Debian `debian` hosts and return its site; a running lab is returned as it is.

        Raises UsageError without root or a needed program, TaskFailed if a root file system cannot be built,
        Unreachable if a host does not come up.
        """
        check_able(name)
        lower = root_file_system(debian, self._say)
        with _state_lock():
            network = self._claim(name, debian)
        network.up()
        members = _members(network, hosts)
        key = _ssh_key(STATE / name)
        domain = f"meet.{name}.lab.test"
        names = {f"{domain} turn.{domain}": members[0].address}
        names |= {f"{host.name}.{name}.lab.test {host.name}": host.address for host in members}
        _write_outside_hosts(network, names)

        def start(host: LabHost) -> None:
            if not machinery.running_pids(host.machine):
                self._say(f"starting {host.name} (Debian {debian}, {host.address})")
                machinery.prepare(host, lower, names, key)
                machinery.boot(host)
            machinery.wait_for_ssh(host)

        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(start, members))
        from orchestrator.lab.site import write_site

        return write_site(STATE / name, network, members, domain, repository=repository, say=self._say)

    def _claim(self, name: str, debian: int) -> Network:
        record = STATE / name / "lab.json"
        if record.is_file():
            return Network(name, json.loads(record.read_text())["number"])
        taken = {json.loads(path.read_text())["number"] for path in STATE.glob("*/lab.json")}
        number = min(set(range(1, 255)) - taken)
        switches = STATE / "forwarding.json"
        if not switches.is_file():
            switches.write_text(json.dumps(networking.forwarding()))
        record.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(record, json.dumps({"number": number, "debian": debian}))
        return Network(name, number)

    def down(self, name: str) -> bool:
        """End lab `name` and remove all of it, also what a crash left; False if there was nothing."""
        check_able(name)
        folder = STATE / name
        network = Network(name, _number(folder))
        found = folder.exists() or Path(f"/sys/class/net/{network.bridge}").exists()
        machinery.kill(f"rs-{name}-")
        _end_repository(folder)
        for root in sorted(folder.glob("hosts/*/root")):
            while os.path.ismount(root):
                subprocess.run(["umount", "--lazy", str(root)], check=True, capture_output=True)
        for host in _present(network):
            machinery.keep_archives(host)
        network.down()
        shutil.rmtree(Path("/etc/netns") / network.outside, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        with _state_lock():
            switches = STATE / "forwarding.json"
            if not list(STATE.glob("*/lab.json")) and switches.is_file():
                networking.restore_forwarding(json.loads(switches.read_text()))
                switches.unlink()
        return found

    def running(self) -> list[dict[str, object]]:
        """Return a row per host of every lab on this machine, for people and for `--json`."""
        rows: list[dict[str, object]] = []
        for record in sorted(STATE.glob("*/lab.json")):
            facts = json.loads(record.read_text())
            for host in _present(Network(record.parent.name, facts["number"])):
                rows.append(
                    {
                        "lab": record.parent.name,
                        "host": host.name,
                        "debian": facts["debian"],
                        "address": host.address,
                        "address6": host.address6,
                        "running": bool(machinery.running_pids(host.machine)),
                        "site": str(record.parent / "site"),
                    }
                )
        return rows


def check_able(name: str) -> None:
    """Raise UsageError if this user on this machine cannot run a lab called `name`."""
    if not _NAME.match(name):
        raise UsageError(f"{name!r} is no lab name", hint="use up to 8 lower-case letters and digits, a letter first")
    if os.geteuid() != 0:
        raise UsageError("the lab needs root: it mounts, makes bridges and boots hosts", hint=f"sudo {' '.join(sys.argv)}")
    missing = sorted(package for program, package in _PROGRAMS.items() if shutil.which(program) is None)
    if missing:
        raise UsageError("programs are missing", hint=f"apt-get install {' '.join(missing)}")


def _members(network: Network, count: int) -> list[LabHost]:
    folder = STATE / network.lab / "hosts"
    return [LabHost(f"h{index}", index, network, folder / f"h{index}") for index in range(1, count + 1)]


def _present(network: Network) -> list[LabHost]:
    count = len(list((STATE / network.lab / "hosts").glob("h*")))
    return _members(network, count)


def _number(folder: Path) -> int:
    record = folder / "lab.json"
    return int(json.loads(record.read_text())["number"]) if record.is_file() else 0


def _ssh_key(folder: Path) -> str:
    """Make the lab's own key pair once and return the public half."""
    key = folder / "id_ed25519"
    if not key.is_file():
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ratssaal-lab", "-f", str(key)]
        subprocess.run(argv, check=True, capture_output=True)
    return key.with_suffix(".pub").read_text()


def _write_outside_hosts(network: Network, names: dict[str, str]) -> None:
    folder = Path("/etc/netns") / network.outside
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in names.items())]
    (folder / "hosts").write_text("\n".join(lines) + "\n")


def _end_repository(folder: Path) -> None:
    """End the lab's package server, found by the directory that it serves."""
    subprocess.run(["pkill", "-KILL", "-f", f"http.server .*--directory {folder}/"], check=False, capture_output=True)


def _write_whole(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text)
    unfinished.rename(path)


@contextmanager
def _state_lock() -> Iterator[None]:
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
