"""Where connections come from: networks, of which there may be thousands, and names of sets whose members come and go."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import product

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ANYWHERE: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def within(source: Network | str, others: Iterable[Network]) -> bool:
    """Say whether a network lies in one of the others; a named set does not."""
    if isinstance(source, str):
        return False
    return any(source.version == other.version and source.subnet_of(other) for other in others)  # type: ignore[arg-type]


def joined(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Return the fewest networks that hold the same addresses; nft joins neighbours, too."""
    many = list(networks)
    four = ipaddress.collapse_addresses(n for n in many if isinstance(n, ipaddress.IPv4Network))
    return (*four, *ipaddress.collapse_addresses(n for n in many if isinstance(n, ipaddress.IPv6Network)))


def plain(sources: Iterable[Network | str]) -> list[str]:
    """Return sources as people write them: anywhere, a single address without its length, a set's name."""
    many = list(sources)
    whole = set(ANYWHERE) <= set(many)
    rest = [source for source in many if not whole or source not in ANYWHERE]
    names = [str(n) if isinstance(n, str) or n.num_addresses > 1 else str(n.network_address) for n in rest]
    return [*(["anywhere"] if whole else []), *names]


def common(one: Iterable[Network | str], other: Iterable[Network | str]) -> tuple[Network | str, ...]:
    """Return the sources in both; a name may stand for any network."""
    (left, names), (right, others) = parted(one), parted(other)
    found = [*lying_in(left, right), *lying_in(right, left)]
    named = [name if network in ANYWHERE else network for name, network in product(names, right)]
    named += [name if network in ANYWHERE else network for name, network in product(others, left)]
    return tuple(dict.fromkeys([*found, *named, *(names if others else [])]))


def parted(sources: Iterable[Network | str]) -> tuple[list[Network], list[str]]:
    """Return the networks and the names among some sources."""
    many = list(sources)
    return [one for one in many if not isinstance(one, str)], [one for one in many if isinstance(one, str)]


def lying_in(networks: Iterable[Network], others: Iterable[Network]) -> Iterator[Network]:
    """Yield the networks that the others hold; there may be many of both."""
    for network, (first, last), (low, high) in _nearest(networks, others):
        if low <= first and last <= high:
            yield network


def meeting(networks: Iterable[Network], others: Iterable[Network]) -> Iterator[Network]:
    """Yield the networks that have an address of the others."""
    for network, (first, _), (_, high) in _nearest(networks, others):
        if first <= high:
            yield network


def holds_most(sources: Iterable[Network | str]) -> bool:
    """Say whether sources are half of all addresses, of IPv4 or IPv6: no ban of some."""
    spans = _spans(parted(sources)[0])
    return any(
        2 * sum(last - first + 1 for version, first, last in spans if version == every.version) >= every.num_addresses
        for every in ANYWHERE
    )


def outside(sources: Iterable[Network | str], others: Iterable[Network]) -> Iterator[Network | str]:
    """Yield the parts of sources that lie in none of the others; a named set that lies in no smaller one stays whole."""
    held = joined(others)
    starts = [_span(one)[:2] for one in held]
    for mine in sources:
        if isinstance(mine, str):
            yield mine
            continue
        version, first, last = _span(mine)
        # The one before those that begin in it may hold it.
        begin, end = bisect_left(starts, (version, first)), bisect_right(starts, (version, last))
        before = held[max(begin - 1, 0) : begin]
        yield from _halved(mine, (*(one for one in before if within(mine, [one])), *held[begin:end]))


def networks_of(source: str) -> list[Network | str]:
    """Return a source's networks; what cannot be read, such as a set that comes and goes, stands for itself."""
    first, dash, last = source.partition("-")
    try:
        if dash:
            return list(ipaddress.summarize_address_range(ipaddress.ip_address(first), ipaddress.ip_address(last)))
        return [ipaddress.ip_network(source, strict=False)]
    except ValueError:
        return [source]


def _nearest(
    networks: Iterable[Network], others: Iterable[Network]
) -> Iterator[tuple[Network, tuple[int, int], tuple[int, int]]]:
    """Yield networks and their ranges, each with the last range of the others that does not begin after it."""
    spans = _spans(others)
    for network in networks:
        version, first, last = _span(network)
        at = bisect_right(spans, (version, last + 1)) - 1
        if at >= 0 and spans[at][0] == version:
            yield network, (first, last), spans[at][1:]


def _spans(networks: Iterable[Network]) -> list[tuple[int, int, int]]:
    """Return the fewest ranges of addresses as numbers, in their order, each after its version: quick for many."""
    found: list[tuple[int, int, int]] = []
    for version, first, last in sorted(map(_span, networks)):
        if found and found[-1][0] == version and first <= found[-1][2] + 1:
            found[-1] = (version, found[-1][1], max(last, found[-1][2]))
        else:
            found.append((version, first, last))
    return found


def _span(network: Network) -> tuple[int, int, int]:
    first = int(network.network_address)
    return network.version, first, first + (1 << network.max_prefixlen - network.prefixlen) - 1


def _halved(mine: Network, others: tuple[Network, ...]) -> Iterator[Network]:
    """Yield the parts of a network beside others that overlap with it: each half has to do with its own ones only."""
    if not others:
        yield mine
    elif within(mine, others[:1]):
        return
    elif len(others) == 1:
        yield from mine.address_exclude(others[0])  # type: ignore[arg-type]
    else:
        low, high = mine.subnets()
        middle = bisect_left(others, int(high.network_address), key=lambda one: int(one.network_address))
        yield from _halved(low, others[:middle])
        yield from _halved(high, others[middle:])
