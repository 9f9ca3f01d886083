"""Where playbooks and roles lie (package data in a wheel, the repository's root in a checkout), and what our YAML files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """Return the directory that holds `playbooks/`, `roles/` and `ansible.cfg`."""
    packaged = _PACKAGE / "_content"
    return packaged if packaged.is_dir() else _PACKAGE.parent


def data(path: Path) -> Any:
    """Return what a YAML file of ours holds; by libyaml, which reads the catalogue in a tenth of the time."""
    import yaml

    return yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
