"""Lab hosts for scenario tests: real Debian with its own systemd, sshd and address. They need root and say so."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from orchestrator.lab.lab import Lab, LabHost, LabSite

OnHost = Callable[..., str]


@pytest.fixture(scope="module")
def lab_site(request: pytest.FixtureRequest) -> Iterator[LabSite]:
    """A complete site with one Debian 13 host and the stand-ins' repository, gone after the module.

    Another release: `@pytest.mark.parametrize("lab_site", [12], indirect=True)`.
    """
    debian = int(getattr(request, "param", 13))
    name, driver = f"s{debian}p{os.getpid()}", Lab()
    try:
        yield driver.up(name, debian=debian)
    finally:
        driver.down(name)


@pytest.fixture(scope="module")
def lab_host(lab_site: LabSite) -> LabHost:
    """The one host of `lab_site`."""
    return lab_site.hosts[0]


def ssh(site: LabSite, command: str, *, user: str = "root", address: str = "", check: bool = True) -> str:
    """Run a shell command on the lab's first host by OpenSSH with its pinned key and return what it printed."""
    argv = [
        "ssh",
        "-i",
        str(site.key_file),
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=10",
    ]
    argv += ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={site.known_hosts}"]
    target = f"{user}@{address or site.hosts[0].address}"
    done = subprocess.run([*argv, target, command], capture_output=True, text=True, check=False, timeout=300)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()
