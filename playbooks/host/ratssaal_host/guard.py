# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side of a change that could lock its administrator out: with an undo that the host runs by itself."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shlex
import shutil
import stat
import subprocess

from .disk import FileProblem, explained, read_bytes, reason, replace, sync_folder
from .files import applied_accounts, applied_file, diff, differences, write_entry
from .units import applied_units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

    from .steps import Step

_GUARD = "/var/lib/ratssaal/guard"
_BOOT_UNIT = "/etc/systemd/system/ratssaal-guard.service"
_BOOT_LINK = "/etc/systemd/system/sysinit.target.wants/ratssaal-guard.service"
# A transient timer does not survive a reboot; this does, and it runs before what it repairs is loaded.
_BOOT_TEXT = """\
# Made by Ratssaal: puts back a firewall or sshd change that nobody confirmed before this boot.
[Unit]
Description=Undo of an unconfirmed Ratssaal change
DefaultDependencies=no
RequiresMountsFor=/var/lib
After=local-fs.target systemd-journald.socket systemd-journald-dev-log.socket
Before=ratssaal-firewall.service ssh.service ssh.socket network-pre.target
ConditionDirectoryNotEmpty=/var/lib/ratssaal/guard

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for undo in /var/lib/ratssaal/guard/*/restore; \
do test ! -f "$undo" || sh "$undo" boot || lost=1; done; test -z "$lost"'
TimeoutStartSec=30

[Install]
WantedBy=sysinit.target
"""
# $1 is the old file beside its place $2. It is gone where an undo that was interrupted has put it back already. mv(1) refuses
# two names of one file, which they are where the change never came to it.
_BACK = """\
back() {
    test -e "$1" || test -L "$1" || return 0
    if test "$(stat -c %d:%i "$1")" = "$(stat -c %d:%i "$2" 2>/dev/null)"; then rm -f "$1"; else mv -fT "$1" "$2"; fi
}
lost=
"""


