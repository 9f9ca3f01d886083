"""What a machine's disk was is kept, and comes back."""

from __future__ import annotations

import pytest

from orchestrator.lab.lab import Lab, LabSite
from tests.scenarios.conftest import ssh
from tests.vm.conftest import boot_id

pytestmark = pytest.mark.xdist_group("bare")


def test_a_revert_brings_back_what_a_snapshot_kept(bare13: LabSite) -> None:
    """The machine is shut down and booted for real each time; what was written after the snapshot is gone."""
    name, first = bare13.path.name, boot_id(bare13)
    ssh(bare13, "echo kept > /root/state")
    Lab().snapshot(name)
    second = boot_id(bare13)
    assert ssh(bare13, "cat /root/state") == "kept"
    ssh(bare13, "echo changed > /root/state; touch /root/more; sync")
    Lab().revert(name)
    assert ssh(bare13, "cat /root/state; ls /root/more 2>/dev/null; true") == "kept"
    third = boot_id(bare13)
    assert len({first, second, third}) == 3
