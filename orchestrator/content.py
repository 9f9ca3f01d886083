"""Where playbooks and roles lie: package data in a wheel, the repository's root in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """Return the directory that holds `playbooks/`, `roles/` and `ansible.cfg`."""
    packaged = _PACKAGE / "_content"
    return packaged if packaged.is_dir() else _PACKAGE.parent
