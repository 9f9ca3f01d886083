"""Whether the kernel keeps programs to their AppArmor profiles, and which services on the network have none."""

from __future__ import annotations

import re

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import NotApplicable, Sheet

# The kernel's own list, the names in the files that Debian's packages ship (without those that are switched off), of those the ones
# that are shipped in complain mode and were not changed since, and what each process that listens runs under.
_LOOK = (
    "read -r kind 2>/dev/null </run/systemd/container; echo ${kind:-none}; "
    "cat /sys/module/apparmor/parameters/enabled 2>/dev/null || echo absent; echo == next ==; "
    "cat /sys/kernel/security/apparmor/profiles 2>/dev/null; echo == next ==; "
    "[ -e /sys/kernel/security/apparmor/profiles ] && for file in /etc/apparmor.d/*; do "
    '[ -f "$file" ] && [ ! -e "/etc/apparmor.d/disable/${file##*/}" ] && echo "$file"; done | '
    "xargs -r apparmor_parser -N 2>&1; echo == next ==; "
    "[ -e /sys/kernel/security/apparmor/profiles ] && grep -ls complain /etc/apparmor.d/* | xargs -r md5sum | "
    "awk '{print \" \" $2 \" \" $1}' | grep -oFf - /var/lib/dpkg/status | awk '{print $1}' | xargs -r apparmor_parser -N 2>&1; "
    "echo == next ==; systemctl is-enabled apparmor.service 2>/dev/null; echo == next ==; "
    "for pid in $(ss -Hlntup | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u); do "
    'name=; rule=; read -r name </proc/$pid/comm; read -r rule </proc/$pid/attr/current; echo "$name|$rule"; done 2>/dev/null; true'
)


@pytest.mark.control("OS-07")
def test_apparmor(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Every shipped profile is loaded and enforced."""
    (shown,) = ask(host, _LOOK)
    kernel, loaded, shipped, talking, unit, services = text(shown).split("== next ==\n")
    container, enabled = kernel.split()
    profiles = dict(re.findall(r"^(.+) \((\w+)\)$", loaded, re.M))
    if not profiles and container != "none":
        raise NotApplicable(
            f"the kernel of the machine below this container ({container}) gives it no AppArmor of its own"
        )
    sheet.expect(enabled == "Y", f"AppArmor is {'on' if enabled == 'Y' else 'off'} in the kernel", "on")
    state = unit.strip() or "not there"
    sheet.expect(state == "enabled", f"apparmor.service is {state} at boot", "enabled")
    sheet.expect(bool(profiles), f"{len(profiles)} profiles are loaded", "those that Debian ships")
    known = set(_names(talking))
    complaining = sorted(name for name, mode in profiles.items() if mode == "complain")
    for name in (name for name in complaining if name.partition("//")[0] not in known):
        sheet.expect(False, f"{name} is in complain mode", "enforced, as it is shipped")
    sheet.expect(True, f"{len(complaining)} of them are in complain mode", "")
    missing = [name for name in _names(shipped) if name not in profiles] if profiles else []
    for name in missing:
        sheet.expect(False, f"the shipped profile {name} is not loaded", "loaded")
    sheet.expect(True, f"services on the network without a profile: {_unconfined(services)}", "")


def _names(shipped: str) -> list[str]:
    """Return the profiles' names; what apparmor_parser says of files that it cannot read is left to its own start."""
    return sorted({line for line in shipped.splitlines() if line and not re.search(r"[Ee]rror|[Ww]arning|: ", line)})


def _unconfined(services: str) -> str:
    rows = (line.partition("|")[::2] for line in services.splitlines())
    return (
        ", ".join(sorted({name for name, rule in rows if not rule.strip() or rule.startswith("unconfined")})) or "none"
    )
