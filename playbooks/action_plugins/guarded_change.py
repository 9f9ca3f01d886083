# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a change that could lock the administrator out, and proves a second login before it stays."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.plugins.loader import action_loader

Host = action_loader.get("managed_host", class_only=True)
_TRIES = 3
_LOGIN_SECONDS = 10
_ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "dict", "default": []},
    "ready": {"type": "str", "default": "true"},
    "check": {"type": "str", "default": "true"},
    "apply": {"type": "str", "default": "true"},
    "undo": {"type": "str", "default": ""},
    "effective": {"type": "str", "default": "true"},
    "confirm_seconds": {"type": "int", "default": 60},
    "units": {"type": "list", "elements": "dict", "default": []},
    "rulesets": {"type": "list", "elements": "dict", "default": []},
}


def _route() -> Any:
    """Load the Python side's `transport/route.py` by its path, as playbooks/filter_plugins/ratssaal.py does and for its reasons."""
    root = Path(__file__).resolve().parents[2]
    name = "transport/route.py"
    path = next(path for path in (root / "orchestrator" / name, root.parent / name) if path.is_file())
    specification = importlib.util.spec_from_file_location("ratssaal_route", path)
    if specification is None or specification.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


_ROUTE = _route()


class ActionModule(Host):  # type: ignore[misc, valid-type]
    """Changes files that could cut the connection: between apply and confirm a timer on the host, and after a reboot a unit,
    puts the old ones back.

    Arguments: `name` of the change, also of its directory below /var/lib/ratssaal/guard and of its timer; `files` as those of
    managed_host; shell commands: `ready` fails where the host is in no state to be changed, before anything is written, `check`
    refuses a wrong configuration before it is put to use, `apply` puts the files to use and ends when they are in use,
    `undo` the restored ones (`apply` where it is empty), `effective` fails where the files are right but not in effect;
    `confirm_seconds` after which the host puts the old state back unless the change was confirmed; `units` as those of
    managed_host and `rulesets`, dictionaries with the nftables `table` and the `file` that loads it, are what `apply` brings
    into effect: `ratssaal drift` compares them.
    """

    TRANSFERS_FILES = False
    _PHASED = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look; if something differs: apply, prove, confirm, or put back."""
        arguments = self.arguments(_ARGUMENTS)
        if self._connection.transport not in ("ssh", "local"):
            told = f"no second login can be proven over ansible_connection: {self._connection.transport}. Hint: use ssh"
            return {"failed": True, "changed": False, "msg": f"{arguments['name']}: {told}"}
        arguments["files"] = [self.wire_file(dict(raw), task_vars or {}) for raw in arguments["files"]]
        looked = self._phase("look", arguments, task_vars)
        if looked.get("failed") or not looked.get("changed") or self._task.check_mode:
            return looked
        applied = self._phase("apply", arguments, task_vars)
        if applied.get("failed"):
            return applied
        refusals = self._prove(arguments["confirm_seconds"])
        if not refusals:
            confirmed = self._phase("confirm", arguments, task_vars)
            return confirmed | {key: looked.get(key, []) for key in ("changed_paths", "diff")}
        return self._put_back(arguments, task_vars, refusals)

    def _phase(self, phase: str, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return self.on_host([{"guard": arguments | {"phase": phase}}], task_vars or {})

    def _put_back(self, arguments: dict[str, Any], task_vars: Any, refusals: list[str]) -> dict[str, Any]:
        seconds = arguments["confirm_seconds"]
        state = f"comes back by the host's own timer within {seconds} s"
        try:
            restored = self._phase("restore", arguments, task_vars)
        except Exception:  # the first connection is cut as well: the host's own timer does it
            restored = {"failed": True}
        if restored.get("not_put_back"):
            state = f"could NOT be put back: {restored['msg']}. This was tried"
        elif not restored.get("failed"):
            state = "came back by the host's own timer" if restored.get("by_timer") else "was put back at once"
        return {
            "failed": True,
            "changed": False,
            "msg": f"{arguments['name']}: the old state {state}, because no second login was possible after the change: "
            + "; ".join(refusals)
            + _translated(int(self._option("port") or 22), restored.get("sshd_ports") or []),
        }

    def _prove(self, seconds: int) -> list[str]:
        """Return why a second login failed, by OpenSSH and by Paramiko; [] if both got in.

        After `seconds` the host has put the old state back, and a login proves nothing any more.
        """
        if self._connection.transport != "ssh":
            return []
        end = time.monotonic() + seconds
        refusals: list[str] = []
        for attempt in range(_TRIES):
            refusals = [reason for reason in (self._openssh(_patience(end)), self._paramiko(_patience(end))) if reason]
            if not refusals or attempt == _TRIES - 1 or time.monotonic() + 2 > end:
                break
            time.sleep(2)
        return refusals

    def _option(self, name: str) -> Any:
        return self._connection.get_option(name)

    def _ssh(self, *own: str) -> list[str]:
        """Return an OpenSSH command for the host with what Ansible would give it; of an option the first one counts."""
        argv = ["ssh", *own]
        for name in ("ssh_args", "ssh_common_args", "ssh_extra_args"):
            argv += shlex.split(self._option(name) or "")
        if self._option("port"):
            argv += ["-p", str(self._option("port"))]
        if self._option("private_key_file"):
            argv += ["-i", os.path.expanduser(self._option("private_key_file"))]
        if self._option("remote_user"):
            argv += ["-l", self._option("remote_user")]
        return [*argv, self._option("host")]

    def _openssh(self, seconds: int) -> str:
        own = ("ControlMaster=no", "ControlPath=none", "BatchMode=yes", f"ConnectTimeout={seconds}")
        try:
            done = subprocess.run(
                [*self._ssh(*(word for option in own for word in ("-o", option))), "true"],
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds * 2,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return "OpenSSH: no answer"
        return "" if done.returncode == 0 else f"OpenSSH: {(done.stderr.strip().splitlines() or ['refused'])[-1]}"

    def _paramiko(self, seconds: int) -> str:
        try:
            import paramiko
        except ImportError:
            self._display.vv("Paramiko is not installed beside Ansible: the second login was proven by OpenSSH alone")
            return ""
        asked = self._ssh("-G")
        try:
            settings = _ROUTE.settings_of(asked)
        except TimeoutError as error:
            return f"Paramiko: {error}"
        way = _ROUTE.through(asked, settings)
        client = paramiko.SSHClient()
        proxy = paramiko.ProxyCommand(shlex.join(["sh", "-c", f"exec {way}"])) if way else None
        try:
            known = settings.get("userknownhostsfile", "~/.ssh/known_hosts")
            # Shown without quotes: it may be one path with a blank.
            for path in map(os.path.expanduser, {known, *known.split()}):
                if os.path.exists(path):
                    client.load_host_keys(path)
            key = self._option("private_key_file")
            client.connect(
                self._option("host"),
                port=int(self._option("port") or 22),
                username=self._option("remote_user") or None,
                key_filename=os.path.expanduser(key) if key else None,
                timeout=seconds,
                banner_timeout=seconds,
                auth_timeout=seconds,
                sock=proxy,
            )
        except (paramiko.SSHException, OSError) as error:
            return f"Paramiko: {error}"
        finally:
            client.close()
            if proxy:
                proxy.close()
        return ""


def _translated(port: int, ports: list[int]) -> str:
    """Return a hint where the host's sshd listens at another port than the one at which it was called, else ""."""
    if not ports or port in ports:
        return ""
    listed = ", ".join(map(str, ports))
    return (
        f". Hint: on the host sshd listens at {listed}, not at {port} (ansible_port): where an address translation lies between,"
        f" let {listed}/tcp in by firewall_extra_flows, with firewall_management_sources as its sources"
    )


def _patience(end: float) -> int:
    """Return how many seconds a login may take that has to be done before `end`."""
    return max(1, min(_LOGIN_SECONDS, int(end - time.monotonic())))
