# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages: installed, at exact versions, held or absent, on a host where an earlier run may have been killed inside dpkg."""

from __future__ import annotations

import os
import re

from . import apt, pending
from .disk import FileProblem, explained, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from .steps import Step

QUERY = ["dpkg-query", "-W", "-f=${Package}\t${Version}\t${db:Status-Abbrev}\n"]
# Left behind once this host had the security updates of its first day.
_BROUGHT_UP_TO_DATE = "/var/lib/ratssaal/security-updates"
# Anybody may read it, and debconf's own backup beside it: passwords are kept elsewhere (debconf:debconf.conf).
_ANSWERS = "/var/cache/debconf/config.dat"
_LAB_MARK = "/etc/ratssaal/lab-host"
_STAND_IN_ORIGIN = "Ratssaal stand-ins"


class Packages:
    """One look at dpkg's database, and what is done about it."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.done: list[str] = []
        self.read()

    def read(self) -> None:
        """Read names, versions and states of all packages; a foreign architecture's are left out."""
        rows = [line.split("\t") for line in self.run(QUERY).splitlines()]
        self.installed = {name: version for name, version, state in rows if state[1] == "i"}
        self.held = {name for name, _, state in rows if state[0] == "h"}
        # U unpacked, F half-configured, H half-installed, W and t: triggers that never ran
        self.broken = [name for name, _, state in rows if state[1] in "UFHWt" or state[2] != " "]
        # killed while unpacking or removing: only unpacking anew, or removing by force, helps
        torn = {name: state[0] for name, _, state in rows if state[1] == "H" or state[2] != " "}
        self.torn = [name for name, wish in torn.items() if wish in "ih"]
        self.torn_away = [name for name in torn if name not in self.torn]

    def run(
        self,
        argv: Sequence[str],
        stdin: bytes | None = None,
        mend: Callable[[], None] | None = None,
        environment: dict[str, str] = apt.OFFLINE,
    ) -> str:
        """Run a command that must succeed and return its output; if old package lists made it fail, `mend` is called first."""
        code, output = apt.started(argv, stdin, environment)
        if code != 0 and mend is not None and apt.outdated(output):
            mend()
            code, output = apt.started(argv, stdin, environment)
        if code != 0:
            self.step.fail(msg=apt.explain(argv, output), actions=self.done)
        return output

    def change(self, what: str, argv: Sequence[str], **how: Any) -> None:
        """Run a command that changes the host; in check mode only note it."""
        self.done.append(what)
        if not self.step.check_mode:
            self.run(argv, **how)

    def unpack(self, what: str, argv: Sequence[str], mend: Callable[[], None] | None = None) -> None:
        """Run a command that may replace what a service runs; the service is restarted by a later step with units."""
        if not self.step.check_mode:
            pending.mark("restart", self.step.params["restarts"])
        self.change(what, argv, mend=mend)

    def repair(self) -> None:
        """Finish what an interrupted dpkg left."""
        journal = [name for name in os.listdir("/var/lib/dpkg/updates") if name.isdigit()]
        if not self.broken and not journal:
            return
        configure = ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"]
        self.done.append("repair %s" % " ".join(self.broken or ["dpkg's journal"]))
        if not self.step.check_mode:
            # What it cannot do yet, because dpkg was killed before it unpacked what a package needs, apt does below.
            apt.started(configure, None, apt.OFFLINE)
            self.read()
        if self.torn_away:
            self.change(
                "remove %s" % " ".join(self.torn_away),
                ["dpkg", "--remove", "--force-remove-reinstreq", *self.torn_away],
            )
        if self.torn:
            self.refresh()
            versions = self.step.params["versions"]
            words = ["%s=%s" % (name, versions[name]) if name in versions else name for name in self.torn]
            argv = ["apt-get", "-y", "-q", "--no-install-recommends", "--allow-change-held-packages", "--reinstall"]
            self.unpack("unpack %s" % " ".join(words), [*argv, *apt.KEEP_CONFIGURATION, "install", *words])
        self.change("repair dependencies", ["apt-get", "-y", "-q", *apt.KEEP_CONFIGURATION, "--fix-broken", "install"])
        self.read()

    def missing(self) -> list[str]:
        """Return apt's words for what has to be installed."""
        versions, words = self.step.params["versions"], []
        for name in self.step.params["names"]:
            if name not in versions:
                words += [name] * (name not in self.installed)
            elif self.installed.get(name) != versions[name]:
                words.append("%s=%s" % (name, versions[name]))
        return words

    def outdated(self) -> bool:
        """Say whether the package lists are to be read anew because an earlier step changed something, a source as a rule."""
        return self.step.params["update"] == "changed" and self.step.changed

    def install(self) -> None:
        """Install what is missing."""
        words = self.missing()
        young = not self.outdated() and apt.lists_are_young()
        if self.outdated() or (words and not young):
            self.refresh()
        if not words:
            return
        self.preseed([answer for answer in self.step.params["debconf"] if answer["package"] not in self.installed])
        for entry in self.step.params["beforehand"]:
            if not self.step.check_mode and not os.path.exists(entry["dest"]):
                os.makedirs(os.path.dirname(entry["dest"]), mode=0o755, exist_ok=True)
                replace(entry["dest"], entry["content"].encode(), 0o600, 0, 0)
        argv = ["apt-get", "-y", "-q", "--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages"]
        argv += [*apt.KEEP_CONFIGURATION, "install", *words]
        self.unpack("install %s" % " ".join(words), argv, mend=self.refresh if young else None)
        if not self.step.check_mode:
            self.read()

    def refresh(self) -> None:
        """Read the package lists; any source that fails is an error, and so is a stand-in repository where it must not be."""
        if self.step.check_mode:
            return
        self.run(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "-o", "Acquire::Retries=2", "update"])
        if not os.path.exists(_LAB_MARK) and _STAND_IN_ORIGIN in apt.origins():
            self.step.fail(
                msg="the package repository holds Ratssaal's stand-ins (Origin: %s) and this host is no lab host; "
                "nothing was installed. Hint: set vendor_repository_url and vendor_repository_key to Jitsi's own"
                % _STAND_IN_ORIGIN
            )
        apt.note_lists()

    def behind(self) -> bool:
        """Say whether this host never got the security updates that were out when it became ours."""
        return self.step.params["security_updates"] and not os.path.exists(_BROUGHT_UP_TO_DATE)

    def catch_up(self) -> None:
        """Install what security updates there are, once: an image is months old, and the first night's run comes after people.

        Later ones are the nightly run's, since a restarted nginx or coturn is noticed by day.
        """
        if not self.behind():
            return
        if not apt.lists_are_young():
            self.refresh()
        told = self.run(["apt-get", "-s", "-q", "dist-upgrade"])
        names = re.findall(r"^Inst (\S+) .*-[Ss]ecurity\b", told, flags=re.MULTILINE)
        if names:
            # Its services are restarted by their scripts: what runs is not to be what had the hole.
            self.change("security updates: %s" % " ".join(names), ["unattended-upgrade", "-v"], environment={})
        if not self.step.check_mode:
            os.makedirs(os.path.dirname(_BROUGHT_UP_TO_DATE), mode=0o755, exist_ok=True)
            replace(_BROUGHT_UP_TO_DATE, b"", 0o644, os.getuid(), os.getgid())

    def preseed(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Answer debconf's questions."""
        if answers and not self.step.check_mode:
            self.run(["debconf-set-selections"], "".join(map(_selection, answers)).encode())

    def given_away(self) -> list[dict[str, Any]]:
        """Return the withdrawn answers that debconf, or its backup, still holds."""
        return [answer for answer in self.step.params["withdrawn"] if _holding(answer)]

    def withdraw(self) -> None:
        """Let debconf forget answers that anybody can read."""
        for answer in self.given_away():
            self.done.append("forget the answer to %s" % answer["question"])
            if self.step.check_mode:
                continue
            if _ANSWERS in _holding(answer):
                self.preseed([{**answer, "value": ""}])
            # What debconf has just replaced is its backup now.
            for path in _holding(answer):
                if path == _ANSWERS:
                    self.step.fail(msg="debconf keeps its answer to %s" % answer["question"], actions=self.done)
                os.unlink(path)

    def hold(self) -> None:
        """Hold what must not be upgraded by anybody else."""
        wanted = [name for name in self.step.params["hold"] if name in self.installed and name not in self.held]
        if wanted:
            self.change("hold %s" % " ".join(wanted), ["apt-mark", "hold", *wanted])

    def remove(self) -> None:
        """Remove what must not be there, but never what another package needs: coturn would go with a telnet client.

        Its settings stay (dpkg: conffiles), so that whoever wants it back installs it again and has it as it was.
        """
        wanted = [name for name in self.step.params["absent"] if name in self.installed]
        free = [name for name in wanted if self.taken_along(name) <= set(wanted)]
        if free:
            # Its services are stopped by its scripts, and by nobody else.
            self.change("remove %s" % " ".join(free), ["apt-get", "-y", "-q", "remove", *free], environment={})

    def taken_along(self, name: str) -> set[str]:
        """Return what apt would remove for the sake of removing one package."""
        told = self.run(["apt-get", "-s", "-q", "remove", name])
        return set(re.findall(r"^Remv (\S+)", told, flags=re.MULTILINE))


def _holding(answer: Mapping[str, Any]) -> list[str]:
    """Return the files in which debconf has this very answer to this question."""
    return [path for path in (_ANSWERS, _ANSWERS + "-old") if _answered(path, answer)]


def _answered(path: str, answer: Mapping[str, Any]) -> bool:
    wanted = {"Name: %s" % answer["question"], "Value: %s" % answer["value"]}
    try:
        with open(path, errors="replace") as handle:
            return any(wanted <= set(stanza.split("\n")) for stanza in handle.read().split("\n\n"))
    except FileNotFoundError:
        return False


def _selection(answer: Mapping[str, Any]) -> str:
    value = answer["value"]
    value = str(value).lower() if isinstance(value, bool) else str(value)
    return "%s %s %s %s\n" % (answer["package"], answer["question"], answer["type"], value)


def applied(step: Step) -> list[dict[str, Any]]:
    """Return what the manifest keeps of this step."""
    params, items = step.params, []
    for name in params["names"]:
        item = {"kind": "package", "name": name, "installed": True}
        items.append(item | ({"version": params["versions"][name]} if name in params["versions"] else {}))
    # One that is held only where it is there, and one to remove that another package needs, are as they are.
    there = Packages(step).installed.keys() if params["hold"] or params["absent"] else set()
    items += [{"kind": "package", "name": name, "held": True} for name in params["hold"] if name in there]
    gone = set(params["absent"]) - there
    return items + [{"kind": "package", "name": name, "installed": False} for name in sorted(gone)]


def bring(step: Step) -> dict[str, Any]:
    """Look once, then repair, install, hold and remove what differs; return what was done."""
    packages = Packages(step)
    unwanted = packages.installed.keys() & set(step.params["absent"])
    busy = packages.missing() or packages.broken or packages.outdated() or unwanted or packages.given_away()
    if (busy or packages.behind()) and not step.check_mode:
        step.begins()
        apt.wait_for_locks(step)
        packages.read()
    try:
        packages.repair()
        packages.withdraw()
        packages.install()
        packages.catch_up()
        packages.hold()
        packages.remove()
    except (FileProblem, OSError) as problem:
        step.fail(msg=explained(problem), changed=bool(packages.done), actions=packages.done)
    return {"changed": bool(packages.done), "actions": packages.done}
