"""Updates, package sources, sandboxes."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest
import testinfra.host

from orchestrator.inventory import openpgp
from orchestrator.verification.aptsources import FILES, NO, SOURCES, entries, loosened, plain, sources
from orchestrator.verification.asking import ask, text
from orchestrator.verification.catalogue import select
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

DAYS = 7
# What a service for people on the network cannot give up, whatever its sandbox.
_INHERENT = ("PrivateNetwork=", "RestrictAddressFamilies=~AF_(INET|INET6)", "IPAddressDeny=")
_WORST = 4
# A new version of one of these stops or restarts what a meeting needs (jitsi-videobridge:debian/postinst,
# jitsi-meet:debian/jitsi-meet-prosody.triggers, Debian: ca-certificates-java).
_IN_MEETINGS = re.compile(r"jitsi-|(?:jicofo|jibri|jigasi|ca-certificates-java)$|prosody|openjdk-")
# The keys that sign a source which is bound to none, those that are Debian's, and of these the ones that were altered.
_KEYS = (
    'for file in /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d/*.gpg /etc/apt/trusted.gpg.d/*.asc; do [ -s "$file" ] && '
    "echo \"trusted $file\"; done; dpkg -L debian-archive-keyring 2>/dev/null | sed 's/^/debian /'; "
    "dpkg -V debian-archive-keyring 2>/dev/null | sed 's#^[^/]*#altered #'; true"
)
# The archive dates its list anew at least each week, for which it is valid, and signs it. The times of apt's own files do not tell:
# an update that reached no mirror sets them as well, and ends with 0.
_LISTS = "cd /var/lib/apt/lists && grep -HaE '^(Codename|Suite|Date|Valid-Until):' *Release 2>/dev/null; true"
# A quarter of what a simulated upgrade costs; and it tells of held packages, which a simulation keeps quiet about.
_INSTALLED = (
    "LC_ALL=C apt-cache policy $(dpkg-query -W -f '${binary:Package} ${db:Status-Status}\\n' | "
    "awk '$2 == \"installed\" {print $1}')"
)


@pytest.mark.control("OS-02")
def test_security_updates(host: testinfra.host.Host, sheet: Sheet) -> None:
    """On, fed with fresh lists, and nothing old is pending."""
    config, timers, lists, pending, now = ask(
        host,
        "apt-config dump",
        "systemctl is-active apt-daily.timer apt-daily-upgrade.timer; true",
        _LISTS,
        _INSTALLED,
        "date +%s",
    )
    rows = dict(re.findall(r'^(\S+) "(.*)";$', text(config), re.M))
    for option in ("APT::Periodic::Update-Package-Lists", "APT::Periodic::Unattended-Upgrade"):
        seen = rows.get(option, "not set")
        sheet.expect(seen not in ("not set", "0"), f"{option} {seen}", "1")
    # Without it all of them are on (apt:debian/apt.systemd.daily).
    enabled = rows.get("APT::Periodic::Enable", "1")
    sheet.expect(enabled != "0", f"APT::Periodic::Enable {enabled}", "1")
    installed = set(re.findall(r"^(\S+?)(?::\w+)?:$", text(pending), re.M))
    there = "unattended-upgrades" in installed
    sheet.expect(there, f"unattended-upgrades is {'' if there else 'not '}installed", "installed")
    excluded = re.findall(r'^Unattended-Upgrade::Package-Blacklist:: "(.*)";$', text(config), re.M)
    exposed = sorted(name for name in installed if _IN_MEETINGS.match(name) and not _excluded(name, excluded))
    sheet.expect(
        not exposed,
        f"taken without being asked: {', '.join(exposed) or 'nothing that meetings need'}",
        "never by night",
    )
    patterns = re.findall(r'^Unattended-Upgrade::Origins-Pattern:: "(.*)";$', text(config), re.M)
    secure = [pattern for pattern in patterns if "security" in pattern.lower()]
    sheet.expect(bool(secure), f"unattended-upgrades takes from {patterns}", "Debian's security archive")
    states = text(timers).split()
    sheet.expect(states == ["active", "active"], f"apt's timers are {', '.join(states)}", "both active")
    _judge_lists(text(lists), int(text(now)), sheet)
    _judge_pending(host, text(pending), int(text(now)), sheet)


def _judge_lists(told: str, now: int, sheet: Sheet) -> None:
    """Without the lists of today nothing is pending, whatever has been published since."""
    files: dict[str, dict[str, str]] = {}
    for name, field, value in re.findall(r"^(.*?Release):(Codename|Suite|Date): *(.*?) *$", told, re.M):
        files.setdefault(name, {})[field] = value
    secure = [row for row in files.values() if any("-security" in row.get(key, "") for key in ("Codename", "Suite"))]
    dates = [parsedate_to_datetime(row["Date"]).timestamp() for row in secure if "Date" in row]
    if not dates:
        sheet.expect(False, "apt has no list of a security archive", "Debian's, read each day")
        return
    age = (now - max(dates)) / 86400
    sheet.expect(age <= DAYS, f"the security archive's list is {age:.1f} days old", f"at most {DAYS} days")


def _excluded(name: str, patterns: list[str]) -> bool:
    """Say whether unattended-upgrades leaves a package alone: a pattern fits its beginning; a broken one fits nothing."""
    for pattern in patterns:
        try:
            if re.match(pattern, name):
                return True
        except re.error:
            continue
    return False


def _pending(policy: str) -> dict[str, str]:
    """Return the installed packages for which a security archive has a newer version, with the newest of these.

    Whether apt would take it does not count: who holds a package back, or pins it, answers for its holes. The table of
    versions begins with the newest.
    """
    found = {}
    for package in re.split(r"^(?=\S)", policy, flags=re.M):
        installed = re.search(r"^  Installed: (.*)$", package, re.M)
        newer, there, _ = package.partition("Version table:")[2].partition("\n *** ")
        if installed is None or not there:
            continue
        rows = re.findall(r"^     (\S+) .*\n((?: {8,}.*\n?)*)", newer, re.M)
        # A package that was built here may have the same version.
        secure = [row[0] for row in rows if row[0] != installed.group(1) and re.search(r" \S+-security/", row[1])]
        if secure:
            found[package.partition(":\n")[0]] = secure[0]
    return found


# Not every mirror tells it; then the package does, whose first member is dated by its changelog (deb(5); dpkg:SOURCE_DATE_EPOCH).
# Asked the way that apt goes: where it has no proxy for HTTPS, it takes the one for HTTP (apt:methods/http.cc), and of a file of
# mirrors, which Debian's images for clouds have, any one (apt-transport-mirror(1)).
_PUBLISHED = (
    "uri='{uri}'; case $uri in mirror+file:*) rest=/$(echo \"${{uri#*:}}\" | sed 's,^/*,,'); list=$rest;"
    ' while test -n "$list" -a ! -f "$list"; do list=${{list%/*}}; done;'
    ' first=$(sed -n \'/^[^#]/{{s/[[:space:]].*//;p;q}}\' "$list"); uri=${{first%/}}${{rest#"$list"}};; esac;'
    ' plain=; safe=; eval "$(apt-config shell plain Acquire::http::Proxy safe Acquire::https::Proxy)";'
    ' case $uri in https:*) plain=${{safe:-$plain}};; esac; test "$plain" != DIRECT || plain=;'
    ' ask() {{ curl -sL -m 8 ${{plain:+-x "$plain"}} "$@" "$uri"; }};'
    " ask -I | grep -i '^last-modified:'"
    " || ask -r 0-71 | head -c 36 | sed -n '2s/^debian-binary *\\([0-9]*\\) *$/\\1/p'; true"
)


def published(said: str) -> float | None:
    """Return when a package was published, in seconds since 1970; None where neither its archive nor it tells."""
    header, dated = re.search(r"(?im)^last-modified: (.+)$", said), re.search(r"(?m)^(\d+) *$", said)
    if header:
        return parsedate_to_datetime(header.group(1).strip()).timestamp()
    return float(dated.group(1)) if dated else None


def _judge_pending(host: testinfra.host.Host, policy: str, now: int, sheet: Sheet) -> None:
    """A pending security update counts once it has been published for longer than DAYS."""
    if "\n  Candidate: " not in policy:
        raise RuntimeError(f"apt-cache does not tell of the installed packages: {policy[:80]!r}")
    versions = _pending(policy)
    if not versions:
        sheet.expect(True, "no security update is pending", "")
        return
    packages = " ".join(f"{name}={version}" for name, version in versions.items())
    (shown,) = ask(host, f"apt-get download --print-uris {packages} 2>/dev/null; true")
    uris = {name: uri for uri, name in re.findall(r"^'([^']+)' ([^_ ]+)_", text(shown), re.M)}
    wanted = [name.partition(":")[0] for name in versions]
    commands = {name: _PUBLISHED.format(uri=uris[name]) for name in wanted if name in uris}
    answers = dict(zip(commands, ask(host, *commands.values()), strict=True))
    for name in wanted:
        since = published(text(answers[name])) if name in answers else None
        days = (now - since) / 86400 if since is not None else None
        known = f"for {days:.0f} days" if days is not None else "since an unknown day"
        sheet.expect(days is not None and days <= DAYS, f"{name} is pending {known}", f"installed within {DAYS} days")


# By their names in any case, for one of apt's programs as well (Binary::apt::...).
_TRUSTING = re.compile("AllowInsecure|AllowUnauth|AllowWeak|AllowDowngradeToInsecure|::Force-Yes", re.IGNORECASE)
_AGES = re.compile("Acquire::(?:Check-Valid-Until|Check-Date)$", re.IGNORECASE)


@pytest.mark.control("OS-05")
def test_package_sources(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Every source that the files name or apt really uses: whose it is, and whose key it is bound to."""
    listed, files, keys, config, lists, now = ask(host, SOURCES, FILES, _KEYS, "apt-config dump", _LISTS, "date +%s")
    settings = subject.settings
    vendor = (
        plain(str(settings.get("vendor_repository_url") or "")),
        str(settings.get("vendor_repository_suite") or ""),
    )
    origins = {(plain(source.uri), source.suite): source.origin for source in sources(text(listed))}
    bound = {(plain(entry.uri), entry.suite): entry.signed_by for entry in entries(text(files))}
    sheet.expect(bool(bound), f"{len(bound)} sources in apt's files", "Debian's at least")
    for place in sorted(origins.keys() | bound.keys()):
        origin, signed = origins.get(place, ""), bound.get(place, ())
        shown = f"source {_public(place[0])} {place[1]}"
        ours = place == vendor
        whose = "Jitsi's" if ours else origin or "origin unknown"
        declared = ours or origin.startswith("Debian")
        sheet.expect(declared, f"{shown} ({whose})", "Debian's or the declared one")
        if ours:
            _judge_vendor(host, shown, signed, str(settings.get("vendor_repository_fingerprint") or ""), sheet)
        elif declared:
            _judge_debian(shown, signed, text(keys), sheet)
    for name, option in loosened(text(files)):
        sheet.expect(False, f"/etc/apt/{name} has {option}", "every source is signed and of its day")
    _judge_settings(text(config), text(lists), int(text(now)), sheet)


