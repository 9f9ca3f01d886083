# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the templates of many files on the control node and sends them in one module call."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

_KNOWN = frozenset(
    [
        "dest",
        "template",
        "content",
        "src_file",
        "link",
        "state",
        "owner",
        "group",
        "mode",
        "secret",
        "validate",
        "restarts",
        "reloads",
        "force",
    ]
)


class ActionModule(ActionBase):
    """Action part of managed_files; the module of the same name documents it."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render, send, return the module's result."""
        super().run(tmp, task_vars)
        variables = dict(task_vars or {})
        files = [self.wire_entry(dict(raw), variables) for raw in self._task.args.get("files", [])]
        contents = {
            str(number): entry.pop("content_base64") for number, entry in enumerate(files) if "content_base64" in entry
        }
        result: dict[str, Any] = self._execute_module(
            module_name="managed_files", module_args={"files": files, "contents": contents}, task_vars=task_vars
        )
        return result

    def wire_entry(self, raw: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return one file as the module takes it; raises AnsibleActionFail for a key that does not exist."""
        unknown = sorted(set(raw) - _KNOWN)
        if unknown or "dest" not in raw:
            raise AnsibleActionFail(f"managed_files: {raw.get('dest', 'a file without dest')}: unknown keys {unknown}")
        entry = {key: value for key, value in raw.items() if key not in ("template", "content", "src_file")}
        if "template" in raw:
            text = self._rendered(str(raw["template"]), variables, str(raw["dest"])).encode()
        elif "content" in raw:
            text = str(raw["content"]).encode()
        elif "src_file" in raw:
            text = self._read(str(raw["src_file"]), variables)
        elif "link" in raw or raw.get("state") in ("directory", "absent"):
            return entry
        else:
            raise AnsibleActionFail(f"managed_files: {raw['dest']}: nothing says what is in it")
        return entry | {"content_base64": base64.b64encode(text).decode()}

    def _read(self, name: str, variables: dict[str, Any]) -> bytes:
        """Return a file of the control node; a relative path is one of the site's directory, or of the role's files/."""
        beside_site = Path(str(variables.get("inventory_dir", "."))) / os.path.expanduser(name)
        path = beside_site if beside_site.is_file() else Path(self._find_needle("files", name))
        return path.read_bytes()

    def _rendered(self, name: str, variables: dict[str, Any], dest: str) -> str:
        source = self._find_needle("templates", name)
        text = trust_as_template(self._loader.get_text_file_contents(source))
        search = [
            os.path.dirname(source),
            *(os.path.join(p, "templates") for p in variables.get("ansible_search_path", [])),
        ]
        templar = self._templar.copy_with_new_env(
            searchpath=search, available_variables=variables | {"template_path": name, "template_destpath": dest}
        )
        rendered = templar.template(
            text, escape_backslashes=False, overrides={"trim_blocks": True, "lstrip_blocks": True}
        )
        return "" if rendered is None else str(rendered)
