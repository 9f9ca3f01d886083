# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyed hashes of contents: who reads the manifest without the host's key cannot try out short secrets against it."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil

FOLDER = "/var/lib/ratssaal/manifest"
_read: dict[str, bytes] = {}


def _path() -> str:
    return os.path.join(FOLDER, "key")


def key() -> bytes | None:
    """Return the host's key, None where there is none."""
    if FOLDER not in _read:
        try:
            with open(_path(), "rb") as handle:
                _read[FOLDER] = handle.read()
        except FileNotFoundError:
            return None
    return _read[FOLDER]


def make_key() -> None:
    """Make the host's key where there is none; what was hashed with a lost one goes, for it cannot be compared any more."""
    if key():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER, 0o700)
    draft = _path() + ".new"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(os.urandom(32))
            handle.flush()
            os.fsync(handle.fileno())
        os.rename(draft, _path())
    except OSError:
        # The whole directory: there is nothing in it without a key.
        shutil.rmtree(FOLDER, ignore_errors=True)
        raise
    _read.pop(FOLDER, None)


def keyed(name: str, content: bytes) -> str:
    """Return the hash of a named thing's content as hexadecimal digits; equal contents of two names differ."""
    return hmac.new(key() or b"", b"%b\0%b" % (os.fsencode(name), content), hashlib.sha256).hexdigest()
