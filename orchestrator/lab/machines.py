"""Booting hosts, on machines with and without systemd, looking into containers, and ending hosts of either driver."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import Problem, TaskFailed, Unreachable
from orchestrator.lab import processes
from orchestrator.lab.hosts import LabHost

BOOT_SECONDS = 90.0
# What systemd-nspawn sends its host to shut it down (systemd: man/systemd.xml, SIGRTMIN+4).
_POWER_OFF = signal.SIGRTMIN + 4
_TRACES = Path("/run/systemd/nspawn")

# systemd 256 and later refuse to boot on cgroup v1. Where this machine mounts that, the host gets a mount namespace in which
# /sys/fs/cgroup is the unified hierarchy. It gets a group of its own, since every payload calls itself /payload, and it lets
# go of the other hosts' file systems, which its copy of the mounts would otherwise hold beyond their end.
# systemd-nspawn ends with status 133 when the host reboots (systemd: src/nspawn/nspawn.c, EXIT_FORCE_RESTART).
_WITHOUT_SYSTEMD = """
machine=$1 state=$2; shift 2
if ! test -e /sys/fs/cgroup/cgroup.controllers; then
    { ! mountpoint -q /sys/fs/cgroup || umount -R /sys/fs/cgroup; } && mount -t cgroup2 none /sys/fs/cgroup || exit 1
