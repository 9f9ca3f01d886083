"""Whoever called by sudo: what is made for them is to be theirs, not root's."""

from __future__ import annotations

import os
from pathlib import Path


def give_to_caller(*paths: Path) -> None:
    """Let files and directories belong to the person who called by sudo; a link itself, never what it leads to.

    Does nothing where nobody did.
    """
    user, group = int(os.environ.get("SUDO_UID", "0")), int(os.environ.get("SUDO_GID", "0"))
    if user:
        for path in paths:
            os.chown(path, user, group, follow_symlinks=False)
