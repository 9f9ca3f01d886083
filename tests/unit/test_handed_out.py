"""What nginx hands out, read from its configuration, and what becomes of files that lie there."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.verification.batch import Answers, BatchBackend, prefetch
from orchestrator.verification.checks import test_disclosure, test_recordings
from orchestrator.verification.handedout import Handing, handed_out
from orchestrator.verification.sheet import NotApplicable, NotTested, Sheet
from orchestrator.verification.subject import Subject
from tests.unit.asked import faults_of, subject_of
from tests.unit.test_web_templates import _render

BOTH = replace(subject_of(), address6="2001:db8::10")
_TLS = "ssl_certificate c.pem; ssl_certificate_key k.pem;"


def _urls(handing: Handing, file: str) -> list[str]:
    return [f"{door.base}{path} {door.address}" for door, path in handing.asked(file, Sheet())]


def _gaps(handing: Handing, file: str) -> str:
    sheet = Sheet()
    handing.asked(file, sheet)
    return "; ".join(sheet.untested)


def test_directories_are_found_however_they_are_written() -> None:
    handing = handed_out(
        """
        server { listen 443 ssl; listen [::]:443 ssl; server_name meet.example.org;
            root "/data/x"; location /aufnahmen/ { alias /data/aufnahmen/; autoindex on; }
            location ~ ^/films/(.*)$ { alias /srv/films/$1; }
        }
        """,
        BOTH,
    )
    assert handing.folders == ["/data/aufnahmen/", "/data/x", "/srv/films/"]
    assert _urls(handing, "/data/aufnahmen/a b.mp4") == [
        "https://meet.example.org/aufnahmen/a%20b.mp4 192.0.2.10",
        "https://meet.example.org/aufnahmen/a%20b.mp4 2001:db8::10",
    ]
    assert _urls(handing, "/data/x/y.mp4")[0] == "https://meet.example.org/y.mp4 192.0.2.10"
    assert _urls(handing, "/srv/films/z.mp4")[0] == "https://meet.example.org/films/z.mp4 192.0.2.10"
    assert [(server.lists, server.locations) for server in handing.servers] == [(True, ("/", "/aufnahmen/"))]


@pytest.mark.parametrize(
    ("server", "urls"),
    [
        # By its own name, and where it listens.
        ("listen 80; server_name downloads.example.org;", ["http://downloads.example.org/f 192.0.2.10"]),
        (f"listen [::]:8443 ssl; server_name d.example; {_TLS}", ["https://d.example:8443/f 2001:db8::10"]),
        ("listen [::]:80 ipv6only=off; server_name d.example;", ["http://d.example/f 192.0.2.10", "http://d.example/f 2001:db8::10"]),
        ("listen 203.0.113.5:81; server_name d.example;", ["http://d.example:81/f 203.0.113.5"]),
        ("listen 80; listen 443 ssl; server_name d.example;", ["http://d.example/f 192.0.2.10", "https://d.example/f 192.0.2.10"]),
        # Behind HAProxy, at which others arrive.
        (
            "listen 127.0.0.1:4443 ssl proxy_protocol; server_name d.example;",
            ["https://d.example/f 192.0.2.10", "https://d.example/f 2001:db8::10"],
        ),
        ("server_name *.example.org;", ["http://ratssaal-pruefung.example.org/f 192.0.2.10"]),
        ("server_name .example.org;", ["http://example.org/f 192.0.2.10"]),
        # The first on its socket answers to names that nobody has.
        ("listen 8081;", ["http://ratssaal-pruefung.invalid:8081/f 192.0.2.10"]),
        ("listen 8082; server_name _;", ["http://_:8082/f 192.0.2.10"]),
        ("listen 8083; server_name ~^d[0-9]+$;", ["http://ratssaal-pruefung.invalid:8083/f 192.0.2.10"]),
    ],
)  # fmt: skip
def test_each_server_is_asked_by_its_name_where_it_listens(server: str, urls: list[str]) -> None:
    handing = handed_out(f"server {{ {server} root /srv/w; }}", BOTH)
    assert (_urls(handing, "/srv/w/f"), _gaps(handing, "/srv/w/f")) == (urls, "")


@pytest.mark.parametrize(
    ("server", "gap"),
    [
        ("listen 127.0.0.1:8080; server_name d.example; root /srv/w;", "handed out on 127.0.0.1:8080, which was not asked"),
        ("listen unix:/run/w.sock; server_name d.example; root /srv/w;", "handed out on unix:/run/w.sock"),
        ("listen 80; server_name ~^d[0-9]+$; root /srv/w;", "under names that only nginx can tell"),
        ("listen 8080 proxy_protocol; server_name d.example; root /srv/w;", "handed out on 8080, which was not asked"),
        ("listen 80; server_name d.example; root /srv/w/$host;", "nginx computes under which address"),
    ],
)  # fmt: skip
def test_where_nobody_can_ask_is_told(server: str, gap: str) -> None:
    other = "server { listen 80; server_name meet.example.org; }"
    assert gap in _gaps(handed_out(f"{other} server {{ {server} }}", BOTH), "/srv/w/f")
    # A host without IPv6 is not reached by it; one that has nothing else is not taken for shut.
    both = handed_out("server { listen 80; listen [::]:80; server_name x; root /srv/w; }", subject_of())
    assert _gaps(both, "/srv/w/f") == ""
    only = handed_out("server { listen [::]:80; server_name x; root /srv/w; }", subject_of())
    assert "on [::]:80, which was not asked" in _gaps(only, "/srv/w/f")


def test_directories_that_only_nginx_knows_are_told() -> None:
    sheet = Sheet()
    assert handed_out("server { listen 80; root $where; }", BOTH).note_unknown(sheet)
    assert sheet.untested == ["nginx computes what it hands out ($where)"]


def test_included_files_stand_where_they_are_included() -> None:
    handing = handed_out(
        """# configuration file /etc/nginx/nginx.conf:
