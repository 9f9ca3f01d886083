"""What media and many participants need of the system, so that no hardening takes it away."""

from __future__ import annotations

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.kernel import look
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

# jitsi-videobridge:config/20-jvb-udp-buffers.conf
BUFFERS = {"net/core/rmem_max": 10485760, "net/core/netdev_max_backlog": 100000}
# jitsi/handbook:docs/devops-guide/devops-guide-quickstart.md, for more than 100 participants.
LIMIT = 65000
# A JVM's threads count as tasks; the other services have a handful.
JAVA = ("jicofo", "jitsi-videobridge2")


@pytest.mark.control("NET-10")
def test_buffers(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The bridge's own settings are still in effect."""
    if not subject.bridge:
        raise NotApplicable("no bridge runs here")
    kernel = look(host)
    for name, least in BUFFERS.items():
        kernel.note(name, _number(kernel.values.get(name)) >= least, f"at least {least}", sheet)
        kept = kernel.next_value(name)
        seen = f"{name.replace('/', '.')} is {kept or 'not named'} in the files of sysctl.d"
        sheet.expect(_number(kept) >= least, seen, f"at least {least}")


@pytest.mark.control("NET-10")
def test_limits(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Open files of every service, threads of those in Java."""
    units = subject.units()
    names = " ".join(f"{unit}.service" for unit in units)
    (shown,) = ask(host, f"systemctl show -p LimitNOFILESoft -p TasksMax {names}")
    for unit, block in zip(units, text(shown).strip().split("\n\n"), strict=True):
        rows = dict(line.partition("=")[::2] for line in block.splitlines())
        wanted = ["LimitNOFILESoft", *(["TasksMax"] if unit in JAVA else [])]
        for name in wanted:
            value = rows.get(name, "not there")
            sheet.expect(_number(value) >= LIMIT, f"{unit}: {name} {value}", f"at least {LIMIT}")


def _number(text_: str | None) -> float:
    """Return a limit as a number; systemd writes none as infinity."""
    if text_ == "infinity":
        return float("inf")
    return int(text_) if text_ and text_.isdigit() else -1
