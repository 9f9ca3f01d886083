"""Where apt takes packages from: in its own words (apt-get(8), indextargets), and by its files (sources.list(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import unquote

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


# What does without a signature where it is switched on, and what checks a list's age where it is not switched off (sources.list(5)).
_TRUSTING = ("trusted", "allow-insecure", "allow-weak", "allow-downgrade-to-insecure")
_AGES = ("check-valid-until", "check-date")
# apt-pkg/contrib/strutl.cc, StringToBool
NO = ("no", "false", "without", "off", "disable", "0")
Options = Sequence[tuple[str, str]]


def entries(shown: str) -> Iterator[Entry]:
    """Yield the repositories of packages that FILES printed and that are not switched off."""
    for _, options, places in _rows(shown):
        signed = " ".join(value for key, value in options if key == "signed-by")
        keys = ("a key in the file itself",) if "BEGIN PGP" in signed else tuple(signed.replace(",", " ").split())
        yield from (Entry(uri, suite, keys) for uri, suite in places)


def loosened(shown: str) -> Iterator[tuple[str, str]]:
    """Yield each file with an option that lets a source do without a check, whatever the source is for."""
    for name, options, _ in _rows(shown):
        for key, value in options:
            refused = value.lower() in NO
            if (key in _TRUSTING and value and not refused) or (key in _AGES and refused):
                yield name, f"{key}={value}"


def _rows(shown: str) -> Iterator[tuple[str, Options, list[tuple[str, str]]]]:
    """Yield what each line or stanza of a file says: its options, and its repositories of packages, if they are on."""
    for part in re.split(r"^== ", shown, flags=re.M)[1:]:
        name, _, content = part.partition("\n")
        for options, places in _stanzas(content) if name.endswith(".sources") else _lines(content):
            yield name, options, places


def _lines(content: str) -> Iterator[tuple[Options, list[tuple[str, str]]]]:
    line = r"^[ \t]*deb(-src)?[ \t]+(?:\[([^]\n]*)\][ \t]*)?(\S+)[ \t]+(\S+)"
    for source, options, uri, suite in re.findall(line, content, re.M):
        # A word may be quoted, and each of its letters written as %XX (apt-pkg/contrib/strutl.cc, ParseQuotedWord).
        pairs = re.findall(r"([\w-]+)\s*[+-]?=\s*(\S+)", unquote(options.replace('"', "")))
        yield [(key.lower(), value) for key, value in pairs], [] if source else [(uri, suite)]


def _stanzas(content: str) -> Iterator[tuple[Options, list[tuple[str, str]]]]:
    text = re.sub(r"^#.*\n", "", content, flags=re.M)
    for stanza in re.split(r"\n\s*\n", text):
        fields = re.findall(r"^([\w-]+):((?:.*\n?)(?:[ \t].*\n?)*)", stanza, re.M)
        options = [(key.lower(), value.strip()) for key, value in fields]
        row = dict(options)
        on = "deb" in row.get("types", "").split() and row.get("enabled", "yes").lower() not in NO
        uris, suites = (row.get(name, "").split() if on else [] for name in ("uris", "suites"))
        yield options, [(uri, suite) for uri in uris for suite in suites]
