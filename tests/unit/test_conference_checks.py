"""How the checks judge a conversation: a fault is a fault, and what was not seen is never a pass."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.verification.checks import test_conference as checks
from orchestrator.verification.sheet import NotApplicable, NotTested, Sheet
from orchestrator.verification.subject import Subject

Facts = dict[str, Any]
HOST: Facts = {
    "address": "198.18.0.10",
    "address6": "2001:2::10",
    "groups": ["jitsi_signalling", "jitsi_bridges", "turn_servers"],
}
SETTINGS = {"jitsi_domain": "meet.example", "jitsi_auth": "internal", "jitsi_lobby": "wait_for_host"}
CONFIG = (
    "var config = { p2p: { stunServers: [ { urls: 'stun:turn.meet.example:3478' } ] },"
    " securityUi: { hideLobbyButton: false } };"
)
JOINED = {"outcome": "joined", "condition": "", "affiliation": "none", "role": "participant"}
STAYS = {"affiliation": "none", "role": "participant"}
LOBBY = {"outcome": "lobby", "condition": "registration-required", "affiliation": ""}
REFUSED = {"outcome": "refused", "condition": "not-allowed", "affiliation": ""}
SERVICES = {"services": [{"type": "turns", "host": "turn.meet.example", "port": "443"}]}
ANSWERED = {
    "port": "10000",
    "protocol": "udp",
    "type": "host",
    "answered": True,
    "signed": True,
    "wrong_password_answered": False,
}
OFFER: Facts = {
    "offered": True,
    "credentials": True,
    "fingerprint": True,
    "candidates": [{"ip": "198.18.0.10", **ANSWERED}, {"ip": "2001:2:0:0:0:0:0:10", **ANSWERED}],
}
GOOD: Facts = {
    "websocket": {"198.18.0.10": {"open": True}, "2001:2::10": {"open": True}},
    "stranger": {"admitted": False, "condition": "invalid-mechanism"},
    "guest": {"admitted": True},
    "member": {"admitted": True},
    "offered": {"lobby": True},
    "services_guest": SERVICES,
    "services_member": SERVICES,
    "room_without_member": {"request": {"ready": False, "condition": "not-authorized"}, "enter": REFUSED},
    "meeting": {"request": {"ready": True}, "enter": JOINED},
    "owner": {"owner": True},
    "sessions": {"offers": [OFFER, OFFER], "second": {"owner": True}},
    "guest_in_meeting": {
        "enter": JOINED,
        "stays": STAYS,
        "lock": "",
        "enter_locked": LOBBY,
        "lobby": {
            "seen_by_moderator": True,
            "let_in_unasked": False,
            "again": LOBBY,
            "after_admission": JOINED,
            "stays": STAYS,
        },
    },
}
CHECKS = {
    "VKS-01": checks.test_only_members_open_rooms,
    "VKS-02": checks.test_guests_wait,
    "TRN-04": checks.test_only_own_servers_are_handed_out,
    "AVL-02": checks.test_a_meeting_starts,
}


@dataclass
class _Result:
    stdout: str
    rc: int = 0
    stderr: str = ""
    command: bytes = b""


class _Place:
    """A host or a vantage point that gives prepared answers."""

    backend = None

    def __init__(self, facts: Facts, config: str = CONFIG, code: int = 0, reached: str = "") -> None:
        self._facts, self._config, self._code, self._reached = facts, config, code, reached

    def run(self, command: str) -> _Result:
        """Answer the questions that these checks ask; only an address with `reached` in it can be reached."""
        if "SOCK_DGRAM" in command:
            return _Result("192.0.2.9\n" if self._reached in command.rpartition("' ")[2] else "none\n")
        if command.startswith("curl") and self._reached not in command.partition("--resolve ")[2]:
            return _Result("", 7)
        if command.startswith("timeout ${PATIENCE:-9} openssl"):
            return _Result("sha256 Fingerprint=AA:BB\n")
        if command.startswith("curl"):
            return _Result(self._config, self._code)
        return _Result(json.dumps(self._facts))


def _judged(
    control: str, facts: Facts, *, config: str = CONFIG, code: int = 0, reached: str = "", **settings: Any
) -> tuple[str, str]:
    """Return how the check of a control ends and what it says."""
    subject = Subject(
        "h1",
        "198.18.0.10",
        "2001:2::10",
        tuple(HOST["groups"]),
        {"hosts": {"h1": HOST}, "settings": {**SETTINGS, **settings}},
    )
    place: Any = _Place(facts, config, code, reached)
    sheet = Sheet()
    try:
        CHECKS[control](place, place, subject, sheet)
        sheet.finish()
    except NotTested as reason:
        return "not tested", str(reason)
    except AssertionError as fault:
        return "fail", str(fault)
    return "pass", "; ".join(sheet.seen)


def _changed(*path: str, to: Any) -> Facts:
    facts = copy.deepcopy(GOOD)
    place = facts
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = to
    return facts


@pytest.mark.parametrize("control", CHECKS)
def test_a_good_site_passes(control: str) -> None:
    assert _judged(control, GOOD)[0] == "pass", _judged(control, GOOD)


@pytest.mark.parametrize("control", CHECKS)
def test_nothing_seen_is_no_pass(control: str) -> None:
    silent = {"websocket": {}, "incomplete": "the conversation was not over after 36 s"}
    verdict, said = _judged(control, silent)
    assert verdict == "not tested", (verdict, said)


@pytest.mark.parametrize("control", CHECKS)
def test_without_a_member_it_is_not_tested_and_says_what_to_declare(control: str) -> None:
    facts = {
        k: v
        for k, v in GOOD.items()
        if k not in ("meeting", "owner", "sessions", "guest_in_meeting", "services_member")
    }
    facts["member"] = {"admitted": None, "condition": "no probe account and no token is declared"}
    verdict, said = _judged(control, facts)
    assert verdict == "not tested"
    assert "declare verification_probe_account" in said


def _first(**changed: Any) -> Facts:
    """Return an offer whose first candidate is another one."""
    return {**OFFER, "candidates": [{**OFFER["candidates"][0], **changed}, *OFFER["candidates"][1:]]}


def _beside(*, first: bool = False, **changed: Any) -> Facts:
    """Return an offer with one candidate more, which stands after the others or before them."""
    good = OFFER["candidates"]
    more = {**good[0], **changed}
    return {**OFFER, "candidates": [more, *good] if first else [*good, more]}


NO_WAY = "no way there: [Errno 101] Network is unreachable"
CASES: list[tuple[str, Facts, str, str]] = [
    (
        "VKS-01",
        _changed("stranger", to={"admitted": True, "condition": ""}),
        "fail",
        "a stranger at the members' domain is admitted",
    ),
    ("VKS-01", _changed("stranger", to={"reason": "no WebSocket"}), "not tested", "a stranger's log-in: no WebSocket"),
    (
        "VKS-01",
        _changed("room_without_member", "enter", to=JOINED),
        "fail",
        "a guest gets into a room that nobody opened",
    ),
    ("VKS-01", _changed("room_without_member", "enter", to=LOBBY), "pass", "waits in the lobby"),
    ("VKS-01", _changed("room_without_member", "request", to={"ready": True}), "fail", "the focus opens a room"),
    (
        "VKS-01",
        _changed("room_without_member", to={"reason": "the guest could not log in"}),
        "not tested",
        "could not log in",
    ),
    (
        "VKS-01",
        _changed("member", to={"admitted": False, "condition": "not-authorized"}),
        "not tested",
        "cannot log in: not-authorized",
    ),
    ("VKS-01", _changed("meeting", to={"reason": "nothing within 10 s"}), "not tested", "nothing within 10 s"),
    (
        "VKS-01",
        _changed("guest_in_meeting", "stays", to={"affiliation": "owner", "role": "moderator"}),
        "fail",
        "a guest who comes to a meeting is owner",
    ),
    (
        "VKS-01",
        _changed("guest_in_meeting", "stays", "role", to="moderator"),
        "fail",
        "a guest who comes to a meeting is none, moderator in the end",
    ),
    (
        "VKS-01",
        _changed("guest_in_meeting", "lobby", "stays", "affiliation", to="owner"),
        "fail",
        "a guest who is let in from the lobby is owner",
    ),
    (
        "VKS-01",
        _changed("guest_in_meeting", to={"enter": JOINED, "reason": "the connection ended"}),
        "not tested",
        "what a guest who comes to a meeting becomes: the connection ended",
    ),
    (
        "VKS-01",
        _changed("guest_in_meeting", to={"enter": REFUSED}),
        "not tested",
        "what a guest becomes in a meeting: not-allowed",
    ),
    (
        "VKS-01",
        _changed("member", to={"admitted": True, "claims": {"moderator": True}}),
        "not tested",
        "whether a token without the moderator claim makes an owner, as the declared one has it",
    ),
    (
        "VKS-01",
        _changed("member", to={"admitted": True, "claims": {}}),
        "not tested",
        "as the declared one cannot be read",
    ),
    (
        "VKS-01",
        _changed("member", to={"admitted": True, "claims": {"moderator": False}}),
        "fail",
        "without the moderator claim becomes",
    ),
    ("VKS-02", _changed("offered", "lobby", to=False), "fail", "offers no lobby"),
    (
        "VKS-02",
        _changed("room_without_member", "enter", to=JOINED),
        "fail",
        "before a host is there, a guest is let in",
    ),
    (
        "VKS-02",
        _changed("guest_in_meeting", "lobby", "let_in_unasked", to=True),
        "fail",
        "in the lobby a guest does not wait",
    ),
    ("VKS-02", _changed("guest_in_meeting", "lobby", "again", to=JOINED), "fail", "in the lobby a guest does not wait"),
    ("VKS-02", _changed("guest_in_meeting", "lobby", "after_admission", to=LOBBY), "fail", "let in by the moderator"),
    ("VKS-02", _changed("guest_in_meeting", "enter_locked", to=JOINED), "fail", "a guest who comes then: joined"),
    ("VKS-02", _changed("guest_in_meeting", to={"reason": "nothing within 6 s"}), "not tested", "nothing within 6 s"),
    (
        "VKS-02",
        _changed("member", to={"admitted": True, "claims": {"moderator": False}}),
        "not tested",
        "makes no moderator",
    ),
    ("TRN-04", _changed("services_guest", "services", to=[]), "fail", "a guest is told 0 servers"),
    (
        "TRN-04",
        _changed("services_guest", "services", to=[{"type": "stun", "host": "other.example"}]),
        "fail",
        "stun:other.example",
    ),
    ("TRN-04", _changed("services_guest", to={"reason": "forbidden"}), "not tested", "what a guest is told: forbidden"),
    (
        "AVL-02",
        _changed("websocket", "2001:2::10", to={"open": False, "reason": "refused"}),
        "fail",
        "WebSocket at 2001:2::10: refused",
    ),
    (
        "AVL-02",
        _changed("websocket", "2001:2::10", to={"open": False, "reason": "no way there"}),
        "not tested",
        "the vantage point has no way to 2001:2::10",
    ),
    ("AVL-02", _changed("member", to={"admitted": False, "condition": "not-authorized"}), "fail", "cannot log in"),
    ("AVL-02", _changed("sessions", to={"reason": "nothing within 10 s"}), "fail", "no meeting of two starts"),
    ("AVL-02", _changed("sessions", "second", to={"owner": False}), "fail", "stays a guest"),
    ("AVL-02", _changed("meeting", "enter", to=LOBBY) | {"sessions": {}}, "not tested", "waits in the lobby"),
    (
        "AVL-02",
        _changed("sessions", "offers", to=[{"offered": False, "reason": "nothing within 10 s"}]),
        "fail",
        "member 1: nothing",
    ),
    ("AVL-02", _changed("sessions", "offers", to=[{**OFFER, "fingerprint": False}]), "fail", "without fingerprint"),
    ("AVL-02", _changed("sessions", "offers", to=[_first(ip="203.0.113.7")]), "fail", "offered 203.0.113.7"),
    (
        "AVL-02",
        _changed("sessions", "offers", to=[_first(answered=False, reason="no answer within 2.5 s")]),
        "fail",
        "no answer within",
    ),
    ("AVL-02", _changed("sessions", "offers", to=[_first(signed=False)]), "fail", "not signed"),
    (
        "AVL-02",
        _changed("sessions", "offers", to=[_first(wrong_password_answered=True)]),
        "fail",
        "refuses a wrong password",
    ),
    (
        "AVL-02",
        _changed("sessions", "offers", to=[{**OFFER, "candidates": OFFER["candidates"][:1]}]),
        "fail",
        "not offered ['2001:2::10']",
    ),
    (
        "AVL-02",
        _changed("sessions", "offers", to=[_first(port="10001")]),
        "fail",
        "offered 198.18.0.10:10001/udp",
    ),
    ("AVL-02", _changed("sessions", "offers", to=[_first(port="10001")]), "fail", "not offered ['198.18.0.10']"),
    ("AVL-02", _changed("sessions", "offers", to=[_first(protocol="tcp")]), "fail", "offered 198.18.0.10:10000/tcp"),
    # Beside the right one, before or after it.
    ("AVL-02", _changed("sessions", "offers", to=[_beside(port="10001")]), "fail", "198.18.0.10:10001/udp"),
    ("AVL-02", _changed("sessions", "offers", to=[_beside(first=True, port="10001")]), "fail", "198.18.0.10:10001/udp"),
    (
        "AVL-02",
        _changed("sessions", "offers", to=[_beside(port="4443", protocol="ssltcp", answered=False)]),
        "fail",
        "198.18.0.10:4443/ssltcp does not answer",
    ),
    (
        "AVL-02",
        _changed("sessions", "offers", to=[_beside(ip="2001:2::10", answered=False)]),
        "fail",
        "[2001:2::10]:10000/udp does not answer",
    ),
    ("AVL-02", _changed("sessions", "offers", to=[_beside(type="srflx")]), "pass", "198.18.0.10:10000/udp answers"),
    ("AVL-02", _changed("sessions", "offers", to=[_first(protocol="UDP", port=10000)]), "pass", "every family"),
    (
        "AVL-02",
        _changed("sessions", "offers", to=[_first(answered=False, reason=NO_WAY)]),
        "not tested",
        "the vantage point has no way",
    ),
]


@pytest.mark.parametrize(("control", "facts", "verdict", "word"), CASES, ids=[f"{c[0]}-{c[3][:40]}" for c in CASES])
def test_one_thing_changed(control: str, facts: Facts, verdict: str, word: str) -> None:
    ended, said = _judged(control, facts)
    assert (ended, word in said) == (verdict, True), (ended, said)


@pytest.mark.parametrize(
    ("control", "config", "verdict"),
    [
        ("TRN-04", CONFIG.replace("turn.meet.example", "stun.example.net"), "fail"),
        ("TRN-04", CONFIG + "\n// stun:stun.example.net\n/* turn:a.example */", "pass"),
        ("TRN-04", CONFIG + " // stun:stun.example.net", "pass"),
        ("TRN-04", CONFIG + "\nvar a = '/*', b = 'stun:stun.example.net', c = '*/';", "fail"),
        ("TRN-04", "var config = { p2p: {} };", "fail"),
        ("TRN-04", "var config = {};\nconfig.p2p = { stunServers: [] };", "pass"),
        ("TRN-04", "var config = { p2p: make() };", "not tested"),
        ("TRN-04", "var config = { p2p: { stunServers: [ { urls: 'stun:' + host } ] } };", "not tested"),
        ("TRN-04", CONFIG + "\nObject.assign(config, more);", "not tested"),
        ("TRN-04", CONFIG + "\nconfig.p2p.stunServers.push(more);", "not tested"),
        ("TRN-04", CONFIG + " x: 'turns://other.example:5349'", "fail"),
        ("TRN-04", "no script, but stun:other.example", "fail"),
        ("TRN-04", "no script", "not tested"),
        ("VKS-02", CONFIG.replace("false", "true"), "fail"),
        ("VKS-02", CONFIG + "\nconfig.securityUi.hideLobbyButton = true;", "fail"),
        ("VKS-02", CONFIG + "\nconfig.securityUi = { 'hideLobbyButton': true };", "fail"),
        ("VKS-02", CONFIG + "\n// config.securityUi.hideLobbyButton = true;", "pass"),
        ("VKS-02", "var config = { hideLobbyButton: true };", "fail"),
        ("VKS-02", CONFIG + "\nconfig.hideLobbyButton = true;", "pass"),
        ("VKS-02", CONFIG + "\nconfig.securityUi.hideLobbyButton = isGuest();", "not tested"),
        ("VKS-02", CONFIG + "\nconfig['securityUi'].hideLobbyButton = true;", "fail"),
        ("VKS-02", CONFIG + "\nif (isGuest()) { config.securityUi.hideLobbyButton = true; }", "not tested"),
        ("VKS-02", CONFIG + "\nObject.assign(config, more);", "not tested"),
        ("VKS-02", "var config = { securityUi: make() };", "not tested"),
        ("VKS-02", "no script", "not tested"),
    ],
)
def test_config_as_served(control: str, config: str, verdict: str) -> None:
    assert _judged(control, GOOD, config=config)[0] == verdict


def test_a_fault_stays_one_where_config_is_not_served() -> None:
    assert _judged("VKS-02", _changed("offered", "lobby", to=False), code=7)[0] == "fail"


@pytest.mark.parametrize(
    ("reached", "ended"), [("198.18.0.10", "pass"), ("2001:2::10", "pass"), ("nowhere", "not tested")]
)
@pytest.mark.parametrize("control", ["TRN-04", "VKS-02"])
def test_config_is_read_over_the_first_address_that_is_reached(control: str, reached: str, ended: str) -> None:
    verdict, said = _judged(control, GOOD, reached=reached)
    assert verdict == ended
    assert ("the vantage point has no way to 198.18.0.10 and 2001:2::10" in said) is (ended == "not tested")


@pytest.mark.parametrize("control", ["TRN-04", "VKS-02"])
def test_config_that_is_not_served_is_not_tested(control: str) -> None:
    assert _judged(control, GOOD, code=7)[0] == "not tested"


def test_a_lobby_by_default_is_wanted_where_it_is_declared() -> None:
    assert _judged("VKS-02", GOOD, jitsi_lobby="moderator")[0] == "fail"
    facts = _changed("guest_in_meeting", "enter", to=LOBBY)
    for name in ("lock", "enter_locked"):
        del facts["guest_in_meeting"][name]
    assert _judged("VKS-02", facts, jitsi_lobby="moderator")[0] == "pass"


def test_with_tokens_a_guest_may_ask_for_a_room_and_waits() -> None:
    facts = _changed("room_without_member", to={"request": {"ready": True}, "enter": LOBBY, "let_in": False})
    facts["member"] = {"admitted": True, "claims": {"moderator": True}}
    waits = {"enter": LOBBY, "owner": False}
    facts |= {"plain": {"claims": {"moderator": False}}, "plain_alone": waits, "plain_in_meeting": waits}
    for control in CHECKS:
        assert _judged(control, facts, jitsi_auth="jwt")[0] == "pass", control


@pytest.mark.parametrize(
    ("plain", "meeting", "result", "said"),
    [
        ({"moderator": False}, {"enter": JOINED, "owner": False}, "pass", "moderator claim does not become owner"),
        ({"moderator": False}, {"enter": LOBBY, "owner": False}, "pass", "moderator claim does not become owner"),
        ({"moderator": False}, {"enter": JOINED, "owner": True}, "fail", "moderator claim becomes the room's owner"),
        (
            {"moderator": True},
            {"enter": JOINED, "owner": True},
            "not tested",
            "does not say that it makes no moderator",
        ),
        ({}, {"enter": JOINED, "owner": False}, "not tested", "does not say that it makes no moderator"),
        ({"moderator": False}, {"enter": REFUSED, "owner": False}, "not tested", "gets nowhere: not-allowed"),
        ({"moderator": False}, {"reason": "the connection ended"}, "not tested", "gets nowhere: the connection ended"),
    ],
)
@pytest.mark.parametrize("where", ["plain_alone", "plain_in_meeting"])
def test_a_token_that_is_declared_for_it_makes_no_moderator(
    where: str, plain: dict[str, Any], meeting: dict[str, Any], result: str, said: str
) -> None:
    """Alone in a new room, whose owner it could become for want of another one, and in a meeting."""
    facts = _changed("member", to={"admitted": True, "claims": {"moderator": True}})
    other = {"enter": JOINED, "owner": False}
    facts |= {"plain": {"admitted": True, "claims": plain}, "plain_alone": other, "plain_in_meeting": other}
    judged, told = _judged("VKS-01", facts | {where: meeting})
    assert judged == result
    assert said in told


def test_another_host_is_not_asked() -> None:
    subject = Subject("jvb1", "198.18.0.11", "", ("jitsi_bridges",), {"hosts": {}, "settings": SETTINGS})
    place: Any = _Place(GOOD)
    asked: Callable[..., None] = checks.test_only_members_open_rooms
    with pytest.raises(NotApplicable):
        asked(place, place, subject, Sheet())


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("ice4j { harvest { mapping {\n stun {\n  addresses = []\n } } } }", []),
        ("videobridge {\n redact-remote-addresses = true\n}\n# stun.addresses are nobody's", []),
        ('stun {\n addresses = ["stun.example.net:3478"]\n}', ["stun.example.net:3478"]),
        ('stun {\n addresses = [ "a.example", "b.example:443" ]\n}', ["a.example", "b.example:443"]),
        ('stun {\n addresses = [ "a.example" ] # not ours\n}', None),
        ('stun {\n addresses = []\n}\nice4j.harvest.mapping.stun.addresses += "stun.example.net:3478"', None),
        ('"addresses" : [ "stun.example.net:3478" ]', None),
        ('include "other.conf"', None),
        ('"\\u0061ddresses" = [ "stun.example.net" ]', None),
    ],
)
def test_what_a_file_says_plainly_is_read_without_a_tool(text: str, listed: list[str] | None) -> None:
    program = checks._BRIDGE_STUN
    function = program[program.index("def names") : program.index("options, born")]
    names: dict[str, Any] = {"re": re}
    exec(function, names)
    assert names["plainly"](text) == listed
