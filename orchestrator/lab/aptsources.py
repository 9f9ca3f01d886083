"""The machine's own Debian package sources, rewritten for another release: the lab names no mirror itself."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CODENAMES = {12: "bookworm", 13: "trixie"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_DEBIAN_SUITE = re.compile(r"(?:bullseye|bookworm|trixie|forky|oldstable|stable|testing)(-updates|-security)?")
_DEBIAN_COMPONENTS = {"main", "contrib", "non-free", "non-free-firmware"}
# What of apt's settings decides whether a download works; the rest is the machine's own affair.
_SETTING = re.compile(
    r'(Acquire::(?:https?::.+|ForceIPv[46]|Retries|Check-Valid-Until|Check-Date|Max-ValidTime\S*)) "(.+)";'
)
_FILE_SETTING = re.compile(r"::(?:CaInfo|CAInfo|CaPath|SslCert|SslKey|CrlFile|IssuerCert)$", re.IGNORECASE)
_LOOPBACK = re.compile(r"(//(?:[^/@]*@)?)(?:localhost|127\.0\.0\.1|\[::1\])(?=[:/]|$)")


@dataclass(frozen=True, slots=True)
class Source:
    """One package source as apt understands it; `signed_by` is "" where the machine trusts its whole keyring."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


def debian_sources(release: int, apt_directory: Path = Path("/etc/apt"), lists: Path | None = None) -> str:
    """Return the deb822 text of Debian `release` (12 or 13), taken from the machine's apt configuration.

    Third-party sources, backports and source packages are left out; `lists` is apt's directory of downloaded indexes,
    whose Origin has the last word on what is Debian. Raises LookupError if the machine has no Debian source.
    """
    lists = Path("/var/lib/apt/lists") if lists is None else lists
    paragraphs: list[str] = []
    for source in read_sources(apt_directory):
        match = _DEBIAN_SUITE.fullmatch(source.suite)
        if not match or not _is_debian(source, lists):
            continue
        suite = CODENAMES[release] + (match.group(1) or "")
        for uri in _uris(source.uri):
            components = " ".join(source.components)
            text = f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}\nSigned-By: {KEYRING}\n"
            if text not in paragraphs:
                paragraphs.append(text)
    if not paragraphs:
        raise LookupError(f"no Debian package source in {apt_directory}")
    return "\n".join(paragraphs)


def read_sources(apt_directory: Path) -> Iterator[Source]:
    """Yield every enabled binary source of an apt directory, in both of apt's syntaxes (sources.list(5))."""
    folder = apt_directory / "sources.list.d"
    for path in (apt_directory / "sources.list", *sorted(folder.glob("*.list"))):
        if path.is_file():
            yield from _one_line_entries(path.read_text())
    for path in sorted(folder.glob("*.sources")):
        yield from _deb822_entries(path.read_text())


def apt_settings(gateway: str = "", environment: Mapping[str, str] = os.environ, dump: str | None = None) -> str:
    """Return the machine's download settings (proxy, CA, clock checks) as apt configuration.

    A proxy on the machine's loopback is reached at `gateway` from a lab host, which always fetches from `gateway` itself
    directly. `dump` is the output of `apt-config dump` (run where not given).
    """
    if dump is None:
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    found = dict(_pairs(dump))
    for scheme in ("http", "https"):
        proxy = environment.get(f"{scheme}_proxy", "")
        if proxy:
            found.setdefault(f"Acquire::{scheme}::Proxy", proxy)
    if gateway:
        found = {name: _LOOPBACK.sub(rf"\g<1>{gateway}", value) for name, value in found.items()}
        found[f"Acquire::http::Proxy::{gateway}"] = "DIRECT"
    return "".join(f'{name} "{value}";\n' for name, value in found.items())


def settings_files(settings: str) -> list[Path]:
    """Return the files (certificates, keys) that apt settings name."""
    return [Path(value) for name, value in _pairs(settings) if _FILE_SETTING.search(name) and Path(value).is_file()]


def _pairs(settings: str) -> list[tuple[str, str]]:
    matches = map(_SETTING.fullmatch, settings.splitlines())
    return [(match.group(1), match.group(2)) for match in matches if match]


def _is_debian(source: Source, lists: Path) -> bool:
    if not source.components or not set(source.components) <= _DEBIAN_COMPONENTS:
        return False
    if source.signed_by and "debian-archive" not in source.signed_by:
        return False
    origin = _known_origin(source, lists)
    return origin in ("", "Debian")


def _known_origin(source: Source, lists: Path) -> str:
    """Return the Origin that the repository states about itself, "" before the first `apt-get update`."""
    place = re.sub(r"^[a-z+]+://(?:[^/@]*@)?", "", source.uri).rstrip("/").replace("/", "_")
    for name in ("InRelease", "Release"):
        path = lists / f"{place}_dists_{source.suite}_{name}"
        if path.is_file():
            match = re.search(r"^Origin:\s*(.+)$", path.read_text(errors="replace"), flags=re.MULTILINE)
            return match.group(1).strip() if match else "unknown"
    return ""


def _uris(uri: str) -> list[str]:
    """Resolve `mirror+file:` (Debian's cloud images use it): its list lies on this machine only."""
    if not uri.startswith("mirror+file:"):
        return [uri] if re.match(r"(?:mirror\+)?https?:", uri) else []
    path = Path("/" + uri.removeprefix("mirror+file:").lstrip("/"))
    words = [line.split()[0] for line in path.read_text().splitlines() if line.strip()] if path.is_file() else []
    return [word for word in words if word.startswith(("http:", "https:"))][:1]


def _one_line_entries(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
        if match:
            options = dict(word.split("=", 1) for word in (match.group(1) or "").split() if "=" in word)
            yield Source(match.group(2), match.group(3), tuple(match.group(4).split()), options.get("signed-by", ""))


def _deb822_entries(text: str) -> Iterator[Source]:
    text = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n", text):
        pairs = re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", paragraph, flags=re.MULTILINE)
        fields = {name.lower(): value for name, value in pairs}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").strip().lower() == "no":
            continue
        signed_by = " ".join(fields.get("signed-by", "").split())
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, tuple(fields.get("components", "").split()), signed_by)
