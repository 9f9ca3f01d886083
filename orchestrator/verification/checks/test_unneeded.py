"""Packages that a conferencing server has no use for."""

from __future__ import annotations

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import Sheet

# Patterns of dpkg-query. A telnet client is not among them: Debian's coturn depends on one, for its own local command line.
PLAIN = ("telnetd*", "inetutils-telnetd", "rsh-client", "rsh-server", "rsh-redone-*")
SUPERSERVERS = ("xinetd", "openbsd-inetd", "inetutils-inetd", "tftpd*", "nis", "ypbind*", "ypserv", "rpcbind")
DESKTOP = ("cups", "cups-daemon", "cups-browsed", "avahi-daemon", "udisks2", "autofs", "xserver-xorg-core", "xwayland")


@pytest.mark.control("OS-11")
def test_unneeded_packages(host: testinfra.host.Host, sheet: Sheet) -> None:
    """None of them is installed."""
    patterns = (*PLAIN, *SUPERSERVERS, *DESKTOP)
    names = " ".join(f"'{pattern}'" for pattern in patterns)
    (shown,) = ask(host, f"dpkg-query -W -f '${{db:Status-Status}} ${{Package}}\\n' dpkg {names} 2>/dev/null; true")
    rows = [line.split() for line in text(shown).splitlines()]
    there = {row[1] for row in rows if row[0] == "installed"}
    if "dpkg" not in there:
        raise RuntimeError(f"dpkg does not tell of its packages: {text(shown)[:80]!r}")
    for name in sorted(there - {"dpkg"}):
        sheet.expect(False, f"{name} is installed", "not installed")
    sheet.expect(True, f"{len(patterns)} kinds of packages looked for", "")
