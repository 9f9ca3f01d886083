"""What is let in: by which protocols, to which ports, from where; and what two such things have in common, or not."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from orchestrator.verification.networks import (
    ANYWHERE,
    Network,
    common,
    joined,
    lying_in,
    meeting,
    outside,
    parted,
    within,
)

Ports = tuple[int, int]
ALL_PORTS: Ports = (0, 65535)


@dataclass(frozen=True, slots=True)
class Opening:
    """New connections that are let in: by which protocols, to which ports, from where.

    A source that is no network is the name of a set whose members come and go. `whole` is False where a rule has
    conditions that are not read here, so that less than this may come in.
    """

    protocols: frozenset[str]
    ports: tuple[Ports, ...]
    sources: tuple[Network | str, ...]
    whole: bool = True


EVERYTHING = Opening(frozenset({"tcp", "udp", "other"}), (ALL_PORTS,), ANYWHERE)


def opening(proto: str, port: str, sources: Iterable[str]) -> Opening:
    """Return what a declared flow lets in."""
    return Opening(frozenset({proto}), (range_of(port),), joined(ipaddress.ip_network(source) for source in sources))


def admitted(openings: Iterable[Opening], proto: str, port: int) -> list[Network | str]:
    """Return from where connections to a port are let in, each rule's sources for themselves."""
    fitting = [
        row for row in openings if proto in row.protocols and any(low <= port <= high for low, high in row.ports)
    ]
    return list(dict.fromkeys(source for row in fitting for source in _by_source(row)))


def _by_source(row: Opening) -> list[Network | str]:
    """Return an opening's sources, the fewest networks first, named sets last."""
    networks = joined(source for source in row.sources if not isinstance(source, str))
    return [*networks, *(source for source in row.sources if isinstance(source, str))]


def uncovered(
    left: Iterable[Opening], right: Iterable[Opening]
) -> Iterator[tuple[Opening, str, Ports, list[Network | str]]]:
    """Yield the protocol, ports and sources of each opening of `left` that those of `right` do not hold altogether."""
    held: dict[tuple[str, Ports], list[Network]] = {}
    for row in right:
        for key in product(row.protocols, row.ports):
            held.setdefault(key, []).extend(source for source in row.sources if not isinstance(source, str))
    known = {key: joined(networks) for key, networks in held.items()}
    for row in left:
        sources = _by_source(row)
        for proto, ports in product(sorted(row.protocols), row.ports):
            mine = {reach: networks for (name, reach), networks in known.items() if name == proto}
            beyond = [
                source for source in sources if not _holds((r for r, by in mine.items() if within(source, by)), ports)
            ]
            if beyond:
                yield row, proto, ports, beyond


def _holds(ranges: Iterable[Ports], wanted: Ports) -> bool:
    """Say whether ranges of ports hold another one together."""
    at = wanted[0]
    for low, high in sorted(ranges):
        if low <= at <= high:
            at = high + 1
    return at > wanted[1]


def by_protocol(given: Opening, protocols: set[str]) -> Opening | None:
    """Return what of an opening is of these protocols."""
    kept = given.protocols & protocols
    return replace(given, protocols=kept) if kept else None


def from_sources(given: Opening, sources: Iterable[Network | str]) -> Opening | None:
    """Return what of an opening comes from these sources."""
    kept = common(given.sources, tuple(sources))
    return replace(given, sources=kept) if kept else None


def gathered(rows: Iterable[Opening]) -> list[Opening]:
    """Return the same openings as fewer ones: those that differ in their sources only, or then in their ports only."""
    sources: dict[Opening, list[Network | str]] = {}
    for row in rows:
        sources.setdefault(replace(row, sources=()), []).extend(row.sources)
    ports: dict[Opening, list[Ports]] = {}
    for row, several in sources.items():
        networks, names = parted(several)
        whole = replace(row, ports=(), sources=(*joined(networks), *dict.fromkeys(names)))
        ports.setdefault(whole, []).extend(row.ports)
    return [replace(row, ports=tuple(sorted(set(several)))) for row, several in ports.items()]


def through_both(one: Opening, other: Opening) -> Opening | None:
    """Return what passes where both let it in."""
    protocols = one.protocols & other.protocols
    ports = tuple(both for pair in product(one.ports, other.ports) if (both := overlap(*pair)))
    # The sources last: they may be many.
    sources = common(one.sources, other.sources) if protocols and ports else ()
    return Opening(protocols, ports, sources, one.whole and other.whole) if sources else None


def despite(row: Opening, ban: Opening, banned: list[Network]) -> Iterator[Opening]:
    """Yield what is left of an opening where many addresses are banned: a source with one of them is no longer whole."""
    yield from _cut(row, ban)
    if (shared := through_both(row, ban)) is None:
        return
    networks = parted(shared.sources)[0]
    inside = set(lying_in(networks, banned)) if ban.whole else set()
    hit = set(meeting(networks, banned))
    if free := tuple(one for one in networks if one not in hit):
        yield replace(shared, sources=free, whole=row.whole)
    if some := tuple(one for one in networks if one in hit and one not in inside):
        yield replace(shared, sources=some, whole=False)


def without(row: Opening, others: Iterable[Opening]) -> list[Opening]:
    """Return what is left of an opening, in parts, where others are taken from it."""
    left = [row]
    for other in others:
        left = [part for one in left for part in _cut(one, other)]
    return left


def _cut(row: Opening, other: Opening) -> Iterator[Opening]:
    """Yield the parts of an opening that another one does not hold; a named set may be empty, so it takes nothing."""
    if through_both(row, other) is None:
        yield row
        return
    if others := row.protocols - other.protocols:
        yield replace(row, protocols=others)
    same = replace(row, protocols=row.protocols & other.protocols)
    if ports := tuple(part for mine in row.ports for part in _beside(mine, other.ports)):
        yield replace(same, ports=ports)
    same = replace(same, ports=tuple(both for pair in product(row.ports, other.ports) if (both := overlap(*pair))))
    if sources := tuple(outside(row.sources, parted(other.sources)[0])):
        yield replace(same, sources=sources)


def _beside(mine: Ports, others: Iterable[Ports]) -> Iterator[Ports]:
    """Yield the parts of a range of ports that lie in none of the others."""
    at, last = mine
    for low, high in sorted(others):
        if at < low <= last:
            yield at, low - 1
        at = max(at, min(high, last) + 1) if low <= last else at
    if at <= last:
        yield at, last


def overlap(one: Ports, other: Ports) -> Ports | None:
    """Return the ports in both ranges."""
    low, high = max(one[0], other[0]), min(one[1], other[1])
    return (low, high) if low <= high else None


def is_range(value: str) -> bool:
    """Say whether a text is a port, or a range of ports."""
    return all(part.isdigit() for part in value.split("-"))


def range_of(value: str) -> Ports:
    """Return the range of ports that a text names."""
    low, _, high = value.partition("-")
    return int(low), int(high or low)
