"""By which ways signalling can be reached: through the web server and TLS, and by no other."""

from __future__ import annotations

import re
import shlex
from urllib.parse import urlsplit

import pytest
import testinfra.host

from orchestrator.inventory.derivations import xmpp_domains
from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_network import INTERNAL
from orchestrator.verification.checks.test_web import answers, request
from orchestrator.verification.reach import targets
from orchestrator.verification.servedconfig import Expression, NoConfiguration, origin, read_config, setting
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

WAYS = {"bosh": "https", "websocket": "wss"}
# The features that a client is offered before TLS (RFC 6120 5.3.1), read up to their end.
_STREAM = (
    'exec 3<>/dev/tcp/127.0.0.1/5222 || exit 1; printf "%s" "$0" >&3; '
    'while read -r -t 3 -d ">" part <&3; do printf "%s>" "$part"; case $part in */stream:features) exit;; esac; done'
)
_OPEN = (
    '<?xml version="1.0"?><stream:stream to="{}" version="1.0" xmlns="jabber:client" '
    'xmlns:stream="http://etherx.jabber.org/streams">'
)
_CONNECT = (
    "for port in {ports}; do (timeout 3 bash -c ': </dev/tcp/{address}/'$port 2>/dev/null && echo open $port) & done; "
    "wait; echo looked"
)


@pytest.mark.control("CRY-07")
def test_encryption_is_required(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Bridges and Jicofo may say nothing to Prosody before TLS."""
    if not subject.signalling:
        raise NotApplicable("Prosody does not run here")
    domain = xmpp_domains(subject.settings)["auth"]
    (shown,) = ask(host, f"bash -c {shlex.quote(_STREAM)} {shlex.quote(_OPEN.format(domain))} 2>/dev/null; true")
    told = text(shown)
    if "stream:features" not in told:
        sheet.could_not_look("Prosody does not answer on its client port")
        return
    required = re.search(r"<starttls[^>]*>\s*<required", told)
    early = "<mechanisms" in told
    seen = f"{domain}: TLS {'required' if required else 'not required'}{', log-in offered before it' if early else ''}"
    sheet.expect(bool(required) and not early, seen, "TLS required before anything else")


@pytest.mark.control("CRY-07")
def test_ways_of_signalling_from_outside(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """The browser is named TLS addresses only, and no port of signalling's own answers."""
    del host
    reached = targets(outside, subject, sheet, "bash")
    ports = " ".join(str(port) for port in INTERNAL)
    tries = [_CONNECT.format(ports=ports, address=target.address) for target in reached]
    domain = str(subject.settings["jitsi_domain"])
    served = (
        [request("https", domain, target.address, "/config.js") for target in reached] if subject.signalling else []
    )
    found = ask(outside, *tries, *(each.command for each in served))[: len(tries)]
    for label, answer in answers(outside, served, sheet):
        _judge_ways(label, answer.body, domain, sheet)
    for target, result in zip(reached, found, strict=True):
        open_ports = [int(line.split()[1]) for line in text(result).splitlines() if line.startswith("open ")]
        for port in open_ports:
            sheet.expect(False, f"{INTERNAL[port]} answers on {target.bracketed}:{port}", "no answer")
        if not open_ports:
            sheet.expect(True, f"none of {len(INTERNAL)} internal ports answers on {target.address}", "")


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
