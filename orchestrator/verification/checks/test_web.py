"""What a browser is told by the web server, asked from outside."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import testinfra.host
from testinfra.backend.base import CommandResult

from orchestrator.inventory.derivations import content_security_policy
from orchestrator.verification.asking import ask
from orchestrator.verification.reach import SOURCE, has_way, no_way
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

YEAR = 31536000
# At a port that says nothing each request of a check takes so long, and a vantage point with one core makes two at a time: all of
# them, up to 32, must fit in what they have together (shipping.OUTSIDE_SECONDS).
ANSWER_SECONDS = 7
# How a command ends that had to be killed, or could not begin (sidebyside.py).
_KILLED = 124
ROOM = "/ratssaal-pruefung"
# One of each kind of answer: page, room, static file, signalling, proxied request, error.
PLAIN = (
    "/",
    ROOM,
    "/config.js",
    "/datenschutz",
    "/http-bind",
    "/xmpp-websocket",
    "/conference-request/v1",
    "/nicht/da",
)
PAGES = ("/", ROOM, "/impressum", "/datenschutz", "/barrierefreiheit")
OTHERS = ("/config.js", "/libs/app.bundle.min.js", "/ratssaal/branding.json", "/http-bind", "/nicht/da")
REFERRER = ("no-referrer", "same-origin", "strict-origin", "strict-origin-when-cross-origin")
DEVICES = ("camera", "microphone", "display-capture")
# A link that people click is no part of the page; everything else with an address is fetched with it.
_MIXED = re.compile(
    r"<(?!a\s)[a-z][^>]*?\s(?:src|href|action|data|poster|srcset)\s*=\s*[\"']?(http://[^\s\"'>]+)", re.I
)
_PLAIN_ADDRESS = re.compile(r"[\"'`]((?:http|ws)://[^\"'`]+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; a header that came twice has both values, joined by commas."""

    status: str
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what it is called in a finding, which address it goes to, and curl's arguments."""

    label: str
    address: str
    arguments: str

    @property
    def command(self) -> str:
        """Return the command; certificates are another control's matter."""
        return f"curl -sSi -k -m {ANSWER_SECONDS} --http1.1 {self.arguments} 2>&1"


def read(result: CommandResult) -> Answer | None:
    """Return the answer, None where there was none."""
    head, _, body = str(result.stdout).replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.splitlines() or [""]
    if result.rc != 0 or not first.startswith("HTTP/"):
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        known = headers.get(name.lower())
        headers[name.lower()] = f"{known}, {value.strip()}" if known else value.strip()
    return Answer(first.split()[1], headers, body)


def told(outside: testinfra.host.Host, requests: list[Asked], sheet: Sheet) -> list[tuple[Asked, CommandResult]]:
    """Return what curl told of each request.

    A vantage point without a way to an address, or without the time for a request, has not looked, which is noted.
    """
    addresses = list(dict.fromkeys(each.address for each in requests))
    results = ask(outside, *(SOURCE.format(each) for each in addresses), *(each.command for each in requests))
    # curl says of a network that cannot be reached what it says of a closed port.
    shut = {address for address, way in zip(addresses, results, strict=False) if not has_way(way)}
    for address in addresses:
        if address in shut:
            sheet.could_not_look(no_way(address))
    rows = zip(requests, results[len(addresses) :], strict=True)
    found = [(asked, result) for asked, result in rows if asked.address not in shut]
    for asked, result in found:
        if result.rc == _KILLED:
            sheet.could_not_look(f"{asked.label}: {result.stderr.strip()}")
    return [(asked, result) for asked, result in found if result.rc != _KILLED]


def answers(outside: testinfra.host.Host, requests: list[Asked], sheet: Sheet) -> list[tuple[str, Answer]]:
    """Return the answers by their labels; none is a fault."""
    found = []
    for asked, result in told(outside, requests, sheet):
        answer = read(result)
        if answer:
            found.append((asked.label, answer))
        else:
            said = " ".join(str(result.stdout).split())[:100]
            sheet.expect(False, f"{asked.label} does not answer: {said}", "an answer by HTTP")
    return found


def request(scheme: str, name: str, address: str, path: str, further: str = "") -> Asked:
    """Return a request by a name that leads to an address, with further arguments of curl's."""
    port = 443 if scheme == "https" else 80
    family = "IPv6" if ":" in address else "IPv4"
    label = f"{scheme}://{name}{path} ({family}{f', {further}' if further else ''})"
    resolve = f"--resolve {shlex.quote(f'{name}:{port}:{address}')}"
    return Asked(label, address, f"{resolve} {further} {shlex.quote(f'{scheme}://{name}{path}')}")


def bare(scheme: str, address: str, path: str) -> Asked:
    """Return a request that names nothing but the address."""
    url = f"{scheme}://{f'[{address}]' if ':' in address else address}{path}"
    return Asked(url, address, f"-g {shlex.quote(url)}")


