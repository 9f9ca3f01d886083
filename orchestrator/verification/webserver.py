"""What nginx is set to do, by its own account (`nginx -T`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network

# nginx:src/core/ngx_conf_file.c: a quote counts at the beginning of a word only, `${` does not begin a block.
_WORD = re.compile(r"""\s+|\#[^\n]*|"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|([;{}])|((?:\\.|\$\{|[^\s;{\\])+)""", re.S)


@dataclass(slots=True)
class Directive:
    """One directive with its words and what stands in its block."""

    words: list[str]
    block: list[Directive] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return its first word."""
        return self.words[0] if self.words else ""

    def all(self, name: str) -> Iterator[Directive]:
        """Yield the directives of a name below this one, however deep."""
        for child in self.block:
            if child.name == name:
                yield child
            yield from child.all(name)


def read_nginx(shown: str) -> Directive:
    """Return the directives of all files of the configuration, included files one after another."""
    root = Directive([])
    open_, words = [root], list[str]()
    at = 0
    while at < len(shown):
        found = _WORD.match(shown, at)
        if not found:
            at += 1
            continue
        at = found.end()
        double, single, mark, word = found.groups()
        if mark == "}":
            open_ = open_[:-1] if len(open_) > 1 else open_
        elif mark:
            made = Directive(words)
            open_[-1].block.append(made)
            open_ = [*open_, made] if mark == "{" else open_
            words = []
        elif (text := next((part for part in (double, single, word) if part is not None), None)) is not None:
            words.append(text)
    return root


@dataclass(frozen=True, slots=True)
class Limit:
    """How many requests of one client a location takes: so many a second, and so many at once."""

    zone: str
    rate: float
    burst: int


def limits(shown: str, domain: str, path: str) -> list[tuple[Limit, ...]]:
    """Return the limits of one client's requests for a path, of each TLS server that answers for the domain; () without any.

    An own limit of a location replaces those around it; a dry run limits nobody (nginx:
    src/http/modules/ngx_http_limit_req_module.c). Included files stand beside the one that includes them, so zones are
    looked for everywhere; a limit in a file that a location includes is not seen. Servers with the same limits count once.
    """
    root = read_nginx(shown)
    found = []
    for server in _servers(root, domain):
        levels = [level for level in (_location(server, path), server, *root.all("http")) if level is not None]
        dry = [line.words[1] for level in (*levels, root) for line in level.block if line.name == "limit_req_dry_run"]
        found.append(() if dry[:1] == ["on"] else tuple(_effective(levels, root)))
    return list(dict.fromkeys(found))


def _servers(root: Directive, domain: str) -> list[Directive]:
    """Return the servers that nginx takes for the domain, one of each address on which any listens for TLS; [] where none has its name.

    Where no server of an address has it, the first or the default one answers. On the web's port that counts as well, unless it
    hands out nothing, or is no web server (nginx:src/stream).
    """
    addresses: dict[str, list[tuple[Directive, list[str]]]] = {}
    for server in root.all("server"):
        for line in (line for line in server.block if line.name == "listen" and len(line.words) > 1):
            addresses.setdefault(_address(line.words), []).append((server, line.words))
    named, others = [], []
    for address, rows in addresses.items():
        best = max(_fit(server, domain) for server, _ in rows)
        if not any(_tls(*row) for row in rows):
            continue
        if best:
            named.append(next(server for server, _ in rows if _fit(server, domain) == best))
        elif address.endswith(("*:443", "[::]:443")):
            others.append(next((server for server, words in rows if _DEFAULT & {*words}), rows[0][0]))
    others = [server for server in others if not {"return", "proxy_pass"} & {line.name for line in server.block}]
    return [*named, *others] if named else []


_DEFAULT = {"default_server", "default"}


def _address(words: list[str]) -> str:
    """Return what a server listens on, in the same words for the same thing; QUIC comes by UDP."""
    return f"{'udp ' if 'quic' in words else ''}{socket_of(words[1])}"


def socket_of(word: str) -> str:
    """Return an address and a port, as nginx makes them of what stands after `listen`."""
    place = f"*:{word}" if word.isdigit() else word
    place = place if re.search(r":\d+$|^unix:", place) else f"{place}:80"
    return re.sub(r"^0\.0\.0\.0:", "*:", place)


def _tls(server: Directive, words: list[str]) -> bool:
    return bool({"ssl", "quic"} & {*words}) or any(line.words[:2] == ["ssl", "on"] for line in server.block)


def _fit(server: Directive, domain: str) -> int:
    """Say how well a server's names fit, as nginx ranks them: itself, the end, the beginning, a pattern; 0 for not at all."""
    names = [word.lower() for line in server.block if line.name == "server_name" for word in line.words[1:]]
    ranks = [0]
    for name in names:
        if name in (domain, f".{domain}"):
            ranks.append(4)
        elif name[:1] in ("*", ".") and domain.endswith(name.lstrip("*")):
            ranks.append(3)
        elif name.endswith(".*") and domain.startswith(name[:-1]):
            ranks.append(2)
        elif name.startswith("~") and re.search(_pattern(name[1:]), domain, re.IGNORECASE):
            ranks.append(1)
    return max(ranks)


