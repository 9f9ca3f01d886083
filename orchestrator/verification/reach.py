"""What the vantage point can look with, and at which of a host's addresses."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import testinfra.host
from testinfra.backend.base import CommandResult

from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import NotTested, Sheet
from orchestrator.verification.subject import Subject

# Nothing is sent: the kernel only says from which of its addresses it would.
SOURCE = (
    "python3 -c 'import socket, sys; a = sys.argv[1]; "
    's = socket.socket(socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_DGRAM); '
    "s.connect((a, 9)); print(s.getsockname()[0])' {} 2>/dev/null || echo none"
)


@dataclass(frozen=True, slots=True)
class Target:
    """An address of a host, and the vantage point's own as the host sees it; "" where a translation lies between."""

    address: str
    source: str

    @property
    def bracketed(self) -> str:
        """Return the address as it stands before a port."""
        return f"[{self.address}]" if ":" in self.address else self.address

    @property
    def sure(self) -> bool:
        """Say whether the host is sure to see us as `source`: a neighbour or everybody's address.

        From one private network to another the way may be routed or translated, as a container's is: both look alike here.
        """
        if not self.source:
            return False
        ours = ipaddress.ip_interface(f"{self.source}/{64 if ':' in self.source else 24}")
        return ours.ip.is_global or ipaddress.ip_address(self.address) in ours.network


def has_way(answer: CommandResult) -> bool:
    """Say whether the vantage point has a way to an address, by its answer to SOURCE."""
    return text(answer).strip() != "none"


def no_way(address: str) -> str:
    """Return how it is told that the vantage point has no way to an address."""
    return f"the vantage point has no way to {address}"


def first_way(outside: testinfra.host.Host, subject: Subject) -> str:
    """Return the first of a host's addresses to which the vantage point has a way; raises NotTested where it has none."""
    told = ask(outside, *(SOURCE.format(address) for address in subject.addresses))
    for address, answer in zip(subject.addresses, told, strict=True):
        if has_way(answer):
            return address
    raise NotTested(no_way(" and ".join(subject.addresses)))


def targets(outside: testinfra.host.Host, subject: Subject, sheet: Sheet, *tools: str) -> list[Target]:
    """Return the addresses to which the vantage point has a way; notes the others.

    Raises NotTested where a tool is missing there, or where no address can be reached.
    """
    questions = [SOURCE.format(address) for address in subject.addresses]
    *sources, present = ask(outside, *questions, f"for tool in {' '.join(tools)}; do command -v $tool; done; true")
    found = {path.rpartition("/")[2] for path in text(present).split()}
    missing = [tool for tool in tools if tool not in found]
    if missing:
        raise NotTested(f"the vantage point has no {' and no '.join(missing)}; install it there")
    reached = []
    for address, answer in zip(subject.addresses, sources, strict=True):
        if has_way(answer):
            reached.append(Target(address, seen_as(text(answer).strip(), address)))
        else:
            sheet.could_not_look(no_way(address))
    if not reached:
        raise NotTested("; ".join(sheet.untested))
    return reached


def seen_as(source: str, target: str) -> str:
    """Return the source as the target sees it; "" where it is translated on the way: to a public target from any that is not."""
    ours, theirs = ipaddress.ip_address(source), ipaddress.ip_address(target)
    return "" if theirs.is_global and not ours.is_global else source