@pytest.mark.control("CRY-04")
def test_plain_http(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Port 80 sends everybody to the site's own HTTPS address and answers nothing else."""
    del host
    domain = str(subject.settings["jitsi_domain"])
    requests = []
    for address in subject.addresses:
        requests += [request("http", domain, address, path) for path in PLAIN]
        requests += [request("http", domain, address, "/http-bind", "-d x"), bare("http", address, "/")]
        requests += [request("http", "other.example", address, "/")]
    for label, answer in answers(outside, requests, sheet):
        target = answer.headers.get("location", "")
        fits = answer.status in ("301", "302", "307", "308") and re.match(
            rf"https://{re.escape(domain)}(?:[/?#]|$)", target
        )
        seen = f"{label} answers {answer.status}{f' to {target}' if target and not fits else ''}"
        sheet.expect(bool(fits), seen, f"a redirect to https://{domain}/")


@pytest.mark.control("CRY-04")
def test_strict_transport(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Every answer by HTTPS tells the browser to stay with it, for a year or longer."""
    del host
    domain = str(subject.settings["jitsi_domain"])
    requests = [request("https", domain, address, path) for address in subject.addresses for path in PLAIN]
    for label, answer in answers(outside, requests, sheet):
        value = answer.headers.get("strict-transport-security", "")
        ages = re.findall(r"max-age=\"?(\d+)", value, re.I)
        fits = len(ages) == 1 and int(ages[0]) >= YEAR
        sheet.expect(fits, f"{label}: Strict-Transport-Security {value or 'not sent'}", f"max-age={YEAR} or more, once")


@pytest.mark.control("WEB-01")
def test_headers(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The policy that follows from the declared origins, and what else bounds the pages."""
    del host
    domain = str(subject.settings["jitsi_domain"])
    policy = content_security_policy(subject.settings)
    paths = (*PAGES, *OTHERS)
    requests = [request("https", domain, address, path) for address in subject.addresses for path in paths]
    for label, answer in answers(outside, requests, sheet):
        faults = [*_policy_faults(answer, policy), *_device_faults(answer.headers.get("permissions-policy", ""))]
        for seen, wanted in faults:
            sheet.expect(False, f"{label}: {seen}", wanted)
        if not faults:
            sheet.expect(True, f"{label}: as declared", "")


def _policy_faults(answer: Answer, policy: str) -> list[tuple[str, str]]:
    wanted = {"Content-Security-Policy": (policy,), "X-Content-Type-Options": ("nosniff",), "Referrer-Policy": REFERRER}
    sent = {name: answer.headers.get(name.lower(), "not sent") for name in wanted}
    return [(f"{name} {sent[name]}", " or ".join(fit)) for name, fit in wanted.items() if sent[name] not in fit]


def _device_faults(policy: str) -> list[tuple[str, str]]:
    rows = dict(re.findall(r"([\w-]+)=(\([^)]*\)|[^,\s]+)", policy))
    seen = {device: rows.get(device, "not named") for device in DEVICES}
    # `()` would keep everybody from speaking and showing.
    fitting = ("(self)", "self")
    return [(f"Permissions-Policy {name} {value}", "(self)") for name, value in seen.items() if value not in fitting]


@pytest.mark.control("WEB-01")
def test_mixed_content(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Nothing that belongs to a page is fetched without TLS."""
    del host
    domain, paths = str(subject.settings["jitsi_domain"]), (*PAGES, "/config.js")
    requests = [request("https", domain, address, path) for address in subject.addresses for path in paths]
    for label, answer in answers(outside, requests, sheet):
        pattern = _PLAIN_ADDRESS if "/config.js" in label else _MIXED
        found = pattern.findall(answer.body)
        fetches = ", ".join(found) or "nothing without TLS"
        seen = f"{label} answers {answer.status} and fetches {fetches}"
        sheet.expect(answer.status == "200" and not found, seen, "200, with https: and wss: only")


@pytest.mark.control("WEB-01")
def test_every_address_serves_the_same(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """What other checks, and the browser, look at over one address is what comes over each of them."""
    del host
    domain, paths = str(subject.settings["jitsi_domain"]), (*PAGES, "/config.js")
    places = {
        request("https", domain, address, path): (path, address) for address in subject.addresses for path in paths
    }
    labels, served = {asked.label: place for asked, place in places.items()}, dict[str, dict[str, str]]()
    for label, answer in answers(outside, list(places), sheet):
        path, address = labels[label]
        served.setdefault(path, {})[address] = f"{answer.status} {answer.body}"
    for path, bodies in served.items():
        same = len(set(bodies.values())) == 1
        sheet.expect(same, f"{path} is {'the same' if same else 'another'} over {' and '.join(bodies)}", "the same")
