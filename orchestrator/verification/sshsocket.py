"""Where systemd listens in sshd's place: ssh.socket starts it with the first connection, or for each (systemd.socket(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from orchestrator.verification.sockets import Socket, loopback

SSH_SOCKET = "systemctl show ssh.socket -p ActiveState,Triggers,Listen"
# With Accept=yes each connection has a service of its own, and systemd names none.
_SSHD = {"", "ssh.service"}


def ports_of(told: str) -> set[int]:
    """Return the ports of ssh.socket where it listens, and for sshd; by what SSH_SOCKET printed."""
    rows = [line.partition("=")[::2] for line in told.splitlines()]
    shown = dict(rows)
    if shown.get("ActiveState") != "active" or shown.get("Triggers") not in _SSHD:
        return set()
    listens = (re.fullmatch(r"\S+:(\d+) \(Stream\)", value) for name, value in rows if name == "Listen")
    return {int(found[1]) for found in listens if found}


def for_sshd(listening: Iterable[Socket], told: str) -> Iterator[Socket]:
    """Yield the sockets on which sshd takes connections from elsewhere, itself or through systemd."""
    ports = ports_of(told)
    for each in listening:
        ours = each.process == "sshd" or (each.process == "systemd" and each.proto == "tcp" and each.port in ports)
        if ours and not loopback(each.address):
            yield each
