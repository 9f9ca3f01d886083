"""Whom the loaded ruleset lets in, by whatever rule, chain, set or map (libnftables-json(5))."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

# A host without nft has no firewall, which is a finding; nft that fails is an error.
RULESET = "if command -v nft >/dev/null; then nft -j list ruleset; else echo '{\"nftables\": []}'; fi"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Ports = tuple[int, int]
# (family, table, name) of a chain, set or map
Place = tuple[str, str, str]
ANYWHERE: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
ALL_PORTS: Ports = (0, 65535)
# ICMP opens no connection and is left out.
_ICMP = ("icmp", "icmpv6", "ipv6-icmp", "1", "58")
_PROTOCOLS = {"tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp"}
# What belongs to a protocol's own header says nothing of others.
_HEADERS = {"tcp": {"tcp"}, "udp": {"udp"}, "th": {"tcp", "udp"}}
_LAYERS_BELOW = ("ip", "ip6", "ether", "vlan")
_FAMILIES = {"ip": 4, "ipv4": 4, "ip6": 6, "ipv6": 6}


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
    return Opening(frozenset({proto}), (_range(port),), joined(ipaddress.ip_network(source) for source in sources))


class Ruleset:
    """A loaded ruleset, as `nft -j list ruleset` tells it."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._chains: list[Mapping[str, Any]] = []
        self._rules: dict[Place, list[list[dict[str, Any]]]] = {}
        self._sets: dict[Place, Mapping[str, Any]] = {}
        for kind, row in (pair for each in rows for pair in each.items()):
            if kind == "chain":
                self._chains.append(row)
            elif kind == "rule":
                self._rules.setdefault((row["family"], row["table"], row["chain"]), []).append(row["expr"])
            elif kind in ("set", "map"):
                self._sets[(row["family"], row["table"], row["name"])] = row

    def dropping(self) -> list[Place]:
        """Return the input chains that drop by default, for IPv4 and IPv6 alike."""
        wanted = {"hook": "input", "type": "filter", "policy": "drop", "family": "inet"}
        return [_place(row) for row in self._chains if all(row.get(key) == value for key, value in wanted.items())]

    def openings(self) -> list[Opening]:
        """Return what passes every chain that drops by default; without such a chain that is everything."""
        found = [EVERYTHING]
        for place in self.dropping():
            let_in = list(self._let_in(place, EVERYTHING, (place,)))
            found = [both for one, other in product(found, let_in) if (both := _through_both(one, other))]
        return list(dict.fromkeys(found))

    def _let_in(self, place: Place, given: Opening, passed: tuple[Place, ...]) -> Iterator[Opening]:
        for expression in self._rules.get(place, ()):
            yield from self._by_rule(place, expression, given, passed)

    def _by_rule(
        self, place: Place, expression: list[dict[str, Any]], given: Opening, passed: tuple[Place, ...]
    ) -> Iterator[Opening]:
        left = given
        for part in expression:
            if "match" in part:
                narrowed = self._narrowed(place, left, part["match"])
                if narrowed is None:
                    return
                left = narrowed
            elif "vmap" in part:
                for key, verdict in self._pairs(place, part["vmap"]["data"]):
                    match = {"op": "==", "left": part["vmap"]["key"], "right": key}
                    if inner := self._narrowed(place, left, match):
                        yield from self._by_verdict(place, verdict, inner, passed)
            elif part.keys() & {"accept", "queue", "jump", "goto"}:
                yield from self._by_verdict(place, part, left, passed)
            elif not part.keys() & {"counter", "log"}:
                left = replace(left, whole=False)

    def _by_verdict(
        self, place: Place, verdict: Mapping[str, Any], given: Opening, passed: tuple[Place, ...]
    ) -> Iterator[Opening]:
        if "accept" in verdict or "queue" in verdict:
            yield given
        target = str((verdict.get("jump") or verdict.get("goto") or {}).get("target", ""))
        goal = (*place[:2], target)
        if target and goal not in passed:
            yield from self._let_in(goal, given, (*passed, goal))

    def _pairs(self, place: Place, data: Any) -> list[tuple[Any, Mapping[str, Any]]]:
        """Return a verdict map's keys and verdicts; one that is not told may hold anything."""
        if isinstance(data, str):
            data = {
                "set": self._sets.get((*place[:2], data.removeprefix("@")), {}).get("elem", [["@", {"accept": None}]])
            }
        return [(key, verdict) for key, verdict in data["set"]]

    def _members(self, place: Place, right: Any) -> list[str]:
        """Return a right side's members; a named set counts by its members unless they come and go."""
        if isinstance(right, str) and right.startswith("@"):
            named = self._sets.get((*place[:2], right[1:]), {"flags": ["dynamic"]})
            moving = {"dynamic", "timeout"} & set(named.get("flags", ()))
            return [right] if moving else members({"set": named.get("elem", [])})
        return members(right)

    def _narrowed(self, place: Place, given: Opening, match: Mapping[str, Any]) -> Opening | None:
        """Return what a condition leaves of an opening, None for nothing; an unread one leaves it as it is, but not whole."""
        header, name = _subject(match["left"])
        found: Opening | None = given
        if header in _ICMP:
            return None
        if header in _HEADERS:
            found = _by_protocol(given, _HEADERS[header])
        elif header in _FAMILIES:
            found = _from(given, [network for network in ANYWHERE if network.version == _FAMILIES[header]])
        elif header not in ("", "meta", "ct", *_LAYERS_BELOW):
            found = _by_protocol(given, {"other"})
        if found is None:
            return None
        if match.get("op", "==") not in ("==", "in"):
            return replace(found, whole=False)
        return _limited(found, header, name, self._members(place, match["right"]))


