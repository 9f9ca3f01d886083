"""The same on Debian 12, whose kernel, coturn and OpenSSH are older."""

from __future__ import annotations

import pytest

from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import play, ssh
from tests.vm.test_machine import KERNEL, SETTINGS, after_a_reboot

pytestmark = pytest.mark.xdist_group("12")


def test_it_has_a_kernel_of_its_own(machine12: LabSite) -> None:
    assert ssh(machine12, KERNEL).split() in (["kvm", "Y", "installed"], ["qemu", "Y", "installed"])


def test_everything_stands_after_a_real_reboot(machine12: LabSite) -> None:
    assert after_a_reboot(machine12) == ({}, list(SETTINGS.values()))


def test_a_boot_starts_each_service_once(machine12: LabSite) -> None:
    """Whoever takes the site's own CA into the trust stores at a boot has packages restart what has just started."""
    told = ssh(
        machine12,
        "journalctl -b -q --no-pager -o cat _PID=1 | grep -E '^(Started|Stopped) (jicofo|jitsi-videobridge2|prosody)'",
    )
    assert sorted(line.split(" - ")[0] for line in told.splitlines()) == [
        "Started jicofo.service",
        "Started jitsi-videobridge2.service",
        "Started prosody.service",
    ]


def test_a_second_run_changes_nothing(machine12: LabSite) -> None:
    assert play(machine12).changed == 0
