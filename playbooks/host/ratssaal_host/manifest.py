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
from .disk import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Begun = tuple[str, str, float, list[str]]

_BEGUN = ".begun"


def _folder(role: str) -> str:
    return os.path.join(digest.FOLDER, urllib.parse.quote(role, safe=""))


def _file(task: str) -> str:
    return urllib.parse.quote(task, safe="") + ".json"


def begin(part: Mapping[str, Any], files: Iterable[str]) -> None:
    """Note that a task begins to change the host, and which files are its own; `write` forgets it when it has ended well."""
    digest.make_key()
    os.makedirs(_folder(part["role"]), 0o700, exist_ok=True)
    known = _read(_begun(part)) or []
    # Whole or not at all: what a killed run had noted would else be lost where the disk is full.
    replace(_begun(part), json.dumps(sorted({*known, *files})).encode(), 0o600, os.getuid(), os.getgid())


def give_up(part: Mapping[str, Any]) -> None:
    """Forget that a task has begun: it has put back what was there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_begun(part))


def begun() -> list[Begun]:
    """Return what has begun and not ended, (role, task, at, files): interrupted, failed on the way, or at work now."""
    found = []
    for path in glob.glob(os.path.join(glob.escape(digest.FOLDER), "*", "*" + _BEGUN)):
        with contextlib.suppress(OSError):
            names = os.path.basename(os.path.dirname(path)), os.path.basename(path)[: -len(_BEGUN)]
            role, task = map(urllib.parse.unquote, names)
            found.append((role, task, os.stat(path).st_mtime, _read(path) or []))
    return found


def _begun(part: Mapping[str, Any]) -> str:
    return os.path.join(_folder(part["role"]), urllib.parse.quote(part["task"], safe="") + _BEGUN)


def _read(path: str) -> Any:
    try:
        with open(path) as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return None


def write(part: dict[str, Any], items: Sequence[dict[str, Any]], finished: bool) -> None:
    """Replace what one task applied; `part` has role, task and all tasks that the role has now: others' files go.

    Of a task that failed on the way, what it had applied before stays known where it did not come to it again.
    """
    folder = _folder(part["role"])
    os.makedirs(folder, 0o700, exist_ok=True)
    if os.stat(digest.FOLDER).st_mode & 0o077:
        os.chmod(digest.FOLDER, 0o700)
    path = os.path.join(folder, _file(part["task"]))
    items = items if finished else [*items, *_others(path, items)]
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
    kept = {name for task in part["tasks"] for name in (_file(task), os.path.basename(_begun(part | {"task": task})))}
    for name in os.listdir(folder):
        if name not in kept:
            os.unlink(os.path.join(folder, name))
    if finished:
        give_up(part)


def _others(path: str, items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a part's file holds beside these items."""
    told = {(item["kind"], item["name"]) for item in items}
    with contextlib.suppress(TypeError, KeyError):
        return [item for item in _read(path)["items"] if (item["kind"], item["name"]) not in told]
    return []


def read() -> list[dict[str, Any]] | None:
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
