"""Controls that nothing can be said of yet, and that therefore never count as passed."""

from __future__ import annotations

import pytest
import testinfra.host

from orchestrator.verification.sheet import NotTested, Sheet


@pytest.mark.control("BCK-01")
def test_backup(host: testinfra.host.Host, sheet: Sheet) -> None:
    """There is nothing to look at: no command of this version makes a backup."""
    raise NotTested(
        "this version of Ratssaal makes no backups, so it cannot tell whether another tool's are complete and younger than a day"
    )


@pytest.mark.control("CHG-02")
def test_evidence(host: testinfra.host.Host, sheet: Sheet) -> None:
    """There is nothing to look at: reports are written, but not signed or chained."""
    raise NotTested(
        "this version of Ratssaal neither signs nor chains its reports, and keeps no register of declarations, so nothing proves "
        "that the evidence is complete"
    )
