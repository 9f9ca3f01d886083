"""A root file system that lacks a security update is built anew; asked of a real apt and an archive of this test."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from orchestrator.lab import rootfs
from orchestrator.lab.freshness import lacking

PACKAGE = "Package: tst\nVersion: {version}\nArchitecture: all\nMaintainer: tst <tst@example.org>\n"
INSTALLED = PACKAGE.format(version="1.0-1") + "Status: install ok installed\nDescription: of this test\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    status = tmp_path / "root/var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_text(INSTALLED)
    return tmp_path / "root"


def _archive(folder: Path, suite: str, version: str, *, needs: str = "") -> str:
    """Make an archive with one package, and with another one that it needs; return its deb822 paragraph."""
    packages = folder / "dists" / suite / "main/binary-amd64/Packages"
    packages.parent.mkdir(parents=True)
    deb = f"Filename: tst.deb\nSize: 1\nSHA256: {'0' * 64}\nDescription: of this test\n"
    depends = f"Depends: {needs}\n" if needs else ""
    more = PACKAGE.format(version="1").replace("tst\n", f"{needs}\n", 1) + deb if needs else ""
    packages.write_text(f"{PACKAGE.format(version=version)}{depends}{deb}\n{more}")
    digest = hashlib.sha256(packages.read_bytes()).hexdigest()
    listed = f" {digest} {packages.stat().st_size} main/binary-amd64/Packages\n"
    release = f"Suite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\nDate: Sat, 28 Nov 2026 00:00:00 UTC\n"
    (folder / "dists" / suite / "Release").write_text(f"{release}SHA256:\n{listed}")
    return f"Types: deb\nURIs: file:{folder}\nSuites: {suite}\nComponents: main\nTrusted: yes\n"


def test_a_newer_version_in_the_security_archive_is_lacking(root: Path, tmp_path: Path) -> None:
    assert lacking(root, _archive(tmp_path / "archive", "trixie-security", "1.0-1+deb13u1")) == ["tst"]


def test_what_needs_a_new_package_is_lacking_too(root: Path, tmp_path: Path) -> None:
    """As each new kernel of Debian does."""
    assert lacking(root, _archive(tmp_path / "archive", "trixie-security", "1.1-1", needs="tst-more")) == ["tst"]


def test_nothing_is_lacking_where_it_has_nothing_newer(root: Path, tmp_path: Path) -> None:
    others = _archive(tmp_path / "main", "trixie", "2.0-1"), _archive(tmp_path / "updates", "trixie-updates", "2.0-1")
    assert lacking(root, "\n".join(others)) == []
    assert lacking(root, "\n".join([*others, _archive(tmp_path / "archive", "trixie-security", "1.0-1")])) == []


def test_an_archive_that_does_not_answer_is_no_reason(root: Path, tmp_path: Path) -> None:
    sources = _archive(tmp_path / "archive", "trixie-security", "1.0-1+deb13u1")
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    assert lacking(root, sources) == []


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(rootfs, "CACHE", tmp_path)
    return tmp_path


def _made(cache: Path, hours_ago: int) -> Path:
    made = cache / f"debian13-recipe-{int(time.time()) // 3600 - hours_ago}"
    made.mkdir()
    return made


def test_the_newest_root_file_system_is_used_for_a_day(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfs, "lacking", lambda *_: [])
    assert rootfs._newest("debian13-recipe", "") == (None, "once a day")
    old = _made(cache, 24)
    assert rootfs._newest("debian13-recipe", "") == (old, "once a day")
    _made(cache, 23)
    new = _made(cache, 2)
    assert rootfs._newest("debian13-recipe", "") == (new, "")


def test_it_is_built_anew_when_it_lacks_an_update(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked about from time to time; what was built within this hour is as new as it can be."""
    asked: list[Path] = []

    def lacks(root: Path, _: str) -> list[str]:
        asked.append(root)
        return ["libpam0g", "libpam-modules"]

    monkeypatch.setattr(rootfs, "lacking", lacks)
    known = _made(cache, 2)
    assert rootfs._newest("debian13-recipe", "") == (known, "security updates of libpam0g, libpam-modules")
    looked = cache / f".{known.name}.looked"
    looked.touch()
    assert rootfs._newest("debian13-recipe", "") == (known, "")
    past = time.time() - rootfs.LOOKED_AT_SECONDS - 1
    os.utime(looked, (past, past))
    assert rootfs._newest("debian13-recipe", "")[1]
    just = _made(cache, 0)
    assert rootfs._newest("debian13-recipe", "") == (just, "")
    assert asked == [known, known, just]
