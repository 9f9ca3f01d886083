"""Whether the kernel keeps programs to their AppArmor profiles, and which services on the network have none."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import NotApplicable, NotTested, Sheet

# What makes this a container, as systemd says and as its first process was told; the kernel's own list; of the files that packages
# brought, those that are gone and those that were switched off here; the names in the files that are loaded at boot, each file once, by
# what they say: enforced or changed ones, those that a package ships in complain mode, those that confine nobody by design, as
# packages ship them (Debian 13: browsers and the like, to let them make user namespaces) or as files of the host's own, and those
# with profiles of both kinds; and what each process that listens runs under. apparmor.d(5) names the endings that are passed over.
_LOOK = r"""read -r kind 2>/dev/null </run/systemd/container; echo ${kind:-none}
if told=$(tr '\0' '\n' 2>/dev/null </proc/1/environ); then echo "$told" | grep -m 1 ^container= || echo container=none
else echo unknown; fi
cat /sys/module/apparmor/parameters/enabled 2>/dev/null || echo absent
echo == next ==
cat /sys/kernel/security/apparmor/profiles 2>/dev/null
echo == next ==
if [ -e /sys/kernel/security/apparmor/profiles ]; then
    brought=$(dpkg-query -W -f '== ${db:Status-Status}\n${Conffiles}\n' | awk '/^== / {there = $2 !~ /^(config-files|not-installed)$/}
        there && $1 ~ "^/etc/apparmor[.]d/[^/]+$" && NF == 2 {print $1, $2}')
    files=$(for file in /etc/apparmor.d/*; do
        case $file in *.dpkg-*|*.orig|*.rej|*~) continue;; esac
        [ -f "$file" ] && [ ! -e "/etc/apparmor.d/disable/${file##*/}" ] && echo "$file"
    done)
fi
echo "$brought" | while read -r file sum; do
    off=/etc/apparmor.d/disable/${file##*/}
    [ -z "$file" ] || { [ -e "$file" ] || echo "gone $file"; [ ! -e "$off" ] || dpkg -S "$off" >/dev/null 2>&1 || echo "off $file"; }
done
echo == next ==
of_files() { echo "$files" | xargs -r "$@"; }
sorted=$({
    echo "$brought" | sed 's/^/brought /'
    of_files grep -lsE 'complain|unconfined' | xargs -r md5sum | awk '{print "now", $2, $1}'
    of_files grep -ls complain | sed 's/^/complain /'
    of_files grep -lsE 'flags *= *[(][^)]*unconfined' | sed 's/^/unconfined /'
    echo "$files" | sed 's/^/file /'
} | awk '{if ($1 == "brought") sum[$2] = $3; if ($1 == "now") now[$2] = $3; says[$1, $2] = 1}
    $1 == "file" && NF == 2 {
        as_shipped = ($2 in sum) && sum[$2] == now[$2]
        talks = as_shipped && (("complain", $2) in says)
        idles = (as_shipped || !($2 in sum)) && (("unconfined", $2) in says)
        print (talks ? (idles ? "both" : "complain") : (idles ? "unconfined" : "enforce")), $2
    }')
for kind in enforce complain unconfined both; do
    echo "$sorted" | sed -n "s/^$kind //p" | xargs -r apparmor_parser -N 2>&1
    echo == next ==
done
systemctl is-enabled apparmor.service 2>/dev/null
echo == next ==
for pid in $(ss -Hlntup | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u); do
    name=; rule=; read -r name </proc/$pid/comm; read -r rule </proc/$pid/attr/current; echo "$name|$rule"
done 2>/dev/null
true"""


@pytest.mark.control("OS-07")
def test_apparmor(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Every shipped profile is loaded and enforced."""
    (shown,) = ask(host, _LOOK)
    kernel, loaded, away, enforced, talking, idle, both, unit, services = text(shown).split("== next ==\n")
    *container, enabled = kernel.splitlines()
    profiles = dict(re.findall(r"^(.+) \((\w+)\)$", loaded, re.M))
    if not profiles:
        _judge_container(*container, sheet=sheet)
    sheet.expect(enabled == "Y", f"AppArmor is {'on' if enabled == 'Y' else 'off'} in the kernel", "on")
    state = unit.strip() or "not there"
    sheet.expect(state == "enabled", f"apparmor.service is {state} at boot", "enabled")
    sheet.expect(bool(profiles), f"{len(profiles)} profiles are loaded", "those that Debian ships")
    for how, _, file in (line.partition(" ") for line in away.splitlines()):
        told = "is gone" if how == "gone" else f"is switched off (/etc/apparmor.d/disable/{file.rpartition('/')[2]})"
        sheet.expect(False, f"the shipped profile {file} {told}", "there and loaded")
    shipped = enforced + talking + idle + both
    says = {"complain": _names(talking + both), "unconfined": _names(idle + both)}
    _judge_modes(profiles, _names(shipped), says, sheet)
    for name in sorted(_names(shipped)) if profiles else []:
        if name not in profiles:
            sheet.expect(False, f"the shipped profile {name} is not loaded", "loaded")
    for line in re.findall(r"^.*parser error.*$", shipped, re.M | re.I):
        sheet.could_not_look(f"names of profiles: {line}")
    sheet.expect(True, f"services on the network without a profile: {_unconfined(services)}", "")


def _judge_container(kind: str, told: str, *, sheet: Sheet) -> None:
    """Without any profile: raise why that is no matter of this host. What makes a container tells so to its first process."""
    if kind == "none":
        return
    if told == "unknown":
        raise NotTested(f"the first process does not tell whether this is a container ({kind})")
    if told != "container=none":
        raise NotApplicable(f"the kernel of the machine below this container ({kind}) gives it no AppArmor of its own")
    sheet.expect(False, f"/run/systemd/container says {kind}; the first process knows of no container", "no such file")


def _judge_modes(profiles: dict[str, str], shipped: Counter[str], says: dict[str, Counter[str]], sheet: Sheet) -> None:
    """A mode that lets a program do what it likes counts, unless all files that have the profile say so."""
    for name, mode in sorted(profiles.items()):
        whole, meant = name.partition("//")[0], says.get(mode, Counter[str]())
        if mode not in ("enforce", "kill") and (not meant[whole] or meant[whole] < shipped[whole]):
            sheet.expect(False, f"{name} is in {mode} mode", "enforced, as it is shipped")
    modes = Counter(profiles.values())
    sheet.expect(True, f"{modes['complain']} of them are in complain mode, {modes['unconfined']} confine nobody", "")


def _names(shipped: str) -> Counter[str]:
    """Return how many files have each profile; whatever else apparmor_parser says is left out."""
    return Counter(line for line in shipped.splitlines() if line and not re.search(r"[Ee]rror|[Ww]arning|: ", line))


def _unconfined(services: str) -> str:
    rows = (line.partition("|")[::2] for line in services.splitlines())
    return (
        ", ".join(sorted({name for name, rule in rows if not rule.strip() or rule.startswith("unconfined")})) or "none"
    )