def _judge_settings(config: str, lists: str, now: int, sheet: Sheet) -> None:
    """No setting does without signatures; where one keeps apt from asking how old a list is, none may be out of date."""
    rows = [(name, value.lower()) for name, value in re.findall(r'^(\S+) "(.*)";$', config, re.M)]
    loose = [name for name, value in rows if _TRUSTING.search(name) and value and value not in NO]
    sheet.expect(not loose, f"switched off: {', '.join(loose) or 'nothing'}", "no check is switched off")
    ageless = [name for name, value in rows if _AGES.search(name) and value in NO]
    for name, until in re.findall(r"^(.*?Release):Valid-Until: *(.*?) *$", lists, re.M) if ageless else []:
        fits = now <= parsedate_to_datetime(until).timestamp()
        sheet.expect(fits, f"{', '.join(ageless)} is off; {name} is valid until {until}", "lists that are still valid")


def _judge_vendor(
    host: testinfra.host.Host, shown: str, signed: tuple[str, ...], fingerprint: str, sheet: Sheet
) -> None:
    """Jitsi's source is bound to a key of its own, and where that was declared, to this one alone."""
    told = f"{shown} is bound to {', '.join(signed) or 'any trusted key'}"
    wanted = fingerprint.replace(" ", "").upper()
    if not signed or not wanted:
        sheet.expect(bool(signed), told, "a key of its own")
        return
    paths = [name for name in signed if name.startswith("/")]
    found = [name.rstrip("!").upper() for name in signed if name not in paths]
    for path, content in zip(paths, ask(host, *(f"base64 -w0 {shlex.quote(path)}" for path in paths)), strict=True):
        try:
            found += openpgp.key_fingerprints(base64.b64decode(text(content)), subkeys=False)
        except (RuntimeError, openpgp.NotOpenPGP):
            found.append(f"no key in {path}")
    sheet.expect(set(found) == {wanted}, f"{told}: {', '.join(found)}", wanted)