def _limited(given: Opening, header: str, name: str, values: list[str]) -> Opening | None:
    """Return what is left of an opening where a field has one of these values."""
    if name == "dport" and header in _HEADERS and all(_is_range(value) for value in values):
        ports = [both for one, other in product(given.ports, map(_range, values)) if (both := _shared(one, other))]
        return replace(given, ports=tuple(ports)) if ports else None
    if name == "saddr" and header in _FAMILIES:
        return _from(given, [part for value in values for part in _networks(value)])
    if name in ("l4proto", "protocol", "nexthdr") and not (header == "meta" and name == "protocol"):
        return _by_protocol(given, {_PROTOCOLS.get(value, "other") for value in values if value not in _ICMP})
    if header == "meta" and name in ("nfproto", "protocol") and set(values) <= _FAMILIES.keys():
        versions = {_FAMILIES[value] for value in values}
        return _from(given, [network for network in ANYWHERE if network.version in versions])
    if header == "meta" and name in ("iifname", "iif") and set(values) == {"lo"}:
        return None
    if (header, name) == ("ct", "state"):
        return given if {"new", "untracked"} & set(values) else None
    return replace(given, whole=False)


def members(right: Any) -> list[str]:
    """Return a right side's members as texts: a port, a range, an address, a prefix, or a set of these."""
    if isinstance(right, list):
        return [text for member in right for text in members(member)]
    if isinstance(right, dict):
        if "set" in right:
            return members(right["set"])
        if "elem" in right:
            return members(right["elem"]["val"])
        if "range" in right:
            return [f"{right['range'][0]}-{right['range'][1]}"]
        if "prefix" in right:
            return [f"{right['prefix']['addr']}/{right['prefix']['len']}"]
    return [str(right)]


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


def _place(chain: Mapping[str, Any]) -> Place:
    return (chain["family"], chain["table"], chain["name"])


def _subject(left: Any) -> tuple[str, str]:
    """Return what a condition speaks of: a header and its field, or meta and ct with their key; "" for what is not read."""
    if isinstance(left, dict) and "payload" in left:
        return str(left["payload"].get("protocol", "")), str(left["payload"].get("field", ""))
    for kind in ("meta", "ct"):
        if isinstance(left, dict) and kind in left:
            return kind, str(left[kind].get("key", ""))
    return "", ""


def _by_protocol(given: Opening, protocols: set[str]) -> Opening | None:
    kept = given.protocols & protocols
    return replace(given, protocols=kept) if kept else None


def _from(given: Opening, sources: Iterable[Network | str]) -> Opening | None:
    kept = _common(given.sources, tuple(sources))
    return replace(given, sources=kept) if kept else None


def _common(one: Iterable[Network | str], other: tuple[Network | str, ...]) -> tuple[Network | str, ...]:
    """Return the sources in both; a name may stand for any network."""
    found: list[Network | str] = []
    for left, right in product(one, other):
        if isinstance(left, str):
            found.append(left if isinstance(right, str) or right in ANYWHERE else right)
        elif isinstance(right, str):
            found.append(right if left in ANYWHERE else left)
        elif within(left, [right]):
            found.append(left)
        elif within(right, [left]):
            found.append(right)
    return tuple(dict.fromkeys(found))


def _through_both(one: Opening, other: Opening) -> Opening | None:
    protocols, sources = one.protocols & other.protocols, _common(one.sources, other.sources)
    ports = tuple(both for pair in product(one.ports, other.ports) if (both := _shared(*pair)))
    return Opening(protocols, ports, sources, one.whole and other.whole) if protocols and ports and sources else None


def _shared(one: Ports, other: Ports) -> Ports | None:
    low, high = max(one[0], other[0]), min(one[1], other[1])
    return (low, high) if low <= high else None


def _is_range(value: str) -> bool:
    return all(part.isdigit() for part in value.split("-"))


def _range(value: str) -> Ports:
    low, _, high = value.partition("-")
    return int(low), int(high or low)


def _networks(source: str) -> list[Network | str]:
    """Return a source's networks; what cannot be read, such as a set that comes and goes, stands for itself."""
    first, dash, last = source.partition("-")
    try:
        if dash:
            return list(ipaddress.summarize_address_range(ipaddress.ip_address(first), ipaddress.ip_address(last)))
        return [ipaddress.ip_network(source, strict=False)]
    except ValueError:
        return [source]
