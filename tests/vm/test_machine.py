"""One virtual machine with Debian's ordinary kernel: booted, converged, rebooted, verified."""

from __future__ import annotations

from orchestrator.evidence.results import Result
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import failed
from tests.scenarios.conftest import load, play, ssh
from tests.vm.conftest import reboot

# What a container cannot show: its kernel is the machine's below it.
KERNELS = ("NET-10", "OS-03", "OS-06", "OS-10")


def kernel_is_its_own(machine: LabSite) -> None:
    """The machine runs the kernel that its package brought, with AppArmor."""
    assert ssh(machine, "systemd-detect-virt") in ("kvm", "qemu")
    assert ssh(machine, "cat /sys/module/apparmor/parameters/enabled") == "Y"
    assert ssh(machine, "dpkg-query -W -f '${db:Status-Status}' linux-image-amd64") == "installed"


def everything_stands(machine: LabSite) -> None:
    """After a reboot: firewall, kernel settings, sandboxes, services. What is waived in a container is tested here."""
    reboot(machine)
    report = verify(load(machine))
    assert failed(report) == {}
    results = {finding.control: finding for finding in report.findings}
    assert {control: results[control].result for control in KERNELS} == dict.fromkeys(KERNELS, Result.PASS), results
    wanted = {"kernel.dmesg_restrict": "1", "net.core.rmem_max": "10485760", "net.core.netdev_max_backlog": "100000"}
    assert ssh(machine, f"sysctl -n {' '.join(wanted)}").split() == list(wanted.values())


def test_it_has_a_kernel_of_its_own(machine13: LabSite) -> None:
    kernel_is_its_own(machine13)


def test_everything_stands_after_a_real_reboot(machine13: LabSite) -> None:
    everything_stands(machine13)


def test_a_second_run_changes_nothing(machine13: LabSite) -> None:
    assert play(machine13).changed == 0