def _judge_debian(shown: str, signed: tuple[str, ...], told: str, sheet: Sheet) -> None:
    """Anybody can call a repository Debian's; only Debian's keys, as its package brings them, make it so."""
    files: Mapping[str, set[str]] = {kind: set() for kind in ("trusted", "debian", "altered")}
    for kind, _, path in (line.partition(" ") for line in told.splitlines()):
        files[kind].add(path)
    # A fingerprint chooses among the trusted keys.
    keys = set(signed) if signed and all(name.startswith("/") for name in signed) else files["trusted"]
    foreign = sorted(keys - (files["debian"] - files["altered"]))
    seen = f"{shown} is bound to {', '.join(signed) or 'any trusted key'}"
    if foreign:
        sheet.expect(False, f"{seen}, among them {', '.join(foreign)}", "keys of debian-archive-keyring only")
    else:
        sheet.expect(bool(keys), seen, "keys of debian-archive-keyring")


def _public(uri: str) -> str:
    """Return an address without a user and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@dataclass(frozen=True, slots=True)
class Exposure:
    """What `systemd-analyze security` says of a unit: its level, 0 to 10, and the points of which that is made, worst first."""

    level: float
    points: tuple[tuple[str, float], ...]

    def worst(self) -> str:
        """Return the points that weigh most among those that a sandbox can take away."""
        names = [f"{name} {weight}" for name, weight in self.points if name not in _INHERENT]
        return ", ".join(names[:_WORST]) or "none"


def exposures(told: str) -> dict[str, Exposure]:
    """Read `LC_ALL=C systemd-analyze security UNIT ...`: tables, each followed by its unit's level.

    Its JSON holds no level, and rounded weights from which none can be computed (systemd:src/analyze/analyze-security.c).
    """
    found: dict[str, Exposure] = {}
    points: list[tuple[str, float]] = []
    for line in told.splitlines():
        if level := re.search(r"Overall exposure level for (\S+)\.service: (\d+\.\d)", line):
            found[level.group(1)] = Exposure(float(level.group(2)), tuple(sorted(points, key=lambda row: -row[1])))
            points = []
        elif row := re.match(r"\S? +(\S.*?) {2,}\S.* (\d+\.\d)$", line):
            points.append((row.group(1), float(row.group(2))))
    return found


# Each process of each unit: the unit, its user, and whether it may get more rights than it has (proc(5): NoNewPrivs).
_PROCESSES = """
import pathlib, pwd, re, subprocess, sys
show = ["systemctl", "show", "-p", "Id", "-p", "ControlGroup", *sys.argv[1:]]
for told in subprocess.run(show, capture_output=True, text=True, check=True).stdout.split("\\n\\n"):
    unit = dict(line.split("=", 1) for line in told.splitlines())
    if not unit.get("ControlGroup"):
        continue
    processes = pathlib.Path("/sys/fs/cgroup" + unit["ControlGroup"], "cgroup.procs")
    # One that has just ended has none; the others are still to be told.
    for pid in processes.read_text().split() if processes.exists() else ():
        try:
            status = pathlib.Path("/proc", pid, "status").read_text()
        except OSError:
            continue
        uid = int(re.search(r"^Uid:\\s*\\d+\\s+(\\d+)", status, re.M)[1])
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = uid
        print(unit["Id"], user, re.search(r"^NoNewPrivs:\\s*(\\d)", status, re.M)[1])
