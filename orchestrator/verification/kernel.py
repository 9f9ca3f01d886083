"""What the kernel has in effect, what of it this host may set, and what it gets at the next boot: one command."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import testinfra.host
from testinfra.backend.base import CommandResult

from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import Sheet

_SINGLE = (
    *("kernel/randomize_va_space", "kernel/kptr_restrict", "kernel/dmesg_restrict", "kernel/yama/ptrace_scope"),
    *("kernel/unprivileged_bpf_disabled", "kernel/perf_event_paranoid", "kernel/sysrq", "dev/tty/ldisc_autoload"),
    *("kernel/core_pattern", "fs/suid_dumpable"),
    *("fs/protected_hardlinks", "fs/protected_symlinks", "fs/protected_fifos", "fs/protected_regular"),
    *("net/core/rmem_max", "net/core/netdev_max_backlog", "net/core/bpf_jit_harden"),
    *("net/ipv4/tcp_syncookies", "net/ipv4/icmp_echo_ignore_broadcasts", "net/ipv6/conf/all/forwarding"),
)
_EACH = (
    *("ipv4/conf/*/accept_redirects", "ipv4/conf/*/send_redirects", "ipv4/conf/*/accept_source_route"),
    *("ipv4/conf/*/rp_filter", "ipv4/conf/*/log_martians", "ipv4/conf/*/secure_redirects", "ipv4/conf/*/forwarding"),
    *("ipv6/conf/*/accept_redirects", "ipv6/conf/*/accept_source_route"),
)
# Read by grep: what a shell reads in single bytes, the kernel ends after the first. `test -w` is no question of rights: a
# container's /proc/sys is mounted read-only, or lets nobody but the machine's root write.
QUESTION = (
    f"cd /proc/sys && set -- {' '.join(_SINGLE)} {' '.join(f'net/{name}' for name in _EACH)}; grep -sH '' \"$@\"; echo == next ==; "
    'for name; do if [ -w "$name" ]; then echo "$name"; fi; done; echo == next ==; '
    'read -r line </proc/cmdline; echo "$line"; echo == next ==; read -r kind 2>/dev/null </run/systemd/container && echo $kind; '
    "echo == next ==; grep -shE '^[^#]*GRUB_CMDLINE' /etc/default/grub /etc/default/grub.d/*.cfg; cat /etc/kernel/cmdline 2>/dev/null; "
    "echo == next ==; /usr/lib/systemd/systemd-sysctl --cat-config"
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel's settings by their names below /proc/sys, with slashes."""

    values: Mapping[str, str]
    ours: frozenset[str]
    kept: Mapping[str, str | None]
    command_line: str
    next_command_line: str
    container: str

    def next_value(self, name: str) -> str | None:
        """Return what the files below sysctl.d say of a setting; an own line wins over a pattern (sysctl.d(5))."""
        if name in self.kept:
            return self.kept[name]
        return next((value for key, value in reversed(list(self.kept.items())) if fnmatchcase(name, key)), None)

    def judge(self, name: str, allowed: tuple[str, ...], sheet: Sheet) -> None:
        """Note what is in effect, and what will be after the next boot; another machine's setting is not tested."""
        shown, wanted = name.replace("/", "."), " or ".join(allowed)
        self.note(name, self.values.get(name) in allowed, wanted, sheet)
        kept = self.next_value(name)
        sheet.expect(kept in allowed, f"{shown} is {kept or 'not named'} in the files of sysctl.d", wanted)

    def note(self, name: str, fits: bool, wanted: str, sheet: Sheet) -> None:
        """Note one setting as it is in effect."""
        value = self.values.get(name)
        seen = f"{name.replace('/', '.')} is {'not there' if value is None else value or 'empty'}"
        if fits or name in self.ours or not self.container:
            sheet.expect(fits, seen, wanted)
        else:
            sheet.could_not_look(f"{seen}; it belongs to the machine below this container ({self.container})")

    def interfaces(self, family: str) -> list[str]:
        """Return the interfaces of ipv4 or ipv6."""
        found = (re.fullmatch(rf"net/{family}/conf/(.*)/accept_redirects", name) for name in self.values)
        return [match.group(1) for match in found if match and match.group(1) not in ("all", "default")]


def look(host: testinfra.host.Host) -> Kernel:
    """Return what the host's kernel has in effect."""
    (result,) = ask(host, QUESTION)
    return read(result)


def read(result: CommandResult) -> Kernel:
    """Return what the answer to QUESTION says."""
    settings, ours, line, container, later, files = text(result).split("== next ==\n", 5)
    return Kernel(
        values={name: value.strip() for name, _, value in (row.partition(":") for row in settings.splitlines())},
        ours=frozenset(ours.splitlines()),
        kept=_assignments(files),
        command_line=line.strip(),
        next_command_line=later.strip(),
        container=container.strip(),
    )


def _assignments(files: str) -> dict[str, str | None]:
    """Return what sysctl.d's files set, the last line of a name last; None where a line takes a name out of a pattern."""
    found: dict[str, str | None] = {}
    for line in files.splitlines():
        name, equals, value = line.strip().partition("=")
        name = name.strip().removeprefix("-").strip()
        if not name or name[0] in "#;" or (not equals and not line.strip().startswith("-")):
            continue
        found.pop(_slashes(name), None)
        found[_slashes(name)] = value.strip() if equals else None
    return found


def _slashes(name: str) -> str:
    """Return a setting's name with slashes: dots and slashes change places where a dot comes first (sysctl.d(5))."""
    first = re.search(r"[./]", name)
    return name.translate(str.maketrans("./", "/.")) if first and first.group() == "." else name
