"""Whether the host still is what the inventory says."""

from __future__ import annotations

from typing import Any

import pytest
import testinfra.host

from orchestrator.verification.sheet import NotTested, Sheet


@pytest.mark.control("CHG-01")
def test_nothing_to_converge(host: testinfra.host.Host, converge: dict[str, Any] | None, sheet: Sheet) -> None:
    """A converge in check mode would change nothing."""
    del host  # it was asked by Ansible
    if converge is None:
        raise NotTested("it takes a converge in check mode: ratssaal verify --converge")
    if converge["failed"]:
        raise RuntimeError(f"the converge in check mode failed: {converge['failed']}")
    for task in converge["tasks"]:
        sheet.expect(False, f"a converge would change: {task}", "nothing to change")
    sheet.expect(not converge["tasks"], "a converge in check mode would change nothing", "")
