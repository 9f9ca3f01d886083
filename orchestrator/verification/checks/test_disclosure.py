"""What the web server gives away, and what it tells search engines and people who found a hole; asked from outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
import testinfra.host

from orchestrator.inventory.derivations import security_contact
from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_recordings import NGINX
from orchestrator.verification.checks.test_web import OTHERS, PAGES, ROOM, Answer, Asked, answers, request
from orchestrator.verification.sheet import NotTested, Sheet
from orchestrator.verification.subject import Subject
from orchestrator.verification.webserver import places

# A cookie's date holds a comma, so two cookies in one line part only where a new name begins.
_NEXT_COOKIE = re.compile(r",\s*(?=[^\s;,=]+=)")
_VERSION = re.compile(
    r"\b(?:nginx|openresty|apache|haproxy|prosody|jetty|lua|openssl|jicofo)\S*[/ ]v?\d+\.\d[\w.]*", re.I
)
_TRACE = re.compile(r"Traceback \(most recent|stack traceback:|\bat [\w.$]+\([\w.]+\.java:\d+\)")
_DEFAULT_PAGE = re.compile(r"Welcome to nginx|Debian Default Page|<h1>It works!", re.I)
DIRECTORIES = (
    "/libs/",
    "/css/",
    "/static/",
    "/images/",
    "/fonts/",
    "/lang/",
    "/sounds/",
    "/ratssaal/",
    "/.well-known/",
)
# What is left behind by editors, version control and hurried copies.
LEFT_BEHIND = (
    "/.git/config",
    "/.env",
    "/.htaccess",
    "/config.js~",
    "/config.js.bak",
    "/index.html~",
    "/index.html.bak",
)
ERRORS = ("/nicht/da", "/libs/", "/http-bind", "/xmpp-websocket", "/conference-request/v1", "/%00")
_LEFT = (
    "find /usr/share/jitsi-meet /usr/share/ratssaal/pages /var/www -xdev -type f \\( -name '.*' -o -path '*/.*' -o -name '*~' "
    "-o -name '*.bak' -o -name '*.old' -o -name '*.orig' -o -name '*.swp' -o -name '*.save' \\) 2>/dev/null | head -n 40; true"
)
NAMING = ("server", "x-powered-by", "via")
SECURITY_TXT = "/.well-known/security.txt"


@pytest.mark.control("WEB-02")
def test_cookies(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Every cookie goes by HTTPS only, to no script and to no other site. Jitsi Meet's web server sets none."""
    del host
    found = 0
    for label, answer in _ask(outside, subject, (*PAGES, *OTHERS), sheet):
        for cookie in filter(None, _NEXT_COOKIE.split(answer.headers.get("set-cookie", ""))):
            found += 1
            name, *attributes = (part.strip() for part in cookie.split(";"))
            words = {attribute.partition("=")[0].lower() for attribute in attributes}
            missing = [word for word in ("Secure", "HttpOnly", "SameSite") if word.lower() not in words]
            shown = f"{label} sets the cookie {name.partition('=')[0]}"
            sheet.expect(not missing, f"{shown} without {', '.join(missing)}", "Secure, HttpOnly and SameSite")
    sheet.expect(True, f"{found} cookies set", "")


