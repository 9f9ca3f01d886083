"""The one module that starts ansible-playbook."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import content
from orchestrator.engine.events import Event, EventReader
from orchestrator.errors import Problem, TaskFailed
from orchestrator.inventory.ansible_tools import environment

_POLL_SECONDS = 0.1
_CALLBACK = "ratssaal_events"
# A Unix socket's name is limited to 107 bytes (unix(7)); OpenSSH's master makes one of Ansible's 10 characters and 17 of its own.
_LONGEST_SOCKET_FOLDER = 107 - len("/0123456789.0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Converge:
    """What to run: a playbook of ours on a site's inventory."""

    playbook: str
    inventory: Path
    vault_args: tuple[str, ...] = ()
    check: bool = False
    diff: bool = False
    limit: str = ""

    def argv(self) -> list[str]:
        """Return the command line; it holds no secret, only the vault password's file or script."""
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", str(self.inventory)]
        argv += [*self.vault_args, *(["--check"] if self.check else []), *(["--diff"] if self.diff else [])]
        argv += ["--limit", self.limit] if self.limit else []
        return [*argv, str(content.root() / "playbooks" / self.playbook)]


def run(converge: Converge, *, events: Path, console: Path, on_event: Callable[[Event], None]) -> int:
    """Run the playbook, tell each event as it comes, and return Ansible's exit code.

    Everything that Ansible prints goes to `console`. When this process is killed, the kernel ends Ansible too
    (`setpriv --pdeathsig`): no orphan goes on changing hosts while the next run believes it is alone.
    """
    reader = EventReader(events)
    argv = ["setpriv", "--pdeathsig", "TERM", "--", *converge.argv()]
    with console.open("ab") as output:
        child = subprocess.Popen(
            argv,
            cwd=content.root(),
            env=_environment(events),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _follow(child, reader, on_event)
        except BaseException:
            _end(child)
            raise
    _tell(reader, on_event)
    return child.returncode


def _follow(child: subprocess.Popen[bytes], reader: EventReader, on_event: Callable[[Event], None]) -> None:
    while True:
        try:
            child.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            _tell(reader, on_event)
        else:
            return


def _tell(reader: EventReader, on_event: Callable[[Event], None]) -> None:
    for event in reader.read():
        on_event(event)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let Ansible end its running task's workers; kill it when it does not."""
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _environment(events: Path) -> dict[str, str]:
    return {
        **environment(),
        **socket_folder(Path("~/.ansible/cp").expanduser()),
        # Nobody answers a window in the middle of a run.
        "SSH_ASKPASS_REQUIRE": "never",
        "ANSIBLE_CALLBACKS_ENABLED": _CALLBACK,
        "RATSSAAL_EVENTS": str(events),
    }


def socket_folder(usual: Path) -> Mapping[str, str]:
    """Return the variable that moves SSH's control sockets to a short path where the usual folder's is too long.

    The short one lies in the machine's directory for temporary files, which others share: it must be this user's alone,
    or another user could put a socket of theirs there. Raises TaskFailed if it is not.
    """
    if len(os.fsencode(usual)) <= _LONGEST_SOCKET_FOLDER:
        return {}
    folder = Path(tempfile.gettempdir()) / f"ratssaal-ssh-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise TaskFailed([Problem("is not a directory of yours alone", str(folder), f"rm -r {folder}")])
    return {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder)}


def plays(playbook: str) -> Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Return name, groups and roles of each play of a playbook, imports included: the steps of a journal."""
    found: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
    for entry in content.data(content.root() / "playbooks" / playbook):
        if "ansible.builtin.import_playbook" in entry:
            found += plays(entry["ansible.builtin.import_playbook"])
            continue
        roles = [role["role"] for role in entry.get("roles", ())]
        roles += [
            task["ansible.builtin.import_role"]["name"]
            for task in entry.get("tasks", ())
            if "ansible.builtin.import_role" in task
        ]
        found.append((str(entry["name"]), tuple(str(entry["hosts"]).split(":")), tuple(roles)))
    return found
