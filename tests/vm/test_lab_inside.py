"""The lab on an operator's machine: Debian 13 with systemd as its first process and control groups of version 2."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import ROOT, ssh, throwaway

# Of debian-packages.txt what the lab itself needs; the rest is for stand-ins, browsers, machines and tests.
PACKAGES = "gnupg iproute2 iputils-ping mmdebstrap nftables nmap procps python3-venv systemd-container"
TOOL = "/root/venv/bin/ratssaal"


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
    """A bare Debian 13 machine with the tool installed."""
    with throwaway("vmop", driver="vm") as machine:
        install = "DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends"
        ssh(machine, f"apt-get -qq update && {install} {PACKAGES} >/dev/null 2>&1")
        copy = ["scp", "-q", "-r", "-i", str(machine.key_file), "-o", f"UserKnownHostsFile={machine.known_hosts}"]
        subprocess.run([*copy, str(wheels), f"root@{machine.hosts[0].address}:/root/wheels"], check=True, timeout=300)
        ssh(machine, "python3 -m venv /root/venv")
        pip = "/root/venv/bin/pip install --quiet --no-index --find-links /root/wheels"
        ssh(machine, f"nohup {pip} ratssaal >/root/pip.log 2>&1; cat /root/pip.log")
        yield machine


def _long(machine: LabSite, command: str) -> str:
    """Run what may take minutes under emulation; return its exit code and what it printed."""
    ssh(machine, f"rm -f /root/code; systemd-run -q sh -c '{command} >/root/out 2>&1; echo $? >/root/code'")
    for _ in range(8):
        if code := ssh(machine, "for i in $(seq 120); do cat /root/code 2>/dev/null && break; sleep 1; done"):
            return f"{code}\n{ssh(machine, 'cat /root/out')}"
    pytest.fail(ssh(machine, "tail -n 20 /root/out"))


def test_a_lab_comes_up_and_leaves_nothing(operator: LabSite) -> None:
    assert ssh(operator, "cat /proc/1/comm; stat -fc %T /sys/fs/cgroup").split() == ["systemd", "cgroup2fs"]
    before = ssh(
        operator, "ip -br link | cut -d' ' -f1; nft list tables; findmnt -rno TARGET; ls /run/systemd/transient"
    )
    up = _long(operator, f"{TOOL} lab up town --without-repository")
    assert up.startswith("0\n"), up
    (host,) = json.loads(ssh(operator, f"{TOOL} lab ls --json"))["hosts"]
    assert host["running"]
    assert ssh(operator, f"{TOOL} lab ssh town systemctl is-system-running") in ("running", "degraded")
    again = _long(operator, f"{TOOL} lab up town --without-repository")
    assert again.startswith("0\n"), again
    down = _long(operator, f"{TOOL} lab down town")
    assert down.startswith("0\n"), down
    left = "ip -br link | cut -d' ' -f1; nft list tables; findmnt -rno TARGET; ls /run/systemd/transient"
    assert ssh(operator, left) == before
    assert ssh(operator, "pgrep -c systemd-nspawn || true") == "0"
