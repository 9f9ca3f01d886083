"""By which ways signalling can be reached: through the web server and TLS, and by no other."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import pytest
import testinfra.host

from orchestrator.inventory.derivations import xmpp_domains
from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.checks.test_network import INTERNAL
from orchestrator.verification.checks.test_web import answers, request
from orchestrator.verification.networks import outside as beyond
from orchestrator.verification.nftables import RULESET, Ruleset
from orchestrator.verification.openings import admitted
from orchestrator.verification.prosody import note_unnamed, streams
from orchestrator.verification.reach import targets
from orchestrator.verification.servedconfig import Expression, NoConfiguration, origin, read_config, setting
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.sockets import SS, loopback, sockets
from orchestrator.verification.subject import Subject

WAYS = {"bosh": "https", "websocket": "wss"}
# What a client can begin with, by the feature's name (RFC 6120 5.3.1, XEP-0078, XEP-0388, XEP-0077).
_BEGINNINGS = {
    "mechanisms": "log-in",
    "auth": "log-in",
    "authentication": "log-in",
    "register": "registration",
    "bind": "a session",
}
_CONNECT = (
    "for port in {ports}; do (timeout 3 bash -c ': </dev/tcp/{address}/'$port 2>/dev/null && echo open $port) & done; "
    "wait; echo looked"
)


@pytest.mark.control("CRY-07")
def test_encryption_is_required(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Nobody may say anything to Prosody before TLS, at whichever of its domains: not bridges, not Jicofo, and nobody else."""
    if not subject.signalling:
        raise NotApplicable("Prosody does not run here")
    names = xmpp_domains(subject.settings)
    (shown,) = ask(host, streams(names[role] for role in ("domain", "guest", "auth", "recorder")))
    facts = json_of(shown)
    note_unnamed(facts, sheet)
    for domain, told in facts["domains"].items():
        _judge_stream(domain, told, sheet)


def _judge_stream(domain: str, told: str, sheet: Sheet) -> None:
    """Note what a domain offers before TLS; one that offers neither TLS nor anything else lets nobody in there."""
    offered = re.search(r"<stream:features[^>]*?(?:/>|>(.*?)</stream:features>)", told, re.S)
    if not offered:
        sheet.could_not_look(f"{domain}: Prosody does not answer on its client port")
        return
    features = offered.group(1) or ""
    early = {what for name, what in _BEGINNINGS.items() if re.search(rf"<{name}[\s/>]", features)}
    begins = re.search(r"<starttls(?:[^>]*/>|[^>]*>\s*(<required)?)", features)
    required = bool(begins and begins.group(1))
    tls = "required" if required else "not required" if begins else "not offered"
    further = f", {' and '.join(sorted(early))} offered before it" if early else ""
    sheet.expect(
        not early and (required or not begins), f"{domain}: TLS {tls}{further}", "TLS required before anything else"
    )


@pytest.mark.control("CRY-07")
def test_ways_of_signalling_from_outside(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """The browser is named TLS addresses only, and no port of signalling's own answers.

    Silence alone proves nothing, as somebody on our way may let out to ports 80 and 443 only: the host itself must say, too,
    that nothing listens there for others or that its firewall lets in nobody but whom the site declares.
    """
    reached = targets(outside, subject, sheet, "bash")
    ports = " ".join(str(port) for port in INTERNAL)
    tries = [_CONNECT.format(ports=ports, address=target.address) for target in reached]
    domain = str(subject.settings["jitsi_domain"])
    served = (
        [request("https", domain, target.address, "/config.js") for target in reached] if subject.signalling else []
    )
    found = ask(outside, *tries, *(each.command for each in served))[: len(tries)]
    listening, loaded = ask(host, SS, RULESET)
    for label, answer in answers(outside, served, sheet):
        _judge_ways(label, answer.body, domain, sheet)
    doubtful = _open_by_the_host(text(listening), Ruleset(json_of(loaded)["nftables"]), subject)
    for target, result in zip(reached, found, strict=True):
        open_ports = [int(line.split()[1]) for line in text(result).splitlines() if line.startswith("open ")]
        for port in open_ports:
            sheet.expect(False, f"{INTERNAL[port]} answers on {target.bracketed}:{port}", "no answer")
        for port in sorted(doubtful - set(open_ports)):
            sheet.could_not_look(
                f"{INTERNAL[port]} does not answer us on {target.bracketed}:{port}, though the host lets others in there: "
                "somebody on the way may keep us from it"
            )
        if not open_ports and not doubtful:
            sheet.expect(True, f"none of {len(INTERNAL)} internal ports answers on {target.address}", "")


def _open_by_the_host(listening: str, ruleset: Ruleset, subject: Subject) -> set[int]:
    """Return the internal ports at which somebody listens for others, and to whom the firewall lets in more than is declared."""
    heard = [port for proto, address, port, _ in sockets(listening) if proto == "tcp" and not loopback(address)]
    openings = ruleset.openings()
    found = set()
    for port in INTERNAL.keys() & heard:
        # What the operator opened on top is for others, not for signalling.
        flows = [flow for flow in subject.flows() if flow["port"] == port and flow["service"] != "extra"]
        declared = [ipaddress.ip_network(source) for flow in flows for source in flow["sources"]]
        if any(beyond(admitted(openings, "tcp", port), declared)):
            found.add(port)
    return found


def _judge_ways(label: str, script: str, domain: str, sheet: Sheet) -> None:
    try:
        config = read_config(script)
    except NoConfiguration as problem:
        sheet.could_not_look(f"{label}: {problem}")
        return
    for name, scheme in WAYS.items():
        value = setting(config, name)
        begins = origin(value) if isinstance(value, Expression) else ""
        if isinstance(value, Expression) and not begins:
            sheet.could_not_look(f"{label}: {name}, which config.js computes: {value}")
            continue
        address = str(value or "")
        parts = urlsplit(begins or address)
        fits = (parts.scheme, parts.hostname) == (scheme, domain)
        sheet.expect(fits, f"{label}: {name} {address or 'not named'}", f"{scheme}://{domain}/...")
