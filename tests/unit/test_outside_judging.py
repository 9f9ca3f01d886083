"""How what was seen from outside is judged: by recorded answers of nmap, openssl and the TURN probe, without a host."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.verification import nmap
from orchestrator.verification.admission import Policy, policy
from orchestrator.verification.batch import Answers, BatchBackend
from orchestrator.verification.checks import test_crypto, test_ports, test_signalling_ways, test_tls, test_turn
from orchestrator.verification.crypto import chosen, load_profiles
from orchestrator.verification.nmap import Scan
from orchestrator.verification.reach import Target, seen_as, targets
from orchestrator.verification.sheet import NotTested, Sheet
from orchestrator.verification.subject import Subject, subjects
from tests.unit.site_cases import Case

RECORDED = Path(__file__).with_name("recorded")
BSI, MOZILLA = (load_profiles()[name] for name in ("bsi-2026", "mozilla-intermediate"))
ANYWHERE = ["0.0.0.0/0", "::/0"]


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def subject(**settings: Any) -> Subject:
    groups = ("jitsi_signalling", "jitsi_bridges", "turn_servers")
    host = {"address": "192.0.2.10", "address6": "2001:db8::10", "groups": groups, "ssh_port": 22}
    inner = {"address": "10.9.8.7", "address6": "", "groups": ["jitsi_signalling"], "ssh_port": 22}
    topology = {"hosts": {"h1": host, "s2": inner}, "settings": {"jitsi_domain": "meet.example.org", **settings}}
    return Subject("h1", "192.0.2.10", "2001:db8::10", groups, topology)


def faults(sheet: Sheet) -> list[str]:
    return [seen for seen, _ in sheet.faults]


def test_profiles_choose_and_say_what_is_not_confirmed() -> None:
    assert chosen({}).name == "bsi-2026"
    assert chosen({"verification_crypto_profile": "mozilla-intermediate"}) is MOZILLA
    assert BSI.tls.allows("secp256r1", BSI.tls.tls_groups)
    assert BSI.tls.allows("x25519", BSI.tls.tls_groups)
    assert not BSI.tls.allows("TLS_CHACHA20_POLY1305_SHA256", BSI.tls.tls_suites)
    assert MOZILLA.tls.allows("TLS_CHACHA20_POLY1305_SHA256", MOZILLA.tls.tls_suites)
    assert not BSI.tls.allows("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", BSI.tls.tls_suites)
    assert BSI.tls.shown(["secp256r1", "x25519"]) == "secp256r1, x25519 ?"
    assert MOZILLA.tls.shown(["x25519"]) == "x25519"
    assert MOZILLA.ssh == BSI.ssh


def test_ports_of_a_good_host() -> None:
    scan = nmap.read(recorded("tcp-good.xml"))
    assert (scan.problem, scan.way, scan.open) == ("", "syn", [22, 80, 443])
    assert scan.state(4711) == "filtered"
    assert nmap.read(recorded("udp-good.xml")).state(3478) == "open"


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        ("tcp-timeout.xml", "nmap ran out of time"),
        ("tcp-nohost.xml", "nmap saw no host there"),
        ("groups-good.txt", "nmap printed no XML"),
    ],
)
def test_a_scan_that_saw_nothing_says_why(printed: str, problem: str) -> None:
    scan = nmap.read(recorded(printed))
    assert scan.problem.startswith(problem)
    assert scan.open == []


def test_several_groups_of_ports_that_are_not_listed() -> None:
    text = recorded("tcp-good.xml").replace(
        '<ports><extraports state="filtered"',
        '<ports><extraports state="closed" count="2"><extrareasons reason="reset" count="2" ports="7,9-10"/></extraports>'
        '<extraports state="filtered"',
    )
    scan = nmap.read(text.replace('ports="1-21,', 'ports="1-6,8,11-21,'))
    assert [scan.state(port) for port in (7, 10, 21, 22)] == ["closed", "closed", "filtered", "open"]


def test_ports_are_shown_as_ranges() -> None:
    assert nmap.shown([443, 80, 22, 81, 82]) == "22, 80-82, 443"
    assert nmap.shown([]) == ""


FLOWS: list[dict[str, Any]] = [
    {"proto": "tcp", "port": 22, "sources": ["198.51.100.0/24"], "purpose": "administration"},
    {"proto": "tcp", "port": 443, "sources": ANYWHERE, "purpose": "web page"},
    {"proto": "tcp", "port": "8000-8010", "sources": ANYWHERE, "purpose": "declared"},
    {"proto": "udp", "port": 3478, "sources": ANYWHERE, "purpose": "STUN"},
    {"proto": "udp", "port": 10000, "sources": ANYWHERE, "purpose": "media"},
    {"proto": "udp", "port": "49152-65535", "sources": ["192.0.2.2/32"], "purpose": "relay"},
]


def _policy(proto: str, source: str, address: str = "192.0.2.10") -> Policy:
    return policy(FLOWS, proto, Target(address, source))


def _tcp(allowed: Policy, *opened: int, state: str = "filtered") -> Sheet:
    sheet = Sheet()
    scan = Scan(way="syn", states=dict.fromkeys(opened, "open"), rest=state)
    test_ports.judge_tcp("192.0.2.10", allowed, scan, scan, sheet)
    return sheet


def test_flows_let_in_whom_their_sources_hold() -> None:
    assert _policy("tcp", "198.51.100.7").ports(single=True) == [22, 443]
    assert _policy("tcp", "203.0.113.9").ports(single=True) == [443]
    assert _policy("tcp", "2001:db8:1::1", "2001:db8::10").ports(single=True) == [443]
    assert [flow["port"] for flow in _policy("tcp", "").doubtful] == [22]
    assert _policy("tcp", "203.0.113.9").ports(single=False) == [8000, 8005, 8010]


def test_open_beyond_the_flows_is_a_fault() -> None:
    allowed = _policy("tcp", "203.0.113.9")
    assert faults(_tcp(allowed, 443, 8005)) == []
    assert faults(_tcp(allowed, 443, 8005, 4712)) == ["192.0.2.10: 4712/tcp open"]
    assert _tcp(allowed, 443, 8005, 22).faults == [
        ("192.0.2.10: 22/tcp open", "closed to us: declared for other sources")
    ]
    doubtful = _tcp(_policy("tcp", ""), 443, 8005, 22)
    assert faults(doubtful) == []
    assert doubtful.untested == [
        "192.0.2.10: 22/tcp is open, as declared for some sources; how the host sees us is not known"
    ]


def test_declared_but_closed_is_a_fault() -> None:
    allowed = _policy("tcp", "198.51.100.7")
    assert faults(_tcp(allowed, 22)) == [
        "192.0.2.10: 443/tcp is filtered",
        "192.0.2.10: nothing of 8000-8010/tcp is open",
    ]


def test_scan_that_ran_out_of_time_is_no_pass() -> None:
    sheet, slow = Sheet(), nmap.read(recorded("tcp-timeout.xml"))
    test_ports.judge_tcp("192.0.2.10", _policy("tcp", "203.0.113.9"), slow, slow, sheet)
    with pytest.raises(NotTested, match="ran out of time"):
        sheet.finish()
    sheet = Sheet()
    good = Scan(states={443: "open", 8000: "open"}, rest="filtered")
    test_ports.judge_tcp("192.0.2.10", _policy("tcp", "203.0.113.9"), slow, good, sheet)
    with pytest.raises(NotTested, match="not all ports were looked at"):
        sheet.finish()
    sheet, blind = Sheet(), Scan(way="syn", rest="filtered")
    test_ports.judge_tcp("192.0.2.10", _policy("tcp", "203.0.113.9"), blind, good, sheet)
    with pytest.raises(NotTested, match="did not see 443, 8000/tcp, which is open"):
        sheet.finish()
    nohost = nmap.read(recorded("tcp-nohost.xml"))
    with pytest.raises(RuntimeError, match="saw no host"):
        test_ports.judge_tcp("192.0.2.10", _policy("tcp", "203.0.113.9"), nohost, nohost, Sheet())


@pytest.mark.parametrize(
    ("states", "seen"),
    [
        ({3478: "open", 10000: "open|filtered", 49152: "closed"}, []),
        ({3478: "open|filtered"}, ["192.0.2.10: 3478/udp is open|filtered"]),
        ({3478: "open", 10000: "closed"}, ["192.0.2.10: 10000/udp is closed"]),
        ({3478: "open", 123: "open"}, ["192.0.2.10: 123/udp open"]),
        ({3478: "open", 50000: "open"}, ["192.0.2.10: 50000/udp open"]),
    ],
)
def test_udp_is_judged_by_answers_and_not_by_silence(states: dict[int, str], seen: list[str]) -> None:
    sheet = Sheet()
    test_ports.judge_udp("192.0.2.10", _policy("udp", "203.0.113.9"), Scan(states=states, rest="open|filtered"), sheet)
    assert faults(sheet) == seen
    silent = "192.0.2.10: 10000/udp silent as the bridge should be, which proves neither open nor closed"
    assert (silent in sheet.seen) is (10000 not in states or states[10000] == "open|filtered")


def test_suites_of_a_good_host_lie_within_both_profiles() -> None:
    scan = nmap.read(recorded("tls-good.xml"))
    assert set(scan.tls) == {"TLSv1.2", "TLSv1.3"}
    assert scan.tls["TLSv1.3"] == ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384")
    for profile in (BSI, MOZILLA):
        sheet = Sheet()
        test_tls.judge_suites(scan, profile, sheet)
        test_tls.judge_versions(scan, profile.tls.tls_versions, sheet)
        test_tls.judge_groups(test_tls.tried_groups(recorded("groups-good.txt")), profile, sheet)
        sheet.finish()
    assert "TLSv1.3 by secp256r1, secp384r1, x25519" in sheet.seen


def test_weak_suites_versions_and_groups_are_named() -> None:
    scan, sheet = nmap.read(recorded("tls-weak.xml")), Sheet()
    test_tls.judge_versions(scan, BSI.tls.tls_versions, sheet)
    assert faults(sheet) == ["TLSv1.1 spoken"]
    sheet = Sheet()
    test_tls.judge_suites(scan, BSI, sheet)
    ((seen, wanted),) = sheet.faults
    assert "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256" in seen
    assert "Encrypt-then-MAC" in wanted
    first = test_tls.tried_groups(recorded("groups-weak-first.txt"))
    assert not first.old_refused
    sheet = Sheet()
    each = test_tls.tried_groups(recorded("groups-weak-first.txt") + recorded("groups-weak-each.txt"))
    test_tls.judge_groups(each, BSI, sheet)
    assert faults(sheet) == ["TLSv1.2 takes the groups secp224r1"]


def test_who_refuses_everything_proves_nothing() -> None:
    sheet = Sheet()
    test_tls.judge_versions(Scan(), BSI.tls.tls_versions, sheet)
    test_tls.judge_suites(Scan(), BSI, sheet)
    test_tls.judge_groups(test_tls.tried_groups(""), BSI, sheet)
    assert len(sheet.faults) == 6


def test_what_our_own_openssl_does_not_know_is_no_refusal() -> None:
    cannot = "== tls1_3=X25519MLKEM768\ngroup 'X25519MLKEM768' cannot be set\n"
    sheet = Sheet()
    test_tls.judge_groups(test_tls.tried_groups(recorded("groups-good.txt") + cannot), BSI, sheet)
    sheet.finish()
    blind = cannot.replace("X25519MLKEM768", "secp192r1")
    refused = test_tls.tried_groups("== tls1_2=sect163k1:secp192r1\ngroup 'secp192r1' cannot be set\n")
    assert not refused.old_refused
    test_tls.judge_groups(test_tls.tried_groups(recorded("groups-good.txt") + blind), BSI, sheet)
    with pytest.raises(NotTested, match="does not speak secp192r1"):
        sheet.finish()
    broken = Sheet()
    test_tls.judge_groups(
        test_tls.tried_groups(recorded("groups-good.txt") + "== tls1_3=x448\nconnect:errno=110\n"), BSI, broken
    )
    with pytest.raises(NotTested, match="x448: connect:errno=110"):
        broken.finish()


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("Verify return code: 0 (ok)\nsha256 Fingerprint=AA:BB\n", []),
        (
            "Verify return code: 0 (ok)\nsha256 Fingerprint=AA:CC\n",
            ["the certificate is AA:CC..., not the one on the host's disk"],
        ),
        (
            "Verify return code: 19 (self-signed certificate in certificate chain)\nSHA256 Fingerprint=AA:BB\n",
            ["verification says 19 (self-signed certificate in certificate chain)"],
        ),
        ("connect:errno=111\n", ["no certificate"]),
    ],
)
def test_served_certificate_is_the_one_on_disk(said: str, seen: list[str]) -> None:
    sheet = Sheet()
    test_tls.judge_served(said, "AA:BB", sheet)
    assert faults(sheet) == seen


ESTABLISHED = "CONNECTION ESTABLISHED\nProtocol version: TLSv1.3\nCiphersuite: {}\n{} Temp Key: {}, 256 bits\n"
ALERT = "4097C870487F0000:error:0A000410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure:../ssl/record/x.c:1601:\n"


@pytest.mark.parametrize(
    ("kind", "said", "seen", "untested"),
    [
        ("suite", ALERT, [], 0),
        ("group", ALERT, [], 0),
        (
            "suite",
            ESTABLISHED.format("TLS_CHACHA20_POLY1305_SHA256", "Server", "X25519"),
            ["xmpp takes the suite TLS_CHACHA20_POLY1305_SHA256"],
            0,
        ),
        (
            "group",
            ESTABLISHED.format("TLS_AES_128_GCM_SHA256", "Peer", "x448"),
            ["xmpp takes the group x448"],
            0,
        ),
        (
            "group",
            ESTABLISHED.format("ECDHE-ECDSA-AES256-GCM-SHA384", "Server", "ECDH, secp224r1"),
            ["xmpp takes the group secp224r1"],
            0,
        ),
        # The curve of the certificate, which was offered with the others.
        ("group", ESTABLISHED.format("ECDHE-ECDSA-AES256-GCM-SHA384", "Server", "ECDH, prime256v1"), [], 0),
        ("group", ESTABLISHED.format("TLS_AES_128_GCM_SHA256", "No", "x"), ["xmpp takes the group ?"], 0),
        ("suite", "connect:errno=111\n", [], 1),
        ("group", "Call to SSL_CONF_cmd(-groups, x) failed: cannot be set\n", [], 1),
        ("suite", "", [], 1),
    ],
)
def test_what_is_beyond_the_profile_must_be_refused_by_an_alert(
    kind: str, said: str, seen: list[str], untested: int
) -> None:
    sheet = Sheet()
    test_crypto.judge_beyond("xmpp", kind, said, BSI, sheet)
    assert (faults(sheet), len(sheet.untested)) == (seen, untested)


def test_nothing_that_is_allowed_is_offered_as_beyond() -> None:
    for profile in (BSI, MOZILLA):
        offers = " ".join(offer for _, _, offer in test_crypto._beyond(profile)).replace(":", " ").split()
        assert "TLS_AES_128_GCM_SHA256" not in offers
        assert ("TLS_CHACHA20_POLY1305_SHA256" in offers) is (profile is BSI)
        assert {"x448", "secp224r1"} <= set(offers)
        assert "x25519" not in offers


def test_what_is_alike_over_several_addresses_is_said_once() -> None:
    one, two = (test_tls.Endpoint("m.example", 443, Target(a, "")) for a in ("192.0.2.1", "2001:db8::1"))
    bad, good = Sheet(), Sheet()
    for own in (bad, good):
        own.expect(False, "old", "new")
    good.expect(True, "fine", "")
    together, apart = Sheet(), Sheet()
    test_tls.note([(one, bad), (two, bad)], together)
    test_tls.note([(one, bad), (two, good)], apart)
    assert faults(together) == ["m.example:443 (192.0.2.1, 2001:db8::1): old"]
    assert faults(apart) == ["m.example:443 (192.0.2.1): old", "m.example:443 (2001:db8::1): old"]


def test_host_keys_are_judged_by_size_and_not_passed_over() -> None:
    def judged(shown: str) -> Sheet:
        sheet = Sheet()
        test_crypto.judge_host_keys(shown, BSI.ssh, sheet)
        return sheet

    keys = "256 SHA256:x root@h1 (ED25519)\n3072 SHA256:y no comment (RSA)\n"
    assert (judged(keys).faults, judged(keys).untested) == ([], [])
    assert faults(judged("1024 SHA256:y no comment (RSA)\n")) == ["host key (RSA) of 1024 bit"]
    assert judged("").untested == ["the size of the host keys: sshd names none"]


def test_addresses_of_signalling_that_config_computes_are_not_judged() -> None:
    sheet = Sheet()
    script = "var config = { bosh: 'https://' + host, websocket: 'wss://m.example/xmpp-websocket' };"
    test_signalling_ways._judge_ways("config.js", script, "m.example", sheet)
    assert faults(sheet) == []
    assert sheet.untested == ["config.js: bosh, which config.js computes: 'https://' + host"]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("'https://m.example/' + subdir + 'http-bind'", False),
        ('"https://m.example/" + config.subdir', False),
        ("'https://m.example/x' + subdir", False),
        ("'http://m.example/' + subdir + 'http-bind'", True),
        ("'https://other.example/' + subdir", True),
    ],
)
def test_what_is_added_behind_host_and_slash_changes_neither(value: str, *, fault: bool) -> None:
    sheet = Sheet()
    script = f"var config = {{ bosh: {value}, websocket: 'wss://m.example/xmpp-websocket' }};"
    test_signalling_ways._judge_ways("config.js", script, "m.example", sheet)
    assert (faults(sheet), sheet.untested) == ([f"config.js: bosh {value}"] * fault, [])


@pytest.mark.parametrize(
    "value",
    [
        "'https://m.example' + rest",
        "'https://m.example/' + a ? 'http://x.example/' : b",
        "'https://m.example/' && other",
        "'https://m.example/'.replace('m', x) + a",
        "('https://m.example/' + a, b)",
        "prefix + 'https://m.example/'",
        "'https://m.example\\x2ex.example/' + a",
        "'https://a@m.example/' + a",
        "'https://m.example/' + f()",
        "'config' + a",
    ],
)
def test_any_other_way_to_compute_an_address_is_not_judged(value: str) -> None:
    sheet = Sheet()
    script = f"var config = {{ bosh: {value}, websocket: 'wss://m.example/xmpp-websocket' }};"
    test_signalling_ways._judge_ways("config.js", script, "m.example", sheet)
    assert faults(sheet) == []
    assert "bosh, which config.js computes" in sheet.untested[0]


def _turn(**way: Any) -> dict[str, Any]:
    good = {"nothing": 401, "wrong": 401, "expired": 401, "handed": "granted"}
    return {"handed": "", "seconds_left": 86400, "ways": {"udp": good | way}}


@pytest.mark.parametrize(
    ("facts", "seen"),
    [
        (_turn(), []),
        (_turn(nothing="granted"), ["udp: a relay without credentials is granted"]),
        (_turn(wrong="granted"), ["udp: a relay with a wrong password is granted"]),
        (_turn(expired="granted"), ["udp: a relay with credentials that have run out is granted"]),
        (_turn(handed=401), ["udp: a relay with the credentials of a guest is refused with 401"]),
        (_turn(nothing="no answer"), ["udp: a relay without credentials is no answer"]),
        (_turn() | {"seconds_left": None}, ["handed credentials are good for ever, as their user name holds no time"]),
        (_turn() | {"seconds_left": 9 * 86400}, ["handed credentials are good for 777600 s"]),
    ],
)
def test_relays_are_for_those_with_handed_credentials(facts: dict[str, Any], seen: list[str]) -> None:
    sheet = Sheet()
    test_turn.judge_credentials(facts, sheet)
    assert faults(sheet) == seen


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
        "seconds_left": None,
        "ways": {"udp": {"nothing": 401, "wrong": 401}},
    }
    sheet, peers = Sheet(), Sheet()
    test_turn.judge_credentials(facts, sheet)
    test_turn.judge_peers(facts, test_turn.peers(subject(), []), ("192.0.2.10",), peers)
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


def test_a_relay_to_anybody_is_found_from_behind_a_translation() -> None:
    """The usual control node has a private address, so its own is none that the relay could be asked for."""
    wanted = test_turn.peers(subject(), [""])
    open_ = _relays(wanted)
    for family, rows in wanted.items():
        for peer in rows:
            # coturn with upstream's denied ranges, and nothing else denied.
            if not any(peer in never for never in test_turn.NEVER.values()):
                open_["ways"]["udp"][f"relay{family}"]["peers"][peer] = "granted"
    sheet, closed = Sheet(), Sheet()
    test_turn.judge_peers(open_, wanted, ("192.0.2.10", "2001:db8::10"), sheet)
    told = faults(sheet)
    for address in test_turn.ORDINARY:
        family = "6" if ":" in address else "4"
        assert wanted[family][address] is False
        assert ipaddress.ip_address(address).is_global
        assert f"udp, IPv{family} relay: sending to {address} is granted" in told
    test_turn.judge_peers(_relays(wanted), wanted, ("192.0.2.10", "2001:db8::10"), closed)
    assert faults(closed) == []
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
    own = ("192.0.2.10", "2001:db8::10")

    def judged(facts: dict[str, Any], addresses: tuple[str, ...] = own) -> list[str]:
        sheet = Sheet()
        test_turn.judge_peers(facts, wanted, addresses, sheet)
        return faults(sheet)

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


class _Outside:
    """What a check sees of the vantage point."""

    def __init__(self, printed: str) -> None:
        self.backend = BatchBackend("vantage", self._ship)
        self.run = self.backend.run
        self._printed = printed

    def _ship(self, commands: list[str]) -> Answers:
        source = {"192.0.2.10": b"203.0.113.9\n", "2001:db8::10": b"none\n"}
        return {
            command: next(
                (0, said, b"")
                for address, said in (*source.items(), ("", self._printed.encode()))
                if address in command
            )
            for command in commands
        }


def test_vantage_point_without_a_tool_or_a_way_is_said() -> None:
    sheet = Sheet()
    assert targets(_Outside("/usr/bin/nmap\n"), subject(), sheet, "nmap") == [Target("192.0.2.10", "203.0.113.9")]
    assert sheet.untested == ["the vantage point has no way to 2001:db8::10"]
    with pytest.raises(NotTested, match="has no nmap; install it there"):
        targets(_Outside(""), subject(), Sheet(), "nmap")


def test_source_behind_a_translation_is_not_known() -> None:
    assert seen_as("192.168.1.2", "9.9.9.9") == ""
    assert seen_as("192.168.1.2", "192.168.1.3") == "192.168.1.2"
    assert seen_as("8.8.8.8", "9.9.9.9") == "8.8.8.8"


def test_host_without_its_certificate_is_a_fault() -> None:
    sheet = Sheet()
    test_tls.judge_served("Verify return code: 0 (ok)", "", sheet)
    assert [seen for seen, _ in sheet.faults] == ["the host has no certificate in /etc/ratssaal/tls/fullchain.pem"]


def test_whom_clients_trust_is_the_inventorys_word(case: Case) -> None:
    (own,) = subjects(case.load()).values()
    assert own.authority.startswith("-----BEGIN CERTIFICATE-----")
    case.append("certificates_source: pem\ncertificates_chain_file: x\ncertificates_key_file: x\n")
    (case.path / "x").write_text("")
    (bought,) = subjects(case.load()).values()
    assert bought.authority == ""


def test_a_certificate_that_is_no_word_of_a_shell_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    endpoint = test_tls.Endpoint("meet.example.org", 9, Target("127.0.0.1", ""))
    command = test_tls._served_command(endpoint, f"'; touch {mark}; echo '")
    subprocess.run(["/bin/sh", "-c", command], check=False, capture_output=True, timeout=30)
    assert not mark.exists()
