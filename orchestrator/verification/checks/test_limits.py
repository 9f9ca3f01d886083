"""How many requests one client may make: enough for a whole town hall behind one address, and not without end."""

from __future__ import annotations

import json
import shlex

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.catalogue import select
from orchestrator.verification.checks.test_recordings import NGINX
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject
from orchestrator.verification.webserver import limits

# One address of each kind that nginx hands on or answers itself.
PATHS = {
    "rooms": "/sitzung",
    "the first page": "/",
    "signalling by websocket": "/xmpp-websocket",
    "signalling by BOSH": "/http-bind",
    "requests to Jicofo": "/conference-request/v1",
    "addresses that lead nowhere": "/nicht/da",
}
# So many people of one house may come at the same moment, each with a page and what stands beside it.
PEOPLE = 50
# Asks for heads, one after the other on few connections, until it is refused. Where another server stands before nginx it says
# whose request it is by the PROXY protocol, as that one does: from an address of nobody (RFC 5737), so that nobody's requests are
# counted with these.
_ASK = r"""
import json, random, re, socket, ssl, sys
job = json.loads(sys.argv[1])
source, found = "192.0.2." + str(random.randrange(1, 76)), {}
def connect():
    if job["proxied"]:
        line = socket.create_connection(("127.0.0.1", 4443), 5)
        line.sendall(f"PROXY TCP4 {source} 127.0.0.1 50000 443\r\n".encode())
    else:
        line = socket.create_connection(("127.0.0.1", 443), 5, ("127.0.0." + str(random.randrange(2, 250)), 0))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(line, server_hostname=job["domain"])
for kind, (path, most) in job["paths"].items():
    answered = refused = 0
    while answered < most and not refused:
        with connect() as line:
            count = min(200, most - answered)
            for number in range(count):
                end = "close" if number == count - 1 else "keep-alive"
                line.sendall(f"HEAD {path}-{answered + number} HTTP/1.1\r\nHost: {job['domain']}\r\nConnection: {end}\r\n\r\n".encode())
            told = b""
            while part := line.recv(65536):
                told += part
        codes = [int(code) for code in re.findall(rb"^HTTP/1.1 (\d{3})", told, re.M)]
        if not codes:
            break
        refused += sum(code in (429, 503) for code in codes)
        answered += len(codes)
    found[kind] = [answered, refused]
print(json.dumps(found))
"""


def _asking(subject: Subject, most: int) -> str:
    paths = {"addresses that lead nowhere": ("/nicht/da", most)}
    job = {"domain": subject.settings["jitsi_domain"], "proxied": "haproxy" in subject.units(), "paths": paths}
    return f"python3 -c {shlex.quote(_ASK)} {shlex.quote(json.dumps(job, sort_keys=True))}"


@pytest.mark.control("NET-11")
def test_limits_of_requests(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Each kind of address has a limit, neither so low that a council is kept out nor so high that it is none."""
    if not subject.signalling:
        raise NotApplicable("the web server does not run here")
    (control,) = select(("NET-11",))
    most_a_second, most_at_once = (control.limits[name] for name in ("requests a second", "requests at once"))
    (shown,) = ask(host, NGINX)
    if "server" not in text(shown):
        sheet.could_not_look("nginx does not tell its configuration (nginx -t says why)")
        return
    domain = str(subject.settings["jitsi_domain"])
    for kind, path in PATHS.items():
        for found in limits(text(shown), domain, path) or [()]:
            named = (
                ", ".join(f"{limit.rate:g} a second and {limit.burst} at once" for limit in found) or "without limit"
            )
            bounded = any(0 < limit.rate <= most_a_second and limit.burst <= most_at_once for limit in found)
            wanted = f"at most {most_a_second:g} a second and {most_at_once:g} at once from one client"
            sheet.expect(bounded, f"{kind}: {named}", wanted)
            narrow = [limit for limit in found if limit.burst < PEOPLE]
            if narrow:
                sheet.expect(False, f"{kind}: {narrow[0].burst} at once", f"{PEOPLE}: a council shares one address")


@pytest.mark.control("NET-11")
def test_a_flood_is_refused(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """What leads nowhere, which has the narrowest limit, is asked for until the running server refuses."""
    if not subject.signalling:
        raise NotApplicable("the web server does not run here")
    (control,) = select(("NET-11",))
    most = int(control.limits["requests at once"] * 1.2)
    (told,) = ask(host, _asking(subject, most))
    if told.rc != 0:
        sheet.could_not_look("the web server does not answer on the host itself")
        return
    for kind, (answered, refused) in json_of(told).items():
        if not answered:
            sheet.could_not_look(f"{kind}: no answer")
            continue
        seen = f"{kind}: {'refused within' if refused else 'none refused of'} {answered} requests in a row"
        sheet.expect(bool(refused), seen, "refused for a while, beyond the limit")
