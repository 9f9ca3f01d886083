"""The same on Debian 12, whose kernel, coturn and OpenSSH are older."""

from __future__ import annotations

from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import play
from tests.vm.test_machine import everything_stands, kernel_is_its_own


def test_it_has_a_kernel_of_its_own(machine12: LabSite) -> None:
    kernel_is_its_own(machine12)


def test_everything_stands_after_a_real_reboot(machine12: LabSite) -> None:
    everything_stands(machine12)


def test_a_second_run_changes_nothing(machine12: LabSite) -> None:
    assert play(machine12).changed == 0
