# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody had written in the place of our files before the first run: kept on the host, so that it can come back."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess

from . import digest, manifest
from .disk import read_bytes, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# How our files begin that lie where others' do.
MARK = b"# Kept by Ratssaal"


def _folder() -> str:
    return os.path.join(os.path.dirname(digest.FOLDER), "replaced")


def kept_at(path: str) -> str:
    """Return where the copy of a file lies, or would lie."""
    return os.path.join(_folder(), path.lstrip("/"))


def keep(paths: Iterable[str]) -> None:
    """Copy those of the files, with owner and mode, that are neither ours nor as their packages bring them; none twice."""
    known, packaged = None, None
    for path in paths:
        link = os.path.islink(path)
        if os.path.lexists(kept_at(path)) or not (link or _is_file(path)):
            continue
        known, packaged = known or _known(), packaged or _conffiles()
        content = b"" if link else read_bytes(path)
        if path in known or not (link or _is_somebodys(content, packaged.get(path))):
            continue
        os.makedirs(_folder(), 0o700, exist_ok=True)
        os.makedirs(os.path.dirname(kept_at(path)), exist_ok=True)
        # Whole or not at all: a killed run would take half a copy for the whole one.
        draft = kept_at(path) + ".new"
        remove(draft)
        shutil.copy2(path, draft, follow_symlinks=False)
        os.chown(draft, os.lstat(path).st_uid, os.lstat(path).st_gid, follow_symlinks=False)
        os.replace(draft, kept_at(path))


def is_ours(path: str) -> bool:
    """Say whether a file begins with our mark, or is as the manifest says that we wrote it."""
    content = read_bytes(path) if _is_file(path) else None
    if content is None:
        return False
    hashes = {item.get("hash") for item in _applied() if item.get("dest") == path}
    return content.startswith(MARK) or (bool(hashes - {None, ""}) and digest.keyed(path, content) in hashes)


def _is_somebodys(content: bytes | None, packaged: str | None) -> bool:
    """Say whether a file's content is neither empty nor ours nor as its package brings it."""
    return not (content is None or content == b"" or content.startswith(MARK) or _md5(content) == packaged)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _applied() -> list[dict[str, Any]]:
    return [item for part in manifest.read() or () for item in part["items"] or () if item["kind"] == "file"]


def _known() -> set[str]:
    """Return the files that we wrote or began to write; one that was given back is somebody's again."""
    known = {item["dest"] for item in _applied() if item.get("state") != "given_back"}
    return known | {path for *_, files in manifest.begun() for path in files}


def _conffiles() -> dict[str, str]:
    """Return the MD5 sums of configuration files as dpkg unpacked them (dpkg-query(1), Conffiles)."""
    asked = ["dpkg-query", "-W", "-f", "${Conffiles}\n"]
    told = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout.decode()
    return {words[0]: words[1] for words in map(str.split, told.splitlines()) if len(words) > 1}


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
