"""A signed flat apt repository of the stand-ins, in the shape of upstream's (`stable/`, no component)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import Problem, TaskFailed, UsageError
from orchestrator.lab.locks import locked
from orchestrator.lab.standins.packages import HERE, PACKAGES, RELEASES, build, compile_java

ORIGIN = "Ratssaal stand-ins"
CACHE = Path("/var/cache/ratssaal-lab/standins")
BUILD_PACKAGES = ("default-jdk-headless", "libtypesafe-config-java", "apt-utils", "gnupg", "dpkg-dev")


@dataclass(frozen=True, slots=True)
class StandinRepository:
    """Where the repository lies; `versions` maps package to the newest version in it."""

    path: Path
    key_file: Path
    versions: dict[str, str]


def build_repository(target: Path, releases: Sequence[str] = ("current",)) -> StandinRepository:
    """Put a signed repository with these releases at `target`, from the cache where nothing changed.

    Raises UsageError if a build program is missing, TaskFailed if a build step fails.
    """
    missing = [
        program for program in ("javac", "jar", "apt-ftparchive", "gpg", "dpkg-deb") if not shutil.which(program)
    ]
    if missing:
        hint = f"apt-get install --no-install-recommends {' '.join(BUILD_PACKAGES)}"
        raise UsageError(f"the stand-ins cannot be built without {', '.join(missing)}", hint=hint)
    cached = CACHE / f"{_fingerprint()}-{'-'.join(releases)}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / ".lock", lambda: None):
        if not cached.is_dir():
            _build_into(cached, releases)
    shutil.copytree(cached, target, dirs_exist_ok=True)
    versions = {package.name: RELEASES[releases[-1]][package.part] for package in PACKAGES}
    return StandinRepository(target, target / "key.asc", versions)


def _build_into(cached: Path, releases: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        draft = Path(folder) / "repository"
        try:
            _build(Path(folder), draft, releases)
        except subprocess.CalledProcessError as error:
            hint = f"if it speaks of room or memory, look with: df -h {CACHE}; free -m"
            raise TaskFailed([Problem(f"{error.cmd[0]} failed: {error.stderr[-600:]}", hint=hint)]) from error
        draft.rename(cached)


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted(HERE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(HERE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _build(work: Path, draft: Path, releases: Sequence[str]) -> None:
    suite = draft / "stable"
    suite.mkdir(parents=True)
    jars = compile_java(work)
    for release in releases:
        for package in PACKAGES:
            build(package, release, jars, work).rename(
                suite / f"{package.name}_{RELEASES[release][package.part]}_all.deb"
            )
    packages = _output(["apt-ftparchive", "packages", "stable/"], draft)
    (suite / "Packages").write_text(packages)
    options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in _release_fields().items()]
    (suite / "Release").write_text(_output(["apt-ftparchive", *options, "release", "stable/"], draft))
    # One key for all releases: an upgrade is signed by the key that the host has pinned, as upstream's are.
    sign(suite, draft / "key.asc", CACHE / "signing-key")


def _release_fields() -> dict[str, str]:
    return {"Origin": ORIGIN, "Label": ORIGIN, "Suite": "stable", "Codename": "stable", "Architectures": "all amd64"}


def sign(suite: Path, key_file: Path, home: Path) -> None:
    """Sign `suite`/Release with the key in `home`, made on first use; its public half goes to `key_file`."""
    fresh = not list(home.glob("private-keys-v1.d/*.key"))
    home.mkdir(mode=0o700, exist_ok=True)
    environment = os.environ | {"GNUPGHOME": str(home)}
    base = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    try:
        identity = f"{ORIGIN} <lab@localhost>"
        if fresh:
            _gpg([*base, "--quick-generate-key", identity, "rsa3072", "sign", "never"], environment)
        _gpg([*base, "--clearsign", "--output", str(suite / "InRelease"), str(suite / "Release")], environment)
        _gpg(
            [*base, "--detach-sign", "--armor", "--output", str(suite / "Release.gpg"), str(suite / "Release")],
            environment,
        )
        _gpg([*base, "--armor", "--output", str(key_file), "--export"], environment)
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=False, capture_output=True)


def _gpg(argv: list[str], environment: dict[str, str]) -> None:
    subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)


def _output(argv: list[str], folder: Path) -> str:
    return subprocess.run(argv, cwd=folder, check=True, capture_output=True, text=True).stdout
