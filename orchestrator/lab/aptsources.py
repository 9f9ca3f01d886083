"""The machine's own Debian package sources, rewritten for another release: the lab names no mirror itself."""

from __future__ import annotations

import re
from pathlib import Path

CODENAMES = {12: "bookworm", 13: "trixie"}

_DEBIAN_SUITE = re.compile(r"^(bookworm|trixie|stable|oldstable)(-updates|-security|-backports|/updates)?$")


def debian_sources(release: int, apt_directory: Path = Path("/etc/apt")) -> str:
    """Return one-line sources for Debian `release` (12 or 13) taken from the machine's apt configuration.

    Third-party entries and source packages are left out. Raises LookupError if the machine has no Debian source.
    """
    wanted = CODENAMES[release]
    lines: list[str] = []
    for uri, suite, components in _entries(apt_directory):
        match = _DEBIAN_SUITE.match(suite)
        if not match or match.group(2) == "-backports":
            continue
        line = f"deb {uri} {wanted}{match.group(2) or ''} {' '.join(components)}"
        if line not in lines:
            lines.append(line)
    if not lines:
        raise LookupError(f"no Debian package source in {apt_directory}")
    return "\n".join(lines) + "\n"


def _entries(apt_directory: Path) -> list[tuple[str, str, list[str]]]:
    found: list[tuple[str, str, list[str]]] = []
    folder = apt_directory / "sources.list.d"
    one_line = [apt_directory / "sources.list", *sorted(folder.glob("*.list"))]
    for path in one_line:
        if path.is_file():
            found += _one_line_entries(path.read_text())
    for path in sorted(folder.glob("*.sources")):
        found += _deb822_entries(path.read_text())
    return found


def _one_line_entries(text: str) -> list[tuple[str, str, list[str]]]:
    found = []
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)", line.strip())
        if match:
            found.append((match.group(1), match.group(2), match.group(3).split()))
    return found


def _deb822_entries(text: str) -> list[tuple[str, str, list[str]]]:
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", paragraph, flags=re.MULTILINE))
        if "deb" not in fields.get("Types", "").split() or fields.get("Enabled", "yes").strip() == "no":
            continue
        for uri in fields["URIs"].split():
            for suite in fields["Suites"].split():
                found.append((uri, suite, fields.get("Components", "").split()))
    return found
