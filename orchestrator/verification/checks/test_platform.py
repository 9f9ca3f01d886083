"""The release, what waits for a restart, and the versions of the conferencing packages."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import pytest
import testinfra.host

from orchestrator.verification.aptsources import SOURCES, sources
from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject
from orchestrator.verification.support import Support, load_support, older

# Half a year, so that the next release can be planned for.
DAYS_OF_SUPPORT = 183
# base-files carries the release's number in its version and in /etc/debian_version (Debian: base-files debian/postinst).
_RELEASE = (
    "cat /etc/debian_version; dpkg-query -W -f '${Version}\\n' base-files; dpkg --print-architecture; "
    "sed -n 's/^ID=//p' /etc/os-release"
)
# Of the flavour that runs, where any is left: of two with one version, `cloud-amd64` would count as newer than `amd64`.
_NEWEST = (
    'ls -v /boot/vmlinuz-* 2>/dev/null | awk -v runs="$(uname -r)" \'function flavour(name) '
    '{ sub(/^.*vmlinuz-/, "", name); sub(/^[^-]*(-[0-9][^-]*)*/, "", name); return name } '
    "{ any = $0 } flavour($0) == flavour(runs) { newest = $0 } "
    'END { if (newest == "") newest = any; sub(/^.*vmlinuz-/, "", newest); print newest }\'; '
)
_KERNEL = (
    f"systemd-detect-virt --container; uname -r; uname -v; {_NEWEST}"
    "dpkg-query -W -f '${Version}' linux-image-$(uname -r) 2>/dev/null; true"
)
_VERSIONS = "dpkg-query -W -f '${Package} ${Version} ${db:Status-Status} ${db:Status-Want}\\n' 'jitsi*' jicofo prosody 2>/dev/null; true"
_REBOOT = "if [ -e /run/reboot-required ]; then echo required; cat /run/reboot-required.pkgs 2>/dev/null; fi; true"
# Programs and libraries that a process runs although newer files lie in their place: "process|cgroup|file". The kernel marks
# them (proc_pid_maps(5)). Files below /tmp, /var and the like are unpacked by the JVM and deleted on purpose.
_SHARED = "^[^ ]+ r-xp [^/]*/(usr|lib|lib64|bin|sbin|opt)/.*\\(deleted\\)$"
_REPLACED = (
    f"for maps in $(grep -lsE '{_SHARED}' /proc/[0-9]*/maps); do process=${{maps%/maps}}; "
    f'echo "$(cat $process/comm 2>/dev/null)|$(tail -n 1 $process/cgroup 2>/dev/null)|'
    f"$(grep -sE '{_SHARED}' $maps | head -n 1 | sed 's/^[^/]*//; s/ (deleted)$//')\"; done; true"
)


@pytest.mark.control("OS-01")
def test_release(host: testinfra.host.Host, sheet: Sheet) -> None:
    """What dpkg says that is installed, and which release apt takes its packages and security updates from."""
    shown, listed, now = ask(host, _RELEASE, SOURCES, "date +%s")
    named, package, architecture, system = (line.strip('" ') for line in text(shown).splitlines())
    number = _major(package)
    told = f"base-files {package}, /etc/debian_version {named}, ID {system}"
    sheet.expect(system == "debian" and _major(named) == number, told, "one release of Debian, named alike everywhere")
    support = load_support()
    release = support.release(number)
    if release is None:
        known = ", ".join(str(each.number) for each in support.releases)
        sheet.expect(False, f"nothing is known of the support of {told}", f"Debian {known}")
        return
    fits = number in support.platforms["jitsi"]
    sheet.expect(fits, f"Debian {number} for Jitsi", f"Debian {' or '.join(map(str, support.platforms['jitsi']))}")
    _judge_support(support, number, architecture, datetime.fromtimestamp(int(text(now)), UTC).date(), sheet)
    archives = [source for source in sources(text(listed)) if source.origin == "Debian" and source.read]
    others = sorted({source.codename for source in archives if source.codename.split("-")[0] != release.codename})
    sheet.expect(not others, f"apt takes packages from {', '.join(others) or release.codename}", release.codename)
    secure = any(s.label == "Debian-Security" and s.codename.startswith(release.codename) for s in archives)
    seen = f"apt has {'' if secure else 'no '}lists of {release.codename}'s security archive"
    sheet.expect(secure, seen, f"the archive {release.codename}-security, and its lists")


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found.group()) if found else 0


def _judge_support(support: Support, number: int, architecture: str, today: date, sheet: Sheet) -> None:
    """The long-term support counts as long as it lasts: its updates come from the same archive."""
    release = support.release(number)
    if release is None:
        raise LookupError(f"no release {number}")
    until, wanted = support.until(release, architecture), today + timedelta(days=DAYS_OF_SUPPORT)
    longer = f", long-term support until {until.isoformat()}" if until > release.security_until else ""
    seen = f"Debian {number} on {architecture}: support until {release.security_until.isoformat()}{longer}"
    sheet.expect(until >= wanted, seen, f"until {wanted.isoformat()} or longer")


@pytest.mark.control("OS-03")
def test_kernel(host: testinfra.host.Host, sheet: Sheet) -> None:
    """The kernel that runs is the newest that is installed. A container has none of its own to restart."""
    (shown,) = ask(host, _KERNEL)
    container, running, build, newest, *rest = (*text(shown).splitlines(), "", "")
    if container != "none":
        sheet.could_not_look(f"the kernel {running} belongs to the machine below this container ({container})")
        return
    if not newest:
        sheet.could_not_look(f"the kernel {running} comes from no package of this host")
        return
    sheet.expect(running == newest, f"kernel {running} runs, {newest} is the newest installed", "the newest runs")
    version = "".join(rest).strip()
    built = re.search(r"Debian (\S+)", build)
    if version and built:
        sheet.expect(built.group(1) == version, f"kernel {built.group(1)} runs, {version} is installed", "the same")


@pytest.mark.control("OS-03")
def test_restarts(host: testinfra.host.Host, sheet: Sheet) -> None:
    """No package asked for a reboot, and no service runs code whose file has been replaced."""
    reboot, replaced = ask(host, _REBOOT, _REPLACED)
    asking = text(reboot).split()
    words = f"a reboot is required by {', '.join(sorted(set(asking[1:]))) or 'a package'}" if asking else ""
    sheet.expect(not asking, words or "no package asks for a reboot", "none")
    old = set()
    for line in text(replaced).splitlines():
        process, _, rest = line.partition("|")
        group, _, path = rest.rpartition("|")
        # Somebody's own session ends by itself.
        if path and "/user.slice" not in group:
            old.add((group.rpartition("/")[2] or process, process, path))
    for unit, process, path in sorted(old):
        sheet.expect(False, f"{unit} ({process}) still runs the replaced {path}", "restarted since")
    if not old:
        sheet.expect(True, "no service runs replaced code", "")


def _packages(subject: Subject) -> list[str]:
    """Return the conferencing packages that belong on the host."""
    found = ["prosody", "jicofo", "jitsi-meet-prosody", "jitsi-meet-web", "jitsi-meet-web-config"]
    names = found if subject.signalling else []
    names += ["jitsi-meet-tokens"] if subject.signalling and subject.settings.get("jitsi_auth") == "jwt" else []
    return [*names, *(["jitsi-videobridge2"] if subject.bridge else [])]


@pytest.mark.control("OS-04")
def test_packages(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Installed, held at the locked version, not older than what is supported, no known weakness."""
    (shown,) = ask(host, _VERSIONS)
    rows = [line.split() for line in text(shown).splitlines()]
    versions = {row[0]: row[1] for row in rows if len(row) == 4 and row[2] == "installed"}
    held = {row[0] for row in rows if row[-1] == "hold"}
    support = load_support()
    locked = subject.settings.get("vendor_repository_versions") or {}
    for name in _packages(subject):
        version = versions.get(name)
        if version is None:
            sheet.expect(False, f"{name} is not installed", "installed")
            continue
        state = "held" if name in held else "not held: any upgrade of the system may change it"
        sheet.expect(name in held, f"{name} {version} is {state}", "held")
        if name in locked:
            sheet.expect(version == locked[name], f"{name} {version}", f"{locked[name]}, as locked")
        minimum = support.minimum[name]
        sheet.expect(not older(version, minimum), f"{name} {version}", f"at least {minimum}")
    for known in support.advisories:
        if known.package in versions and older(versions[known.package], known.fixed):
            seen = f"{known.package} {versions[known.package]} has {known.id} ({known.text})"
            sheet.expect(False, seen, f"{known.fixed} or newer")
    # Whoever reads that the control passed must not take it for a look at the advisories of today.
    until = support.advisories_read_until.isoformat()
    seen = f"Jitsi's advisories known to this version were read until {until}, newer ones are not compared"
    sheet.expect(True, seen, "")
