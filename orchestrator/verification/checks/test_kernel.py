"""What the kernel lets others do: by the network, and as a user of the host."""

from __future__ import annotations

import re
import shlex

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_containers import ENGINES
from orchestrator.verification.declarations import answered_for
from orchestrator.verification.kernel import QUESTION, Kernel, look, read
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

OFF, ON = ("0",), ("1",)
# Loose: an answer may come by another uplink, as media does on hosts with several. Strict keeps out more.
LOOSE, STRICT = "2", "1"
NETWORK = {
    **dict.fromkeys((f"net/ipv4/conf/{name}/accept_source_route" for name in ("all", "default")), OFF),
    **dict.fromkeys((f"net/ipv6/conf/{name}/accept_source_route" for name in ("all", "default")), ("0", "-1")),
    "net/ipv4/conf/all/accept_redirects": OFF,
    "net/ipv4/conf/default/accept_redirects": OFF,
    "net/ipv6/conf/default/accept_redirects": OFF,
    "net/ipv4/conf/all/send_redirects": OFF,
    "net/ipv4/conf/default/send_redirects": OFF,
    "net/ipv4/conf/all/secure_redirects": OFF,
    "net/ipv4/conf/all/log_martians": ON,
    "net/ipv4/conf/default/log_martians": ON,
    "net/ipv4/conf/all/rp_filter": (LOOSE, STRICT),
    "net/ipv4/tcp_syncookies": ("1", "2"),
    "net/ipv4/icmp_echo_ignore_broadcasts": ON,
}
MEMORY = {
    "kernel/randomize_va_space": ("2",),
    "kernel/kptr_restrict": ("1", "2"),
    "kernel/dmesg_restrict": ON,
    "kernel/yama/ptrace_scope": ("1", "2", "3"),
    "kernel/unprivileged_bpf_disabled": ("1", "2"),
    # 4 is Debian's own further step (linux:debian/patches).
    "kernel/perf_event_paranoid": ("3", "4"),
    "kernel/sysrq": OFF,
    "net/core/bpf_jit_harden": ("2",),
    "dev/tty/ldisc_autoload": OFF,
    "fs/suid_dumpable": OFF,
    "fs/protected_hardlinks": ON,
    "fs/protected_symlinks": ON,
    "fs/protected_fifos": ("1", "2"),
    "fs/protected_regular": ("1", "2"),
}
# What switches a protection off (kernel: admin-guide/kernel-parameters.txt, admin-guide/hw-vuln).
WEAKENING = {
    *("mitigations=off", "nopti", "pti=off", "nokaslr", "nospectre_v1", "nospectre_v2", "spectre_v2=off"),
    *("spectre_v2_user=off", "spec_rstack_overflow=off", "spec_store_bypass_disable=off"),
    *("nospec_store_bypass_disable", "l1tf=off", "mds=off", "tsx_async_abort=off", "kvm.nx_huge_pages=off"),
    *("mmio_stale_data=off", "retbleed=off", "srbds=off", "gather_data_sampling=off"),
    *("reg_file_data_sampling=off", "noexec=off", "nosmep", "nosmap", "indirect_target_selection=off"),
    *("vmscape=off", "tsa=off", "spectre_bhi=off"),
}


@pytest.mark.control("NET-09")
def test_network_settings(host: testinfra.host.Host, sheet: Sheet) -> None:
    """What all interfaces share, and what each keeps for itself."""
    kernel = look(host)
    for name, allowed in NETWORK.items():
        kernel.judge(name, allowed, sheet)
    for interface in kernel.interfaces("ipv4"):
        # A host takes and sends redirects where either says so (kernel: include/linux/inetdevice.h, IN_DEV_RX_REDIRECTS).
        for setting in ("accept_redirects", "send_redirects"):
            _judge_interface(kernel, f"net/ipv4/conf/{interface}/{setting}", OFF, sheet)
    for interface in kernel.interfaces("ipv6"):
        # IPv6 never asks `all` (kernel: net/ipv6/ndisc.c).
        _judge_interface(kernel, f"net/ipv6/conf/{interface}/accept_redirects", OFF, sheet)


def _judge_interface(kernel: Kernel, name: str, allowed: tuple[str, ...], sheet: Sheet) -> None:
    kernel.note(name, kernel.values.get(name) in allowed, " or ".join(allowed), sheet)


