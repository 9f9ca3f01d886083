"""The lab on an operator's machine: Debian 13 with systemd as its first process and control groups of version 2."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import ROOT, ssh, throwaway

# A machine of its own, so that it is at work beside another one until the end.
pytestmark = pytest.mark.xdist_group("inside")

# Of debian-packages.txt what the lab itself needs; the rest is for stand-ins, browsers, machines and tests.
PACKAGES = "gnupg iproute2 iputils-ping mmdebstrap nftables nmap procps python3-venv systemd-container"
TOOL = "/root/venv/bin/ratssaal"
# The root file system of the lab inside is built under emulation.
LONGEST_SECONDS = 3600


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel and all that it depends on, for the machine's Python."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (ours,) = folder.glob("*.whl")
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), "--only-binary=:all:"]
    fetch += ["--python-version", "3.13", "--constraint", str(ROOT / "constraints.txt"), str(ours)]
    subprocess.run(fetch, check=True, timeout=600)
    return folder


@pytest.fixture(scope="module")
def operator(wheels: Path) -> Iterator[LabSite]:
    """A bare machine with the tool installed."""
    with throwaway("vminside", driver="vm") as made:
        install = "DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends"
        _long(made, f"apt-get -qq update && {install} {PACKAGES}")
        copy = ["scp", "-q", "-r", "-i", str(made.key_file), "-o", f"UserKnownHostsFile={made.known_hosts}"]
        subprocess.run([*copy, str(wheels), f"root@{made.hosts[0].address}:/root/wheels"], check=True, timeout=600)
        pip = "/root/venv/bin/pip install --quiet --no-index --find-links /root/wheels"
        _long(made, f"python3 -m venv /root/venv && {pip} ratssaal")
        yield made


def _long(machine: LabSite, command: str) -> None:
    """Run what may take minutes under emulation beside the session, and see that it succeeds."""
    ssh(machine, f"rm -f /root/code; systemd-run -q sh -c '{{ {command}; }} >/root/out 2>&1; echo $? >/root/code'")
    deadline = time.monotonic() + LONGEST_SECONDS
    while not (code := ssh(machine, "for i in $(seq 60); do cat /root/code 2>/dev/null && break; sleep 1; done")):
        assert time.monotonic() < deadline, ssh(machine, "tail -n 20 /root/out")
    assert code == "0", ssh(machine, "tail -n 20 /root/out")


def _things(machine: LabSite) -> list[str]:
    """Return what a lab could leave; each log-in by SSH makes a session of its own, so that is left out."""
    looks = ("ip -br link | cut -d' ' -f1", "nft list tables", "findmnt -rno TARGET", "ls /run/systemd/transient")
    shown = ssh(machine, "; ".join((*looks, "ls -d /run/netns/* /etc/netns 2>/dev/null", "true")))
    return sorted(line for line in shown.splitlines() if not line.startswith("session-"))


def test_a_lab_comes_up_and_leaves_nothing(operator: LabSite) -> None:
    assert ssh(operator, "cat /proc/1/comm; stat -fc %T /sys/fs/cgroup").split() == ["systemd", "cgroup2fs"]
    before = _things(operator)
    _long(operator, f"{TOOL} lab up town --without-repository")
    (host,) = json.loads(ssh(operator, f"{TOOL} lab ls --json"))["hosts"]
    assert host["running"]
    assert ssh(operator, f"{TOOL} lab ssh town systemctl is-system-running", check=False) in ("running", "degraded")
    assert set(_things(operator)) > set(before), "what is looked at shows a lab that is up"
    _long(operator, f"{TOOL} lab up town --without-repository")
    _long(operator, f"{TOOL} lab down town")
    assert _things(operator) == before
    assert ssh(operator, "pgrep -c systemd-nspawn || true") == "0"