class Guard:
    """One named change on this host."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.parameters = step.params
        self.folder = os.path.join(_GUARD, self.parameters["name"])
        self.undo = os.path.join(self.folder, "restore")
        self.timer = "ratssaal-guard-%s" % self.parameters["name"]
        self.entries = [self.entry(raw) for raw in self.parameters["files"]]

    @staticmethod
    def entry(raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return a wanted file with its defaults filled in."""
        defaults = {"owner": "root", "group": "root", "mode": "0644", "validate": None, "force": True, "state": "file"}
        entry = {**defaults, **raw}
        if entry["state"] == "file":
            entry["bytes"] = base64.b64decode(entry.pop("content_base64"))
        return entry

    def shell(self, command: str) -> tuple[int, str]:
        """Run a shell command and return exit code and output."""
        done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return done.returncode, done.stdout.decode(errors="replace").strip()

    def look(self) -> dict[str, Any]:
        """Say what differs; an unconfirmed change of a killed run is undone first."""
        if not self.step.check_mode:
            trouble = self.restore() if self.waits() else ""
            if trouble:
                self.step.fail(msg="an earlier change, which nobody confirmed, could not be undone: %s" % trouble)
            self.forget()
        reasons = {entry["dest"]: differences(entry) for entry in self.entries}
        changed = sorted(path for path, found in reasons.items() if found)
        code, told = (0, "") if changed else self.shell(self.parameters["effective"])
        found = {"changed": bool(changed) or code != 0, "changed_paths": changed, "ineffective": code != 0}
        if self.step.check_mode and code != 0 and told:
            found["warnings"] = ["%s: %s" % (self.parameters["name"], told)]
        shown = [entry for entry in self.entries if reasons[entry["dest"]] and self.step.diff]
        return found | {"diff": [diff(entry, reasons[entry["dest"]]) for entry in shown]}

    def beside(self, entry: Mapping[str, Any]) -> str:
        """Return where a file's old state lies: a directory above its own, so that a full disk still lets it be renamed back.

        Not in its own: that would change once more at the confirmation, after the service has read it. No program takes it for
        one of its files: it is hidden, and ends with none of their suffixes.
        """
        folder, name = os.path.split(entry["dest"])
        above, folder = os.path.split(folder)
        return os.path.join(above, ".%s:%s.ratssaal-before-%s" % (folder, name, self.parameters["name"]))

    def save(self) -> None:
        """Keep the old state and write the script that puts it back, both on the disk before anything changes."""
        self.forget()
        draft = self.folder + ".draft"
        os.makedirs(draft, 0o700)
        # What is right already stays untouched: a second name for a moment would make it look changed (its ctime).
        lines = [self.keep(entry) for entry in self.entries if differences(entry)]
        with open(os.path.join(draft, "restore"), "w") as handle:
            handle.write(self.script(lines))
            handle.flush()
            os.fsync(handle.fileno())
        for folder in [*self.folders(), draft]:
            sync_folder(folder)
        os.rename(draft, self.folder)
        sync_folder(_GUARD)

    def folders(self) -> list[str]:
        """Return the directories of the files and of their old state, as far as there are any yet."""
        paths = [path for entry in self.entries for path in (entry["dest"], self.beside(entry))]
        return sorted(filter(os.path.isdir, {os.path.dirname(path) for path in paths}))

    def keep(self, entry: Mapping[str, Any]) -> str:
        """Keep a file's old state, as a second name of it, and return the line that puts it back."""
        path = shlex.quote(entry["dest"])
        try:
            now = os.lstat(entry["dest"])
        except (FileNotFoundError, NotADirectoryError):
            made = "test ! -d %s || rmdir --ignore-fail-on-non-empty %s" % (path, path)
            return made if entry["state"] == "directory" else "rm -f %s" % path
        if stat.S_ISDIR(now.st_mode):
            if entry["state"] == "absent":
                raise FileProblem("%s is a directory, and no undo could put that back" % entry["dest"])
            return "chown %d:%d %s && chmod %04o %s" % (now.st_uid, now.st_gid, path, stat.S_IMODE(now.st_mode), path)
        beside = self.beside(entry)
        try:
            os.link(entry["dest"], beside, follow_symlinks=False)
        except OSError as error:
            raise FileProblem("the old %s cannot be kept: %s" % (entry["dest"], reason(error))) from error
        if stat.S_ISREG(now.st_mode):
            with open(beside, "rb") as handle:
                os.fsync(handle.fileno())
        return "back %s %s" % (shlex.quote(beside), path)

    def script(self, lines: Sequence[str]) -> str:
        """Return the script that puts the old state back; it may run again after it failed or was interrupted."""
        name = self.parameters["name"]
        # Each is tried, whatever becomes of the others; what was made last goes first, a file before its directory.
        steps = ["{ %s; } || lost=1" % line for line in reversed(lines)]
        # At boot nothing is loaded yet: what starts later reads the restored files, and a reload would wait for it for ever.
        steps.append('test "$1" = boot || ( %s ) || true' % (self.parameters["undo"] or self.parameters["apply"]))
        steps.append("told='put back the state before: %s'" % name)
        steps.append("test -z \"$lost\" || told='NOT put back, or not all of it, the state before: %s'" % name)
        steps.append('logger -t ratssaal-guard "$told" || true')
        # What could not be put back can be tried again.
        steps.append('test -z "$lost" || exit 1')
        # After a power cut either the old files are back for good, or this runs again.
        steps.append("sync %s || true" % " ".join(map(shlex.quote, self.folders())))
        steps.append("rm -rf %s" % shlex.quote(self.folder))
        return "# puts back what was there before the change %s\n%s%s\n" % (name, _BACK, "\n".join(steps))

    def forget(self) -> None:
        """Drop what an undo needs: its script first, and from the disk, for it would take what is not there for put back."""
        if self.waits():
            os.unlink(self.undo)
            sync_folder(self.folder)
        for folder in (self.folder, self.folder + ".draft"):
            if os.path.isdir(folder):
                shutil.rmtree(folder)
        for entry in self.entries:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(self.beside(entry))

    def waits(self) -> bool:
        """Say whether an undo waits for its timer, or the next boot."""
        return os.path.exists(self.undo)

    def arm(self) -> None:
        """Start the timer, and make sure of the unit that does its work after a reboot. Raises FileProblem."""
        if read_bytes(_BOOT_UNIT) != _BOOT_TEXT.encode() or not os.path.lexists(_BOOT_LINK):
            replace(_BOOT_UNIT, _BOOT_TEXT.encode(), 0o644, 0, 0)
            code, output = self.shell("systemctl enable --no-reload ratssaal-guard.service && systemctl daemon-reload")
            if code != 0:
                raise FileProblem("the unit that undoes it after a reboot cannot be enabled: %s" % output)
        self.shell("systemctl stop %s.timer; systemctl reset-failed %s.service" % (self.timer, self.timer))
        code, output = self.shell(
            "systemd-run --quiet --collect --unit=%s --on-active=%d --timer-property=AccuracySec=1s /bin/sh %s"
            % (self.timer, self.parameters["confirm_seconds"], shlex.quote(self.undo))
        )
        if code != 0:
            raise FileProblem("the undo timer does not start: %s" % output)

    def apply(self) -> dict[str, Any]:
        """Save, arm, write, check, put to use; whatever fails is put back at once."""
        code, output = self.shell(self.parameters["ready"])
        if code != 0:
            self.step.fail(msg="nothing was changed: %s" % output[-800:])
        self.step.begins()
        try:
            self.save()
            self.arm()
        except (FileProblem, OSError) as problem:
            self.forget()
            self.step.gives_up()
            self.step.fail(msg="nothing was changed: %s" % explained(problem))
        try:
            for entry in self.entries:
                if differences(entry):
                    write_entry(entry)
        except (FileProblem, OSError) as problem:
            self.put_back(explained(problem))
        for what in ("check", "apply"):
            code, output = self.shell(self.parameters[what])
            if code != 0:
                self.put_back("%s failed: %s" % (what, output[-800:]), in_use=what == "apply")
        return {"changed": True}

    def confirm(self) -> dict[str, Any]:
        """Keep the change: the timer ends, the old state goes."""
        self.shell("systemctl stop %s.timer" % self.timer)
        at_work = self.shell("systemctl is-active --quiet %s.service" % self.timer)[0] == 0
        if at_work or not self.waits():
            self.step.fail(msg="the host put the old state back before the change was confirmed")
        if any(map(differences, self.entries)):
            # The timer's undo has failed half-way.
            self.put_back("the change was confirmed after its time")
        self.forget()
        return {"changed": True}

    def put_back(self, why: str, *, in_use: bool = True) -> NoReturn:
        """Put the old state back and end the task: for which reason, and whether that went well."""
        trouble = self.restore(in_use=in_use)
        lost = "NOT put back as it was, %s: %s; what went wrong first: " % (self.parameters["name"], trouble)
        self.step.fail(msg=(lost if trouble else "put back as it was: ") + why)

    def restore(self, *, in_use: bool = True) -> str:
        """Put the old state back now; return why that did not go well, empty where it did.

        Where the new one is not in use yet, the files are enough, as they are at a boot: a reload could bring into effect what
        somebody else has written meanwhile.
        """
        # Two of them at once would take each other's files away; one that is stopped half-way begins anew here.
        self.shell("systemctl stop %s.timer %s.service" % (self.timer, self.timer))
        command = "sh %s %s" % (shlex.quote(self.undo), "" if in_use else "boot")
        code, output = self.shell(command) if self.waits() else (0, "")
        if code != 0:
            return "%s. Hint: repair that on the host, then run there: sh %s (the next boot does, too)" % (
                output[-400:],
                self.undo,
            )
        self.step.gives_up()
        return ""


