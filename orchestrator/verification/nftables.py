"""Whom the loaded ruleset lets in, by whatever rule, chain, set or map (libnftables-json(5))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

from orchestrator.verification.networks import ANYWHERE, Network, holds_most, networks_of, parted
from orchestrator.verification.openings import (
    EVERYTHING,
    Opening,
    by_protocol,
    despite,
    from_sources,
    gathered,
    is_range,
    overlap,
    range_of,
    through_both,
    without,
)

# A host without nft has no firewall, which is a finding; nft that fails is an error.
RULESET = "if command -v nft >/dev/null; then nft -j list ruleset; else echo '{\"nftables\": []}'; fi"

# (family, table, name) of a chain, set or map
Place = tuple[str, str, str]
# ICMP opens no connection and is left out.
_ICMP = ("icmp", "icmpv6", "ipv6-icmp", "1", "58")
_PROTOCOLS = {"tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp"}
# What belongs to a protocol's own header says nothing of others.
_HEADERS = {"tcp": {"tcp"}, "udp": {"udp"}, "th": {"tcp", "udp"}}
_LAYERS_BELOW = ("ip", "ip6", "ether", "vlan")
# The families of chains that see what comes in by IP, and where on its way they may drop it.
_VERSIONS = {"inet": (4, 6), "ip": (4,), "ip6": (6,), "netdev": (4, 6)}
_HOOKS = ("ingress", "prerouting", "input")
_VERDICTS = {"accept", "queue", "drop", "reject", "return", "jump", "goto"}
# Flags of tables that are asked all the same.
_AWAKE = {"owner", "persist"}
_FAMILIES = {"ip": 4, "ipv4": 4, "ip6": 6, "ipv6": 6}
# As many banned networks, or drops, are taken out of what is left one by one: each leaves some twenty parts.
_MANY = 64


@dataclass(slots=True)
class _Course:
    """What a chain makes of what comes into it. `left` is what its next rule sees, at last what no rule decided.

    What is accepted stays in `left`: accepted twice, it is let in as much. So do many banned addresses, which are looked
    for in what is accepted after them. A `mild` course counts no drop under conditions, or of less than most addresses: those
    are `narrow`.
    """

    left: list[Opening]
    mild: bool = False
    accepted: list[Opening] = field(default_factory=list)
    dropped: list[Opening] = field(default_factory=list)
    returned: list[Opening] = field(default_factory=list)
    narrow: list[Opening] = field(default_factory=list)
    # What the last rules returned: thousands of them are taken out of what is left at once.
    _leaving: list[Opening] = field(default_factory=list)
    # Bans of the same, each with all its sources.
    _banned: dict[Opening, list[Network | str]] = field(default_factory=dict)

    def accept(self, matched: Opening) -> None:
        """Note what is let in, as far as no earlier rule bans where it comes from."""
        parts = [matched]
        for ban, sources in self._banned.items():
            parts = [part for one in parts for part in despite(one, ban, parted(sources)[0])]
        self.accepted += parts

    def drop(self, matched: Opening) -> None:
        """Note what is dropped: no later rule sees it. Where it is dropped under some conditions only, it may still."""
        most = holds_most(matched.sources)
        if self.mild and not (matched.whole and most):
            self.narrow.append(matched)
            return
        if matched.whole:
            self.dropped.append(matched)
        if not most and max(len(matched.sources), len(self.dropped)) > _MANY:
            self._banned.setdefault(replace(matched, sources=ANYWHERE), []).extend(matched.sources)
        else:
            self.take(matched)

    def give_back(self, matched: Opening) -> None:
        """Note what leaves the chain before its end, undecided; `settle` takes it out."""
        self._leaving.append(matched)

    def settle(self) -> None:
        """Take out what was given back, before a rule that does more than that."""
        leaving, self._leaving = gathered(self._leaving), []
        for matched in leaving:
            self.take(matched)
        self.returned += leaving

    def take(self, matched: Opening) -> None:
        """Leave what is not matched, and what may not be, where there are conditions that are not read."""
        kept = [part for row in self.left for part in without(row, [matched])]
        if not matched.whole:
            shared = (through_both(row, matched) for row in self.left)
            kept += [replace(row, whole=False) for row in shared if row]
        self.left = kept


class Ruleset:
    """A loaded ruleset, as `nft -j list ruleset` tells it."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._chains: list[Mapping[str, Any]] = []
        self._rules: dict[Place, list[list[dict[str, Any]]]] = {}
        self._sets: dict[Place, Mapping[str, Any]] = {}
        # nft 1.0 does not tell that a set is dynamic.
        self._filled: set[Place] = set()
        pairs = [pair for each in rows for pair in each.items()]
        asleep = set(_asleep(pairs))
        for kind, row in pairs:
            if (row.get("family"), row.get("table")) in asleep:
                continue
            if kind == "chain":
                self._chains.append(row)
            elif kind == "rule":
                self._rules.setdefault((row["family"], row["table"], row["chain"]), []).append(row["expr"])
                filled = (part["set"]["set"].removeprefix("@") for part in row["expr"] if "set" in part)
                self._filled.update((row["family"], row["table"], name) for name in filled)
            elif kind in ("set", "map"):
                self._sets[(row["family"], row["table"], row["name"])] = row

    def dropping(self) -> list[Place]:
        """Return the input chains that drop by default, for IPv4 and IPv6 alike."""
        wanted = {"hook": "input", "type": "filter", "policy": "drop", "family": "inet"}
        return [_place(row) for row in self._chains if all(row.get(key) == value for key, value in wanted.items())]

    def openings(self) -> list[Opening]:
        """Return what passes every chain that drops by default; without such a chain that is everything.

        What is dropped at one device, or where addresses are translated, may come in on another way.
        """
        found = [EVERYTHING]
        for place in self.dropping():
            let_in = self._course(place, _Course([EVERYTHING]), (place,)).accepted
            found = [both for one, other in product(found, let_in) if (both := through_both(one, other))]
        for dropped, accepted in self._shut(partly=False):
            found = _let_through(found, dropped, accepted)
        return list(dict.fromkeys(found))

    def sure(self) -> list[Opening]:
        """Return what is let in without further conditions, whatever way it comes."""
        found = self.openings()
        for dropped, accepted in self._shut(partly=True):
            found = _let_through(found, dropped, accepted)
        return [row for row in found if row.whole]

    def narrow_drops(self) -> Iterator[tuple[Place, list[Opening]]]:
        """Yield the other chains that may drop something, but under conditions or for less than most addresses only."""
        for row, _, course in self._others:
            if course.narrow:
                yield _place(row), gathered(course.narrow)

    def _shut(self, *, partly: bool) -> Iterator[tuple[Opening, list[Opening]]]:
        """Yield what the other chains drop for everybody, with what they let in; whom they ban is not counted.

        Those that do not see all that comes in are asked for by themselves: at one device, or before an address is translated.
        """
        for row, given, course in self._others:
            if partly == (row["hook"] == "ingress" or row.get("type") != "filter"):
                for dropped in [given] if row.get("policy") == "drop" else course.dropped:
                    yield dropped, course.accepted

    @cached_property
    def _others(self) -> list[tuple[Mapping[str, Any], Opening, _Course]]:
        """Return the other chains on the way of what comes in: what comes into each, and what it makes of that."""
        found = []
        for row in self._chains:
            place = _place(row)
            networks = tuple(network for network in ANYWHERE if network.version in _VERSIONS.get(place[0], ()))
            # nft 1.0 does not tell the device.
            inner = set(members(row.get("dev", []))) == {"lo"}
            if row.get("hook") in _HOOKS and networks and not inner and place not in self.dropping():
                given = replace(EVERYTHING, sources=networks)
                found.append((row, given, self._course(place, _Course([given], mild=True), (place,))))
        return found

    def _course(self, place: Place, course: _Course, passed: tuple[Place, ...]) -> _Course:
        """Follow what comes into a chain from rule to rule: what is dropped first is not let in by a later one."""
        for expression in self._rules.get(place, ()):
            if not any("return" in part for part in expression):
                course.settle()
            for one in course.left.copy():
                for verdict, matched in self._verdicts(place, expression, one):
                    self._decide(place, verdict, matched, course, passed)
        course.settle()
        course.left += course.returned
        return course

    def _verdicts(
        self, place: Place, expression: list[dict[str, Any]], given: Opening
    ) -> Iterator[tuple[Mapping[str, Any], Opening]]:
        """Yield a rule's verdicts, each with what it speaks of."""
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
                        yield verdict, inner
            elif part.keys() & _VERDICTS:
                yield part, left
            elif not part.keys() & {"counter", "log"}:
                left = replace(left, whole=False)

    def _decide(
        self, place: Place, verdict: Mapping[str, Any], matched: Opening, course: _Course, passed: tuple[Place, ...]
    ) -> None:
        """Note in a chain's course what a verdict makes of what it speaks of."""
        if verdict.keys() & {"accept", "queue"}:
            course.accept(matched)
        elif verdict.keys() & {"drop", "reject"}:
            course.drop(matched)
        elif "return" in verdict:
            course.give_back(matched)
        target = str((verdict.get("jump") or verdict.get("goto") or {}).get("target", ""))
        goal = (*place[:2], target)
        if target and goal not in passed:
            inner = self._course(goal, _Course([matched], course.mild), (*passed, goal))
            for accepted in inner.accepted:
                course.accept(accepted)
            for dropped in inner.dropped:
                course.drop(dropped)
            course.narrow += inner.narrow
            if "goto" in verdict:
                course.take(matched)
                course.returned += inner.left

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
            where = (*place[:2], right[1:])
            named = self._sets.get(where, {"flags": ["dynamic"]})
            moving = where in self._filled or {"dynamic", "timeout"} & set(named.get("flags", ()))
            return [right] if moving else members({"set": named.get("elem", [])})
        return members(right)

    def _narrowed(self, place: Place, given: Opening, match: Mapping[str, Any]) -> Opening | None:
        """Return what a condition leaves of an opening, None for nothing; an unread one leaves it as it is, but not whole."""
        header, name = _subject(match["left"])
        found: Opening | None = given
        if header in _ICMP:
            return None
        if header in _HEADERS:
            found = by_protocol(given, _HEADERS[header])
        elif header in _FAMILIES:
            found = from_sources(given, [network for network in ANYWHERE if network.version == _FAMILIES[header]])
        elif header not in ("", "meta", "ct", *_LAYERS_BELOW):
            found = by_protocol(given, {"other"})
        if found is None:
            return None
        if match.get("op", "==") not in ("==", "in"):
            return replace(found, whole=False)
        return _limited(found, header, name, self._members(place, match["right"]))


