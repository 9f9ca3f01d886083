"""What nmap's XML says (nmap:docs/nmap.dtd): the state of ports, and what its TLS script was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree

Element = ElementTree.Element
# Where no single port lets us in, an echo alone tells a host that drops all from a way that ends before it.
ECHO = "nmap -sn -PE --disable-arp-ping -n -oX - --host-timeout 60s"


@dataclass(frozen=True, slots=True)
class Scan:
    """One address as nmap saw it. `states` holds the ports that are listed, `rest` the state of all others.

    `problem` says why there is no result; `way` is nmap's word for how it looked (syn, connect, udp); `version` is nmap's.
    """

    problem: str = ""
    version: str = ""
    way: str = ""
    states: Mapping[int, str] = field(default_factory=dict)
    rest: str = ""
    tls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    compressors: frozenset[str] = frozenset()

    def state(self, port: int) -> str:
        """Return a port's state: open, closed, filtered, open|filtered; "unknown" where nmap does not say."""
        return self.states.get(port) or self.rest or "unknown"

    @property
    def open(self) -> list[int]:
        """Return the ports that answered; `open|filtered` is no answer."""
        return sorted(port for port, state in self.states.items() if state == "open")


def read(printed: str) -> Scan:
    """Read the XML of a run that looked at one address; what is no such thing becomes its `problem`."""
    try:
        root = ElementTree.fromstring(printed)
    except ElementTree.ParseError as error:
        return Scan(f"nmap printed no XML: {error}")
    finished = root.find("runstats/finished")
    if finished is None or finished.get("exit") != "success":
        said = finished.get("errormsg", "") if finished is not None else ""
        return Scan(f"nmap did not end well: {said or 'no reason given'}")
    host = root.find("host")
    if host is None or host.find("ports") is None:
        slow = host is not None and host.get("timedout") == "true"
        return Scan("nmap ran out of time" if slow else "nmap saw no host there")
    info = root.find("scaninfo")
    states, rest = _states(host)
    way = info.get("type", "") if info is not None else ""
    return Scan("", root.get("version", ""), way, states, rest, _tls(host), _compressors(host))


def echoed(printed: str) -> bool:
    """Say whether the host answered ECHO."""
    return 'reason="echo-reply"' in printed


def _states(host: Element) -> tuple[dict[int, str], str]:
    states = {}
    for port in host.iterfind("ports/port"):
        state = port.find("state")
        states[int(port.get("portid", "0"))] = state.get("state", "") if state is not None else ""
    groups = host.findall("ports/extraports")
    if len(groups) == 1:
        return states, groups[0].get("state", "")
    for group in groups:
        for reasons in group.iterfind("extrareasons"):
            for low, high in _ranges(reasons.get("ports", "")):
                states.update(dict.fromkeys(range(low, high + 1), group.get("state", "")))
    return states, ""


def _ranges(text: str) -> Iterable[tuple[int, int]]:
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        yield int(low), int(high or low)


def _tls(host: Element) -> dict[str, tuple[str, ...]]:
    """Return each version that was spoken, by OpenSSL's name, with its suites by their IANA names."""
    found: dict[str, tuple[str, ...]] = {}
    for script in host.iterfind("ports/port/script"):
        if script.get("id") == "sslv2":
            found["SSLv2"] = ()
        if script.get("id") != "ssl-enum-ciphers":
            continue
        for version in script.iterfind("table"):
            names = [elem.text or "" for elem in version.iterfind("table[@key='ciphers']/table/elem[@key='name']")]
            # nmap calls TLS 1.3's suites TLS_AKE_WITH_..., and the first TLS version TLSv1.0.
            suites = tuple(name.replace("TLS_AKE_WITH_", "TLS_") for name in names)
            if suites:
                found[version.get("key", "").replace("TLSv1.0", "TLSv1")] = suites
    return found


def _compressors(host: Element) -> frozenset[str]:
    """Return the ways of compression that were taken; NULL is none. TLS 1.3 has no others."""
    return frozenset(elem.text or "" for elem in host.iterfind(".//table[@key='compressors']/elem"))


def shown(ports: Iterable[int]) -> str:
    """Return ports as a short text: 22, 80, 8000-8010."""
    ordered = sorted(set(ports))
    parts: list[str] = []
    start = 0
    for number, port in enumerate(ordered):
        if number + 1 == len(ordered) or ordered[number + 1] != port + 1:
            first = ordered[start]
            parts.append(str(port) if first == port else f"{first}-{port}")
            start = number + 1
    return ", ".join(parts)
