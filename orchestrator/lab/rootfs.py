"""Root file systems of lab hosts: what a plain Debian server has, built once and cached by the recipe's hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import TaskFailed, Problem
from orchestrator.lab.aptsources import CODENAMES, debian_sources

CACHE = Path("/var/cache/ratssaal-lab")

# A server as Debian's installer leaves it with "SSH server" ticked, less the kernel. What Ratssaal needs beyond that is
# installed by its roles, as in production.
PACKAGES = (
    "adduser apt-utils bash-completion ca-certificates cron curl dbus debconf-utils gpgv iproute2 iputils-ping less locales "
    "logrotate lsb-release nano netbase openssh-server openssl procps python3 python3-apt sudo systemd systemd-resolved "
    "systemd-sysv systemd-timesyncd tzdata udev vim-tiny"
).split()

_CUSTOMIZE = (
    "mkdir -p $1/etc/ratssaal && echo 'made by ratssaal lab' > $1/etc/ratssaal/lab-host",
    "rm -f $1/etc/ssh/ssh_host_*",
    "chroot $1 useradd --create-home --shell /bin/bash sysadmin",
    "echo 'sysadmin ALL=(ALL) NOPASSWD:ALL' > $1/etc/sudoers.d/sysadmin && chmod 0440 $1/etc/sudoers.d/sysadmin",
    "chroot $1 systemctl enable systemd-networkd ssh",
    "chroot $1 systemctl disable systemd-resolved systemd-networkd-wait-online || true",
    "rm -f $1/etc/resolv.conf $1/etc/hostname $1/etc/machine-id && touch $1/etc/machine-id",
    "rm -rf $1/var/lib/apt/lists && mkdir -p $1/var/lib/apt/lists/partial",
)


def root_file_system(release: int, say: Callable[[str], None]) -> Path:
    """Return the directory of the cached root file system of Debian `release`, building it if need be (about 30 s).

    Raises TaskFailed with the tail of mmdebstrap's output.
    """
    sources = debian_sources(release)
    recipe = hashlib.sha256("\0".join([sources, *PACKAGES, *_CUSTOMIZE]).encode()).hexdigest()[:12]
    target = CACHE / f"debian{release}-{recipe}"
    if target.is_dir():
        return target
    say(f"building the root file system of Debian {release}")
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = CACHE / f".{target.name}.{os.getpid()}"
    source_list = CACHE / f".{target.name}.list"
    source_list.write_text(sources)
    packages = [*PACKAGES, *(["openssh-client"])]
    argv = ["mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}"]
    argv += [f"--customize-hook={hook}" for hook in _CUSTOMIZE]
    argv += [CODENAMES[release], str(unfinished), str(source_list)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    source_list.unlink()
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        tail = "\n".join(done.stderr.splitlines()[-5:])
        raise TaskFailed([Problem(f"mmdebstrap failed: {tail}", hint="does `apt-get update` work on this machine?")])
    unfinished.chmod(0o755)
    unfinished.rename(target)
    return target
