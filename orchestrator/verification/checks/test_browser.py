"""What a browser is served: whom the pages ask, what they store, with which settings people join."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
import testinfra.host

from orchestrator.inventory.derivations import identity_origins, turn_domain
from orchestrator.verification.asking import ask, json_of
from orchestrator.verification.browser import ROOM, browser_command
from orchestrator.verification.reach import first_way
from orchestrator.verification.sheet import NotApplicable, NotTested, Sheet
from orchestrator.verification.subject import Subject

pytestmark = pytest.mark.control_node
# The room's page is the last one: by the package's own settings the others may be the application, too, and what counts is how
# people join.
_PAGES = {
    "/": "start page",
    "/impressum": "imprint",
    "/datenschutz": "privacy notice",
    "/barrierefreiheit": "accessibility statement",
    f"/{ROOM}": "room page",
}
# What makes upstream's application ask third parties (jitsi-meet:config.js), and the value that does not.
_SWITCHES: Mapping[str, tuple[Any, ...]] = {
    "disableThirdPartyRequests": (True,),
    "gravatar.disabled": (True,),
    "giphy.enabled": (None, False),
    "enableCalendarIntegration": (None, False),
    "virtualBackground.enableV2": (False,),
    "dropbox.appKey": (None, ""),
    "callStatsID": (None, ""),
}
# Setting -> what it means, and the site's variable that decides it.
_MUTED = {
    "startWithAudioMuted": ("microphone", "jitsi_start_audio_muted"),
    "startWithVideoMuted": ("camera", "jitsi_start_video_muted"),
}
_REST = r"[^\s/?#\"'()<>,]+"
_ADDRESS = re.compile(
    rf"(?:^|(?<=[\s\"'(=,]))(?:(?:https?|wss?):)?//{_REST}|\b(?:stuns?|turns?):{_REST}", re.IGNORECASE
)

# A network of administration may reach no more than SSH; whether the page answers is seen from the vantage point. Who refuses a
# connection was reached.
_NO_CONNECTION = re.compile(r"net::ERR_(?:CONNECTION_TIMED_OUT|ADDRESS_UNREACHABLE)")


def _facts(outside: testinfra.host.Host, subject: Subject, *needed: str) -> dict[str, Any]:
    """Return what the browser saw on all pages, which it loads once for all checks.

    Raises NotTested where it cannot run, RuntimeError where a page that is needed did not come, or none of Jitsi's.
    """
    if not subject.signalling:
        raise NotApplicable("the web server does not run here")
    names = dict.fromkeys(_own_names(subject), first_way(outside, subject))
    job = {"names": names, "pages": list(_PAGES), "origins": _declared(subject)}
    (result,) = ask(outside, browser_command(job))
    if result.rc and (found := _NO_CONNECTION.search(result.stderr)):
        raise NotTested(
            f"no browser looked: the control node, where it runs, has no connection to the page ({found[0]})"
        )
    facts: dict[str, Any] = json_of(result)
    if "missing" in facts:
        raise NotTested(f"no browser looked: there is not {facts['missing']}")
    missing = [page for page in facts["pages"] if page["path"] in needed and page["status"] != 200]
    wrong = [f"{_PAGES[page['path']]}: {page['status']}" for page in missing]
    if wrong or not isinstance(facts["settings"], dict) or facts["holder"] not in needed:
        raise RuntimeError(f"no page of Jitsi Meet with its config.js came ({', '.join(wrong) or 'no object config'})")
    return facts


def _own_names(subject: Subject) -> list[str]:
    return [str(subject.settings["jitsi_domain"]), turn_domain(subject.settings)]


def _declared(subject: Subject) -> list[str]:
    """Return the origins that the policy must let through."""
    allowed = (str(origin) for origin in subject.settings.get("jitsi_allowed_origins") or ())
    return [*allowed, *identity_origins(subject.settings)]


def _tell_the_application(facts: Mapping[str, Any], sheet: Sheet) -> None:
    """Say what was served: that upstream's application is not tried until it was."""
    if facts["upstream"]:
        sheet.expect(True, f"upstream's web application ran (lib-jitsi-meet {facts['upstream']})", "")
    elif "stand-in" in facts["generator"]:
        served = "not tried with upstream's web application: a stand-in of jitsi-meet-web is what is served"
        sheet.expect(True, served, "")
    else:
        sheet.could_not_look(
            "upstream's web application did not start in the browser, so what it asks for was not seen"
        )


