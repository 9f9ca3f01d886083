"""The lab: throwaway hosts on the operator's own machine, and the site that describes them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.lab import archives, discovery, drivers, machines, processes, repository, switches, timeserver
from orchestrator.lab.hosts import LabHost, unmount
from orchestrator.lab.locks import locked
from orchestrator.lab.network import Network, dropping_chains, free_number
from orchestrator.lab.rootfs import clear_unfinished, root_file_system
from orchestrator.lab.site import LabSite, build_repository, names_of, site_of, write_site

__all__ = ["STATE", "Lab", "LabHost", "LabSite", "check_able"]

STATE = Path("/var/lib/ratssaal-lab")
_SWITCHES = STATE / "switches.json"
_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
POWER_OFF_SECONDS = 120.0
_PROGRAMS = {
    "apt-config": "apt",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
_VM_PROGRAMS = {"mke2fs": "e2fsprogs", "qemu-img": "qemu-utils", "qemu-system-x86_64": "qemu-system-x86"}


@dataclass(frozen=True, slots=True)
class Record:
    """What is written down about a lab: its network's number, its hosts' release, count and driver, and the repository."""

    number: int
    debian: int
    hosts: int
    repository: bool
    driver: str = "container"


class Lab:
    """Starts and ends labs; several may run at once under different names."""

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        self._say = say

    def up(
        self, name: str, debian: int = 13, hosts: int = 1, repository: bool = True, driver: str = "container"
    ) -> LabSite:
        """Start lab `name` with `hosts` Debian `debian` hosts and return its site; what runs already stays as it is.

        `driver` is `container` or `vm`.

        A lab that was begun by this call and fails is removed again. Raises UsageError without root or a needed
        program, TaskFailed if a part cannot be made, Unreachable if a host does not come up.
        """
        check_able(name, driver)
        with locked(_lock(name), lambda: self._say(f"waiting: lab {name} is being changed by another process")):
            fresh = _recorded(name) is None
            try:
                record = self._claim(name, Record(0, debian, hosts, repository, driver))
                return self._raise_up(name, record, root_file_system(debian, self._say, kernel=driver == "vm"))
            except BaseException:
                if fresh:
                    self._take_down(name)
                raise

    def snapshot(self, name: str) -> None:
        """Shut the hosts of lab `name` down, keep their disks as what `revert` returns to, and start them again.

        The site beside the hosts is not part of it. Raises UsageError if there is no such lab, Unreachable if a host does
        not come up again.
        """

        def end(hosts: tuple[LabHost, ...]) -> None:
            for host in hosts:
                drivers.of(host).power_off(host)
            processes.wait_until_gone(machines.supervisors(name), seconds=POWER_OFF_SECONDS)
            machines.kill(name)

        self._with_disks(name, end, lambda host: drivers.of(host).keep_disk(host))

    def revert(self, name: str) -> None:
        """Put the hosts of lab `name` back to their last snapshot and start them. Raises UsageError if there is none."""
        bare = [host.name for host in self.site(name).hosts if not drivers.of(host).kept_layers(host)]
        if bare:
            raise UsageError(f"lab {name} has no snapshot of {', '.join(bare)}", hint=f"ratssaal lab snapshot {name}")
        self._with_disks(name, lambda _: machines.kill(name), lambda host: drivers.of(host).revert_disk(host))

    def _with_disks(
        self, name: str, end: Callable[[tuple[LabHost, ...]], object], change: Callable[[LabHost], None]
    ) -> None:
        """End the hosts of a lab, change their disks, start them again."""
        check_able(name)
        hosts = self.site(name).hosts
        with locked(_lock(name), lambda: self._say(f"waiting: lab {name} is being changed by another process")):
            record = _recorded(name)
            if record is None:
                raise UsageError(f"there is no lab {name}", hint=f"ratssaal lab up {name}")
            end(hosts)
            for host in hosts:
                change(host)
            self._raise_up(name, record, root_file_system(record.debian, self._say, kernel=record.driver == "vm"))

    def _raise_up(self, name: str, record: Record, lower: Path) -> LabSite:
        network, folder = Network(name, record.number), STATE / name
        members = _members(network, record)
        if network.is_up() and all(machines.supervisors(name, host.name) for host in members):
            self._say(f"lab {name} is running")
        names, key = names_of(members), _ssh_key(folder)
        network.up(names)
        self._warn_of_firewalls(network)
        clock = record.driver == "vm" and self._serve_time(folder, network)

        def start(host: LabHost) -> None:
            if not machines.supervisors(name, host.name):
                self._say(f"starting {host.name}: Debian {record.debian}, {host.address}, {host.address6}")
                drivers.of(host).prepare(host, lower, names, key)
                drivers.of(host).boot(host)
            drivers.of(host).wait_until_up(host)

        with ThreadPoolExecutor(max_workers=4) as pool:
            building = pool.submit(build_repository, folder) if record.repository else None
            list(pool.map(start, members))
            built = building.result() if building else None
        if built is not None:
            repository.serve(built.path, folder, network)
            self._say("packages: STAND-INS in place of Jitsi's own, from the lab's repository")
        return write_site(folder, members, built, clock=clock)

    def _claim(self, name: str, wanted: Record) -> Record:
        """Return what is written down about the lab, after choosing a free network number for a new one."""
        with locked(STATE / ".lock", lambda: None):
            known = _recorded(name)
            if known is not None and (known.debian, known.driver) != (wanted.debian, wanted.driver):
                kind = f"Debian {known.debian} hosts (driver {known.driver})"
                raise UsageError(f"lab {name} has {kind}", hint=f"ratssaal lab down {name}")
            if known is None:
                self._take_down(name, known_lock=True)  # what a crash left of an earlier lab of this name
                taken = [record.number for record in map(_recorded, _names()) if record is not None]
                known = replace(wanted, number=free_number(taken))
            known = replace(known, hosts=max(wanted.hosts, known.hosts))
            _write_record(name, known)
            switches.enable(_SWITCHES)
        return known

    def down(self, name: str) -> bool:
        """End lab `name` and remove all of it, also what a crash left; False if there was nothing."""
        check_able(name)
        waiting = f"waiting: lab {name} is being changed by another process"
        with locked(_lock(name), lambda: self._say(waiting), remove=True):
            found = self._take_down(name)
        clear_unfinished()
        archives.prune()
        return found

    def down_all(self) -> list[str]:
        """End every lab of which anything is on this machine and return their names."""
        check_able("all")
        names = sorted(name for name in discovery.traces(STATE) if _NAME.fullmatch(name))
        for name in names:
            self._say(f"removing lab {name}")
            self.down(name)
        return names

    def _take_down(self, name: str, *, known_lock: bool = False) -> bool:
        """Remove a lab from the outside in: what runs, what is mounted, the network, the files, the switches."""
        folder = STATE / name
        found = folder.exists()
        found |= machines.kill(name)
        found |= repository.SERVER.end(folder)
        found |= timeserver.SERVER.end(folder)
        for lab, target in discovery.mounts(STATE):
            if lab == name:
                unmount(target)
        for downloads in folder.glob("hosts/h*/archives"):
            archives.keep(downloads)
        record = _recorded(name)
        found |= Network(name, record.number if record else 0).down()
        shutil.rmtree(folder, ignore_errors=True)
        if known_lock:
            return found
        with locked(STATE / ".lock", lambda: None):
            if not any(_recorded(other) for other in _names()):
                Network.last_down()
                switches.restore(_SWITCHES)
        return found

    def site(self, name: str) -> LabSite:
        """Return the site of a lab that is there. Raises UsageError."""
        record = _recorded(name)
        if record is None:
            hint = f"ratssaal lab up {name}" if _NAME.fullmatch(name) else "ratssaal lab ls"
            raise UsageError(f"there is no lab {name}", hint=hint)
        return site_of(STATE / name, _members(Network(name, record.number), record))

    def running(self) -> list[dict[str, Any]]:
        """Return a row per host of every lab on this machine, for people and for `--json`."""
        rows: list[dict[str, Any]] = []
        for name in _names():
            record = _recorded(name)
            if record is not None:
                site = self.site(name)
                rows += [_row(host, record, site) for host in site.hosts]
        return rows

    def half_made(self) -> dict[str, list[str]]:
        """Return what crashed labs left behind: lab name -> what is there."""
        return {name: found for name, found in discovery.traces(STATE).items() if _recorded(name) is None}

    def _serve_time(self, folder: Path, network: Network) -> bool:
        if timeserver.serve(folder, network):
            return True
        self._say(
            f"warning: the lab's time server does not answer at {network.gateway}, so its machines ask Debian's pool"
        )
        return False

    def _warn_of_firewalls(self, network: Network) -> None:
        for chain in dropping_chains():
            self._say(
                f"warning: this machine's own firewall drops by default ({chain}); if hosts cannot fetch packages, let"
                f" {network.bridge} through there"
            )


def check_able(name: str, driver: str = "container") -> None:
    """Raise UsageError if this user on this machine cannot run a lab called `name`, with hosts of that driver."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no lab name", hint="use up to 12 lower-case letters and digits, a letter first")
    if os.geteuid() != 0:
        hint = f"sudo {shlex.join(sys.argv)}"
        raise UsageError("the lab needs root: it mounts, makes bridges and boots hosts", hint=hint)
    programs = _PROGRAMS | (_VM_PROGRAMS if driver == "vm" else {})
    missing = sorted({package for program, package in programs.items() if shutil.which(program) is None})
    if missing:
        raise UsageError("programs that the lab needs are missing", hint=f"apt-get install {' '.join(missing)}")


