# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes one sysctl.d file and brings the running kernel to it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: managed_sysctl
short_description: Keep sysctl settings in a file and in the running kernel
description:
  - What the running kernel does not let this host set (a container shares its kernel) is returned in C(not_settable).
options:
  path:
    description: The file below /etc/sysctl.d.
    type: str
    required: true
  values:
    description: Setting to value.
    type: dict
    required: true
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ratssaal_files import FileProblem, read_bytes, replace


def _kernel_path(name):
    return "/proc/sys/" + name.replace(".", "/")


def _now(name):
    content = read_bytes(_kernel_path(name))
    return None if content is None else " ".join(content.decode().split())


def _set(name, value):
    """Try to set; True if the kernel took it."""
    try:
        with open(_kernel_path(name), "w") as handle:
            handle.write(value)
    except OSError:
        return False
    return _now(name) == value


def main():
    """Compare file and kernel, write what differs."""
    module = AnsibleModule(
        argument_spec={"path": {"type": "str", "required": True}, "values": {"type": "dict", "required": True}},
        supports_check_mode=True,
    )
    values = {name: " ".join(str(value).split()) for name, value in module.params["values"].items()}
    text = "# Kept by Ratssaal (role hardening); changes are found and put back.\n"
    text += "".join("%s = %s\n" % item for item in sorted(values.items()))
    path, changed, not_settable = module.params["path"], [], []
    if read_bytes(path) != text.encode():
        changed.append(path)
        if not module.check_mode:
            try:
                replace(path, text.encode(), 0o644, 0, 0)
            except FileProblem as problem:
                module.fail_json(msg=str(problem))
    for name, value in sorted(values.items()):
        if _now(name) == value:
            continue
        writable = os.access(_kernel_path(name), os.W_OK) and not os.statvfs(_kernel_path(name)).f_flag & os.ST_RDONLY
        if not writable:
            not_settable.append(name)
        elif module.check_mode or _set(name, value):
            changed.append(name)
        else:
            not_settable.append(name)
    module.exit_json(changed=bool(changed), changed_settings=changed, not_settable=not_settable)


if __name__ == "__main__":
    main()
