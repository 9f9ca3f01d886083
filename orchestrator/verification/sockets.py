"""Listening sockets as ss shows them, against those that follow from the topology."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

SS = "ss -Hlntup"
# Who listens in a container's place (Docker, rootless Docker, rootless Podman).
CONTAINER_HELPERS = ("docker-proxy", "rootlesskit", "rootlessport", "slirp4netns", "pasta", "pasta.avx2", "conmon")

# containerd's own server for its clients' streams takes another port at each start
# (containerd/containerd:docs/cri/config.md, stream_server_port), which no site can declare.
_ENGINES = (*CONTAINER_HELPERS, "containerd")


class Socket(NamedTuple):
    """One listening socket; `process` is "" where ss may not see it."""

    proto: str
    address: str
    port: int
    process: str

    def __str__(self) -> str:
        """Return the socket as people write it."""
        return f"{self.address}:{self.port}/{self.proto}"


def sockets(shown: str) -> Iterator[Socket]:
    """Yield what SS printed; an IPv4 address that IPv6 sockets take is shown plain."""
    for line in shown.splitlines():
        proto, _, _, _, local, *_ = line.split()
        address, _, port = local.rpartition(":")
        process = line.partition('users:(("')[2].partition('"')[0]
        # A JVM that sees IPv6 binds its IPv4 sockets as mapped ones.
        yield Socket(proto, address.partition("%")[0].strip("[]").removeprefix("::ffff:"), int(port), process)


def loopback(address: str) -> bool:
    """Say whether only the host itself can reach what listens on this address."""
    return address != "*" and ipaddress.ip_address(address).is_loopback


def fits(socket: Socket, expected: Mapping[str, Any]) -> bool:
    """Say whether a socket is this one of `derivations.listeners`."""
    wanted = str(expected["address"])
    placed = loopback(socket.address) if wanted == "127.0.0.1" else wanted in ("*", socket.address)
    return _takes(socket, expected) and placed and socket.process == expected["process"]


def _takes(socket: Socket, row: Mapping[str, Any]) -> bool:
    """Say whether a socket has the protocol and a port of a flow or listener, whose ports may be a range."""
    low, _, high = str(row["port"]).partition("-")
    return bool(socket.proto == row["proto"]) and int(low) <= socket.port <= int(high or low)


def undeclared(
    shown: str, listeners: Iterable[Mapping[str, Any]], flows: Iterable[Mapping[str, Any]]
) -> Iterator[Socket]:
    """Yield the sockets that neither follow from the topology nor belong to a flow that the operator declared.

    A container's port that only the host itself can reach is none of them: that is how NET-04 wants it published. Nor is
    containerd's own there.
    """
    expected = list(listeners)
    extra = [flow for flow in flows if flow["service"] == "extra"]
    for socket in sockets(shown):
        if socket.process in _ENGINES and loopback(socket.address):
            continue
        if not any(_takes(socket, flow) for flow in extra) and not any(fits(socket, row) for row in expected):
            yield socket
