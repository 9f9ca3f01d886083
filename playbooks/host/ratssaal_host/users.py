# SPDX-License-Identifier: GPL-3.0-or-later
"""Login shells of the system's users: a package may give the user of its service one that opens."""

from __future__ import annotations

import pwd
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .steps import Step


def shell_of(name: str) -> str | None:
    """Return the login shell of a user, None where there is no such user."""
    try:
        # An empty field means /bin/sh (passwd(5)).
        return pwd.getpwnam(name).pw_shell or "/bin/sh"
    except KeyError:
        return None


def _set(step: Step, name: str, shell: str) -> None:
    # Processes of the user go on: usermod refuses a busy user only where its name, number or home changes.
    argv = ["usermod", "--shell", shell, name]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        step.fail(msg="usermod %s failed: %s" % (name, done.stdout.decode(errors="replace").strip()[-400:]))


def applied(step: Step) -> list[dict[str, Any]]:
    """Return what the manifest keeps of this step."""
    return [{"kind": "user", "name": wanted["name"], "shell": wanted["shell"]} for wanted in step.params]


def bring(step: Step) -> dict[str, Any]:
    """Compare, and set what differs; return what was done. In check mode the package that makes a user may be still to come."""
    done: list[str] = []
    for wanted in step.params:
        name, now = wanted["name"], shell_of(wanted["name"])
        if now == wanted["shell"] or (now is None and step.check_mode):
            continue
        if now is None:
            step.fail(msg="no user %s on this host" % name, actions=done)
        if not step.check_mode:
            step.begins()
            _set(step, name, wanted["shell"])
        done.append("shell of %s: %s" % (name, wanted["shell"]))
    return {"changed": bool(done), "actions": done}