fi
mkdir -p "/sys/fs/cgroup/$machine" && echo $$ > "/sys/fs/cgroup/$machine/cgroup.procs" || exit 1
while read -r kind target rest; do
    case $kind:$target in
        rs-*:"$state"/root) ;;
        rs-*:*/hosts/*/root) umount -l "$target" || true ;;
    esac
done < /proc/self/mounts
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
while :; do
    "$@" && exit 0 || status=$?
    test $status -eq 133 || exit $status
done
"""

# "degraded" is booted as well; an IPv6 address is "tentative" while the host looks whether somebody else has it.
_READY = """
systemctl is-system-running --wait | grep -Eqx 'running|degraded' && systemctl is-active --quiet ssh.service &&
ip -oneline -4 address show dev host0 | grep -q . && ! ip -oneline -6 address show dev host0 tentative | grep -q .
"""


def nspawn_argv(host: LabHost) -> list[str]:
    """Return the command line that boots `host` (pure)."""
    return [
        "systemd-nspawn",
        "--quiet",
        "--settings=no",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--console=pipe",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        f"--machine={host.machine}",
        f"--hostname={host.name}",
        f"--directory={host.root}",
        f"--network-bridge={host.network.bridge}",
        f"--bind={host.archives}:/var/cache/apt/archives",
        # systemd inside sandboxes units with these; nspawn forbids them by default
        "--system-call-filter=@keyring bpf",
        "--capability=CAP_BPF,CAP_PERFMON",
        # what the kernel and systemd give a machine's services; nspawn would inherit this process's limit
        "--rlimit=NOFILE=1024:524288",
    ]


def boot_argv(host: LabHost, *, systemd: bool) -> list[str]:
    """Return the command line that boots `host` in the background of this machine, with or without its systemd (pure)."""
    # /tmp is what the release makes of it, not what systemd-nspawn would mount there.
    argv = ["env", "SYSTEMD_NSPAWN_TMPFS_TMP=0", *nspawn_argv(host)]
    if systemd:
        own = ["--property=Delegate=yes", "--property=TasksMax=16384", "--property=RestartForceExitStatus=133"]
        return [*unit_argv(host), *own, *argv]
    prologue = ["sh", "-c", _WITHOUT_SYSTEMD, "sh", host.machine, str(host.state)]
    return ["setsid", "--fork", "unshare", "--mount", "--propagation", "slave", *prologue, *argv]


def unit_argv(host: LabHost) -> list[str]:
    """Return the command line before the one that runs the host as a unit of this machine's systemd (pure)."""
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={unit(host)}", "--slice=machine"]
    return [*argv, f"--property=StandardOutput=append:{host.console}"]


def has_systemd() -> bool:
    """Say whether this machine is run by systemd on the unified hierarchy."""
    return Path("/run/systemd/system").is_dir() and Path("/sys/fs/cgroup/cgroup.controllers").exists()


def unit(host: LabHost) -> str:
    """Return the name of the host's unit on a machine with systemd."""
    return f"ratssaal-lab-{host.machine}.service"


def boot(host: LabHost) -> None:
    """Start the host in the background; a running one stays. Raises TaskFailed."""
    if supervisors(host.network.lab, host.name):
        return
    _end_orphans(host)
    _clear_traces(host.network.lab, host.name)
    start(host, boot_argv(host, systemd=has_systemd()))


def start(host: LabHost, argv: list[str]) -> None:
    """Run what boots the host in the background; its output goes to the console's file. Raises TaskFailed."""
    if has_systemd():
        subprocess.run(["systemctl", "reset-failed", unit(host)], check=False, capture_output=True)
    with host.console.open("ab") as log:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        raise TaskFailed([Problem(f"the lab host cannot be started: {_tail(host)}", host.name, _once_more(host))])


def wait_until_up(host: LabHost) -> None:
    """Wait until the boot is finished and sshd runs, without knocking at its port: it penalises those who only knock.

    Raises Unreachable with the console's tail after BOOT_SECONDS, or as soon as the host has ended.
    """
    wait_for(host, _booted, BOOT_SECONDS)


def wait_for(host: LabHost, booted: Callable[[LabHost, float], bool], patience: float) -> None:
    """Wait until `booted` says so; it is told how many seconds it may take. Raises Unreachable with the console's tail."""
    begin = time.monotonic()
    while time.monotonic() < begin + patience:
        if booted(host, begin + patience - time.monotonic()):
            return
        if time.monotonic() > begin + 3 and not supervisors(host.network.lab, host.name):
            break
        time.sleep(0.1)
    seconds = time.monotonic() - begin
    message = f"the lab host was not up after {seconds:.0f} s: {_tail(host)}"
    raise Unreachable([Problem(message, host.name, _once_more(host))])


def enter_argv(host: LabHost, argv: list[str]) -> list[str]:
    """Return the command line that runs `argv` inside the host past its network. Raises Unreachable if it is down."""
    leaders = [pid for supervisor in supervisors(host.network.lab, host.name) for pid in _leaders(supervisor)]
    if not leaders:
        raise Unreachable([Problem("the lab host is not running", host.name, f"ratssaal lab up {host.network.lab}")])
    clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]
    return [*clean, "nsenter", f"--target={leaders[0]}", "--all", "--root", "--wd", "--", *argv]


def enter(host: LabHost, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command inside the host past its network, to look at it when SSH is cut off.

    Raises Unreachable if the host is down, subprocess.CalledProcessError if `check` and the command fails.
    """
    return subprocess.run(enter_argv(host, list(argv)), check=check, capture_output=True, text=True)


def supervisors(lab: str, host: str = "") -> list[int]:
    """Return the processes that run this lab's hosts (or one of them), from the moment of their start."""
    return _named("(--machine|guest)", lab, host)


def _named(option: str, lab: str, host: str = "") -> list[int]:
    wanted = re.compile(rf"{option}=rs-{lab}-{host or 'h[0-9]+'}")
    return [pid for pid, words in processes.command_lines() if any(wanted.fullmatch(word) for word in words)]


def power_off(host: LabHost) -> None:
    """Tell a container to shut down in good order."""
    for leader in (leader for pid in supervisors(host.network.lab, host.name) for leader in _leaders(pid)):
        os.kill(leader, _POWER_OFF)


def kill(lab: str) -> bool:
    """End all hosts of a lab at once: they are throwaway. False if none ran. Raises TaskFailed if one survives 15 s."""
    started = supervisors(lab)
    inside = _members(lab)
    # systemd-nspawn tidies up behind a payload that ends; it does not take the payload along when it is killed itself.
    for pid in (leader for supervisor in started for leader in _leaders(supervisor)):
        processes.kill_all(lambda pid=pid: [pid], seconds=5)  # type: ignore[misc]
    processes.kill_all(lambda: _named("guest", lab), seconds=5)  # virtual machines
    processes.wait_until_gone(started, seconds=5)
    left = processes.kill_all(lambda: supervisors(lab) + _members(lab), seconds=15)
    if left:
        raise TaskFailed([Problem(f"processes of lab {lab} cannot be ended: {left}", hint=f"ratssaal lab down {lab}")])
    _clear_traces(lab)
    _clear_groups(lab)
    return bool(started or inside)


def _leaders(supervisor: int) -> list[int]:
    """Return the first process inside the host that this systemd-nspawn runs."""
    children = [pid for pid, _ in processes.command_lines() if processes.parent(pid) == supervisor]
    return [pid for pid in children if _namespaced_pid(pid) == 1]


def _namespaced_pid(pid: int) -> int:
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        match = re.search(r"^NSpid:.*?(\d+)$", status, flags=re.MULTILINE)
        return int(match.group(1)) if match else 0
    return 0


def _members(lab: str, host: str = "") -> list[int]:
    """Return the processes in the control groups of this lab's hosts (or one's), also when systemd-nspawn is gone."""
    group = re.compile(rf"[/-]rs-{lab}-{host or 'h[0-9]+'}(?:\.service)?(?:/|$)", flags=re.MULTILINE)
    found = []
    for pid in processes.ids():
        with suppress(OSError):
            if group.search(Path(f"/proc/{pid}/cgroup").read_text(errors="replace")):
                found.append(pid)
    return found


def _end_orphans(host: LabHost) -> None:
    """End what runs on without its systemd-nspawn, with its network interface: the next start would fail on both."""
    own = os.readlink("/proc/self/ns/net")
    for pid in _members(host.network.lab, host.name):
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/net") != own:
                argv = ["nsenter", f"--target={pid}", "--net", "ip", "link", "delete", "host0"]
                if subprocess.run(argv, check=False, capture_output=True).returncode == 0:
                    break
    processes.kill_all(lambda: _members(host.network.lab, host.name), seconds=15)


def _clear_groups(lab: str) -> None:
    """Remove the hosts' empty control groups from every mounted unified hierarchy."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, kind = line.split()[:3]
        if kind == "cgroup2":
            for group in Path(target).glob(f"rs-{lab}-h*"):
                for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                    folder.rmdir()
                group.rmdir()


def _clear_traces(lab: str, host: str = "h*") -> None:
    """Remove what systemd-nspawn leaves when killed: a mount (255 and later) on which the next start would fail."""
    for folder in _TRACES.glob(f"*/rs-{lab}-{host}"):
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _booted(host: LabHost, seconds: float) -> bool:
    with suppress(Unreachable, subprocess.TimeoutExpired):
        argv = enter_argv(host, ["sh", "-c", _READY])
        return subprocess.run(argv, capture_output=True, check=False, timeout=max(seconds, 1)).returncode == 0
    return False


def _once_more(host: LabHost) -> str:
    return f"ratssaal lab up {host.network.lab} tries once more; the whole console: {host.console}"


def _tail(host: LabHost) -> str:
    return host.console.read_text(errors="replace")[-800:].strip()