stream { server { listen 9; proxy_pass x; } }
http { include conf.d/*.conf; include /etc/nginx/sites-enabled/*; }

# configuration file /etc/nginx/conf.d/root.conf:
root /srv/all;
autoindex on;

# configuration file /etc/nginx/sites-enabled/a:
server { listen 80; server_name a.example; include snippets/films.conf; }
server { listen 80; server_name b.example; root own; autoindex on; }

# configuration file /etc/nginx/snippets/films.conf:
location ^~ /films/ { alias /srv/films/; }
""",
        BOTH,
    )
    assert len(handing.servers) == 2
    assert _urls(handing, "/srv/films/x.mp4") == ["http://a.example/films/x.mp4 192.0.2.10"]
    assert _urls(handing, "/srv/all/x.mp4") == ["http://a.example/x.mp4 192.0.2.10"]
    assert _urls(handing, "/usr/share/nginx/own/x.mp4") == ["http://b.example/x.mp4 192.0.2.10"]
    assert all(server.lists for server in handing.servers)


@pytest.mark.parametrize("shared", [True, False])
def test_nothing_of_our_own_servers_is_hidden_from_the_checks(tmp_path: Path, shared: bool) -> None:
    given = {
        "jitsi_turn_tls": "port443" if shared else "port5349",
        "__web_shared": shared,
        "jitsi_tls_directory": "/etc/x",
    }
    shown = _render(tmp_path, {"site": ("nginx-site.conf.j2", given)})["site"]
    handing = handed_out(shown, BOTH)
    assert handing.unknown == []
    assert _gaps(handing, "/usr/share/jitsi-meet/x") == ""
    urls = _urls(handing, "/usr/share/jitsi-meet/libs/x.mp4")
    assert urls == [f"https://meet.example.org/libs/x.mp4 {address}" for address in BOTH.addresses]
    assert not any(server.lists for server in handing.servers)
    bases = {door.base for server in handing.servers for door in server.doors}
    assert bases == {"http://_", "https://meet.example.org"}


def test_a_server_that_no_name_leads_to_through_tls_is_not_asked() -> None:
    """One that answers at once hands out nothing; of another nothing is known."""
    refusing = "server {{ listen 443 ssl default_server; ssl_reject_handshake on; root /srv/w; {} }}"
    silent = handed_out(refusing.format("return 421;"), BOTH)
    assert (_urls(silent, "/srv/w/f"), _gaps(silent, "/srv/w/f")) == ([], "")
    assert "handed out under names that TLS refuses, on 443" in _gaps(handed_out(refusing.format(""), BOTH), "/srv/w/f")
    plain = handed_out(refusing.format("listen 80;"), BOTH)
    assert _urls(plain, "/srv/w/f") == ["http://ratssaal-pruefung.invalid/f 192.0.2.10"]


class _Machine:
    """A host with this nginx configuration and these answers of its servers, whose other commands really run."""

    def __init__(self, nginx: str, curl: dict[str, str]) -> None:
        self._nginx, self._curl = nginx, curl
        self.backend = BatchBackend("h1", self._ship)
        self.run = self.backend.run

    def _ship(self, commands: list[str]) -> Answers:
        return {command: (0, self._answer(command).encode(), b"") for command in commands}

    def _answer(self, command: str) -> str:
        if command.startswith("nginx -T"):
            return self._nginx
        if command.startswith("curl"):
            return next(said for part, said in self._curl.items() if part in command)
        if command.startswith("\nconfigured"):
            return ""
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout


def _judge(check: Any, nginx: str, curl: dict[str, str], subject: Subject = BOTH) -> Sheet:
    """Run a check as it is run in earnest: first for its questions, which must be asked in three rounds."""
    host, sheet = _Machine(nginx, curl), Sheet()
    prefetch([lambda: check(host=host, subject=subject, sheet=Sheet())], host.backend)
    try:
        check(host=host, subject=subject, sheet=sheet)
    finally:
        assert host.backend.round_trips <= 3
    return sheet


def _downloads(folder: Path, further: str = "") -> str:
    return (
        "server { listen 443 ssl default_server; server_name meet.example.org; return 404; }"
        f'server {{ listen [::]:443 ssl; server_name dl.example.org; root "{folder}"; {further} }}'
    )


_AT = "dl.example.org:443:2001:db8::10"
_PAGE = "HTTP/1.1 200 OK\n\n<html>"


def test_recordings_of_any_server_are_found_and_asked_for(tmp_path: Path) -> None:
    film = tmp_path / "aufnahmen" / "rat.mp4"
    film.parent.mkdir()
    film.write_text("film")
    nginx = _downloads(tmp_path / "x", f"location /a/ {{ alias {film.parent}/; autoindex on; }}")

    def closed(answer: str, shown: str = _PAGE) -> Sheet:
        return _judge(test_recordings.test_recordings_are_closed, nginx, {" -o /dev/null": answer, f"{_AT} -i": shown})

    good = closed("403||other")
    assert (good.faults, good.untested) == ([], [])
    assert faults_of(closed("200||same")) == (
        "https://dl.example.org/a/rat.mp4 answers 200 with the recording, asked on 2001:db8::10"
    )
    assert "https://dl.example.org/a/ lists rat.mp4" in faults_of(closed("403||other", f"{_PAGE}rat.mp4"))
    assert "does not answer, asked on 2001:db8::10" in closed("000||other").untested[0]
    # That its own server is not asked does not make it closed.
    inner = nginx.replace("[::]:443", "127.0.0.1:443")
    assert "which was not asked" in _judge(test_recordings.test_recordings_are_closed, inner, {}).untested[0]
    young = _judge(test_recordings.test_recordings_are_young, nginx, {})
    assert f"{film.parent}/: 1 files" in young.seen[0]
    film.unlink()
    with pytest.raises(NotApplicable):
        _judge(test_recordings.test_recordings_are_young, nginx, {})


def test_plain_http_that_sends_on_to_https_is_no_gap(tmp_path: Path) -> None:
    (tmp_path / "rat.mp4").write_text("film")
    nginx = f"server {{ listen 80; listen 443 ssl; server_name dl.example.org; root {tmp_path}; }}"
    curl = {
        "-o /dev/null -w '%{http_code}|%{redirect_url}|' http://": "301|https://dl.example.org/rat.mp4|other",
        "-o /dev/null": "403||other",
        "-i": _PAGE,
    }
    assert _judge(test_recordings.test_recordings_are_closed, nginx, curl).untested == []
    curl[next(iter(curl))] = "301|https://login.example.org/|other"
    assert "whether a login follows" in _judge(test_recordings.test_recordings_are_closed, nginx, curl).untested[0]


def test_hidden_files_and_copies_are_asked_for_at_their_own_server(tmp_path: Path) -> None:
    """Also below another directory than the usual ones, and one that is itself a link, below a hidden one."""
    real = tmp_path / ".home" / "files"
    (real / ".git").mkdir(parents=True)
    (real / ".git" / "config").write_text("[core]")
    (real / "index.html").write_text("page")
    (tmp_path / "w").symlink_to(real)

    def look(answer: str, folder: Path = tmp_path / "w") -> Sheet:
        return _judge(test_disclosure.test_what_lies_there, _downloads(folder), {f"{_AT} -o": answer})

    assert faults_of(look("200||same")) == (
        "https://dl.example.org/.git/config answers 200 with the file, asked on 2001:db8::10"
    )
    assert look("404||other").faults == []
    assert "1 hidden files" in look("200||other", real).seen[-1]
    assert look("000||other").untested
    for number in range(70):
        (real / f"{number}.bak").write_text("x")
    assert "more than 60 hidden files and copies" in look("404||other").untested[0]
    computed = _judge(test_disclosure.test_what_lies_there, "server { listen 80; root $where; }", {})
    assert "nginx computes what it hands out" in computed.untested[0]
    with pytest.raises(NotTested, match="nginx does not tell"):
        _judge(test_disclosure.test_what_lies_there, "", {})


def test_lists_are_looked_for_at_every_server(tmp_path: Path) -> None:
    (tmp_path / "2026" / "mai").mkdir(parents=True)
    lists = "HTTP/1.1 200 OK\n\n<html><head><title>Index of /2026/mai/</title>"
    closed = {"meet.example.org": "HTTP/1.1 404 Not Found\n"}

    def look(further: str, **shown: str) -> Sheet:
        asked = {f"https://dl.example.org{path}": said for path, said in shown.items()}
        nginx = _downloads(tmp_path, further)
        return _judge(test_disclosure.test_listings_of_every_server, nginx, closed | asked | {_AT: _PAGE})

    assert look("").faults == []
    assert look("autoindex on;").faults == []
    assert "https://dl.example.org/2026/mai/ lists its files" in faults_of(
        look("autoindex on;", **{"/2026/mai/": lists})
    )
    proxied = look("location /files { proxy_pass http://127.0.0.1:9; }", **{"/files/": lists})
    assert faults_of(proxied) == "https://dl.example.org/files/ lists its files"
    assert look("", **{"/": ""}).untested
