"""Lab hosts: an overlay on the cached root file system, booted with its own systemd by systemd-nspawn."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import Problem, Unreachable
from orchestrator.lab.network import Network
from orchestrator.lab.rootfs import CACHE

BOOT_SECONDS = 60.0

# systemd 256 and later refuse to boot on cgroup v1. Where this machine mounts that, the host gets a mount namespace in which
# /sys/fs/cgroup is the unified hierarchy, and a group of its own, since every payload calls itself /payload.
_UNIFIED = """
umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup &&
mkdir -p "/sys/fs/cgroup/$1" && echo $$ > "/sys/fs/cgroup/$1/cgroup.procs" && shift &&
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec "$@"
"""


@dataclass(frozen=True, slots=True)
class LabHost:
    """One throwaway host; `state` is its directory on this machine."""

    name: str
    index: int
    network: Network
    state: Path

    @property
    def machine(self) -> str:
        """The name that systemd-nspawn and `ps` show."""
        return f"rs-{self.network.lab}-{self.name}"

    @property
    def address(self) -> str:
        """IPv4 address."""
        return self.network.address(self.index)

    @property
    def address6(self) -> str:
        """IPv6 address."""
        return self.network.address6(self.index)

    @property
    def root(self) -> Path:
        """Where the host's root file system is mounted on this machine."""
        return self.state / "root"


def nspawn_argv(host: LabHost) -> list[str]:
    """Return the command line that boots `host` (pure)."""
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--console=pipe",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        f"--machine={host.machine}",
        f"--directory={host.root}",
        f"--network-bridge={host.network.bridge}",
        f"--bind={host.state / 'archives'}:/var/cache/apt/archives",
        # systemd inside sandboxes units with these; nspawn forbids them by default
        "--system-call-filter=@keyring bpf",
    ]


def prepare(host: LabHost, lower: Path, names: dict[str, str], authorized_key: str) -> None:
    """Mount the overlay and write what makes this host itself: name, address, resolver, keys."""
    for part in ("upper", "work", "root", "archives/partial"):
        (host.state / part).mkdir(parents=True, exist_ok=True)
    os.chown(host.state / "archives/partial", 42, 0)  # uid 42 is _apt in every Debian (base-passwd is not involved)
    _fill_archives(host.state / "archives")
    if not os.path.ismount(host.root):
        options = f"lowerdir={lower},upperdir={host.state / 'upper'},workdir={host.state / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(host.root)], check=True, capture_output=True)
    _write_identity(host, names)
    _write_keys(host, authorized_key)


def _write_identity(host: LabHost, names: dict[str, str]) -> None:
    root = host.root
    (root / "etc/hostname").write_text(host.name + "\n")
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{address} {name}" for name, address in names.items()]
    (root / "etc/hosts").write_text("\n".join(lines) + "\n")
    (root / "etc/resolv.conf").write_text(_resolver())
    folder = root / "etc/systemd/network"
    folder.mkdir(parents=True, exist_ok=True)
    # Sorts before Debian's own 80-container-host0.network, which would ask for DHCP.
    (folder / "10-lab.network").write_text(
        f"[Match]\nName=host0\n\n[Network]\nDHCP=no\nIPv6AcceptRA=no\nLinkLocalAddressing=ipv6\n"
        f"Address={host.address}/24\nAddress={host.address6}/64\n"
        f"Gateway={host.network.gateway}\nGateway={host.network.gateway6}\n"
    )
    _copy_apt_settings(root)


def _copy_apt_settings(root: Path) -> None:
    for path in sorted(Path("/etc/apt/apt.conf.d").glob("*")):
        if path.is_file() and "proxy" in path.read_text(errors="replace").lower():
            shutil.copy(path, root / "etc/apt/apt.conf.d" / path.name)
    for path in sorted(Path("/etc/apt/auth.conf.d").glob("*")):
        if path.is_file():
            shutil.copy(path, root / "etc/apt/auth.conf.d" / path.name)


def _resolver() -> str:
    """Return a resolv.conf that works from another network namespace: never the loopback stub of systemd-resolved."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        if path.is_file():
            lines = [line for line in path.read_text().splitlines() if line.startswith("nameserver")]
            usable = [line for line in lines if not line.split()[1].startswith(("127.", "::1"))]
            if usable:
                return "\n".join(usable) + "\n"
    return ""


def _write_keys(host: LabHost, authorized_key: str) -> None:
    (host.root / "etc/ssh").mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-A", "-f", str(host.root)], check=True, capture_output=True)
    for home in ("root", "home/sysadmin"):
        folder = host.root / home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "authorized_keys").write_text(authorized_key)
        (folder / "authorized_keys").chmod(0o600)
        owner = (host.root / home).stat()
        for path in (folder, folder / "authorized_keys"):
            os.chown(path, owner.st_uid, owner.st_gid)


def _fill_archives(archives: Path) -> None:
    shared = CACHE / "archives"
    if shared.is_dir():
        for package in shared.glob("*.deb"):
            target = archives / package.name
            if not target.exists():
                os.link(package, target)


def keep_archives(host: LabHost) -> None:
    """Keep what the host downloaded for the next one."""
    shared = CACHE / "archives"
    shared.mkdir(parents=True, exist_ok=True)
    for package in (host.state / "archives").glob("*.deb"):
        if not (shared / package.name).exists():
            os.link(package, shared / package.name)


def boot(host: LabHost) -> None:
    """Start the host in the background; a running one stays."""
    if running_pids(host.machine):
        return
    log = (host.state / "console.log").open("ab")
    argv = nspawn_argv(host)
    if Path("/run/systemd/system").is_dir():
        unit = f"ratssaal-lab-{host.machine}"
        argv = ["systemd-run", "--quiet", f"--unit={unit}", "--collect", "--property=Delegate=yes", *argv]
    elif not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _UNIFIED, "sh", host.machine, *argv]
    subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def wait_for_ssh(host: LabHost) -> None:
    """Wait until sshd greets. Raises Unreachable after BOOT_SECONDS with the console's tail."""
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host.address, 22), timeout=2) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.2)
    tail = (host.state / "console.log").read_text(errors="replace")[-500:]
    raise Unreachable([Problem(f"the lab host did not start sshd within {BOOT_SECONDS:.0f} s: {tail}", where=host.name)])


def running_pids(machine_prefix: str) -> list[int]:
    """Return the systemd-nspawn processes whose machine name starts with `machine_prefix`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[0].endswith("systemd-nspawn") and any(word.startswith(f"--machine={machine_prefix}") for word in words):
            found.append(int(path.parent.name))
    return found


def payload_pids(machine_prefix: str) -> list[int]:
    """Return the processes inside such hosts, found by their control group, also when systemd-nspawn itself is gone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            groups = path.read_text()
        except OSError:
            continue
        if machine_prefix in groups:
            found.append(int(path.parent.name))
    return found


def kill(machine_prefix: str) -> None:
    """End hosts at once (they are throwaway) and wait until their processes are gone, at most 15 s."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        # systemd-nspawn does not take its payload along when it is killed, so both are looked for.
        alive = [pid for pid in running_pids(machine_prefix) + payload_pids(machine_prefix) if not _is_zombie(pid)]
        if not alive:
            return
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
