"""Crypto profiles: what the site's choice allows, from crypto_profiles.yml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from orchestrator import content

_FILE = Path(__file__).with_name("crypto_profiles.yml")
DEFAULT = "bsi-2026"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Unconfirmed(_Model):
    """Names whose place in the published text nobody of us has read, and what is done about them until then."""

    names: tuple[str, ...]
    allowed: bool
    why: str


class _Part(_Model):
    rsa_bits: int
    ec_bits: int
    unconfirmed: tuple[Unconfirmed, ...]

    def allows(self, name: str, listed: Iterable[str]) -> bool:
        """Say whether a name is listed, or allowed although it is not confirmed."""
        return name in listed or any(name in row.names and row.allowed for row in self.unconfirmed)

    def shown(self, names: Iterable[str]) -> str:
        """Return names as a finding shows them: with a question mark where the profile is not confirmed."""
        doubtful = {name for row in self.unconfirmed for name in row.names}
        return ", ".join(f"{name} ?" if name in doubtful else name for name in names)

    def why_not(self, names: Iterable[str]) -> str:
        """Return what the profile says about names that it does not allow."""
        reasons = [row.why for row in self.unconfirmed if not row.allowed and set(row.names) & set(names)]
        return f" ({'; '.join(reasons)})" if reasons else ""


class SshNames(_Model):
    """Algorithms for SSH, by OpenSSH's names."""

    kex: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    host_keys: tuple[str, ...]
    public_keys: tuple[str, ...]


class SshPart(_Part, SshNames):
    """What a profile allows for SSH, and what our own sshd offers."""

    offer: SshNames


_CERTIFICATE = "-cert-v01@openssh.com"


def signs_by(name: str) -> str:
    """Return the algorithm by which an SSH key or certificate signs; OpenSSH names certificates apart."""
    if not name.endswith(_CERTIFICATE):
        return name
    plain = name.removesuffix(_CERTIFICATE)
    return f"{plain}@openssh.com" if plain.startswith("sk-") else plain


class TlsOffer(_Model):
    """What our own services offer, by OpenSSL's names."""

    ciphers: tuple[str, ...]
    suites: tuple[str, ...]
    groups: tuple[str, ...]


class _Tls(_Part):
    source: str
    tls_versions: tuple[str, ...]
    tls_suites: tuple[str, ...]
    tls_groups: tuple[str, ...]
    authority_rsa_bits: int
    certificate_days: int
    offer: TlsOffer
    ssh: SshPart


@dataclass(frozen=True, slots=True)
class CryptoProfile:
    """One profile by its name."""

    name: str
    tls: _Tls

    @property
    def ssh(self) -> SshPart:
        """Return the part that speaks of SSH."""
        return self.tls.ssh


@cache
def load_profiles() -> Mapping[str, CryptoProfile]:
    """Return all profiles by name; raises pydantic's ValidationError where the data do not fit."""
    rows: Mapping[str, Any] = content.data(_FILE)
    return {name: CryptoProfile(name, _Tls.model_validate(row)) for name, row in rows.items()}


def chosen(settings: Mapping[str, Any]) -> CryptoProfile:
    """Return the profile that a site's settings choose."""
    return load_profiles()[str(settings.get("verification_crypto_profile") or DEFAULT)]
