"""One virtual machine with Debian's ordinary kernel: booted, converged, rebooted, verified."""

from __future__ import annotations

import pytest

from orchestrator.evidence.results import Result
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import unexpected
from tests.scenarios.conftest import load, play, ssh
from tests.vm.conftest import reboot

pytestmark = pytest.mark.xdist_group("13")

KERNEL = (
    "systemd-detect-virt; cat /sys/module/apparmor/parameters/enabled; "
    "dpkg-query -W -f '${db:Status-Status}' linux-image-amd64"
)
SETTINGS = {
    "kernel.dmesg_restrict": "1",
    "kernel.randomize_va_space": "2",
    "net.core.rmem_max": "10485760",
    "net.core.netdev_max_backlog": "100000",
}


def after_a_reboot(machine: LabSite) -> tuple[dict[str, tuple[Result, str, str]], list[str]]:
    """Reboot, look at everything, and return what is not as on a whole machine, and the kernel's settings."""
    reboot(machine)
    report = verify(load(machine))
    return unexpected(report, own_kernel=True), ssh(machine, f"sysctl -n {' '.join(SETTINGS)}").split()


def test_it_has_a_kernel_of_its_own(machine13: LabSite) -> None:
    assert ssh(machine13, KERNEL).split() in (["kvm", "Y", "installed"], ["qemu", "Y", "installed"])


def test_everything_stands_after_a_real_reboot(machine13: LabSite) -> None:
    """Firewall, kernel settings, sandboxes, services: what is waived in a container is tested here."""
    assert after_a_reboot(machine13) == ({}, list(SETTINGS.values()))


def test_a_second_run_changes_nothing(machine13: LabSite) -> None:
    assert play(machine13).changed == 0
