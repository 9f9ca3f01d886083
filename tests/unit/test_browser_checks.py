"""How the browser's facts are judged: what is ours, what is foreign, and when nothing can be said."""

from __future__ import annotations

import json
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification import browser
from orchestrator.verification.batch import Answers, BatchBackend
from orchestrator.verification.browser import ROOM
from orchestrator.verification.checks import test_browser as checks
from orchestrator.verification.sheet import NotApplicable, NotTested, Sheet
from orchestrator.verification.subject import Subject

SETTINGS = {
    "jitsi_domain": "meet.example.org",
    "jitsi_turn_domain": "",
    "jitsi_auth": "internal",
    "jitsi_allowed_origins": [],
    "jitsi_start_audio_muted": True,
    "jitsi_start_video_muted": True,
}
CONFIG: dict[str, Any] = {
    "disableThirdPartyRequests": True,
    "gravatar": {"disabled": True},
    "virtualBackground": {"enableV2": False},
    "startWithAudioMuted": True,
    "startWithVideoMuted": True,
    "prejoinConfig": {"enabled": True},
    "bosh": "https://meet.example.org/http-bind",
    "p2p": {"stunServers": [{"urls": "stun:turn.meet.example.org:3478"}]},
}
FACTS: dict[str, Any] = {
    "pages": [{"path": "/", "status": 200, "policy": "default-src 'self'"}],
    "requests": [{"page": "/", "kind": "document", "url": "https://meet.example.org/", "refused": False}],
    "holder": f"/{ROOM}",
    "settings": CONFIG,
    "branding": {"logoImageUrl": "/ratssaal/logo.svg"},
    "upstream": "1.0.8300",
    "generator": "",
    "storage": {"local storage": ["features/base/settings"]},
    "cookies": [],
    "trial": {"foreign": {"image": True}, "wasm": True, "worker": True, "declared": {}},
}


def look(
    check: Any,
    facts: dict[str, Any],
    *,
    groups: tuple[str, ...] = ("jitsi_signalling",),
    failed: bytes = b"",
    **settings: Any,
) -> Sheet:
    """Run a check on given facts, or with a browser that failed so, and return its notes."""

    def ship(commands: list[str]) -> Answers:
        told = (0, json.dumps(facts).encode(), b"")
        return {
            command: (1, b"", failed) if failed and "import socket" not in command else told for command in commands
        }

    topology = {"hosts": {}, "settings": {**SETTINGS, **settings}}
    sheet = Sheet()
    subject = Subject("h1", "192.0.2.1", "", groups, topology)
    check(testinfra.host.Host(BatchBackend("outside", ship)), subject, sheet)
    return sheet


def faults(check: Any, facts: dict[str, Any], **settings: Any) -> list[str]:
    return [seen for seen, _ in look(check, {**FACTS, **facts}, **settings).faults]


def asked(url: str, kind: str = "script") -> dict[str, Any]:
    return {"requests": [*FACTS["requests"], {"page": f"/{ROOM}", "kind": kind, "url": url, "refused": False}]}


def test_a_site_as_it_should_be_has_no_fault_and_names_what_ran() -> None:
    sheet = look(checks.test_third_parties, FACTS)
    assert sheet.faults == []
    assert sheet.untested == []
    assert sheet.seen[0] == "upstream's web application ran (lib-jitsi-meet 1.0.8300)"


@pytest.mark.parametrize(
    "url",
    [
        "https://meet.example.org.evil.example/x",
        "https://evil.example/meet.example.org",
        "https://meet.example.org@evil.example/x",
        "wss://evil.example/xmpp-websocket",
        "stun:evil.example:443",
        "turns:evil.example:443?transport=tcp",
        "http://192.0.2.99/x",
        "https://[2001:db8::1]/x",
    ],
)
def test_foreign_addresses_are_told_from_ours(url: str) -> None:
    (fault,) = faults(checks.test_third_parties, asked(url))
    assert fault.startswith("room page asks ")
    held = {"settings": {**CONFIG, "some": {"deep": [{"key": url}]}}}
    (named,) = faults(checks.test_third_parties, held)
    assert named.startswith("config.js names ")
    assert named.endswith("(some.deep.key)")


def test_declared_origins_and_the_identity_provider_are_no_third_parties() -> None:
    token = {"login_url": "https://login.example.org/auth?room={room}"}
    config = {**CONFIG, "tokenAuthUrl": token["login_url"]}
    facts = {**asked("https://files.example.org/a.js"), "settings": config}
    declared = ["https://files.example.org"]
    assert (
        faults(checks.test_third_parties, facts, jitsi_auth="jwt", jitsi_jwt=token, jitsi_allowed_origins=declared)
        == []
    )
    assert len(faults(checks.test_third_parties, facts)) == 2


