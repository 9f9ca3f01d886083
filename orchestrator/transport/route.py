"""The way by which OpenSSH reaches a host: a jump host or a command, wherever the operator has named it.

Standard library only: `playbooks/action_plugins/guarded_change.py` loads the same file for its second login.
"""

from __future__ import annotations

import re
import shlex
import subprocess

SECONDS = 15


def settings_of(asked: list[str]) -> dict[str, str]:
    """Return what OpenSSH makes of a command line with `-G` and of its configuration files; {} where it takes it not.

    Raises TimeoutError where a command in these files (`Match exec`) does not end.
    """
    try:
        shown = subprocess.run(
            asked, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=SECONDS
        ).stdout
    except subprocess.TimeoutExpired as error:
        message = f"`ssh -G` does not end within {SECONDS} s: look at `Match exec` in ~/.ssh/config"
        raise TimeoutError(message) from error
    return dict(line.partition(" ")[::2] for line in shown.splitlines())


def through(asked: list[str], settings: dict[str, str]) -> str:
    """Return the command through which OpenSSH would reach the host, "" where it would connect itself.

    `asked` is its command line, `settings` what `ssh -G` shows for that. A jump is what OpenSSH makes of it: another ssh to the
    last host before ours, with the same configuration file and no other options (openssh:ssh.c, main).
    """
    target = {
        "h": settings.get("hostname", ""),
        "n": asked[-1],
        "p": settings.get("port", ""),
        "r": settings.get("user", ""),
    }
    command = settings.get("proxycommand", "none")
    jumps = [jump for jump in settings.get("proxyjump", "none").split(",") if jump != "none"]
    if jumps:
        *before, last = jumps
        words = ["ssh", *(["-F", asked[asked.index("-F") + 1]] if "-F" in asked else [])]
        words += [*(["-J", ",".join(before)] if before else []), "-W", "[%h]:%p"]
        command = shlex.join([*words, last if last.startswith("ssh://") else f"ssh://{last}"])
    if command == "none":
        return ""
    return re.sub("%([%hnpr])", lambda found: {"%": "%", **target}[found[1]], command)
