# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a repository's key file on the control node before anything is sent."""

from __future__ import annotations

import os
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

_ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"


def pinned_key(name: str, fingerprint: str, inventory_directory: str) -> dict[str, Any]:
    """Return `path` and `armoured` of the key file; raises AnsibleFilterError if it is missing, no key, or not the pinned one."""
    path = Path(inventory_directory) / os.path.expanduser(name)
    if not path.is_file():
        raise AnsibleFilterError(
            f"vendor_repository_key: no file {path} on the control node. Hint: fetch "
            "https://download.jitsi.org/jitsi-key.gpg.key on a machine that you trust, compare it with a second source, and "
            "put it there; `ratssaal preflight --accept-keys` does that"
        )
    content = path.read_bytes()
    armoured = _ARMOUR in content
    # An OpenPGP packet's first byte has its highest bit set (RFC 9580, section 4.2).
    if not armoured and not (content and content[0] & 0x80):
        raise AnsibleFilterError(f"vendor_repository_key: {path} is no OpenPGP public key")
    wanted = fingerprint.replace(" ", "").upper()
    # apt would trust each of several keys.
    if wanted and _fingerprints(path) != [wanted]:
        raise AnsibleFilterError(
            f"vendor_repository_key: {path} does not have the fingerprint {wanted}, or other keys too"
        )
    return {"path": str(path), "armoured": armoured}


def _fingerprints(path: Path) -> list[str]:
    argv = ["gpg", "--batch", "--with-colons", "--show-keys", str(path)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise AnsibleFilterError(
            "gpg is needed on the control node to compare a fingerprint: apt-get install gnupg"
        ) from error
    rows = [line.split(":") for line in done.stdout.splitlines()]
    return [row[9] for before, row in pairwise(rows) if before[0] == "pub" and row[0] == "fpr"]


class FilterModule:
    """Names of the filters as the roles use them."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"ratssaal_pinned_key": pinned_key}
