# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task is about to write, noted before it does: a file that a killed run left is no file that somebody altered."""

from __future__ import annotations

import json
import os

from . import digest


def _path():
    return os.path.join(digest.FOLDER, "intent")


def read():
    """Return path -> what was to be there, as items of the manifest; what no manifest told of since."""
    try:
        with open(_path()) as handle:
            return json.load(handle)
    except (FileNotFoundError, ValueError):
        return {}


def note(items):
    """Note the items of files, which change next, on disk. Raises OSError."""
    if items:
        _write(read() | {item["dest"]: item for item in items})


def forget(items):
    """Forget what the manifest tells from now on. Raises OSError."""
    before = read()
    left = {path: item for path, item in before.items() if path not in {item.get("dest") for item in items}}
    if left != before:
        _write(left)


def _write(noted):
    draft = _path() + ".new"
    with open(draft, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as handle:
        json.dump(noted, handle)
        handle.flush()
        os.fsync(handle.fileno())
    os.rename(draft, _path())