def _pattern(text: str) -> str:
    """Return a pattern as Python writes it: PCRE also writes a name without the P."""
    return re.sub(r"\(\?<(?=\w)", "(?P<", text)


def _location(server: Directive, path: str) -> Directive | None:
    """Return the location that nginx takes: an exact one, the first pattern that fits, the longest beginning."""
    rows = [(line.words[1:], line) for line in server.block if line.name == "location"]
    for words, line in rows:
        if words[0] == "=" and words[-1] == path:
            return line
    begins = [(words[-1], words[0], line) for words, line in rows if words[0] not in ("=", "~", "~*")]
    fitting = [row for row in begins if path.startswith(row[0])]
    longest = max(fitting, key=lambda row: len(row[0])) if fitting else None
    if longest is None or longest[1] != "^~":
        for words, line in rows:
            flags = re.IGNORECASE if words[0] == "~*" else 0
            if words[0] in ("~", "~*") and re.search(_pattern(words[-1]), path, flags):
                return line
    return longest[2] if longest else None


def _effective(levels: list[Directive], root: Directive) -> list[Limit]:
    """Return the limits of the innermost level that has any; one that does not count by the client bounds no client."""
    rates, foreign = {}, set()
    for line in root.all("limit_req_zone"):
        named = dict(word.partition("=")[::2] for word in line.words[2:])
        number, unit = re.findall(r"(\d+)r/([sm])", named["rate"])[0]
        zone = named["zone"].partition(":")[0]
        rates[zone] = int(number) / (60 if unit == "m" else 1)
        if not _by_client(line.words[1], root):
            foreign.add(zone)
    for level in levels:
        own = [line.words[1:] for line in level.block if line.name == "limit_req"]
        if own:
            rows = [dict(word.partition("=")[::2] for word in words) for words in own]
            counted = [row for row in rows if row["zone"] not in foreign]
            return [Limit(row["zone"], rates.get(row["zone"], 0.0), int(row.get("burst", 0))) for row in counted]
    return []


_CLIENT = ("$binary_remote_addr", "$remote_addr")


def _by_client(key: str, root: Directive) -> bool:
    """Say whether a key is the client's address, or a map makes it of that for each client; who has an empty key has no limit.

    Behind another server the address is what that one says of it, so not anybody may say it (set_real_ip_from).
    """
    trusted = [word for line in root.all("set_real_ip_from") for word in line.words[1:] if re.fullmatch(_NETWORK, word)]
    networks = [ip_network(word, strict=False) for word in trusted]
    if any(network.prefixlen < (8 if network.version == 4 else 16) for network in networks):
        return False
    maps = [line for line in root.all("map") if len(line.words) == 3 and line.words[2] == _bare(key)]
    kept = bool(maps) and all(_bare(table.words[1]) in _CLIENT and _keeps(table) for table in maps)
    return _bare(key) in _CLIENT or kept


_NETWORK = r"[\da-fA-F.:]+/\d+"


def _keeps(table: Directive) -> bool:
    """Say whether a map of addresses gives the address, or a part of it that its pattern names, in every case that it knows."""
    rows = [line.words for line in table.block if line.words not in (["volatile"], ["hostnames"])]
    return all(len(row) == 2 and _kept(*row) for row in rows) and any(row[0] == "default" for row in rows)


def _kept(case: str, value: str) -> bool:
    part = f"(?P<{_bare(value).removeprefix('$')}>"
    return _bare(value) in _CLIENT or (case.startswith("~") and part in _pattern(case))


def _bare(variable: str) -> str:
    return re.sub(r"^\$\{(\w+)\}$", r"$\1", variable)