def _limited(given: Opening, header: str, name: str, values: list[str]) -> Opening | None:
    """Return what is left of an opening where a field has one of these values."""
    if name == "dport" and header in _HEADERS and all(is_range(value) for value in values):
        ports = [both for one, other in product(given.ports, map(range_of, values)) if (both := overlap(one, other))]
        return replace(given, ports=tuple(ports)) if ports else None
    if name == "saddr" and header in _FAMILIES:
        return from_sources(given, [part for value in values for part in networks_of(value)])
    if name in ("l4proto", "protocol", "nexthdr") and not (header == "meta" and name == "protocol"):
        return by_protocol(given, {_PROTOCOLS.get(value, "other") for value in values if value not in _ICMP})
    if header == "meta" and name in ("nfproto", "protocol") and set(values) <= _FAMILIES.keys():
        versions = {_FAMILIES[value] for value in values}
        return from_sources(given, [network for network in ANYWHERE if network.version in versions])
    if header == "meta" and name in ("iifname", "iif") and set(values) == {"lo"}:
        return None
    if (header, name) == ("ct", "state"):
        if "new" in values:
            return given
        # Only what a rule exempts from tracking is untracked.
        return replace(given, whole=False) if "untracked" in values else None
    return replace(given, whole=False)


def _asleep(pairs: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, str]]:
    """Yield the tables that the kernel asks nothing (`flags dormant`). Which flag it is, nft 1.0 tells wrongly."""
    told = False
    for kind, row in pairs:
        if kind == "metainfo":
            told = not str(row.get("version", "1.0")).startswith("1.0")
        elif kind == "table" and "flags" in row and not (told and set(members(row["flags"])) <= _AWAKE):
            yield row["family"], row["name"]


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


def _let_through(given: list[Opening], dropped: Opening, accepted: list[Opening]) -> list[Opening]:
    """Return what is left of openings where a chain drops something, but for what it has accepted before."""
    course = _Course(given)
    course.take(dropped)
    hit = [both for row in given if (both := through_both(row, dropped))]
    return [*course.left, *(both for row, other in product(hit, accepted) if (both := through_both(row, other)))]
