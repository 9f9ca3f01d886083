# SPDX-License-Identifier: GPL-3.0-or-later
"""How apt and dpkg are called, what they say, who holds their locks, and how old their lists are."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import subprocess
import time

from .disk import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .steps import Step

_LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
    "/var/run/unattended-upgrades.lock",
)
# A converge installs packages in several steps; reading the lists takes longer than installing most of them.
_LISTS_READ = "/run/ratssaal/package-lists-read"
_YOUNG_SECONDS = 600
# What apt-get says where its lists know less than the repositories.
_OUTDATED = ("Unable to locate", "was not found", "no installation candidate", "Failed to fetch", "Hash Sum mismatch")
# What apt-get and dpkg say (Debian 12 and 13 differ on signatures), and what it means. The first that fits counts: "Failed to
# fetch" is also said of a full disk and of a wrong key.
_MEANINGS = (
    (
        ("No space left on device", "have enough free space"),
        "the disk of this host is full. Hint: free space below /var, then run again",
    ),
    (
        ("is not signed", "the signature verification"),
        "a package repository is not signed by the pinned key. Hint: compare vendor_repository_key with its owner's",
    ),
    (
        ("Conflicting values set for option Signed-By",),
        "another file below /etc/apt names the same repository with a key of its own. Hint: remove it; "
        "grep -r download.jitsi.org /etc/apt",
    ),
    (
        ("Could not get lock",),
        "another process took apt's lock meanwhile. Hint: wait until it ends, then run again",
    ),
    (
        ("is not valid yet", "is expired (invalid since"),
        "a package repository's index is not of this host's time. Hint: compare `date` there with a clock; where it is right, "
        "the repository is not kept up any more",
    ),
    (
        ("Hash Sum mismatch", "unexpected size"),
        "a package repository hands out something else than its index names: as a rule it is being changed. Hint: run again later",
    ),
    (
        ("does not have a Release file",),
        "there is no package repository at an address. Hint: compare vendor_repository_url, or what /etc/apt names, with its owner's",
    ),
    (
        ("Failed to fetch",),
        "a package repository cannot be reached from this host. Hint: try `apt-get update` there",
    ),
)
_SOURCES = (
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d/*",
    "/etc/apt/keyrings/*",
    "/etc/apt/trusted.gpg.d/*",
    "/etc/apt/apt.conf.d/*",
)
_ENVIRONMENT = dict(
    os.environ,
    # By it preflight recognises an apt that a killed run left at work (orchestrator/operations/preflight_facts.py).
    RATSSAAL_AT_WORK="1",
    DEBIAN_FRONTEND="noninteractive",
    DEBCONF_NONINTERACTIVE_SEEN="true",
    LC_ALL="C.UTF-8",
    NEEDRESTART_MODE="l",
    APT_LISTCHANGES_FRONTEND="none",
)
# systemctl then starts, stops and reloads nothing, whoever calls it (systemd:docs/ENVIRONMENT.md): services start after they are
# configured, and systemd reads all units anew once instead of several times a package. Nothing of it outlives the run.
OFFLINE = {"SYSTEMD_OFFLINE": "1"}
KEEP_CONFIGURATION = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]


def started(argv: Sequence[str], stdin: bytes | None, environment: dict[str, str]) -> tuple[int, str]:
    """Return a command's exit code and what it printed."""
    done = subprocess.run(
        argv,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_ENVIRONMENT | environment,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def outdated(output: str) -> bool:
    """Say whether a command failed because the package lists know less than the repositories."""
    return any(words in output for words in _OUTDATED)


def note_lists() -> None:
    """Note that the package lists were just read."""
    os.makedirs(os.path.dirname(_LISTS_READ), mode=0o755, exist_ok=True)
    replace(_LISTS_READ, _sources().encode(), 0o644, os.getuid(), os.getgid())


def lists_are_young() -> bool:
    """Say whether the package lists were just read, from the sources that there are now."""
    try:
        with open(_LISTS_READ) as handle:
            age = time.time() - os.fstat(handle.fileno()).st_mtime
            return 0 <= age < _YOUNG_SECONDS and handle.read() == _sources()
    except FileNotFoundError:
        return False


def _sources() -> str:
    """Return what tells whether anything that apt reads its sources, keys or settings from was written since."""
    rows = []
    for path in sorted(path for pattern in _SOURCES for path in glob.glob(pattern)):
        seen = os.stat(path)
        rows.append("%s %d %d" % (path, seen.st_mtime_ns, seen.st_size))
    return "\n".join(rows)


def origins() -> set[str]:
    """Return how the repositories call themselves whose lists were read."""
    found = set()
    for path in glob.glob("/var/lib/apt/lists/*Release"):
        with open(path, errors="replace") as handle:
            found.update(re.findall(r"^Origin: (.*)$", handle.read(20000), flags=re.MULTILINE))
    return found


def explain(argv: Sequence[str], output: str) -> str:
    """Return what went wrong in words that help, and the tail of the output."""
    tail = "\n".join(output.strip().splitlines()[-12:])
    for words, meaning in _MEANINGS:
        if any(word in output for word in words):
            return "%s\n%s" % (meaning, tail)
    return "%s failed:\n%s" % (" ".join(argv[:2]), tail)


def _lock_holder(path: str) -> str | None:
    """Return "pid (command)" of whoever holds the lock, or None."""
    try:
        with open(path, "r+") as handle:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
    except FileNotFoundError:
        return None
    except OSError:
        inode = os.stat(path).st_ino
        with open("/proc/locks") as locks:
            for line in locks:
                words = line.split()
                if words[-3].rpartition(":")[2] == str(inode):
                    return _command(words[-4])
        return "another process"


def _command(pid: str) -> str:
    try:
        with open("/proc/%s/cmdline" % pid, errors="replace") as handle:
            return "%s (%s)" % (pid, handle.read().replace("\0", " ").strip() or "?")
    except OSError:
        return pid


def wait_for_locks(step: Step) -> None:
    """Wait until nobody holds a lock of apt's or dpkg's; end the task where that takes too long."""
    deadline = time.monotonic() + step.params["lock_timeout"]
    while True:
        holder = next((found for found in map(_lock_holder, _LOCKS) if found), None)
        if holder is None:
            return
        if time.monotonic() > deadline:
            step.fail(
                msg="apt on this host is locked by process %s since more than %s s. Hint: wait until it ends, then run again"
                % (holder, step.params["lock_timeout"])
            )
        time.sleep(1)
