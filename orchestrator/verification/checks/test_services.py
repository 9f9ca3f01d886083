"""Services as they answer, and whether stand-ins are what answers."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import testinfra.host

from orchestrator.verification.aptsources import SOURCES
from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

CLOCK_SECONDS = 5
_STATUS = "curl -s -o /dev/null -w '%{http_code}' -m 20 "
# A STUN binding request (RFC 8489) and its answer, over UDP from the host to its own address.
_STUN = (
    'python3 -c \'import os,socket,sys; f=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET; '
    "s=socket.socket(f,socket.SOCK_DGRAM); s.settimeout(3); "
    's.sendto(b"\\0\\1\\0\\0\\x21\\x12\\xa4\\x42"+os.urandom(12),(sys.argv[1],3478)); '
    "print(s.recv(1500).hex())' "
)


def stun(address: str) -> str:
    """Return the command that prints the answer of a STUN server at an address in hexadecimal, `none` without one."""
    return f"{_STUN}{address} 2>/dev/null || echo none"


@pytest.mark.control("AVL-02")
def test_units(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Each service runs now and starts at boot."""
    units = [f"{unit}.service" for unit in subject.units()]
    active, enabled = ask(
        host,
        f"systemctl is-active {' '.join(units)}; true",
        f"systemctl show -p Id -p UnitFileState {' '.join(units)}",
    )
    boots = [re.search("^UnitFileState=(.*)$", told, re.M) for told in text(enabled).split("\n\n")]
    for unit, state, found in zip(units, text(active).split(), boots, strict=True):
        boot = found.group(1) if found and found.group(1) else "unknown"
        sheet.expect(state == "active", f"{unit} is {state}", "active")
        sheet.expect(boot == "enabled", f"{unit} is {boot} at boot", "enabled")


@pytest.mark.control("AVL-02")
def test_bridge_health(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The bridge's own word (jitsi-videobridge:doc/rest.md)."""
    if not subject.bridge:
        raise NotApplicable("no bridge runs here")
    (health,) = ask(host, f"{_STATUS} http://127.0.0.1:8080/about/health; true")
    code = text(health).strip()
    sheet.expect(code == "200", f"the bridge's health: {code}", "200")


@pytest.mark.control("AVL-02")
def test_jicofo_sees_the_bridge(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Jicofo's word: without an operational bridge no meeting starts, however healthy the bridge feels."""
    if not subject.signalling:
        raise NotApplicable("Jicofo does not run here")
    health, debug = ask(
        host,
        f"{_STATUS} http://127.0.0.1:8888/about/health; true",
        "curl -sf -m 20 http://127.0.0.1:8888/debug || echo '{}'",
    )
    code = text(health).strip()
    sheet.expect(code == "200", f"Jicofo's health: {code}", "200")
    bridges = json_of(debug).get("bridge_selector", {}).get("bridge", {})
    working = [name for name, row in bridges.items() if row.get("operational")]
    wanted = sum(1 for row in subject.topology["hosts"].values() if "jitsi_bridges" in row["groups"])
    sheet.expect(len(working) >= wanted, f"Jicofo sees {len(working)} operational bridges", f"{wanted}")


@pytest.mark.control("AVL-02")
def test_front(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The page and Prosody behind it, over each public address."""
    if not subject.signalling:
        raise NotApplicable("the web server does not run here")
    domain = subject.settings["jitsi_domain"]
    paths = {"/": "200", "/config.js": "200", "/http-bind": "200"}
    urls = " ".join(f"-o /dev/null https://{domain}{path}" for path in paths)
    # One connection for all paths of an address; a port that says nothing takes the time of each (sidebyside.py).
    asked = [
        f"curl -s -m ${{PATIENCE:-9}} -w '%{{http_code}}\\n' --resolve '{domain}:443:{address}' {urls}; true"
        for address in subject.addresses
    ]
    for address, result in zip(subject.addresses, ask(host, *asked), strict=True):
        for (path, wanted), code in zip(paths.items(), text(result).split(), strict=True):
            sheet.expect(code == wanted, f"https://{domain}{path} on {address} answers {code}", wanted)


@pytest.mark.control("AVL-02")
def test_turn_answers(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """A STUN answer over each public address."""
    if not subject.turn:
        raise NotApplicable("coturn does not run here")
    for address, result in zip(
        subject.addresses, ask(host, *(stun(address) for address in subject.addresses)), strict=True
    ):
        seen = text(result).strip()[:4]
        sheet.expect(seen == "0101", f"STUN on {address} answers {seen}", "0101, a binding success")


@pytest.mark.control("AVL-02")
def test_clock(host: testinfra.host.Host, clock: Callable[[], float], sheet: Sheet) -> None:
    """Tokens, TURN's credentials and certificates are judged by the host's clock."""
    ask(host, "date +%s")
    offset = clock()
    sheet.expect(abs(offset) <= CLOCK_SECONDS, f"the clock is {offset:+.0f} s off", f"within {CLOCK_SECONDS} s of ours")


@pytest.mark.control("_standins")
def test_standins(host: testinfra.host.Host, sheet: Sheet) -> None:
    """No control: says whether the report rests on packages of ours in place of upstream's."""
    results = ask(
        host,
        SOURCES,
        "dpkg-query -W -f '${Package} ${Maintainer} ${Description}\\n' 'ji*' 2>/dev/null; true",
    )
    if not any("stand-in" in text(result).lower() for result in results):
        raise NotApplicable("upstream's own packages")
    sheet.expect(True, "stand-ins", "")
