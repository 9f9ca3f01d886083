# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles' tasks applied last on this host, for `ratssaal drift`: a file a task, hashes instead of contents.

A file's time is when its task last ran; its content changes only when what the task applies does.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import urllib.parse

from . import digest
from .files import replace

_BEGUN = "begun"


def _folder(role):
    return os.path.join(digest.FOLDER, urllib.parse.quote(role, safe=""))


def _file(task):
    return urllib.parse.quote(task, safe="") + ".json"


def begin(part):
    """Note that one of the role's tasks has begun to change the host; `write` forgets it, and so does `give_up`."""
    digest.make_key()
    folder = _folder(part["role"])
    os.makedirs(folder, 0o700, exist_ok=True)
    with open(os.path.join(folder, _BEGUN), "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as handle:
        os.fsync(handle.fileno())


def give_up(part):
    """Forget that a task has begun: it failed, and put back what it had changed."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(_folder(part["role"]), _BEGUN))


def begun():
    """Return the roles of which a task has begun and never ended: a kill or a reboot came between."""
    marks = glob.glob(os.path.join(glob.escape(digest.FOLDER), "*", _BEGUN))
    return {urllib.parse.unquote(os.path.basename(os.path.dirname(path))) for path in marks}


def write(part, items, finished):
    """Replace what one task applied; `part` has role, task and all tasks that the role has now: others' files go."""
    folder = _folder(part["role"])
    os.makedirs(folder, 0o700, exist_ok=True)
    if os.stat(digest.FOLDER).st_mode & 0o077:
        os.chmod(digest.FOLDER, 0o700)
    path = os.path.join(folder, _file(part["task"]))
    text = json.dumps({"items": items, "finished": finished}, sort_keys=True)
    try:
        with open(path) as handle:
            same = handle.read() == text
    except FileNotFoundError:
        same = False
    if same:
        os.utime(path)
    else:
        replace(path, text.encode(), 0o600, os.getuid(), os.getgid())
    kept = {_file(task) for task in part["tasks"]}
    for name in os.listdir(folder):
        if name not in kept:
            os.unlink(os.path.join(folder, name))


def read():
    """Return what each task applied, the oldest first: dictionaries with role, task, at (seconds since 1970), items, finished.

    `items` is None where the file cannot be read. None where there is no manifest.
    """
    if digest.key() is None:
        return None
    found = []
    for folder, _, names in os.walk(digest.FOLDER):
        for name in names:
            if not name.endswith(".json") or name.startswith("."):
                continue
            path = os.path.join(folder, name)
            role, task = (urllib.parse.unquote(text) for text in (os.path.basename(folder), name[: -len(".json")]))
            part = {"role": role, "task": task, "at": os.stat(path).st_mtime, "finished": True, "items": None}
            with contextlib.suppress(ValueError, TypeError), open(path) as handle:
                part.update(json.load(handle))
            found.append(part)
    return sorted(found, key=lambda part: part["at"]) or None