@pytest.mark.control("VKS-03")
def test_joining(outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The settings that are in effect in the browser, against those of the site."""
    facts = _facts(outside, subject, f"/{ROOM}")
    _tell_the_application(facts, sheet)
    for name, (device, variable) in _MUTED.items():
        seen, wanted = facts["settings"].get(name), bool(subject.settings[variable])
        state = f"{device} {'off' if seen is True else 'on'} at joining ({name} {_shown(seen)})"
        declared = "" if wanted else f", as {variable} declares"
        sheet.expect((seen is True) == wanted, state + declared, f"{device} {'off' if wanted else 'on'}")
    name = _prejoin_setting(facts["settings"])
    before = _setting(facts["settings"], name)
    # Upstream's default is on (jitsi-meet:react/features/prejoin/functions.any.ts).
    sheet.expect(before in (True, None), f"{name} {_shown(before)}", "a page before joining")


def _prejoin_setting(settings: Mapping[str, Any]) -> str:
    """Return the key that decides: the old one still does where the new one is missing (base/config/reducer.ts)."""
    new = settings.get("prejoinConfig")
    decided = isinstance(new, dict) and "enabled" in new
    return "prejoinPageEnabled" if "prejoinPageEnabled" in settings and not decided else "prejoinConfig.enabled"


@pytest.mark.control("VKS-11")
def test_third_parties(outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Every address that a page asks for, whether it got it or not, and that the policy lets nothing else through."""
    facts = _facts(outside, subject, *_PAGES)
    _tell_the_application(facts, sheet)
    allowed = {*_own_names(subject), *(str(urlsplit(origin).hostname) for origin in _declared(subject))}
    _judge_requests(facts["requests"], allowed, sheet)
    _judge_settings(facts, allowed, sheet)
    _judge_policy(facts["trial"], sheet)
    stored = {"cookies": facts["cookies"], **facts["storage"]}
    kept = ", ".join(f"{kind}: {' '.join(names) or 'none'}" for kind, names in stored.items())
    sheet.record(f"stored in the browser: {kept}", "listed, not judged")


def _judge_requests(requests: list[dict[str, Any]], allowed: set[str], sheet: Sheet) -> None:
    """A request that the policy stopped is a finding too: the page asks for it, and other browsers may let it."""
    own: dict[str, list[str]] = {}
    foreign: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in requests:
        page, url = _PAGES.get(row["page"], row["page"]), row["url"]
        if _host(url) in allowed:
            own.setdefault(page, []).append(_short(url))
        else:
            foreign.setdefault((page, _short(url, whole=True)), []).append(row)
    for (page, url), rows in foreign.items():
        # The request tells what was asked for; the policy's own report only which of its rules stopped it.
        kind = min((row["kind"] for row in rows), key=lambda kind: "-src" in kind).partition("-src")[0]
        stopped = ", stopped by the policy" if any(row["refused"] for row in rows) else ""
        sheet.expect(
            False, f"{page} asks {url} ({'connection' if kind == 'connect' else kind}{stopped})", "own hosts only"
        )
    for page, paths in own.items():
        sheet.record(f"{page} asks own hosts: {' '.join(dict.fromkeys(paths))}", "own hosts only")


def _judge_settings(facts: Mapping[str, Any], allowed: set[str], sheet: Sheet) -> None:
    settings = facts["settings"]
    for name, wanted in _SWITCHES.items():
        seen = _setting(settings, name)
        sheet.expect(seen in wanted, f"config.js: {name} {_shown(seen)}", f"{name} {_shown(wanted[0])}")
    for label, held in (("config.js", settings), ("branding", facts["branding"])):
        for place, address in _addresses(held):
            if _host(address) not in allowed:
                sheet.expect(False, f"{label} names {address[:100]} ({place})", "own hosts and declared origins only")


def _judge_policy(trial: Mapping[str, Any], sheet: Sheet) -> None:
    """What a page tried in the browser: the policy must hold, and must not stop what Jitsi needs."""
    for kind, stopped in trial["foreign"].items():
        sheet.expect(stopped, f"the policy {'stops' if stopped else 'lets through'} a foreign {kind}", "stopped")
    for what, works in (("WebAssembly", trial["wasm"]), ("a worker from a blob", trial["worker"])):
        sheet.expect(works, f"under the policy {what} {'runs' if works else 'does not run'}", "runs, Jitsi needs it")
    for origin, reached in trial["declared"].items():
        word = "lets the browser reach" if reached else "keeps the browser from"
        sheet.expect(reached, f"the policy {word} {origin}", "let through as declared")


def _addresses(held: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every (place, network address) in settings, however deep."""
    if isinstance(held, dict):
        for name, value in held.items():
            yield from _addresses(value, f"{place}.{name}" if place else str(name))
    elif isinstance(held, list):
        for value in held:
            yield from _addresses(value, place)
    elif isinstance(held, str) and not held.startswith("data:"):
        for found in _ADDRESS.finditer(held):
            yield place, found.group(0)


def _host(address: str) -> str:
    """Return the host in a URL or in `stun:host:port`."""
    scheme, _, rest = address.rpartition("//")
    if not scheme and not address.startswith("//"):
        rest = address.partition(":")[2]
    return str(urlsplit(f"//{rest}").hostname or "")


def _short(url: str, *, whole: bool = False) -> str:
    """Return an address for people: without a query, without its host where that is ours."""
    parts = urlsplit(url)
    return (f"{parts.scheme}:{'//' * bool(parts.netloc)}{parts.netloc}" * whole + parts.path)[:120]


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value)
