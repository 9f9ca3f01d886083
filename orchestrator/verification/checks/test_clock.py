"""Whether the host's clock follows time servers, and which."""

from __future__ import annotations

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

SECONDS = 1.0
# chrony's answers as comma-separated values (chrony:doc/chronyc.adoc); -N tells servers by the names in its files.
_CHRONY = (
    "read -r kind 2>/dev/null </run/systemd/container; echo ${kind:-none}; "
    "chronyc -c tracking 2>&1; echo == next ==; chronyc -c -N sources 2>&1; true"
)
_SYNCHRONISED = ("Normal", "Insert second", "Delete second")


@pytest.mark.control("OS-10")
def test_time_sources(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """chrony's own word: synchronised, how far off, and with whom. A container has its machine's clock."""
    (shown,) = ask(host, _CHRONY)
    container, _, answers = text(shown).partition("\n")
    tracking, _, sources = answers.partition("== next ==\n")
    rows = tracking.strip().split(",")
    if len(rows) < 14:
        if container != "none":
            sheet.could_not_look(f"the clock belongs to the machine below this container ({container})")
        else:
            sheet.expect(False, f"chrony does not answer: {tracking.strip()[:80]}", "chrony runs")
        return
    state = rows[13]
    sheet.expect(state in _SYNCHRONISED, f"chrony says: {state}", "synchronised")
    if state in _SYNCHRONISED:
        offset = abs(float(rows[4]))
        sheet.expect(offset < SECONDS, f"{offset:.6f} s off", f"less than {SECONDS:.0f} s")
    _judge_sources(sources, subject, sheet)


def _judge_sources(shown: str, subject: Subject, sheet: Sheet) -> None:
    """Nobody but the declared servers is asked; where none is declared, any is right."""
    declared = [str(name) for name in subject.settings.get("base_ntp_servers") or ()]
    names = sorted({fields[2] for line in shown.splitlines() if len(fields := line.split(",")) > 2})
    for name in names:
        fits = name in declared or not declared
        sheet.expect(fits, f"time source {name}{'' if declared else ' (none declared)'}", f"only {', '.join(declared)}")
    sheet.expect(bool(names), f"{len(names)} time sources", "at least one")
