# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings packages, files, kernel settings, units, users and accounts of a host into their wanted state in one round trip."""

from __future__ import annotations

import base64
import ctypes
import io
import json
import os
import shlex
import signal
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

_CONTENT = ("content", "template", "src_file")
_FILE = frozenset(
    (*_CONTENT, "dest", "force", "group", "link", "mode", "owner", "reloads", "restarts", "secret", "state", "validate")
)
_LIST = {"type": "list", "elements": "str", "default": []}
_DICTS = {"type": "list", "elements": "dict"}
_TEXT = {"type": "str", "required": True}


def _dicts(**options: Any) -> dict[str, Any]:
    return {**_DICTS, "default": [], "options": options}


_PACKAGES = {
    "names": _LIST,
    "versions": {"type": "dict", "default": {}},
    "hold": _LIST,
    "absent": _LIST,
    "debconf": _dicts(package=_TEXT, question=_TEXT, type=_TEXT, value={"type": "raw", "required": True}),
    "withdrawn": _dicts(package=_TEXT, question=_TEXT, type=_TEXT, value=_TEXT),
    "beforehand": _dicts(dest=_TEXT, content=_TEXT),
    "restarts": _LIST,
    "update": {"type": "str", "choices": ["missing", "changed"], "default": "missing"},
    "security_updates": {"type": "bool", "default": False},
    "lock_timeout": {"type": "int", "default": 120},
}
_ACCOUNTS = {
    "accounts": {**_dicts(jid=_TEXT, password=_TEXT), "required": True, "default": None},
    "absent_others_in": _LIST,
    "watched": _dicts(jid=_TEXT, by=_TEXT, restarts=_LIST),
}
_KINDS: dict[str, dict[str, Any]] = {
    "packages": {"type": "dict", "options": _PACKAGES},
    "files": _DICTS,
    "sysctl": {"type": "dict", "options": {"path": _TEXT, "values": {"type": "dict", "required": True}}},
    "units": _DICTS,
    "accounts": {"type": "dict", "options": _ACCOUNTS},
    "users": {**_DICTS, "options": {"name": _TEXT, "shell": _TEXT}},
    "capabilities": {"type": "dict", "options": {"debian": {"type": "list", "elements": "int", "required": True}}},
}
_STEPS: dict[str, Any] = {
    **_DICTS,
    "options": {**_KINDS, "settle": {"type": "float", "default": 1.5}},
    "mutually_exclusive": [list(_KINDS)],
    "required_one_of": [list(_KINDS)],
}
_CODE = Path(__file__).parents[1] / "host/ratssaal_host"
# AnsiballZ would cost each task a fifth of a second, for importing AnsibleModule from source. The task itself comes by standard
# input behind the code, so nothing of it stands in a process list or in a file of the host.
_START = (
    "import os,sys;i=sys.stdin.buffer;n=int(i.readline());f=os.memfd_create('ratssaal');os.write(f,i.read(n));"
    "sys.path.insert(0,'/proc/self/fd/%d'%f);from ratssaal_host.steps import main;main()"
)
_MARK = "== ratssaal_host =="
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ActionModule(ActionBase):
    """Renders templates on the control node and sends all steps at once; library/managed_host.py documents the arguments."""

    TRANSFERS_FILES = False
    _requires_connection = True
    STEPS = _STEPS
    _PHASED = False  # whether several round trips belong to one task

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._renderers: dict[str, Any] = {}

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the arguments, render, send, return what was done."""
        super().run(tmp, task_vars)
        arguments = self.arguments({"steps": {**_STEPS, "required": True}})
        return self.on_host(self.wire_steps(arguments["steps"], task_vars or {}), task_vars or {})

    def arguments(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return the task's arguments as the specification wants them; raises AnsibleActionFail."""
        # Ansible copies all of them to look at them, which takes ten times as long with its tags.
        self._task.args = _plain(self._task.args)
        return dict(self.validate_argument_spec(spec)[1])

    def on_host(self, steps: list[dict[str, Any]], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run steps on the host in one round trip and return what was done, also where one failed."""
        _end_with_ansible()
        task = {"steps": steps, "check_mode": self._task.check_mode, "diff": self._task.diff, "part": self._part()}
        code = _zipped()
        python = self._templar.template(task_vars.get("ansible_python_interpreter") or "/usr/bin/python3")
        words = [self._compute_environment_string(), shlex.quote(str(python)), "-c", shlex.quote(_START)]
        done = self._low_level_execute_command(
            " ".join(words), in_data=b"%d\n%b%b" % (len(code), code, json.dumps(_plain(task)).encode())
        )
        _, mark, told = str(done["stdout"]).rpartition(_MARK)
        if mark:
            result: dict[str, Any] = json.loads(told.strip().splitlines()[0])
            return result
        said = str(done.get("stderr") or done.get("stdout") or "").strip()[-800:]
        return {"failed": True, "msg": f"the host did not do the task (exit code {done['rc']}): {said}"}

    def _part(self) -> dict[str, Any] | None:
        """Return which part of the host's manifest this task writes; None outside a role: nothing would ever replace it.

        `tasks` are all that the role has: what an older one noted goes. No role of ours includes tasks while it runs.
        """
        role = self._task._role
        if role is None:
            return None
        entry = str(role._from_files.get("tasks", "main"))
        name = role.get_name(include_role_fqcn=False) + ("" if entry == "main" else f":{entry}")
        tasks = {task.name or task.action for block in role.get_task_blocks() for task in _tasks(block)}
        own = self._task.name or self._task.action
        return {"role": name, "task": own, "tasks": sorted(tasks | {own}), "phased": self._PHASED}

    def wire_steps(self, steps: list[dict[str, Any]], variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return steps as the host takes them; raises AnsibleActionFail for what cannot be."""
        return [self._wire_step(raw, variables) for raw in steps]

    def _wire_step(self, raw: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return one step as the host takes it: files rendered, their contents apart."""
        step = {key: value for key, value in raw.items() if value is not None}
        if "files" not in step:
            return step
        files = [self.wire_file(dict(entry), variables) for entry in step["files"]]
        contents = {
            str(number): entry.pop("content_base64") for number, entry in enumerate(files) if "content_base64" in entry
        }
        return step | {"files": files, "contents": contents}

    def wire_file(self, raw: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return one file as the host takes it; raises AnsibleActionFail for a key that does not exist."""
        unknown = sorted(set(raw) - _FILE)
        if unknown or "dest" not in raw:
            raise AnsibleActionFail(f"managed_host: {raw.get('dest', 'a file without dest')}: unknown keys {unknown}")
        entry = {key: value for key, value in raw.items() if key not in _CONTENT}
        if "template" in raw:
            text = self._rendered(str(raw["template"]), variables).encode()
        elif "content" in raw:
            text = str(raw["content"]).encode()
        elif "src_file" in raw:
            text = self._read(str(raw["src_file"]), variables)
        elif "link" in raw or raw.get("state") in ("directory", "absent", "given_back"):
            return entry
        else:
            raise AnsibleActionFail(f"managed_host: {raw['dest']}: nothing says what is in it")
        return entry | {"content_base64": base64.b64encode(text).decode()}

    def _read(self, name: str, variables: Mapping[str, Any]) -> bytes:
        """Return a file of the control node; a relative path is one of the site's directory, or of the role's files/."""
        beside_site = Path(str(variables.get("inventory_dir", "."))) / os.path.expanduser(name)
        path = beside_site if beside_site.is_file() else Path(self._find_needle("files", name))
        return path.read_bytes()

    def _rendered(self, name: str, variables: Mapping[str, Any]) -> str:
        source = self._find_needle("templates", name)
        text = trust_as_template(self._loader.get_text_file_contents(source))
        rendered = self._renderer(os.path.dirname(source), variables).template(
            text, escape_backslashes=False, overrides={"trim_blocks": True, "lstrip_blocks": True}
        )
        return "" if rendered is None else str(rendered)

    def _renderer(self, folder: str, variables: Mapping[str, Any]) -> Any:
        """Return what renders the templates of one folder; making one takes longer than a small template does."""
        if folder not in self._renderers:
            search = [folder, *(os.path.join(p, "templates") for p in variables.get("ansible_search_path", []))]
            self._renderers[folder] = self._templar.copy_with_new_env(searchpath=search, available_variables=variables)
        return self._renderers[folder]


def _end_with_ansible() -> None:
    """Let this worker die with the Ansible that started it, also when that is killed.

    Workers are sessions of their own (ansible:lib/ansible/executor/process/worker.py), so a signal to the run's process group
    does not reach them; one that lives on would confirm a change that nobody waits for any more.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _tasks(block: Any) -> Iterator[Any]:
    """Yield every task of a block."""
    for item in (*block.block, *block.rescue, *block.always):
        yield from _tasks(item) if hasattr(item, "rescue") else (item,)


def _zipped() -> bytes:
    """Return the host's code as a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        for path in sorted(_CODE.glob("*.py")):
            package.writestr(f"ratssaal_host/{path.name}", path.read_bytes())
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """Return a value without Ansible's tags, lazy templates and encrypted strings, which json does not know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)
