"""Where apt takes packages from: in its own words (apt-get(8), indextargets), and by its files (sources.list(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# A tenth of what `apt-cache policy` takes, which opens the cache of all packages. Not which key a source is bound to: apt 2.6
# (Debian 12) does not tell that.
SOURCES = (
    "apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(ORIGIN)|$(LABEL)|$(CODENAME)|$(FILENAME)' | "
    'while IFS= read -r line; do [ -e "${line##*|}" ] && list=read || list=none; printf \'%s|%s\\n\' "${line%|*}" $list; done'
)
# apt reads files with these endings only.
FILES = (
    "cd /etc/apt; for file in sources.list sources.list.d/*.list sources.list.d/*.sources; do "
    '[ -f "$file" ] && { echo "== $file"; cat "$file"; echo; }; done; true'
)


class Source(NamedTuple):
    """One repository; `origin`, `label` and `codename` are its Release file's, "" before apt has read it."""

    uri: str
    suite: str
    origin: str
    label: str
    codename: str
    read: bool


def sources(shown: str) -> Iterator[Source]:
    """Yield what SOURCES printed, each repository once; it is read where any list of its packages is there."""
    found: dict[tuple[str, ...], bool] = {}
    for line in shown.splitlines():
        *fields, state = line.split("|")
        # What apt has no value for stands there as it was asked.
        key = tuple("" if field.startswith("$(") else field for field in fields)
        found[key] = found.get(key, False) or state == "read"
    for (uri, suite, origin, label, codename), read in found.items():
        yield Source(uri, suite, origin, label, codename, read)


def plain(uri: str) -> str:
    """Return an address as both accounts have it: apt writes file:/ for file:/// and ends each with a slash."""
    return re.sub(r"^([\w+]+):///", r"\1:/", uri).rstrip("/")


class Entry(NamedTuple):
    """A repository as the files name it; `signed_by` are key files or fingerprints, or a key itself, () where any key may sign."""

    uri: str
    suite: str
    signed_by: tuple[str, ...]


def entries(shown: str) -> Iterator[Entry]:
    """Yield the repositories of packages that FILES printed and that are not switched off."""
    for part in re.split(r"^== ", shown, flags=re.M)[1:]:
        name, _, content = part.partition("\n")
        yield from _stanzas(content) if name.endswith(".sources") else _lines(content)


def _lines(content: str) -> Iterator[Entry]:
    for line in content.splitlines():
        found = re.match(r"\s*deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)", line)
        if found:
            options = re.findall(r"([\w-]+)\s*[+-]?=\s*(\S+)", found["options"] or "")
            signed = [value for key, value in options if key.lower() == "signed-by"]
            yield Entry(found["uri"], found["suite"], tuple(",".join(signed).replace(",", " ").split()))


def _stanzas(content: str) -> Iterator[Entry]:
    text = re.sub(r"^#.*\n", "", content, flags=re.M)
    for stanza in re.split(r"\n\s*\n", text):
        fields = re.findall(r"^([\w-]+):((?:.*\n?)(?:[ \t].*\n?)*)", stanza, re.M)
        row = {key.lower(): value.strip() for key, value in fields}
        if "deb" not in row.get("types", "").split() or row.get("enabled", "yes").lower() in _NO:
            continue
        signed = row.get("signed-by", "")
        keys = ("a key in the file itself",) if "BEGIN PGP" in signed else tuple(signed.replace(",", " ").split())
        for uri in row.get("uris", "").split():
            yield from (Entry(uri, suite, keys) for suite in row.get("suites", "").split())


# apt-pkg/contrib/strutl.cc, StringToBool
_NO = ("no", "false", "without", "off", "disable", "0")
