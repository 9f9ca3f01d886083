"""TURN as clients and attackers meet it: who gets a relay, and where a relay may send."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import pytest
import testinfra.host

from orchestrator.inventory import derivations
from orchestrator.inventory.derivations import STUN_PORT, TURN_TLS_PORT
from orchestrator.verification.asking import ask, json_of, probe, text
from orchestrator.verification.reach import Target, targets
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

GRANTED = "granted"
# Prosody hands out credentials for a day (derivations.ice_servers); a minute for an answer that was long under way.
_LONGEST = 86400 + 60
# Signed by the host's own secret, for a time that is over. It opens nothing, so it may be shown.
_EXPIRED = (
    "python3 -c 'import base64, hashlib, hmac, os, re, time; "
    'path = "/etc/turnserver.conf"; text = open(path).read() if os.path.exists(path) else ""; '
    'secret = re.search(r"(?m)^static-auth-secret=(.+)$", text); '
    "name = str(int(time.time()) - 3600); "
    'digest = hmac.new(secret.group(1).encode(), name.encode(), hashlib.sha1).digest() if secret else b""; '
    'print(name, base64.b64encode(digest).decode() or "-")\''
)
# Never a peer, whatever the site declares.
NEVER = {
    "4": (
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"),
        *("169.254.169.254", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1"),
        "255.255.255.255",
    ),
    "6": (
        *("::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:10.0.0.1", "64:ff9b::7f00:1"),
        *("2002:7f00:1::1", "2001::1", "fe80::1", "fc00::1", "fd00::1", "fec0::1", "ff02::1", "ff05::2", "100::1"),
    ),
}
# Anybody's address: a relay that denies nothing but special ranges sends to the whole Internet. These are the name servers
# k.root and m.root: for decades at the same place (root-servers.org), in no special range, no town's host, and there to be
# asked by everybody. A permission alone sends its peer nothing (RFC 8656 10), so they never learn of it.
ORDINARY = ("193.0.14.129", "202.12.27.33", "2001:7fd::1", "2001:dc3::35")


def ways(subject: Subject, reached: list[Target]) -> list[dict[str, Any]]:
    """Return every way to the host's TURN service: UDP, and TLS by the port that the site declares."""
    name = derivations.turn_domain(subject.settings)
    tls = TURN_TLS_PORT if subject.settings.get("jitsi_turn_tls") == "port5349" else 443
    found = []
    for target in reached:
        for transport, port in (("udp", STUN_PORT), ("tls", tls)):
            label = f"{target.bracketed}:{port}/{transport}"
            found.append(
                {"label": label, "address": target.address, "port": port, "transport": transport, "name": name}
            )
    return found


def handing(subject: Subject) -> dict[str, Any]:
    """Return where a guest is handed credentials: the site's signalling host, over each of its addresses."""
    domain = str(subject.settings["jitsi_domain"])
    hosts = subject.topology["hosts"].values()
    addresses = [
        row[key]
        for row in hosts
        if derivations.SIGNALLING in row["groups"]
        for key in ("address", "address6")
        if row[key]
    ]
    return {"addresses": addresses, "name": domain, "guest": derivations.xmpp_domains(subject.settings)["guest"]}


