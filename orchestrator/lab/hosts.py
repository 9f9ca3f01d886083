"""Lab hosts: an overlay on the cached root file system, and what makes each host itself."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import Problem, TaskFailed
from orchestrator.lab import archives
from orchestrator.lab.aptsources import apt_settings, settings_files
from orchestrator.lab.network import Network, hosts_file
from orchestrator.lab.rootfs import APT_LANGUAGES, SUDO_USER

USERS = {"root": "root", SUDO_USER: f"home/{SUDO_USER}"}


@dataclass(frozen=True, slots=True)
class LabHost:
    """One throwaway host; `state` is its directory on this machine."""

    name: str
    index: int
    network: Network
    state: Path
    driver: str = "container"

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

    @property
    def archives(self) -> Path:
        """The host's /var/cache/apt/archives on this machine."""
        return self.state / "archives"

    @property
    def known_hosts(self) -> Path:
        """The lines of known_hosts that pin this host's keys."""
        return self.state / "known_hosts"

    @property
    def console(self) -> Path:
        """What the host's console said, and what runs the host."""
        return self.state / "console.log"


def prepare(host: LabHost, lower: Path, names: Mapping[str, tuple[str, ...]], authorized_key: str) -> None:
    """Mount the overlay and write what makes this host itself: name, address, resolver, keys.

    A host that was prepared before keeps its disk, one whose preparation was killed starts afresh.
    """
    ready = host.state / "prepared"
    if not ready.exists():
        unmount(host.root)
        shutil.rmtree(host.state, ignore_errors=True)
    for part in ("upper", "work", "root", "archives"):
        (host.state / part).mkdir(parents=True, exist_ok=True)
    if not ready.exists():
        (host.state / "lower").write_text(str(lower))
    _mount(host)
    archives.fill(host.archives)
    if ready.exists():
        return
    _write_identity(host, names)
    _write_keys(host, authorized_key)
    _write_apt_settings(host)
    ready.touch()


def keep_disk(host: LabHost) -> None:
    """Make the disk of a host that does not run what `revert_disk` returns to: its changes become a layer of their own."""
    unmount(host.root)
    (host.state / "upper").rename(host.state / f"kept{len(kept_layers(host)) + 1}")


def revert_disk(host: LabHost) -> None:
    """Forget what changed on the disk of a host that does not run since `keep_disk`."""
    unmount(host.root)
    for part in ("upper", "work"):
        shutil.rmtree(host.state / part, ignore_errors=True)


def kept_layers(host: LabHost) -> list[Path]:
    """Return what `keep_disk` has kept of this host, the newest first."""
    return sorted(host.state.glob("kept*"), key=lambda path: int(path.name.removeprefix("kept")), reverse=True)


def unmount(root: Path) -> None:
    """Unmount what is mounted at `root`, lazily if something still holds it. Raises TaskFailed if that fails too."""
    while os.path.ismount(root):
        for how in ([], ["--lazy"]):
            done = subprocess.run(["umount", *how, str(root)], check=False, capture_output=True, text=True)
            if done.returncode == 0:
                break
        else:
            hint = f"see who holds it: fuser -vm {shlex.quote(str(root))}"
            raise TaskFailed([Problem(f"cannot unmount: {done.stderr.strip()}", str(root), hint)])


def _mount(host: LabHost) -> None:
    if os.path.ismount(host.root):
        return
    # A host whose disk was kept stays on the root file system that it was made from.
    lower = ":".join([*map(str, kept_layers(host)), (host.state / "lower").read_text()])
    options = f"lowerdir={lower},upperdir={host.state / 'upper'},workdir={host.state / 'work'}"
    done = subprocess.run(
        ["mount", "-t", "overlay", f"rs-{host.network.lab}", "-o", options, str(host.root)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        hint = f"the lab needs overlayfs, and a file system at {host.state} that is no overlay itself"
        raise TaskFailed([Problem(f"cannot mount: {done.stderr.strip()}", host.name, hint)])


def _write_identity(host: LabHost, names: Mapping[str, tuple[str, ...]]) -> None:
    etc = host.root / "etc"
    (etc / "hostname").write_text(host.name + "\n")
    (etc / "hosts").write_text(hosts_file(names))
    (etc / "resolv.conf").write_text(_resolver())
    # The machine forwards for its labs, and a container begins with what the machine has (kernel: net/ipv4/devinet.c).
    (etc / "sysctl.d/10-lab.conf").write_text("net.ipv4.ip_forward = 0\n")
    folder = etc / "systemd/network"
    folder.mkdir(parents=True, exist_ok=True)
    # Sorts before Debian's own 80-container-host0.network, which would ask for DHCP.
    (folder / "10-lab.network").write_text(
        f"[Match]\nName=host0 eth0\n\n[Network]\nDHCP=no\nIPv6AcceptRA=no\nLinkLocalAddressing=ipv6\n"
        f"Address={host.address}/24\nAddress={host.address6}/64\n"
        f"Gateway={host.network.gateway}\nGateway={host.network.gateway6}\n"
    )


def _resolver() -> str:
    """Return a resolv.conf that works from another network namespace: never the loopback stub of systemd-resolved."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        if path.is_file():
            words = [line.split() for line in path.read_text().splitlines()]
            usable = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver" and not _is_local(word[1])]
            if usable:
                return "".join(f"nameserver {address}\n" for address in usable)
    return ""


def _is_local(address: str) -> bool:
    return address.startswith(("127.", "fe80:")) or address == "::1"


def _write_keys(host: LabHost, authorized_key: str) -> None:
    (host.root / "etc/ssh").mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-A", "-f", str(host.root)], check=True, capture_output=True)
    host.known_hosts.write_text(_known_hosts(host))
    for home in USERS.values():
        folder = host.root / home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "authorized_keys").write_text(authorized_key)
        (folder / "authorized_keys").chmod(0o600)
        owner = (host.root / home).stat()
        for path in (folder, folder / "authorized_keys"):
            os.chown(path, owner.st_uid, owner.st_gid)


def _known_hosts(host: LabHost) -> str:
    """Return the lines of known_hosts that pin this host's keys, under both its addresses."""
    lines = ""
    for path in sorted((host.root / "etc/ssh").glob("ssh_host_*_key.pub")):
        kind, key = path.read_text().split()[:2]
        lines += f"{host.address},{host.address6} {kind} {key}\n"
    return lines


def _write_apt_settings(host: LabHost) -> None:
    settings = apt_settings(host.network.gateway)
    # `apt` (unlike `apt-get`) would delete what it downloaded, and the next lab would download it again.
    settings += f'Binary::apt::APT::Keep-Downloaded-Packages "true";\n{APT_LANGUAGES}\n'
    (host.root / "etc/apt/apt.conf.d/10lab").write_text(settings)
    for path in settings_files(settings):
        _copy(path, host.root)
    for path in (Path("/etc/apt/auth.conf"), *sorted(Path("/etc/apt/auth.conf.d").glob("*.conf"))):
        if path.is_file():
            _copy(path, host.root)


def _copy(path: Path, root: Path) -> None:
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target)