@pytest.mark.control("NET-09")
def test_forwarding(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """A conferencing host is no router; where containers live it must be one, and else somebody answers for it."""
    settings, engines = ask(host, QUESTION, ENGINES)
    kernel, names = read(settings), text(engines).split()
    # IPv4 asks the interface by which a packet comes, IPv6 only `all` (kernel: net/ipv4/route.c, net/ipv6/ip6_output.c).
    here = [f"net/ipv4/conf/{interface}/forwarding" for interface in ("all", *kernel.interfaces("ipv4"))]
    # Any number but 0 forwards, and 2 is kept as 2.
    off = ("0", None)
    now = [name for name in (*here, "net/ipv6/conf/all/forwarding") if kernel.values.get(name) not in off]
    later = [
        name
        for name in ("net/ipv4/ip_forward", *here[:1], "net/ipv6/conf/all/forwarding")
        if kernel.next_value(name) not in off
    ]
    shown = ", ".join([*map(_shown, now), *(f"{_shown(name)} in the files of sysctl.d" for name in later)])
    if not shown:
        sheet.expect(True, "packets are not forwarded", "")
    elif names:
        sheet.expect(True, f"packets are forwarded for {', '.join(names)}", "")
    elif kernel.container and not later and not kernel.ours & set(now):
        sheet.could_not_look(f"packets are forwarded ({shown}); that belongs to the machine below ({kernel.container})")
    else:
        answered_for(
            subject, "NET-09", sheet, f"packets are forwarded ({shown})", wanted="0 where no container engine is"
        )


def _shown(name: str) -> str:
    return name.replace("/", ".")


@pytest.mark.control("OS-06")
def test_memory_and_files(host: testinfra.host.Host, sheet: Sheet) -> None:
    """What makes a hole hard to use."""
    kernel = look(host)
    for name, allowed in MEMORY.items():
        kernel.judge(name, allowed, sheet)


# As a user who is in no group sees it; a mount option alone might be meant for another group.
_PROCESSES = (
    "setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "
    "'test -e /proc/self/stat || exit 3; test -e /proc/1/stat && echo seen; true'"
    # A container that may not mount /proc anew even as it is has what its machine gave it.
    " && if read -r kind 2>/dev/null </run/systemd/container && ! unshare --mount mount -o remount /proc 2>/dev/null; "
    "then echo $kind; fi"
)


@pytest.mark.control("OS-06")
def test_processes_of_others(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Nobody learns which programs others run, and with which arguments."""
    (shown,) = ask(host, _PROCESSES)
    words = text(shown).split()
    seen, refused = "seen" in words, " ".join(word for word in words if word != "seen")
    told = f"any user {'sees' if seen else 'does not see'} the processes of others in /proc"
    if seen and refused:
        sheet.could_not_look(f"{told}; that belongs to the machine below this container ({refused})")
        return
    sheet.expect(not seen, told, "root and the group adm alone (mounted with hidepid=invisible,gid=4)")


@pytest.mark.control("OS-06")
def test_command_line(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Nothing that protects is switched off, neither now nor at the next boot."""
    kernel = look(host)
    now, later = (WEAKENING & words for words in (set(kernel.command_line.split()), _words(kernel.next_command_line)))
    if now and kernel.container:
        sheet.could_not_look(f"the machine below this container was booted with {', '.join(sorted(now))}")
    else:
        sheet.expect(
            not now, f"booted with {', '.join(sorted(now)) or 'every protection'}", "no protection switched off"
        )
    if later:
        sheet.expect(False, f"the boot loader's files say {', '.join(sorted(later))}", "no protection switched off")


def _words(lines: str) -> set[str]:
    """Return the words of the boot loader's lines, as the shell reads them that reads GRUB's."""
    found: set[str] = set()
    for line in lines.splitlines():
        try:
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            parts = list(words)
        except ValueError:
            # A value that goes on in the next line.
            parts = re.split("[\"']", line)
        for part in parts:
            found |= set(re.sub(r"^GRUB_CMDLINE\w*\+?=", "", part).split())
    return found


# The kernel takes the flag away where the firmware or its command line switches it off (kernel: arch/x86/mm/setup_nx.c).
_NO_EXECUTE = "uname -m; read -r kind 2>/dev/null </run/systemd/container; echo ${kind:-none}; grep -m 1 ^flags /proc/cpuinfo; true"


@pytest.mark.control("OS-06")
def test_data_is_not_executed(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Other architectures have no such flag: theirs can do nothing else, or do not tell."""
    (shown,) = ask(host, _NO_EXECUTE)
    machine, container, flags = f"{text(shown)}\n\n".split("\n", 3)[:3]
    if machine not in ("x86_64", "i686", "i586"):
        raise NotApplicable(f"{machine} tells nothing of memory that is not executed (nx)")
    there = "nx" in flags.split()
    told = f"the processor {'keeps' if there else 'does not keep'} data from being executed (nx)"
    if container == "none" or there:
        sheet.expect(there, told, "nx among its flags: switch it on in the firmware, or take another virtual processor")
    else:
        sheet.could_not_look(f"{told}; it belongs to the machine below this container ({container})")
