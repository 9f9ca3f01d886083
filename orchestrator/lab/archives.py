"""Downloaded packages, shared between hosts by links: each host has a directory (and lock) of its own for apt."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from orchestrator.lab.rootfs import CACHE

SHARED = CACHE / "archives"
KEEP_DAYS = 60


def fill(archives: Path) -> None:
    """Give a host every package that earlier hosts downloaded."""
    archives.mkdir(parents=True, exist_ok=True)
    for package in SHARED.glob("*.deb"):
        _link(package, archives / package.name)


def keep(archives: Path) -> None:
    """Keep what a host downloaded for the next one; unfinished downloads lie in apt's `partial` and are left."""
    SHARED.mkdir(parents=True, exist_ok=True)
    for package in archives.glob("*.deb"):
        _link(package, SHARED / package.name)


def prune(now: float | None = None) -> None:
    """Remove packages that no host was given for KEEP_DAYS: linking and unlinking sets the time of the last change."""
    oldest = (time.time() if now is None else now) - KEEP_DAYS * 86400
    for package in SHARED.glob("*.deb"):
        with suppress(FileNotFoundError):
            if package.stat().st_ctime < oldest:
                package.unlink()


def _link(source: Path, target: Path) -> None:
    with suppress(FileExistsError, FileNotFoundError):
        try:
            os.link(source, target)
        except OSError as error:
            if isinstance(error, FileExistsError | FileNotFoundError):
                raise
            # the two directories lie on different file systems
            unfinished = target.with_suffix(".new")
            shutil.copyfile(source, unfinished)
            unfinished.rename(target)
