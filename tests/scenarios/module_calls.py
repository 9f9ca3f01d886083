"""Calls our own Ansible modules on a lab host on which no role has run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from orchestrator.lab.lab import Lab, LabSite
from tests.scenarios.conftest import BIN, ROOT, ssh

SECRET = "Kanarienvogel-8b2c"
KINDS = ("accounts", "files", "packages", "sysctl", "units", "users")


@contextmanager
def bare_host(name: str) -> Iterator[LabSite]:
    """A Debian 13 host with Debian's own Prosody and nftables; nothing of it stays."""
    # Two runs may test at once.
    name = f"{name}p{os.getpid()}"
    try:
        made = Lab().up(name, repository=False)
        install = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install prosody nftables"
        ssh(made, f"apt-get -qq update && {install} >/dev/null 2>&1")
        yield made
    finally:
        Lab().down(name)


@dataclass(frozen=True)
class Done:
    """What one call of a module answered; `raw` is everything that Ansible printed."""

    result: dict[str, Any]
    raw: str

    @property
    def changed(self) -> bool:
        """Whether the module says that it changed, or would change, something."""
        assert not self.failed, self.raw
        return bool(self.result["changed"])

    @property
    def failed(self) -> bool:
        """Whether the module failed."""
        return "| FAILED!" in self.raw or not self.result

    @property
    def message(self) -> str:
        """Why it failed."""
        assert self.failed, self.raw
        return str(self.result.get("msg", ""))


def call(site: LabSite, action: str, *flags: str, **arguments: Any) -> Done:
    """Call an action on the lab's host through Ansible, or managed_host with a step of that kind; flags are Ansible's."""
    action, arguments = _task(action, arguments)
    output = _ansible(site, "ansible", "all", "-m", action, "-a", json.dumps(arguments), *flags)
    found = re.search(r"^h1 \| [A-Z!]+ (?:\| rc=\d+ )?=> (\{.*\n\})", output, flags=re.MULTILINE | re.DOTALL)
    return Done(json.loads(found.group(1)) if found else {}, output)


def _task(action: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if action not in KINDS:
        return action, arguments
    return "managed_host", {"steps": [arguments if action in ("files", "units", "users") else {action: arguments}]}


def _ansible(site: LabSite, program: str, *arguments: str) -> str:
    argv = [str(BIN / program), "-i", str(site.path / "hosts.yml")]
    argv += ["--vault-password-file", str(site.vault_password_file), *arguments]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    return done.stdout + done.stderr


def settled(site: LabSite, action: str, **arguments: Any) -> Done:
    """Call an action so that check mode tells of a change, the call makes it, and the next one has nothing to do."""
    action, arguments = _task(action, arguments)
    tasks = [{"name": f"call {number}", action: arguments, "check_mode": number in (0, 3)} for number in range(4)]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as playbook:
        json.dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}], playbook)
        playbook.flush()
        output = _ansible(site, "ansible-playbook", "-v", playbook.name)
    rows = re.findall(r"^(?:ok|changed): \[h1\] => (\{.*\})$", output, flags=re.MULTILINE)
    told, made, again, after = (Done(json.loads(row), output) for row in (*rows, *["{}"] * 4)[:4])
    assert told.changed, "check mode saw nothing to do"
    assert made.changed
    assert not again.changed, "the second call changed something"
    assert not after.changed, "check mode after it saw something to do"
    return made
