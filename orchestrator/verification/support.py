"""What is supported until when, and which version is newer: the data of support.yml and Debian's order of versions."""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from orchestrator import content

_FILE = Path(__file__).parent / "support.yml"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Release(_Entry):
    """One release of Debian and the last days of its security support."""

    number: int
    codename: str
    security_until: date
    lts_until: date


class Advisory(_Entry):
    """One known weakness: versions of the package below `fixed` have it."""

    id: str
    package: str
    fixed: str
    text: str


class Support(_Entry):
    """The whole file."""

    releases: tuple[Release, ...]
    lts_architectures: tuple[str, ...]
    platforms: dict[str, tuple[int, ...]]
    minimum: dict[str, str]
    advisories_read_until: date
    advisories: tuple[Advisory, ...]

    def release(self, number: int) -> Release | None:
        """Return a release by its number, None where nothing is known of it."""
        return next((release for release in self.releases if release.number == number), None)

    def until(self, release: Release, architecture: str) -> date:
        """Return the last day on which the security archive gets updates for this architecture."""
        return release.lts_until if architecture in self.lts_architectures else release.security_until


@cache
def load_support() -> Support:
    """Return the data of support.yml."""
    return Support.model_validate(content.data(_FILE))


def older(version: str, than: str) -> bool:
    """Say whether a package's version is older than another, by Debian's order (deb-version(7))."""
    return _key(version) < _key(than)


Part = tuple[tuple[int, ...], int]


def _key(version: str) -> tuple[int, tuple[Part, ...], tuple[Part, ...]]:
    epoch, colon, rest = version.rpartition(":")
    upstream, hyphen, revision = rest.rpartition("-")
    return (int(epoch) if colon else 0, _parts(upstream if hyphen else rest), _parts(revision if hyphen else "0"))


def _parts(text: str) -> tuple[Part, ...]:
    """Split into pairs of non-digits and a number; every text of non-digits ends with 0, so that only ~ is below it."""
    pairs = re.findall(r"(\D*)(\d*)", text)
    return tuple(((*map(_rank, letters), 0), int(digits or 0)) for letters, digits in pairs)


def _rank(letter: str) -> int:
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256