def test_a_policy_that_lets_through_or_stops_too_much_is_a_fault() -> None:
    trial = {
        "foreign": {"image": False},
        "wasm": False,
        "worker": True,
        "declared": {"https://login.example.org": False},
    }
    assert faults(checks.test_third_parties, {"trial": trial}) == [
        "the policy lets through a foreign image",
        "under the policy WebAssembly does not run",
        "the policy keeps the browser from https://login.example.org",
    ]


def test_the_sites_declared_choice_is_what_joining_is_compared_with() -> None:
    loud = {"settings": {**CONFIG, "startWithAudioMuted": False}}
    assert faults(checks.test_joining, loud) == ["microphone on at joining (startWithAudioMuted false)"]
    sheet = look(checks.test_joining, {**FACTS, **loud}, jitsi_start_audio_muted=False)
    assert sheet.faults == []
    assert "microphone on at joining (startWithAudioMuted false), as jitsi_start_audio_muted declares" in sheet.seen


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"prejoinPageEnabled": True, "prejoinConfig": {"enabled": False}}, "prejoinConfig.enabled false"),
        ({"prejoinPageEnabled": False, "prejoinConfig": {"hideDisplayName": True}}, "prejoinPageEnabled false"),
        ({"prejoinPageEnabled": False, "prejoinConfig": {"enabled": True}}, ""),
        ({"prejoinConfig": {}}, ""),
    ],
)
def test_the_page_before_joining_may_be_off_by_either_key(changed: dict[str, Any], fault: str) -> None:
    assert faults(checks.test_joining, {"settings": {**CONFIG, **changed}}) == ([fault] if fault else [])


def test_what_was_asked_and_stored_is_told_beside_a_fault() -> None:
    sheet = look(checks.test_third_parties, {**FACTS, **asked("https://evil.example/x")})
    assert sheet.inventory == [
        ("start page asks own hosts: /", "own hosts only"),
        ("stored in the browser: cookies: none, local storage: features/base/settings", "listed, not judged"),
    ]
    assert len(sheet.faults) == 1


@pytest.mark.parametrize("check", [checks.test_joining, checks.test_third_parties])
def test_what_could_not_be_seen_is_never_a_pass(check: Any) -> None:
    with pytest.raises(NotTested, match="no browser looked: there is not Chromium"):
        look(check, {"missing": "Chromium on the control node"})
    with pytest.raises(NotApplicable):
        look(check, FACTS, groups=("jitsi_bridges",))
    with pytest.raises(RuntimeError, match="no object config"):
        look(check, {**FACTS, "settings": None})
    with pytest.raises(RuntimeError, match="room page: 502"):
        look(check, {**FACTS, "pages": [{"path": f"/{ROOM}", "status": 502, "policy": ""}]})
    with pytest.raises(NotTested, match="did not start in the browser"):
        look(check, {**FACTS, "upstream": ""}).finish()


def test_each_check_wants_the_pages_that_it_speaks_of() -> None:
    """They share one browser: how people join is told where the imprint answers 404, and not by the start page's settings."""
    facts = {**FACTS, "pages": [{"path": "/impressum", "status": 404, "policy": ""}]}
    assert look(checks.test_joining, facts).faults == []
    with pytest.raises(RuntimeError, match="imprint: 404"):
        look(checks.test_third_parties, facts)
    with pytest.raises(RuntimeError, match="no object config"):
        look(checks.test_joining, {**FACTS, "holder": "/"})


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("CONNECTION_TIMED_OUT", NotTested),
        ("ADDRESS_UNREACHABLE", NotTested),
        ("CONNECTION_REFUSED", RuntimeError),
        ("SSL_PROTOCOL_ERROR", RuntimeError),
        ("CONNECTION_RESET", RuntimeError),
    ],
)
def test_a_page_that_the_control_node_does_not_reach_was_not_looked_at(error: str, raised: type[Exception]) -> None:
    """Where a connection comes about, what goes wrong on it is the host's."""
    said = f"Error: Page.goto: net::ERR_{error} at https://meet.example.org/".encode()
    with pytest.raises(raised, match="ERR_"):
        look(checks.test_third_parties, {}, failed=said)


def test_a_library_that_playwright_wants_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(browser, "find_library", lambda name: None)
    assert "libatomic1" in browser.run({"names": {}, "pages": []})["missing"]


def test_a_stand_in_is_named_as_what_was_tried() -> None:
    sheet = look(checks.test_joining, {**FACTS, "upstream": "", "generator": "Ratssaal stand-in"})
    assert sheet.seen[0].startswith("not tried with upstream's web application")
