"""Root file systems of lab hosts: what a plain Debian server has, built once and cached by the recipe's hash."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import Problem, TaskFailed
from orchestrator.lab.aptsources import CODENAMES, apt_settings, debian_sources
from orchestrator.lab.freshness import lacking
from orchestrator.lab.locks import Busy, locked

CACHE = Path("/var/cache/ratssaal-lab")
SUDO_USER = "operator"
MARKER = "etc/ratssaal/lab-host"

# Updates come into the root file system by building it anew: once a day, and when it lacks a security update.
MAXIMUM_AGE_HOURS = 24
LOOKED_AT_SECONDS = 600

# A server as Debian's installer leaves it with "SSH server" ticked, less the kernel. What Ratssaal needs beyond that is
# installed by its roles, as in production.
_PACKAGES = """
adduser apt-utils bash-completion ca-certificates cron curl dbus iproute2 iputils-ping less libpam-systemd locales
logrotate nano netbase openssh-client openssh-server openssl procps python3 sudo systemd systemd-sysv
systemd-timesyncd tzdata udev vim-tiny
"""
# What a virtual machine has on top: Debian's ordinary kernel and what comes with it.
_KERNEL = "linux-image-amd64 initramfs-tools apparmor zstd"

# Debian has a group `operator` from the start (base-passwd), so the user joins it instead of getting one of that name.
_CUSTOMIZE = (
    f'mkdir -p "$1/etc/ratssaal" && echo "made by ratssaal lab" > "$1/{MARKER}"',
    'rm -f "$1"/etc/ssh/ssh_host_*',
    f'chroot "$1" useradd --create-home --shell /bin/bash --gid operator --groups sudo {SUDO_USER}',
    f'echo "{SUDO_USER} ALL=(ALL) NOPASSWD:ALL" > "$1/etc/sudoers.d/{SUDO_USER}"',
    f'chmod 0440 "$1/etc/sudoers.d/{SUDO_USER}"',
    'echo "LANG=C.UTF-8" > "$1/etc/default/locale"',
    'chroot "$1" systemctl enable systemd-networkd.service ssh.service',
    # mmdebstrap's own traces and the identity that each host makes for itself
    'rm -f "$1/etc/resolv.conf" "$1/etc/hostname" "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1"/etc/apt/sources.list.d/*',
    ': > "$1/etc/apt/sources.list" && : > "$1/etc/machine-id"',
)


def root_file_system(release: int, say: Callable[[str], None], *, kernel: bool = False) -> Path:
    """Return the directory of the cached root file system of Debian `release`, building it if need be (about 40 s).

    It is built anew once a day, and when the security archive has something newer for it. With `kernel` it is one that boots by
    itself.

    Raises TaskFailed with the tail of mmdebstrap's output, or when the machine has no Debian package source.
    """
    try:
        sources = debian_sources(release)
    except LookupError as error:
        hint = "the lab takes its sources from /etc/apt/sources.list(.d): give this machine a Debian source"
        raise TaskFailed([Problem(str(error), hint=hint)]) from error
    settings = apt_settings()
    CACHE.mkdir(parents=True, exist_ok=True)
    name = _name(release, kernel)
    with locked(CACHE / f".{name}.lock", lambda: say(f"waiting for Debian {release}, which is being built")):
        _clear_unfinished(name)
        recipe = _recipe(release, sources, settings, kernel)
        known, why = _newest(f"{name}-{recipe}", sources)
        if known and not why:
            known.touch()
            return known
        target = CACHE / f"{name}-{recipe}-{int(time.time()) // 3600}"
        what = " with a kernel" if kernel else ""
        say(f"building the root file system of Debian {release}{what} ({why}, about a minute)")
        _build(release, target, sources, settings, kernel)
        _clear_outdated(name, target)
    return target


def _newest(name: str, sources: str) -> tuple[Path | None, str]:
    """Return the newest root file system of a recipe, and why another one has to be built, "" where it need not."""
    hour = int(time.time()) // 3600
    ages = {hour - int(path.name.rpartition("-")[2]): path for path in CACHE.glob(f"{name}-*")}
    known = ages[min(ages)] if ages else None
    if known is None or min(ages) >= MAXIMUM_AGE_HOURS:
        return known, "once a day"
    looked = CACHE / f".{known.name}.looked"
    if looked.exists() and time.time() - looked.stat().st_mtime < LOOKED_AT_SECONDS:
        return known, ""
    missed = lacking(known, sources)
    if missed and min(ages) > 0:
        return known, f"security updates of {', '.join(missed)}"
    looked.touch()
    return known, ""


def _name(release: int, kernel: bool) -> str:
    return f"debian{release}{'vm' if kernel else ''}"


def _recipe(release: int, sources: str, settings: str, kernel: bool) -> str:
    argv = mmdebstrap_argv(release, Path("target"), Path("sources"), Path("settings"), kernel=kernel)
    return hashlib.sha256("\0".join([sources, settings, *argv]).encode()).hexdigest()[:12]


def clear_unfinished() -> None:
    """Remove what a killed build left in the cache; builds that still run are left alone."""
    for name in (_name(release, kernel) for release in CODENAMES for kernel in (False, True)):
        lock = CACHE / f".{name}.lock"
        if lock.exists():
            with suppress(Busy), locked(lock):
                _clear_unfinished(name)


def _build(release: int, target: Path, sources: str, settings: str, kernel: bool) -> None:
    unfinished = CACHE / f".{target.name}.unfinished"
    recipe_files = {kind: CACHE / f".{target.name}.{kind}" for kind in ("sources", "settings")}
    recipe_files["sources"].write_text(sources)
    recipe_files["settings"].write_text(settings)
    done = subprocess.run(
        [*_DIE_WITH_PARENT, *mmdebstrap_argv(release, unfinished, **recipe_files, kernel=kernel)],
        capture_output=True,
        text=True,
        check=False,
    )
    for path in recipe_files.values():
        path.unlink()
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        tail = "\n".join(done.stderr.splitlines()[-5:])
        raise TaskFailed([Problem(f"mmdebstrap failed: {tail}", hint="does `apt-get update` work on this machine?")])
    (unfinished / "etc/apt/sources.list.d/debian.sources").write_text(sources)
    unfinished.chmod(0o755)
    unfinished.rename(target)
    target.touch()


# A PID namespace whose first process dies with us: a killed `ratssaal lab up` leaves no mmdebstrap behind.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")


# Every run of apt reads the translations of all descriptions, and nobody reads them on a lab host.
APT_LANGUAGES = 'Acquire::Languages "none";'


def mmdebstrap_argv(release: int, target: Path, sources: Path, settings: Path, *, kernel: bool = False) -> list[str]:
    """Return the command line that builds the root file system (pure).

    The downloaded indexes stay in it, so that the first `apt-get update` of a host has little to fetch.
    """
    packages = [*_PACKAGES.split(), *(_KERNEL.split() if kernel else [])]
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    argv += ["--skip=cleanup/apt/lists", f"--aptopt={settings}", f"--aptopt={APT_LANGUAGES}"]
    argv += [f"--customize-hook={hook}" for hook in _CUSTOMIZE]
    return [*argv, CODENAMES[release], str(target), str(sources)]


def _clear_unfinished(name: str) -> None:
    for path in CACHE.glob(f".{name}-*.unfinished"):
        shutil.rmtree(path, ignore_errors=True)


def _clear_outdated(name: str, current: Path) -> None:
    """Remove older root file systems that no host has as its lower layer and no lab asked for today."""
    mounts = Path("/proc/self/mounts").read_text()
    for path in CACHE.glob(f"{name}-*"):
        unused = f"{path}," not in mounts and path.stat().st_mtime < time.time() - 86400
        if path != current and unused:
            shutil.rmtree(path, ignore_errors=True)
            (CACHE / f".{path.name}.looked").unlink(missing_ok=True)
