"""How TURN is judged from outside, by what the probe tells: who gets a relay, and whom it may send to."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from orchestrator.verification.checks import test_turn
from orchestrator.verification.sheet import NotTested, Sheet
from tests.unit.outside_cases import faults, noted, subject

OWN = ("192.0.2.10", "2001:db8::10")


def _turn(**way: Any) -> dict[str, Any]:
    good = {"nothing": 401, "wrong": 401, "expired": 401, "handed": "granted"}
    return {"handed": "", "ends": 1700086400, "clock": 1700000000, "ways": {"udp": good | way}}


@pytest.mark.parametrize(
    ("facts", "seen"),
    [
        (_turn(), []),
        (_turn(nothing="granted"), ["udp: a relay without credentials is granted"]),
        (_turn(wrong="granted"), ["udp: a relay with a wrong password is granted"]),
        (_turn(expired="granted"), ["udp: a relay with credentials that have run out is granted"]),
        (_turn(handed=401), ["udp: a relay with the credentials of a guest is refused with 401"]),
        (_turn(nothing="no answer"), ["udp: a relay without credentials is no answer"]),
        (_turn() | {"ends": None}, ["handed credentials are good for ever, as their user name holds no time"]),
        (_turn() | {"ends": 1700000000 + 9 * 86400}, ["handed credentials are good for 777600 s"]),
    ],
)
def test_relays_are_for_those_with_handed_credentials(facts: dict[str, Any], seen: list[str]) -> None:
    assert faults(noted(test_turn.judge_credentials, facts)) == seen


def test_credentials_that_nobody_can_sign_are_not_tried_in_silence() -> None:
    sheet = Sheet()
    assert test_turn.expired("1700000000 c2lnbmVk\n", sheet) == {"expired": ["1700000000", "c2lnbmVk"]}
    assert sheet.untested == []
    assert test_turn.expired("1700000000 -\n", sheet) == {}
    assert sheet.untested == [
        "credentials that have run out: /etc/turnserver.conf holds no static-auth-secret to sign any"
    ]


def test_nobody_who_hands_out_credentials_is_no_pass() -> None:
    facts = {
        "handed": "guests are told of 0 services",
        "ends": None,
        "clock": None,
        "ways": {"udp": {"nothing": 401, "wrong": 401}},
    }
    sheet = noted(test_turn.judge_credentials, facts)
    peers = noted(test_turn.judge_peers, facts, test_turn.peers(subject(), []), ("192.0.2.10",))
    for looked in (sheet, peers):
        with pytest.raises(NotTested, match="guests are told of 0 services"):
            looked.finish()


def test_peers_are_the_special_ones_the_sites_hosts_and_ourselves() -> None:
    wanted = test_turn.peers(subject(), ["203.0.113.9", ""])
    assert wanted["4"]["192.0.2.10"] is True
    assert wanted["6"]["2001:db8::10"] is True
    assert wanted["4"]["10.9.8.7"] is False
    assert wanted["4"]["203.0.113.9"] is False
    assert wanted["6"]["::ffff:127.0.0.1"] is False
    direct = test_turn.peers(subject(jitsi_p2p=True), ["8.8.4.4"])
    assert direct["4"]["8.8.4.4"] is True
    assert direct["4"]["10.9.8.7"] is False
    office = test_turn.peers(subject(jitsi_p2p=True, firewall_management_sources=["8.8.4.0/24", "2a00:1450::/64"]), [])
    assert [office["4"][address] for address in ("8.8.4.0", "8.8.4.255")] == [False, False]
    assert office["6"]["2a00:1450::"] is False
    never = {peer for rows in test_turn.NEVER.values() for peer in rows}
    assert not any(test_turn._permitted(subject(jitsi_p2p=True), peer) for peer in never)


@pytest.mark.parametrize(
    ("sources", "told"), [([], 1), (["0.0.0.0/0", "::/0"], 1), (["198.51.100.0/24", "0.0.0.0/0"], 0)]
)
def test_it_is_told_where_no_network_of_administration_can_be_tried(sources: list[str], told: int) -> None:
    assert len(noted(test_turn.tell_untried, subject(firewall_management_sources=sources)).seen) == told


def test_a_relay_to_anybody_is_found_from_behind_a_translation() -> None:
    """The usual control node has a private address, so its own is none that the relay could be asked for."""
    wanted = test_turn.peers(subject(), [""])
    open_ = _relays(wanted)
    for family, rows in wanted.items():
        for peer in rows:
            # coturn with upstream's denied ranges, and nothing else denied.
            if not any(peer in never for never in test_turn.NEVER.values()):
                open_["ways"]["udp"][f"relay{family}"]["peers"][peer] = "granted"
    told = faults(noted(test_turn.judge_peers, open_, wanted, OWN))
    for address in test_turn.ORDINARY:
        family = "6" if ":" in address else "4"
        assert wanted[family][address] is False
        assert ipaddress.ip_address(address).is_global
        assert f"udp, IPv{family} relay: sending to {address} is granted" in told
    assert faults(noted(test_turn.judge_peers, _relays(wanted), wanted, OWN)) == []
    # Where people may call each other directly, any public address may be somebody's.
    direct = test_turn.peers(subject(jitsi_p2p=True), [""])
    assert not any(address in rows for address in test_turn.ORDINARY for rows in direct.values())


def _relays(wanted: dict[str, dict[str, bool]], **other: Any) -> dict[str, Any]:
    way: dict[str, Any] = {
        f"relay{family}": {"allocated": "granted", "peers": {p: "granted" if may else 403 for p, may in rows.items()}}
        for family, rows in wanted.items()
    }
    for peer, outcome in other.items():
        way["relay4"]["peers"][peer] = outcome
    return {"handed": "", "ways": {"udp": way}}


def test_permissions_are_judged_one_by_one() -> None:
    wanted = test_turn.peers(subject(), [])

    def judged(facts: dict[str, Any], addresses: tuple[str, ...] = OWN) -> list[str]:
        return faults(noted(test_turn.judge_peers, facts, wanted, addresses))

    assert judged(_relays(wanted)) == []
    assert judged(_relays(wanted, **{"127.0.0.1": "granted"})) == ["udp, IPv4 relay: sending to 127.0.0.1 is granted"]
    assert judged(_relays(wanted, **{"10.0.0.1": "no answer"})) == ["udp, IPv4 relay: sending to 10.0.0.1 is no answer"]
    assert judged(_relays(wanted, **{"192.0.2.10": 403})) == [
        "udp, IPv4 relay: sending to 192.0.2.10 is refused with 403"
    ]
    facts = _relays(wanted)
    facts["ways"]["udp"]["relay6"] = {"allocated": 440, "peers": {}}
    assert judged(facts) == ["udp, IPv6 relay: refused with 440"]
    assert judged(facts, ("192.0.2.10",)) == []
