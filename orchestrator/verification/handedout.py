"""What nginx hands out by its own account (`nginx -T`): directories, and where each of its servers can be asked for them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import quote

from orchestrator.verification.doors import Door
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject
from orchestrator.verification.webserver import Directive, read_nginx, socket_of

# What a path that begins with no `/` is relative to (Debian: nginx -V, --prefix), and where a server without a root looks.
_PREFIX, _ROOT = "/usr/share/nginx", "html"
# A name that nobody has, for servers that take any (RFC 2606).
_ANY = "ratssaal-pruefung.invalid"
_LISTS = ("autoindex", "fancyindex")
_WILD = ("*:", "[::]:")
_HEADER = re.compile(r"^# configuration file (.*):$", re.M)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory that is handed out below `prefix`."""

    prefix: str
    folder: str

    def covers(self, path: str) -> bool:
        """Say whether a file's path lies in the directory."""
        return path == self.folder or path.startswith(self.folder.rstrip("/") + "/")

    def url(self, path: str) -> str:
        """Return the address under which a file of the directory would be handed out."""
        rest = path[len(self.folder) :]
        return quote(f"{self.prefix}{rest}" if self.prefix != "/" else f"/{rest.lstrip('/')}")


@dataclass(frozen=True, slots=True)
class Served:
    """A server: where it can be asked, why not, and whether it may list a directory's files."""

    doors: tuple[Door, ...]
    closed: tuple[str, ...]
    lists: bool
    locations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Handed:
    """A directory that a server hands out; `computed` where nginx puts a part of its path together for each request."""

    place: Place
    server: Served
    computed: bool = False


@dataclass(slots=True)
class Handing:
    """All that is handed out, and what of it only nginx knows."""

    rows: list[Handed] = field(default_factory=list)
    servers: list[Served] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def folders(self) -> list[str]:
        """Return the directories, none within another."""
        found: list[str] = []
        for folder in sorted({row.place.folder for row in self.rows}):
            if not any(Place("/", known).covers(folder) for known in found):
                found.append(folder)
        return found

    def asked(self, file: str, sheet: Sheet) -> list[tuple[Door, str]]:
        """Return where a file would be handed out, and note where that cannot be asked."""
        found: dict[tuple[Door, str], None] = {}
        for row in self.rows:
            if not row.place.covers(file):
                continue
            found |= dict.fromkeys((door, row.place.url(file)) for door in row.server.doors)
            gaps = [f"{file} is handed out {why}" for why in row.server.closed]
            if row.computed:
                gaps.append(f"{file}: nginx computes under which address it hands out {row.place.folder}")
            for gap in gaps:
                if gap not in sheet.untested:
                    sheet.could_not_look(gap)
        return list(found)

    def note_unknown(self, sheet: Sheet) -> bool:
        """Note what is handed out from nobody knows where; say whether there is any."""
        for value in self.unknown:
            sheet.could_not_look(f"nginx computes what it hands out ({value})")
        return bool(self.unknown)


def handed_out(shown: str, subject: Subject) -> Handing:
    """Return what the host's nginx hands out."""
    found = Handing()
    tree = _whole(shown)
    servers = list(_servers(tree))
    defaults = _defaults(servers)
    outer = [line for level in (tree, *tree.all("http")) for line in level.block]
    for number, server in enumerate(servers):
        served = _served(server, outer, {key for key, first in defaults.items() if first == number}, subject)
        found.servers.append(served)
        for value, prefix in _folders(server, outer):
            folder, computed = _folder(value)
            if folder == "/" and computed:
                found.unknown.append(value)
            else:
                found.rows.append(Handed(Place(prefix, folder), served, computed))
    return found


def _folder(value: str) -> tuple[str, bool]:
    """Return the directory that is written down, and whether nginx adds to its path what is not in the address."""
    before, computed, _ = value.partition("$")
    if not computed:
        return value if value.startswith("/") else f"{_PREFIX}/{value}", False
    # What a pattern of the address caught stands in the path as it does in the address.
    plain = before.endswith("/") and not re.search(r"\$(?!\{?\d)", value)
    folder = before.rpartition("/")[0] + "/"
    return folder if folder.startswith("/") else f"{_PREFIX}/{folder}", not plain


def _whole(shown: str) -> Directive:
    """Return the configuration with each included file in the place of its `include`."""
    _, *parts = _HEADER.split(shown)
    if not parts:
        return read_nginx(shown)
    files = {path: read_nginx(text) for path, text in zip(parts[::2], parts[1::2], strict=True)}
    return _filled(files[parts[0]], files, PurePosixPath(parts[0]).parent, (parts[0],))


def _filled(
    level: Directive, files: Mapping[str, Directive], folder: PurePosixPath, within: tuple[str, ...]
) -> Directive:
    block: list[Directive] = []
    for line in level.block:
        if line.name != "include" or len(line.words) < 2:
            block.append(_filled(line, files, folder, within) if line.block else line)
            continue
        pattern = str(folder / line.words[1])
        for path, file in files.items():
            if path not in within and PurePosixPath(path).match(pattern):
                block += _filled(file, files, folder, (*within, path)).block
    return Directive(level.words, block)


