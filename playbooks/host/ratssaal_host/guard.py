# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side of a change that could lock its administrator out: with an undo that the host runs by itself."""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import subprocess

from .files import FileProblem, applied_accounts, applied_file, diff, differences, read_bytes, replace, write_entry
from .units import applied_units

_GUARD = "/var/lib/ratssaal/guard"
_BOOT_UNIT = "/etc/systemd/system/ratssaal-guard.service"
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
ExecStart=/bin/sh -c 'for undo in /var/lib/ratssaal/guard/*/restore; do test ! -f "$undo" || sh "$undo" boot; done'
TimeoutStartSec=30

[Install]
WantedBy=sysinit.target
"""


class Guard:
    """One named change on this host."""

    def __init__(self, step):
        self.step = step
        self.parameters = step.params
        self.folder = os.path.join(_GUARD, self.parameters["name"])
        self.timer = "ratssaal-guard-%s" % self.parameters["name"]
        self.entries = [self.entry(raw) for raw in self.parameters["files"]]

    @staticmethod
    def entry(raw):
        """Return a wanted file with its defaults filled in."""
        defaults = {"owner": "root", "group": "root", "mode": "0644", "validate": None, "force": True, "state": "file"}
        entry = {**defaults, **raw}
        if entry["state"] == "file":
            entry["bytes"] = base64.b64decode(entry.pop("content_base64"))
        return entry

    def shell(self, command):
        """Run a shell command and return exit code and output."""
        done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return done.returncode, done.stdout.decode(errors="replace").strip()

    def look(self):
        """Say what differs; an unconfirmed change of a killed run is undone first."""
        if os.path.exists(os.path.join(self.folder, "restore")) and not self.step.check_mode:
            self.restore()
        reasons = {entry["dest"]: differences(entry) for entry in self.entries}
        changed = sorted(path for path, found in reasons.items() if found)
        ineffective = not changed and self.shell(self.parameters["effective"])[0] != 0
        found = {"changed": bool(changed) or ineffective, "changed_paths": changed, "ineffective": ineffective}
        shown = [entry for entry in self.entries if reasons[entry["dest"]] and self.step.diff]
        return found | {"diff": [diff(entry, reasons[entry["dest"]]) for entry in shown]}

    def save(self):
        """Write the old state and the script that puts it back, whole, before anything changes."""
        draft = self.folder + ".draft"
        shutil.rmtree(draft, ignore_errors=True)
        os.makedirs(draft, 0o700)
        lines = ["# puts back what was there before the change %s" % self.parameters["name"]]
        for number, entry in enumerate(self.entries):
            path = shlex.quote(entry["dest"])
            if os.path.lexists(entry["dest"]):
                shutil.copy2(entry["dest"], os.path.join(draft, "old%d" % number))
                saved = shlex.quote(os.path.join(self.folder, "old%d" % number))
                lines.append("cp -p %s %s.restored && mv -f %s.restored %s" % (saved, path, path, path))
            else:
                lines.append("rm -f %s" % path)
        # At boot nothing is loaded yet: what starts later reads the restored files, and a reload would wait for it for ever.
        lines.append('test "$1" = boot || ( %s ) || true' % (self.parameters["undo"] or self.parameters["apply"]))
        lines.append("logger -t ratssaal-guard 'put back the state before: %s'" % self.parameters["name"])
        lines.append("rm -rf %s" % shlex.quote(self.folder))
        with open(os.path.join(draft, "restore"), "w") as handle:
            handle.write("\n".join(lines) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        shutil.rmtree(self.folder, ignore_errors=True)
        os.rename(draft, self.folder)

    def arm(self):
        """Start the timer, and make sure of the unit that does its work after a reboot."""
        if read_bytes(_BOOT_UNIT) != _BOOT_TEXT.encode():
            replace(_BOOT_UNIT, _BOOT_TEXT.encode(), 0o644, 0, 0)
            self.shell("systemctl enable --no-reload ratssaal-guard.service && systemctl daemon-reload")
        self.shell("systemctl stop %s.timer; systemctl reset-failed %s.service" % (self.timer, self.timer))
        code, output = self.shell(
            "systemd-run --quiet --collect --unit=%s --on-active=%d --timer-property=AccuracySec=1s /bin/sh %s"
            % (self.timer, self.parameters["confirm_seconds"], shlex.quote(os.path.join(self.folder, "restore")))
        )
        if code != 0:
            shutil.rmtree(self.folder)
            self.step.gives_up()
            self.step.fail(msg="nothing was changed: the undo timer does not start: %s" % output)

    def apply(self):
        """Save, arm, write, check, put to use; whatever fails is put back at once."""
        self.step.begins()
        self.save()
        self.arm()
        try:
            for entry in self.entries:
                if differences(entry):
                    write_entry(entry)
        except (FileProblem, OSError) as problem:
            self.restore()
            self.step.fail(msg="put back as it was: %s" % problem)
        for what in ("check", "apply"):
            code, output = self.shell(self.parameters[what])
            if code != 0:
                self.restore()
                self.step.fail(msg="put back as it was, %s failed: %s" % (what, output[-800:]))
        return {"changed": True}

    def confirm(self):
        """Keep the change: the timer ends, the old state goes."""
        self.shell("systemctl stop %s.timer" % self.timer)
        at_work = self.shell("systemctl is-active --quiet %s.service" % self.timer)[0] == 0
        if at_work or not os.path.isdir(self.folder):
            self.step.fail(msg="the host put the old state back before the change was confirmed")
        shutil.rmtree(self.folder)
        return {"changed": True}

    def restore(self):
        """Put the old state back now."""
        self.shell("systemctl stop %s.timer; sh %s" % (self.timer, shlex.quote(os.path.join(self.folder, "restore"))))
        self.step.gives_up()


def applied(step):
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


def bring(step):
    """Do one phase and return what it found or did."""
    guard = Guard(step)
    phase = step.params["phase"]
    if phase == "restore":
        by_timer = not os.path.isdir(guard.folder)
        guard.restore()
        return {"changed": True, "by_timer": by_timer}
    return getattr(guard, phase)()
