"""Virtual machines as lab hosts: their disks, how QEMU starts them, and whether this machine's KVM really boots a kernel."""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import Problem, TaskFailed
from orchestrator.lab import hosts, machines
from orchestrator.lab.hosts import LabHost

MEMORY_MB = 4096
DISK = "16G"
# Under TCG an ordinary kernel takes half a minute to its first service, and all services of a conference some minutes.
BOOT_SECONDS = 600.0
_PROBE_SECONDS = 20
# Where QEMU translates code (TCG), one processor may still run what another has just patched: one of ten JVMs crashed while its
# compiler wrote code (QEMU 7.2 and 10.0), and Linux ended with "Oops: int3" while it patched itself. One processor never does.
_PROCESSORS = {"kvm": 2, "tcg": 1}
# Code at a new place is translated anew, so that a random place makes each start of a program three times as slow: systemd and all
# that it starts are exempt (personality), while kernel.randomize_va_space stays what the host sets. AVX is slower than none.
_CPU = {"kvm": "host", "tcg": "max,-avx,-avx2"}
_INIT = {"kvm": "", "tcg": " init=/usr/bin/setarch -- x86_64 -R /sbin/init"}


def prepare(host: LabHost, lower: Path, names: Mapping[str, tuple[str, ...]], authorized_key: str) -> None:
    """Make the machine's disk: the root file system with what makes this host itself, as a sparse image of its own.

    What the machine writes goes to a layer above. A machine that was prepared before keeps its disk. Raises TaskFailed.
    """
    ready = host.state / "image-ready"
    if not ready.exists():
        hosts.prepare(host, lower, names, authorized_key)
        for name in ("vmlinuz", "initrd.img"):
            shutil.copyfile(host.root / name, host.state / name)
        _run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", str(host.root), str(_base(host)), DISK)
        hosts.unmount(host.root)
        ready.touch()
    if not _disk(host).exists():
        below = (kept_layers(host) or [_base(host)])[0]
        kind = "raw" if below == _base(host) else "qcow2"
        _run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(below), "-F", kind, str(_disk(host)))


def boot(host: LabHost) -> None:
    """Start the machine in the background; a running one stays. Raises TaskFailed."""
    if machines.supervisors(host.network.lab, host.name):
        return
    if not Path(f"/sys/class/net/{tap(host)}").exists():
        _run("ip", "tuntap", "add", "dev", tap(host), "mode", "tap")
    _run("ip", "link", "set", tap(host), "master", host.network.bridge, "up")
    argv = qemu_argv(host, accelerator(host.state / "vmlinuz", host.state / "initrd.img"))
    machines.start(host, [*(machines.unit_argv(host) if machines.has_systemd() else ("setsid", "--fork")), *argv])


def wait_until_up(host: LabHost) -> None:
    """Wait until the boot is finished and root can log in. Raises Unreachable with the console's tail."""
    machines.wait_for(host, _booted, BOOT_SECONDS)


def _booted(host: LabHost, seconds: float) -> bool:
    """Say whether the boot is finished: somebody logs in who may, since sshd penalises those who only knock."""
    argv = ssh_argv(host, "systemctl is-system-running --wait")
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=max(seconds, 1))
        return done.stdout.strip() in ("running", "degraded")
    return False


def ssh_argv(host: LabHost, *command: str) -> list[str]:
    """Return the command line that runs a command on the machine as root (pure)."""
    argv = ["ssh", "-i", str(host.state.parents[1] / "id_ed25519"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    argv += [
        "-o",
        "ConnectTimeout=5",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        f"UserKnownHostsFile={host.known_hosts}",
    ]
    return [*argv, f"root@{host.address}", *command]


def keep_disk(host: LabHost) -> None:
    """Make the disk of a machine that does not run what `revert_disk` returns to."""
    _disk(host).rename(host.state / f"kept{len(kept_layers(host)) + 1}.qcow2")


def revert_disk(host: LabHost) -> None:
    """Forget what changed on the disk of a machine that does not run since `keep_disk`."""
    _disk(host).unlink(missing_ok=True)


def kept_layers(host: LabHost) -> list[Path]:
    """Return what `keep_disk` has kept of this machine, the newest first."""
    found = host.state.glob("kept*.qcow2")
    return sorted(found, key=lambda path: int(path.stem.removeprefix("kept")), reverse=True)


def tap(host: LabHost) -> str:
    """Return the name of the machine's network interface on this machine; it has at most 15 characters."""
    return f"rsvm{host.network.number}-{host.index}"


def qemu_argv(host: LabHost, accelerator: str) -> list[str]:
    """Return the command line that boots the machine (pure).

    The kernel is Debian's own, loaded past a boot loader: the one that the root file system came with, also where the machine
    has installed a newer one since (control OS-03 tells so).
    """
    return [
        *_machine(accelerator, MEMORY_MB),
        *("-smp", str(_PROCESSORS[accelerator]), "-name", f"guest={host.machine}"),
        *("-kernel", str(host.state / "vmlinuz"), "-initrd", str(host.state / "initrd.img")),
        *("-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 apparmor=1 security=apparmor" + _INIT[accelerator]),
        *("-drive", f"file={_disk(host)},if=virtio,format=qcow2,cache=unsafe,discard=unmap"),
        *("-netdev", f"tap,id=lab,ifname={tap(host)},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=lab,mac={mac(host)}"),
        *("-device", "virtio-rng-pci", "-serial", f"file:{host.console}"),
        *("-qmp", f"unix:{_socket(host)},server=on,wait=off"),
    ]


def mac(host: LabHost) -> str:
    """Return the machine's hardware address, from the range that everybody may use locally."""
    return f"02:52:53:00:{host.network.number:02x}:{host.index:02x}"


def power_off(host: LabHost) -> bool:
    """Ask the machine to shut down in good order, as its power button does (QMP); False if nobody listens."""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(5)
            line.connect(str(_socket(host)))
            with line.makefile("rw") as talk:
                for command in ("qmp_capabilities", "system_powerdown"):
                    talk.readline()  # the greeting, or the answer before
                    talk.write(json.dumps({"execute": command}) + "\n")
                    talk.flush()
                talk.readline()
    except OSError:
        return False
    return True


@functools.cache
def accelerator(kernel: Path, initrd: Path) -> str:
    """Return `kvm` where it boots this kernel, else `tcg`: some machines offer KVM and then hang in it.

    The probe lets the kernel panic for want of a first program, so that it ends within seconds where all is well.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    with tempfile.NamedTemporaryFile() as console:
        argv = [*_machine("kvm", 512), "-no-reboot", "-kernel", str(kernel), "-initrd", str(initrd)]
        argv += ["-append", "console=ttyS0 panic=-1 rdinit=/none init=/none root=none"]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [*argv, "-serial", f"file:{console.name}"], capture_output=True, check=False, timeout=_PROBE_SECONDS
            )
        said = Path(console.name).read_text(errors="replace")
    return "kvm" if "Kernel panic" in said or "Rebooting" in said else "tcg"


def _machine(accelerator: str, memory_mb: int) -> list[str]:
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35", "-accel", accelerator, "-cpu", _CPU[accelerator], "-m", str(memory_mb)),
    ]


def _base(host: LabHost) -> Path:
    return host.state / "base.raw"


def _disk(host: LabHost) -> Path:
    return host.state / "disk.qcow2"


def _socket(host: LabHost) -> Path:
    return host.state / "qmp"


def _run(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        message = f"`{' '.join(argv[:3])} ...` failed: {done.stderr.strip()[-400:]}"
        raise TaskFailed([Problem(message, hint=f"try it by hand: {shlex.join(argv)}")])
