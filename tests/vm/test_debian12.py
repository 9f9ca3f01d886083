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


def test_a_second_run_changes_nothing(machine12: LabSite) -> None:
    assert play(machine12).changed == 0
