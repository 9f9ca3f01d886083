"""Where apt takes packages from, in its own words (apt-get(8), indextargets)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

# A tenth of what `apt-cache policy` takes, which opens the cache of all packages.
SOURCES = (
    "apt-get indextargets --format '$(REPO_URI)|$(SIGNED_BY)|$(ORIGIN)|$(LABEL)|$(CODENAME)|$(FILENAME)' | "
    'while IFS= read -r line; do [ -e "${line##*|}" ] && list=read || list=none; printf \'%s|%s\\n\' "${line%|*}" $list; done'
)


class Source(NamedTuple):
    """One repository; `origin`, `label` and `codename` are its Release file's, "" before apt has read it."""

    uri: str
    signed_by: str
    origin: str
    label: str
    codename: str
    read: bool


def sources(shown: str) -> Iterator[Source]:
    """Yield what SOURCES printed, each repository once; it is read where any list of its packages is there."""
    found: dict[tuple[str, ...], bool] = {}
    for line in shown.splitlines():
        *fields, state = line.split("|")
        key = tuple(fields)
        found[key] = found.get(key, False) or state == "read"
    for (uri, signed_by, origin, label, codename), read in found.items():
        yield Source(uri, signed_by, origin, label, codename, read)
