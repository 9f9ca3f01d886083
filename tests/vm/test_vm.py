"""A virtual machine with Debian's ordinary kernel: booted, converged, rebooted, verified, and put back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from orchestrator.evidence.results import Result
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios import machine_breaks
from tests.scenarios.breaks import Break, Series, failed
from tests.scenarios.conftest import load, play, ssh, throwaway


@pytest.fixture(scope="module")
def machine() -> Iterator[LabSite]:
    """A converged Debian 13 machine."""
    with throwaway("vm13", driver="vm", playbook="site.yml") as made:
        yield made


def _boot(machine: LabSite) -> str:
    return ssh(machine, "cat /proc/sys/kernel/random/boot_id", check=False)


def test_it_has_a_kernel_of_its_own(machine: LabSite) -> None:
    assert ssh(machine, "systemd-detect-virt") in ("kvm", "qemu")
    assert ssh(machine, "cat /sys/module/apparmor/parameters/enabled") == "Y"
    assert ssh(machine, "dpkg-query -W -f '${db:Status-Status}' linux-image-amd64") == "installed"


def test_everything_stands_after_a_real_reboot(machine: LabSite) -> None:
    """Firewall at boot, kernel settings, sandboxes, services: what a container cannot show is tested here, not waived."""
    before = _boot(machine)
    ssh(machine, "systemctl reboot", check=False)
    deadline = time.monotonic() + 300
    while _boot(machine) in ("", before):
        assert time.monotonic() < deadline, "the machine did not come back"
        time.sleep(2)
    ssh(machine, "systemctl is-system-running --wait", check=False)
    health = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8888/about/health"
    assert ssh(machine, f"for i in $(seq 120); do test $({health}) = 200 && break; sleep 1; done; {health}") == "200"
    report = verify(load(machine))
    assert failed(report) == {}
    results = {finding.control: finding.result for finding in report.findings}
    assert results["OS-03"] is Result.PASS, "the kernel that runs is the one that is installed"
    wanted = {"kernel.dmesg_restrict": "1", "net.core.rmem_max": "10485760", "net.core.netdev_max_backlog": "100000"}
    assert ssh(machine, f"sysctl -n {' '.join(wanted)}").split() == list(wanted.values())


def test_a_second_run_changes_nothing(machine: LabSite) -> None:
    assert play(machine).changed == 0


@pytest.mark.parametrize("row", machine_breaks.BREAKS, ids=lambda row: row.control)
def test_control_turns(machine: LabSite, row: Break) -> None:
    """AppArmor and swap, which no container has of its own; whole before, and whole after."""
    (whole,) = verify(load(machine), controls=(row.control,)).findings
    assert whole.result is row.repaired, whole
    Series(machine, quick=True).turn(row, controls=(row.control,))
    (again,) = verify(load(machine), controls=(row.control,)).findings
    assert again.result is row.repaired, again