@pytest.mark.control("WEB-03")
def test_versions(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No answer names a version, no error shows where in a program it happened."""
    del host
    domain = str(subject.settings["jitsi_domain"])
    for label, answer in _ask(outside, subject, (*ERRORS, *PAGES), sheet):
        told = [f"{name}: {answer.headers[name]}" for name in NAMING if name in answer.headers]
        faults = [line for line in told if re.search(r"\d", line)]
        # The application's own pages tell which Jitsi Meet it is, as its scripts do.
        if any(f"{domain}{path} (" in label for path in ERRORS):
            faults += [found.group() for pattern in (_VERSION, _TRACE) if (found := pattern.search(answer.body))]
        sheet.expect(not faults, f"{label} tells {', '.join(faults) or 'no version'}", "no version and no trace")


@pytest.mark.control("WEB-03")
def test_listings(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No directory lists what it holds, and no other name gets a page of the server's own."""
    del host
    for label, answer in _ask(outside, subject, DIRECTORIES, sheet):
        listed = re.search(r"<title>Index of|<h1>Index of", answer.body)
        sheet.expect(not listed, f"{label} {'lists its files' if listed else 'lists nothing'}", "no list")
    foreign = [request("https", "other.example", address, "/") for address in subject.addresses]
    for label, answer in answers(outside, foreign, sheet):
        page = _DEFAULT_PAGE.search(answer.body)
        sheet.expect(
            not page, f"{label} answers {answer.status}{f' with {page.group()}' if page else ''}", "no default page"
        )


@pytest.mark.control("WEB-03")
def test_left_behind(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No hidden file and no copy is handed out: neither usual ones nor any that really lies there."""
    shown, found = ask(host, NGINX, _LEFT)
    domain = str(subject.settings["jitsi_domain"])
    there = text(found).splitlines()
    urls = {place.url(path) for place in places(text(shown), domain) for path in there if place.covers(path)}
    paths = dict.fromkeys((*LEFT_BEHIND, *sorted(urlsplit(url).path for url in urls)))
    # What is no file is a room's name, whose page comes for any name.
    room, *rest = _ask(outside, subject, (ROOM, *paths), sheet, first_address=True)
    for label, answer in rest:
        given = answer.status == "200" and answer.body != room[1].body
        sheet.expect(not given, f"{label} answers {answer.status}{' with a file' if given else ''}", "404")


@pytest.mark.control("WEB-05")
def test_search_engines(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Neither a page nor a room is to be listed, by its own word and by robots.txt."""
    del host
    for label, answer in _ask(outside, subject, ("/", ROOM), sheet):
        value = answer.headers.get("x-robots-tag", "")
        sheet.expect("noindex" in value.lower(), f"{label}: X-Robots-Tag {value or 'not sent'}", "noindex")
    for label, answer in _ask(outside, subject, ("/robots.txt",), sheet):
        lines = [line.partition("#")[0].strip().lower() for line in answer.body.splitlines()]
        closed = (
            "user-agent: *" in lines and "disallow: /" in lines and not any(line.startswith("allow:") for line in lines)
        )
        words = " ".join(filter(None, lines))[:80]
        sheet.expect(
            answer.status == "200" and closed, f"{label} answers {answer.status}: {words}", "User-agent: *, Disallow: /"
        )


@pytest.mark.control("WEB-06")
def test_security_txt(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Who found a hole finds whom to tell (RFC 9116), and can trust that it is not out of date."""
    del host
    now = datetime.now(UTC)
    for label, answer in _ask(outside, subject, (SECURITY_TXT,), sheet):
        if answer.status != "200" and not security_contact(subject.settings):
            raise NotTested("nobody is declared: set web_security_contact, or jitsi_support_contact, then provision")
        sheet.expect(answer.status == "200", f"{label} answers {answer.status}", "200")
        if answer.status == "200":
            _judge_security_txt(label, answer, now, sheet)


def _judge_security_txt(label: str, answer: Answer, now: datetime, sheet: Sheet) -> None:
    kind = answer.headers.get("content-type", "no type")
    sheet.expect(kind.startswith("text/plain"), f"{label} is {kind}", "text/plain")
    rows = re.findall(r"^(\w[\w-]*):[ \t]*(\S.*?)[ \t]*$", answer.body, re.M)
    contacts = [value for name, value in rows if name.lower() == "contact"]
    fits = bool(contacts) and all(re.match(r"(https://|mailto:|tel:)\S", value) for value in contacts)
    sheet.expect(fits, f"contact {', '.join(contacts) or 'not named'}", "an https:, mailto: or tel: address")
    days = [value for name, value in rows if name.lower() == "expires"]
    try:
        (end,) = (datetime.fromisoformat(value) for value in days)
        fits = now < end <= now + timedelta(days=366)
    except (ValueError, TypeError):
        fits = False
    sheet.expect(fits, f"expires {', '.join(days) or 'never'}", "one day within the next year")


def _ask(
    outside: testinfra.host.Host,
    subject: Subject,
    paths: tuple[str, ...],
    sheet: Sheet,
    *,
    first_address: bool = False,
) -> list[tuple[str, Answer]]:
    """Return the answers to paths over every address of the host, or over its first."""
    domain = str(subject.settings["jitsi_domain"])
    reached = subject.addresses[:1] if first_address else subject.addresses
    requests: list[Asked] = [request("https", domain, address, path) for address in reached for path in paths]
    return answers(outside, requests, sheet)