@pytest.mark.control("TRN-01")
def test_who_gets_a_relay_from_outside(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Nobody without the short-lived credentials that a guest is handed; with them, a relay."""
    (signed,) = ask(host, _EXPIRED)
    job = {
        "ways": ways(subject, targets(outside, subject, sheet)),
        "handing": handing(subject),
        "strangers": expired(text(signed), sheet),
    }
    (result,) = ask(outside, probe("turn", job))
    judge_credentials(json_of(result), sheet)


def expired(signed: str, sheet: Sheet) -> dict[str, list[str]]:
    """Return credentials that have run out, as the probe takes them; without the host's secret there are none to try."""
    name, password = signed.split()
    if password == "-":
        sheet.could_not_look(
            "credentials that have run out: /etc/turnserver.conf holds no static-auth-secret to sign any"
        )
        return {}
    return {"expired": [name, password]}


_MEANING = {
    "nothing": "without credentials",
    "wrong": "with a wrong password",
    "expired": "with credentials that have run out",
}


def judge_credentials(facts: Mapping[str, Any], sheet: Sheet) -> None:
    """Note who was refused on each way and that the handed credentials work and are short-lived."""
    for label, way in facts["ways"].items():
        if "failed" in way:
            sheet.expect(False, f"{label}: {way['failed']}", "an answer of TURN's")
            continue
        for kind, meaning in _MEANING.items():
            if kind in way:
                seen = f"{label}: a relay {meaning} is {_said(way[kind])}"
                sheet.expect(way[kind] == 401, seen, "refused with 401")
        if "handed" in way:
            seen = f"{label}: a relay with the credentials of a guest is {_said(way['handed'])}"
            sheet.expect(way["handed"] == GRANTED, seen, "granted, or the refusals prove nothing")
    if facts["handed"]:
        sheet.could_not_look(f"no credentials to try: {facts['handed']}")
        return
    wanted, ends, clock = f"at most {_LONGEST} s", facts["ends"], facts["clock"]
    if ends is None:
        sheet.expect(False, "handed credentials are good for ever, as their user name holds no time", wanted)
    elif clock is None:
        sheet.could_not_look("how long handed credentials are good: the site's web server tells no time")
    else:
        sheet.expect(0 < ends - clock <= _LONGEST, f"handed credentials are good for {ends - clock} s", wanted)


def _said(outcome: Any) -> str:
    if outcome == GRANTED:
        return GRANTED
    return f"refused with {outcome}" if isinstance(outcome, int) else str(outcome)


@pytest.mark.control("TRN-02")
def test_where_a_relay_may_send_from_outside(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Permissions towards inner, special and foreign addresses are refused, towards the bridges granted."""
    del host
    reached = targets(outside, subject, sheet)
    wanted = peers(subject, [target.source for target in reached])
    job = {
        "ways": ways(subject, reached),
        "handing": handing(subject),
        "peers": {family: list(rows) for family, rows in wanted.items()},
    }
    (result,) = ask(outside, probe("turn", job))
    judge_peers(json_of(result), wanted, subject.addresses, sheet)
    tell_untried(subject, sheet)


def tell_untried(subject: Subject, sheet: Sheet) -> None:
    """Say that no network of administration was tried where the site names none: no flaw of the relay's, and no proof."""
    if not derivations.management_networks(subject.settings):
        sheet.expect(True, "no network of administration was tried, as firewall_management_sources bounds none", "")


def peers(subject: Subject, ours: list[str]) -> dict[str, dict[str, bool]]:
    """Return, by family, peers and whether a relay may send to them.

    These are special ranges, the first and last address of each of the administration's networks, the site's hosts, the
    vantage point, and strangers where the policy lets a relay send to none: our own address may be a translated one.
    """
    found: dict[str, dict[str, bool]] = {family: dict.fromkeys(rows, False) for family, rows in NEVER.items()}
    site = [row[key] for row in subject.topology["hosts"].values() for key in ("address", "address6") if row[key]]
    networks = derivations.management_networks(subject.settings)
    management = [str(network[end]) for network in networks for end in (0, -1)]
    strangers = [address for address in ORDINARY if not _permitted(subject, address)]
    for address in [*management, *site, *filter(None, ours), *strangers]:
        found["6" if ":" in address else "4"][address] = _permitted(subject, address)
    return found


def _permitted(subject: Subject, address: str) -> bool:
    """Say whether the derived policy lets a relay send there; an allowed address wins over a denied range."""
    if address in derivations.turn_allowed_peers(subject.topology):
        return True
    value = ipaddress.ip_address(address)
    for denied in derivations.turn_denied_peers(subject.topology):
        first, _, last = denied.partition("-")
        low, high = ipaddress.ip_address(first), ipaddress.ip_address(last or first)
        if low.version == value.version and int(low) <= int(value) <= int(high):
            return False
    return True


def judge_peers(
    facts: Mapping[str, Any], wanted: Mapping[str, Mapping[str, bool]], own: tuple[str, ...], sheet: Sheet
) -> None:
    """Note every permission that is not as the policy says; without one that was granted nothing is proved."""
    if facts["handed"]:
        sheet.could_not_look(f"no credentials to try: {facts['handed']}")
        return
    for label, way in facts["ways"].items():
        if "failed" in way:
            sheet.expect(False, f"{label}: {way['failed']}", "an answer of TURN's")
            continue
        for family, rows in wanted.items():
            has = any((":" in address) == (family == "6") for address in own)
            _judge_relay(f"{label}, IPv{family} relay", way[f"relay{family}"], rows, has, sheet)


def _judge_relay(label: str, relay: Mapping[str, Any], rows: Mapping[str, bool], has: bool, sheet: Sheet) -> None:
    if relay["allocated"] != GRANTED:
        # 440 is Address Family not Supported (RFC 8656 18.13).
        fits = not has and relay["allocated"] == 440
        sheet.expect(fits, f"{label}: {_said(relay['allocated'])}", "granted, or the refusals prove nothing")
        return
    refused: list[str] = []
    allowed: list[str] = []
    for peer, may in rows.items():
        outcome = relay["peers"].get(peer)
        if outcome == (GRANTED if may else 403):
            (allowed if may else refused).append(peer)
        elif may:
            sheet.expect(False, f"{label}: sending to {peer} is {_said(outcome)}", "granted: it is a bridge")
        else:
            sheet.expect(False, f"{label}: sending to {peer} is {_said(outcome)}", "refused with 403")
    towards = ", ".join(allowed) or "nobody, as no bridge has such an address"
    sheet.expect(True, f"{label}: refused towards {len(refused)} addresses, granted towards {towards}", "")
