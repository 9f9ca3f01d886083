"""What the web server gives away, and what it tells search engines and people who found a hole.

Asked from outside; and from the host itself where only its configuration knows what there is to ask for.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import testinfra.host

from orchestrator.inventory.derivations import security_contact
from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_recordings import NGINX
from orchestrator.verification.checks.test_web import OTHERS, PAGES, ROOM, Answer, Asked, answers, request
from orchestrator.verification.doors import fetch, judge_fetched, listed, listing
from orchestrator.verification.handedout import Handing, handed_out
from orchestrator.verification.sheet import NotTested, Sheet
from orchestrator.verification.subject import Subject

# A cookie's date holds a comma, so two cookies in one line part only where a new name begins.
_NEXT_COOKIE = re.compile(r",\s*(?=[^\s;,=]+=)")
_VERSION = re.compile(
    r"\b(?:nginx|openresty|apache|haproxy|prosody|jetty|lua|openssl|jicofo)\S*[/ ]v?\d+\.\d[\w.]*", re.I
)
_TRACE = re.compile(r"Traceback \(most recent|stack traceback:|\bat [\w.$]+\([\w.]+\.java:\d+\)")
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
# Files below what is handed out, with what stands above and below; and directories. At most so many are shown.
_MOST = 60
_LEFT = (
    "find -L {} -type f '(' -name '.*' -o -path '*/.*' -o -name '*~' -o -name '*.bak' -o -name '*.old' -o -name '*.orig' "
    "-o -name '*.swp' -o -name '*.save' ')' -printf '%H|%P\\n' 2>/dev/null | sort -u | head -n {}; true"
)
_BELOW = "find -L {} -maxdepth 4 -type d -printf '%p/\\n' 2>/dev/null | sort -u | head -n {}; true"
_COPY = re.compile(r"~$|\.(?:bak|old|orig|swp|save)$")
# nginx's own list, its fancy one, and Python's.
_LIST = re.compile(r"<(?:title|h1)>(?:Index of|Directory listing for)", re.I)
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
    """No directory lists what it holds."""
    del host
    for label, answer in _ask(outside, subject, DIRECTORIES, sheet):
        lists = _LIST.search(answer.body)
        sheet.expect(not lists, f"{label} {'lists its files' if lists else 'lists nothing'}", "no list")


def _handing(host: testinfra.host.Host, subject: Subject) -> Handing:
    """Return what nginx hands out; raises NotTested where it does not tell."""
    (shown,) = ask(host, NGINX)
    handing = handed_out(text(shown), subject)
    if not handing.servers:
        raise NotTested("nginx does not tell its configuration (nginx -t says why)")
    return handing


@pytest.mark.control("WEB-03")
def test_listings_of_every_server(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No directory lists what it holds, of whichever of nginx's servers, asked from the host itself.

    These are the beginnings of addresses that its configuration names; and every directory that lies there, where it says
    that lists are made at all.
    """
    handing = _handing(host, subject)
    asked = {(door, path): None for server in handing.servers for door in server.doors for path in server.locations}
    open_ = [row for row in handing.rows if row.server.lists]
    (below,) = ask(host, _BELOW.format(_quoted(row.place.folder for row in open_), _MOST + 1)) if open_ else (None,)
    there = text(below).splitlines() if below else []
    for folder in there[:_MOST]:
        asked |= {(door, re.sub("//+", "/", path)): None for door, path in Handing(open_).asked(folder, sheet)}
    for (door, path), result in zip(asked, ask(host, *(listing(*each) for each in asked)), strict=True):
        lists = _LIST.search(listed(door, path, result, sheet))
        sheet.expect(
            not lists, f"{door.base}{path} {'lists its files' if lists else 'lists nothing'}", "no list of files"
        )
    _note_gaps(handing, len(there), "directories", sheet)


@pytest.mark.control("WEB-03")
def test_left_behind(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No hidden file and no copy is handed out by a usual name."""
    del host
    found = _ask(outside, subject, (ROOM, *LEFT_BEHIND), sheet)
    # What is no file is a room's name, whose page comes for any name: once over each family.
    rooms = {label.rpartition(" (")[2]: answer.body for label, answer in found if f"{ROOM} (" in label}
    for label, answer in found:
        if f"{ROOM} (" not in label:
            given = answer.status == "200" and answer.body != rooms.get(label.rpartition(" (")[2])
            sheet.expect(not given, f"{label} answers {answer.status}{' with a file' if given else ''}", "404")


@pytest.mark.control("WEB-03")
def test_what_lies_there(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No hidden file and no copy that really lies below what nginx hands out is given away, asked from the host itself."""
    handing = _handing(host, subject)
    folders = _quoted(row.place.folder for row in handing.rows)
    (found,) = ask(host, _LEFT.format(folders, _MOST + 1)) if folders else (None,)
    lines = text(found).splitlines() if found else []
    files = dict.fromkeys(file for line in lines[:_MOST] for file in _left(line))
    asked = [(door, path, file) for file in files for door, path in handing.asked(file, sheet)]
    for (door, path, _), result in zip(asked, ask(host, *(fetch(*each) for each in asked)), strict=True):
        judge_fetched(door, path, result, sheet, what="the file", wanted="404")
    sheet.expect(True, f"{len(files)} hidden files and copies lie below what nginx hands out", "")
    _note_gaps(handing, len(lines), "hidden files and copies", sheet)


def _left(line: str) -> Iterator[str]:
    """Yield the file of a line that is a copy, or hidden below what is handed out, whatever stands above that."""
    above, _, below = line.partition("|")
    hidden = any(part.startswith(".") for part in below.split("/"))
    if not below or hidden or _COPY.search(below):
        yield f"{above.rstrip('/')}/{below}" if below else above


def _quoted(folders: Iterable[str]) -> str:
    return " ".join(shlex.quote(folder) for folder in dict.fromkeys(folders))


def _note_gaps(handing: Handing, there: int, what: str, sheet: Sheet) -> None:
    """Note what was not looked at."""
    handing.note_unknown(sheet)
    if there > _MOST:
        sheet.could_not_look(f"there are more than {_MOST} {what}")


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
    outside: testinfra.host.Host, subject: Subject, paths: tuple[str, ...], sheet: Sheet
) -> list[tuple[str, Answer]]:
    """Return the answers to paths over every address of the host."""
    domain = str(subject.settings["jitsi_domain"])
    requests: list[Asked] = [request("https", domain, address, path) for address in subject.addresses for path in paths]
    return answers(outside, requests, sheet)