def _row(host: LabHost, record: Record, site: LabSite) -> dict[str, Any]:
    return {
        "lab": host.network.lab,
        "host": host.name,
        "debian": record.debian,
        "driver": record.driver,
        "address": host.address,
        "address6": host.address6,
        "running": bool(machines.supervisors(host.network.lab, host.name)),
        "site": str(site.path),
        "vault_password_file": str(site.vault_password_file),
        "key_file": str(site.key_file),
        "outside": host.network.outside,
    }


def _members(network: Network, record: Record) -> list[LabHost]:
    folder = STATE / network.lab / "hosts"
    numbers = range(1, record.hosts + 1)
    return [LabHost(f"h{index}", index, network, folder / f"h{index}", record.driver) for index in numbers]


def _names() -> list[str]:
    return sorted(path.parent.name for path in STATE.glob("*/lab.json"))


def _lock(name: str) -> Path:
    return STATE / f".{name}.lock"


def _recorded(name: str) -> Record | None:
    known = {field.name for field in fields(Record)}
    try:
        written = json.loads((STATE / name / "lab.json").read_text())
        # Another version of the lab may have written more; its labs must be seen all the same.
        return Record(**{key: value for key, value in written.items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _write_record(name: str, record: Record) -> None:
    path = STATE / name / "lab.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(asdict(record)))
    unfinished.rename(path)


def _ssh_key(folder: Path) -> str:
    """Make the lab's own key pair once and return the public half."""
    key = folder / "id_ed25519"
    if not key.with_suffix(".pub").is_file():
        key.unlink(missing_ok=True)
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ratssaal-lab", "-f", str(key)]
        subprocess.run(argv, check=True, capture_output=True)
    return key.with_suffix(".pub").read_text()
