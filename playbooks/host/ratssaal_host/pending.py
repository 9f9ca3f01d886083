# SPDX-License-Identifier: GPL-3.0-or-later
"""Which units wait for a restart or a reload: the markers outlive a run that is killed."""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = "/var/lib/ratssaal/pending"


def mark(kind: str, units: Iterable[str]) -> None:
    """Note that `units` need a "restart" or "reload", before the file that needs it changes.

    A run that is killed in between leaves the note, and the next run's step with units acts on it.
    """
    folder = os.path.join(FOLDER, kind)
    for unit in units:
        os.makedirs(folder, 0o755, exist_ok=True)
        with open(os.path.join(folder, unit), "w") as handle:
            handle.flush()
            os.fsync(handle.fileno())


def marked(kind: str) -> list[str]:
    """Return the units that need a "restart" or "reload"."""
    try:
        return sorted(os.listdir(os.path.join(FOLDER, kind)))
    except FileNotFoundError:
        return []


def clear(kind: str, unit: str) -> None:
    """Forget that `unit` needs a "restart" or "reload"."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(FOLDER, kind, unit))
