# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings many files into their wanted state in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: managed_files
short_description: Bring many files, links and directories into their wanted state in one round trip
description:
  - The action plugin of the same name renders templates on the control node; this module writes what differs, atomically.
  - A file with C(restarts) or C(reloads) leaves a marker before it changes, which M(managed_units) acts on.
options:
  files:
    description: The wanted files.
    type: list
    elements: dict
    required: true
  contents:
    description: Number of a file in C(files), from 0, to its content in base64; filled in by the action plugin.
    type: dict
    default: {}
"""

import base64

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ratssaal_files import FileProblem, differences, mark_pending, read_bytes, write_entry


def _entry(raw, content):
    entry = {
        "owner": "root",
        "group": "root",
        "validate": None,
        "secret": False,
        "force": True,
        "restarts": [],
        "reloads": [],
    }
    entry.update(raw)
    entry.setdefault("state", "link" if "link" in entry else "file")
    entry.setdefault("mode", "0755" if entry["state"] == "directory" else "0644")
    if entry["state"] == "file":
        entry["bytes"] = base64.b64decode(content)
    return entry


def _diff(entry, reasons):
    header = "%s (%s)" % (entry["dest"], ", ".join(reasons))
    if entry["secret"] or entry["state"] != "file" or "content" not in reasons + ["content"] * ("missing" in reasons):
        return {"before_header": header, "after_header": header, "before": "", "after": ""}
    before = read_bytes(entry["dest"]) or b""
    return {
        "before_header": header,
        "after_header": header,
        "before": before.decode(errors="replace"),
        "after": entry["bytes"].decode(errors="replace"),
    }


def main():
    """Compare, and write what differs."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True},
            # apart from `files`: Ansible masks every word of an argument that is not to be logged, paths and modes too
            "contents": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    contents = module.params["contents"]
    entries = [_entry(raw, contents.get(str(number), "")) for number, raw in enumerate(module.params["files"])]
    changed, diffs, restarts, reloads = [], [], set(), set()
    for entry in entries:
        reasons = differences(entry)
        if not reasons:
            continue
        changed.append(entry["dest"])
        if module._diff:
            diffs.append(_diff(entry, reasons))
        restarts.update(entry["restarts"])
        reloads.update(entry["reloads"])
        if module.check_mode:
            continue
        mark_pending("restart", entry["restarts"])
        mark_pending("reload", entry["reloads"])
        try:
            write_entry(entry)
        except FileProblem as problem:
            module.fail_json(msg=str(problem), changed=len(changed) > 1, changed_paths=changed[:-1])
        except OSError as error:
            module.fail_json(msg="%s: %s" % (entry["dest"], error.strerror), changed_paths=changed[:-1])
    module.exit_json(
        changed=bool(changed), changed_paths=changed, restarts=sorted(restarts), reloads=sorted(reloads), diff=diffs
    )


if __name__ == "__main__":
    main()
