"""Whether somebody notices that programs and settings become other ones."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import Sheet

# A night may be missed by a reboot.
HOURS = 48
# The first look begins a second after the timer does, and takes two; it gives way to all others, so it may take longer.
# Its note (begun) is the last that it writes.
_BEGUN = "/var/lib/ratssaal/integrity/begun"
_FIRST_LOOK = (
    f"end=$(($(date +%s) + 20)); while test $(date +%s) -lt $end && ! test -e {_BEGUN}"
    " && systemctl -q is-active ratssaal-integrity.timer && ! systemctl -q is-failed ratssaal-integrity.service"
    " && { ! test -s /var/lib/aide/aide.db || systemctl is-active ratssaal-integrity.service | grep -q ^activating; };"
    " do sleep 0.5; done; "
)
# What every host has, so that rules by which nothing is looked at are seen.
SURE = ("/etc/passwd", "/usr/sbin/sshd")
_RUN = "ratssaal-integrity.service"
_LOOKS = (
    f"{_FIRST_LOOK}systemctl show -p ActiveState --value ratssaal-integrity.timer; "
    f"systemctl show -p ActiveState,Result --value {_RUN} | tr '\\n' ' '; echo; date +%s; "
    # The service's own note of its first look, after which it makes no other one.
    f"stat -c %Y {_BEGUN} 2>/dev/null || echo never; "
    "stat -Lc '%Y %a %U' /var/lib/aide/aide.db 2>/dev/null || echo none; "
    f"zcat -f /var/lib/aide/aide.db 2>/dev/null | grep -coE '^({'|'.join(SURE)}) '; "
    f"journalctl -q --no-pager -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID {_RUN}) 2>/dev/null | "
    "grep -E '^[[:space:]]*(Added|Removed|Changed) entries:[[:space:]]*[0-9]+$|initialized AIDE database'; true"
)


@pytest.mark.control("OS-13")
def test_changes_are_noted(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Each night the files are compared with those of the night before; what differed stands in the journal."""
    (shown,) = ask(host, _LOOKS)
    timer, service, now, begun, database, sure, *told = text(shown).splitlines()
    sheet.expect(
        timer == "active", f"the nightly comparison (ratssaal-integrity.timer) is {timer or 'not there'}", "active"
    )
    if begun == "never" and "activating" in service:
        sheet.could_not_look("the files are just being looked at for the first time")
        return
    # exec-condition: it was started again and had nothing to do yet.
    failed = not {"success", "exec-condition"} & set(service.split())
    sheet.expect(not failed, f"the last comparison {'failed' if failed else 'succeeded'}", "succeeded")
    since = "" if begun == "never" else datetime.fromtimestamp(int(begun), UTC).date().isoformat()
    if database == "none" and since:
        sheet.expect(False, f"what files were compared with since {since} is gone (/var/lib/aide/aide.db)", "kept")
        return
    if database == "none":
        sheet.expect(False, "there is nothing to compare with (/var/lib/aide/aide.db)", "the files of the night before")
        return
    sheet.expect(bool(since), f"files are compared since {since or 'an unknown day'}", "a note of the first time")
    written, mode, owner = database.split(" ")
    hours = (int(now) - int(written)) / 3600
    first = any("initialized" in line for line in told)
    said = "; ".join(re.sub(r"\s+", " ", line).strip().lower() for line in told if "entries" in line)
    what = "looked at for the first time" if first else "last compared"
    sheet.expect(hours <= HOURS, f"{what} {hours:.0f} hours ago{f' ({said})' if said else ''}", f"{HOURS} at most")
    whole = int(sure) == len(SURE)
    sheet.expect(whole, f"{sure} of {len(SURE)} files that every host has are among them", "programs and settings")
    closed = owner == "root" and int(mode, 8) & 0o077 == 0
    sheet.expect(closed, f"what it is compared with is {mode} {owner}", "root's alone")