"""


@pytest.mark.control("OS-08")
def test_sandboxes(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The exposure that systemd computes from what is in effect, and the users of the processes."""
    units = subject.units()
    (control,) = select(("OS-08",))
    # One process for all units; it ends with 1 where it knows one of them not, and tells of the others nevertheless.
    measured, processes = ask(
        host,
        f"LC_ALL=C systemd-analyze security --no-pager {' '.join(f'{unit}.service' for unit in units)} 2>&1; true",
        f"python3 -c {shlex.quote(_PROCESSES)} {' '.join(f'{unit}.service' for unit in units)}",
    )
    known = exposures(text(measured))
    rows = [line.split() for line in text(processes).splitlines()]
    for unit in units:
        _judge_exposure(unit, known.get(unit), control.limits[unit], sheet)
        _judge_processes(unit, [(user, flag) for name, user, flag in rows if name == f"{unit}.service"], sheet)


def _judge_exposure(unit: str, found: Exposure | None, limit: float, sheet: Sheet) -> None:
    if found is None:
        sheet.could_not_look(f"systemd-analyze tells no exposure of {unit}")
    elif found.level <= limit:
        sheet.expect(True, f"{unit}: exposure {found.level}", "")
    else:
        sheet.expect(False, f"{unit}: exposure {found.level}, mostly {found.worst()}", f"at most {limit}")


def _judge_processes(unit: str, rows: list[tuple[str, str]], sheet: Sheet) -> None:
    """Judge the user and NoNewPrivs of each process."""
    if not rows:
        sheet.could_not_look(f"{unit} does not run")
        return
    names = [name for name, _ in rows]
    # nginx and HAProxy keep a root process that binds ports and reads keys; their workers face the network.
    roots = names.count("root") - (1 if unit in ("nginx", "haproxy") else 0)
    sheet.expect(roots <= 0, f"{unit}: runs as {', '.join(sorted(set(names)))}", "not as root")
    # What systemd has in effect holds for the next start; this is what the processes themselves run under.
    inside = all(flag == "1" for _, flag in rows)
    sheet.expect(inside, f"{unit}: started {'in' if inside else 'without'} its sandbox", "restarted since it has one")
