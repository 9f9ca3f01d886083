# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the kernel: in one sysctl.d file and in the running kernel."""

from __future__ import annotations

import glob
import os

from .disk import FileProblem, explained, read_bytes
from .files import applied_file, diff, differences, write_entry

_KERNEL = "/proc/sys/"


def _kernel_path(name):
    return _KERNEL + (name if "/" in name else name.replace(".", "/"))


def _here(values):
    """Return the settings of this kernel; a name with * stands for every interface that there is now.

    An interface keeps what it had when it appeared, whatever `all` and `default` say (kernel: ip-sysctl.rst).
    """
    found: dict = {}
    for name, value in values.items():
        paths = glob.glob(_kernel_path(name)) if "*" in name else []
        found.update((_name(path), value) for path in paths)
    found.update((name, value) for name, value in values.items() if "*" not in name)
    return found


def _name(path):
    """Return a setting's usual name with dots; with slashes where an interface's name holds a dot (sysctl.d(5))."""
    name = path[len(_KERNEL) :]
    return name if "." in name else name.replace("/", ".")


def now(name):
    """Return the running kernel's value of a setting, None where it has no such setting."""
    content = read_bytes(_kernel_path(name))
    return None if content is None else " ".join(content.decode().split())


def _set(name, value):
    """Try to set; True if the kernel took it."""
    try:
        with open(_kernel_path(name), "w") as handle:
            handle.write(value)
    except OSError:
        return False
    return now(name) == value


def _values(step):
    return {name: " ".join(str(value).split()) for name, value in step.params["values"].items()}


def _file(step):
    text = "# Kept by Ratssaal (role hardening); changes are found and put back.\n"
    text += "".join("%s = %s\n" % item for item in sorted(_values(step).items()))
    wanted = {"dest": step.params["path"], "state": "file", "bytes": text.encode(), "mode": "0644"}
    return wanted | {"owner": "root", "group": "root", "force": True, "validate": None}


def applied(step):
    """Return what the manifest keeps: the file, and the values that are in force; others this host cannot set."""
    inforce = [item for item in sorted(_here(_values(step)).items()) if now(item[0]) == item[1]]
    return [applied_file(_file(step)), *({"kind": "sysctl", "name": name, "value": value} for name, value in inforce)]


def bring(step):
    """Compare file and kernel, write what differs; return that, and what the kernel does not let this host set."""
    values, entry, changed, not_settable, diffs = _values(step), _file(step), [], [], []
    reasons = differences(entry)
    if reasons:
        changed.append(entry["dest"])
        diffs += [diff(entry, reasons)] if step.diff else []
        if not step.check_mode:
            step.begins()
            try:
                write_entry(entry)
            except (FileProblem, OSError) as problem:
                step.fail(msg=explained(problem))
    for name, value in sorted(_here(values).items()):
        if now(name) == value:
            continue
        writable = os.access(_kernel_path(name), os.W_OK) and not os.statvfs(_kernel_path(name)).f_flag & os.ST_RDONLY
        if not writable:
            not_settable.append(name)
        elif step.check_mode or _set(name, value):
            changed.append(name)
        else:
            not_settable.append(name)
    return {"changed": bool(changed), "changed_settings": changed, "not_settable": not_settable, "diff": diffs}