def _servers(level: Directive) -> Iterator[Directive]:
    """Yield the web servers: no lines of an upstream, and none that hand on bytes or mail."""
    for line in level.block:
        if line.name == "server" and line.block:
            yield line
        elif line.name not in ("stream", "mail"):
            yield from _servers(line)


def _named(lines: Iterable[Directive], name: str) -> list[list[str]]:
    return [line.words[1:] for line in lines if line.name == name and len(line.words) > 1]


def _listens(server: Directive) -> list[list[str]]:
    """Return what a server listens on, HTTP/3 left out: it hands out nothing else."""
    found = _named(server.block, "listen")
    return [words for words in found if "quic" not in words] if found else [["80"]]


def _defaults(servers: list[Directive]) -> dict[str, int]:
    """Return which server answers on each socket to names that no server has: the one that says so, or the first."""
    found: dict[str, int] = {}
    for number, server in enumerate(servers):
        for words in _listens(server):
            key = socket_of(words[0])
            if key not in found or "default_server" in words or "default" in words:
                found[key] = number
    return found


def _served(server: Directive, outer: list[Directive], default_on: set[str], subject: Subject) -> Served:
    doors: list[Door] = []
    closed: list[str] = []
    idle: list[str] = []
    refuses = ["on"] in _named(server.block, "ssl_reject_handshake")
    for words in _listens(server):
        name = _name(server, socket_of(words[0]) in default_on)
        if not name:
            closed.append(f"under names that only nginx can tell, on {words[0]}")
            continue
        port, addresses = _reached(words, subject)
        tls = "ssl" in words or ["on"] in _named(server.block, "ssl")
        if tls and refuses:
            # Who told TLS another server's name gets here by HTTP all the same; what returns at once hands out nothing.
            if not _named(server.block, "return"):
                closed.append(f"under names that TLS refuses, on {words[0]}")
            continue
        doors += [Door("https" if tls else "http", name, port, address) for address in addresses]
        if not addresses:
            # A host without IPv6 is not reached by it.
            absent = socket_of(words[0]).startswith(_WILD) and "proxy_protocol" not in words
            (idle if absent else closed).append(f"on {words[0]}, which was not asked")
    lines = [*outer, *(line for name in _LISTS for line in server.all(name))]
    lists = any(line.name in _LISTS and line.words[1:] == ["on"] for line in lines)
    plain = [line.words[-1] for line in server.all("location") if line.words[1] not in ("=", "~", "~*")]
    locations = ["/", *(path.rstrip("/") + "/" for path in plain if path.startswith("/"))]
    closed += idle if not doors else []
    return Served(tuple(dict.fromkeys(doors)), tuple(closed), lists, tuple(dict.fromkeys(locations)))


def _name(server: Directive, default: bool) -> str:
    """Return a name that a server is reached by, "" where none is known."""
    names = [word for words in _named(server.block, "server_name") for word in words]
    plain = [name.lstrip(".") for name in names if re.fullmatch(r"\.?[\w-][\w.-]*", name)]
    patterns = [re.sub(r"^\*|\*$", "ratssaal-pruefung", name) for name in names if re.fullmatch(r"[\w.*-]+", name)]
    return next(iter([*plain, *patterns]), _ANY if default else "")


def _reached(words: list[str], subject: Subject) -> tuple[int, list[str]]:
    """Return at which port, over which addresses of the host others reach what listens so; none where that is not known."""
    if "proxy_protocol" in words:
        # TLS that another server hands on comes in where that one listens; of what came in without, nothing is known.
        return 443, list(subject.addresses) if "ssl" in words else []
    if words[0].startswith("unix:"):
        return 0, []
    address, _, port = socket_of(words[0]).rpartition(":")
    versions = {"*": (4,), "[::]": (6, 4) if "ipv6only=off" in words else (6,)}.get(address)
    if versions:
        return int(port), [each for each in subject.addresses if ipaddress.ip_address(each).version in versions]
    try:
        own = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return int(port), []
    return int(port), [] if own.is_loopback else [str(own)]


def _folders(server: Directive, outer: list[Directive]) -> Iterator[tuple[str, str]]:
    """Yield each directory of a server as it is written, and the beginning of the addresses that it is handed out by."""
    roots = [words[0] for words in _named(server.all("root"), "root")]
    if not _named(server.block, "root"):
        roots.append(next((words[0] for words in reversed(_named(outer, "root"))), _ROOT))
    yield from ((root, "/") for root in dict.fromkeys(roots))
    for location in server.all("location"):
        words = location.words[1:]
        for (alias,) in (words_[:1] for words_ in _named(location.block, "alias")):
            yield alias, _literal(words[-1]) if words[0] in ("~", "~*") else words[-1]


def _literal(pattern: str) -> str:
    """Return with what an address begins that fits a pattern; "/" where that is not fixed."""
    found = re.match(r"\^(/(?:[\w/%-]|\\[.\-])*)", pattern)
    return found.group(1).replace("\\", "") if found else "/"
