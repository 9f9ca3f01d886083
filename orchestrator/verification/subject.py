"""What a check may know of its host: the inventory's public part and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.inventory import derivations
from orchestrator.inventory.site import Site


@dataclass(frozen=True, slots=True)
class Subject:
    """One host as the inventory describes it; holds no secret. `user` logs in for Ratssaal, "" where SSH decides.

    `authority` is the certificate of the site's own CA (PEM), "" where the site has none.
    """

    name: str
    address: str
    address6: str
    groups: tuple[str, ...]
    topology: Mapping[str, Any]
    user: str = ""
    authority: str = ""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return the site's public settings."""
        settings: Mapping[str, Any] = self.topology["settings"]
        return settings

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the host's public addresses."""
        return tuple(address for address in (self.address, self.address6) if address)

    @property
    def signalling(self) -> bool:
        """Say whether nginx, Prosody and Jicofo run here."""
        return derivations.SIGNALLING in self.groups

    @property
    def bridge(self) -> bool:
        """Say whether a bridge runs here."""
        return derivations.BRIDGES in self.groups

    @property
    def turn(self) -> bool:
        """Say whether coturn runs here."""
        return derivations.TURN in self.groups

    @property
    def java_units(self) -> list[str]:
        """Return the units here that run on the JVM, without `.service`."""
        return [*(["jicofo"] if self.signalling else []), *(["jitsi-videobridge2"] if self.bridge else [])]

    def flows(self) -> list[dict[str, Any]]:
        """Return the inbound flows that may be let in."""
        return [dict(flow) for flow in derivations.flows(self.topology, self.name)]

    def listeners(self) -> list[dict[str, Any]]:
        """Return the sockets that may listen."""
        return [dict(listener) for listener in derivations.listeners(self.topology, self.name)]

    def units(self) -> tuple[str, ...]:
        """Return the units of the conferencing services here, without `.service`."""
        units = ["nginx", "prosody", "jicofo"] if self.signalling else []
        units += ["jitsi-videobridge2"] if self.bridge else []
        units += ["coturn"] if self.turn else []
        shared = self.signalling and self.turn and self.settings.get("jitsi_turn_tls") != "port5349"
        return (*units, *(["haproxy"] if shared else []))

    def tls_names(self) -> list[tuple[str, int]]:
        """Return (name, port) of each TLS service that people reach here."""
        found = []
        if self.signalling:
            found.append((str(self.settings["jitsi_domain"]), 443))
        if self.turn:
            port = 5349 if self.settings.get("jitsi_turn_tls") == "port5349" else 443
            found.append((derivations.turn_domain(self.settings), port))
        return found


def subjects(site: Site) -> dict[str, Subject]:
    """Return a subject per host."""
    authority = _authority(site)
    return {
        h.name: Subject(h.name, h.address, h.address6, h.groups, site.topology, h.user, authority) for h in site.hosts
    }


def _authority(site: Site) -> str:
    held = site.secrets.get("certificates_ca_certificate")
    own = str(site.settings.get("certificates_source") or "own_ca") == "own_ca"
    return held.reveal() if own and held is not None else ""


def dump(known: Mapping[str, Subject]) -> str:
    """Return subjects as JSON for the child process that runs the checks."""
    return json.dumps({name: asdict(subject) for name, subject in known.items()})


def load(text: str) -> dict[str, Subject]:
    """Return subjects from JSON."""
    return {name: Subject(**{**row, "groups": tuple(row["groups"])}) for name, row in json.loads(text).items()}
