# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the kernel: in one sysctl.d file and in the running kernel."""

from __future__ import annotations

import glob
import os

from .files import FileProblem, read_bytes, replace

_KERNEL = "/proc/sys/"


def _kernel_path(name):
    return _KERNEL + (name if "/" in name else name.replace(".", "/"))


def _here(values):
    """Return the settings of this kernel; a name with * stands for every interface that there is now.

    An interface keeps what it had when it appeared, whatever `all` and `default` say (kernel: ip-sysctl.rst). An expanded
    name has slashes, since an interface's name may hold dots (sysctl.d(5)).
    """
    found = {}
    for name, value in values.items():
        paths = glob.glob(_kernel_path(name)) if "*" in name else []
        found.update((path[len(_KERNEL) :], value) for path in paths)
    found.update((name, value) for name, value in values.items() if "*" not in name)
    return found


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


def bring(step):
    """Compare file and kernel, write what differs; return that, and what the kernel does not let this host set."""
    values = {name: " ".join(str(value).split()) for name, value in step.params["values"].items()}
    text = "# Kept by Ratssaal (role hardening); changes are found and put back.\n"
    text += "".join("%s = %s\n" % item for item in sorted(values.items()))
    path, changed, not_settable = step.params["path"], [], []
    if read_bytes(path) != text.encode():
        changed.append(path)
        if not step.check_mode:
            try:
                replace(path, text.encode(), 0o644, 0, 0)
            except FileProblem as problem:
                step.fail(msg=str(problem))
    for name, value in sorted(_here(values).items()):
        if _now(name) == value:
            continue
        writable = os.access(_kernel_path(name), os.W_OK) and not os.statvfs(_kernel_path(name)).f_flag & os.ST_RDONLY
        if not writable:
            not_settable.append(name)
        elif step.check_mode or _set(name, value):
            changed.append(name)
        else:
            not_settable.append(name)
    return {"changed": bool(changed), "changed_settings": changed, "not_settable": not_settable}