def applied(step: Step) -> list[dict[str, Any]] | None:
    """Return what the manifest keeps of a change that is in effect; None where another phase follows, or it was put back."""
    parameters = step.params
    if parameters["phase"] not in ("look", "confirm") or (parameters["phase"] == "look" and step.done["changed"]):
        return None
    entries = [Guard.entry(raw) for raw in parameters["files"]]
    items = [item for entry in entries for item in (applied_file(entry), *applied_accounts(entry))]
    items += applied_units(parameters["units"])
    return items + [
        {"kind": "ruleset", "name": rules["table"], "file": rules["file"]} for rules in parameters["rulesets"]
    ]


def sshd_ports(listening: str) -> list[int]:
    """Return at which TCP ports sshd listens, from the output of `ss -Hlntp`; systemd may do it for sshd, and is not asked."""
    return sorted({int(port) for port in re.findall(r":(\d+) .*\"sshd\"", listening)})


def bring(step: Step) -> dict[str, Any]:
    """Do one phase and return what it found or did."""
    guard = Guard(step)
    phase = step.params["phase"]
    if phase == "restore":
        by_timer = not guard.waits()
        trouble = guard.restore()
        if trouble:
            step.fail(msg=trouble, not_put_back=True)
        return {"changed": True, "by_timer": by_timer, "sshd_ports": sshd_ports(guard.shell("ss -Hlntp")[1])}
    return getattr(guard, phase)()
