"""What the browser is served: whatever a page asks of a third party is found, wherever it was planted."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.evidence.results import Finding, Result
from orchestrator.inventory.derivations import content_security_policy
from orchestrator.lab.lab import LabSite
from orchestrator.verification.browser import ROOM, browser_command
from orchestrator.verification.runner import verify
from tests.scenarios.conftest import load, play, ssh

CONTROLS = ("VKS-03", "VKS-11")
UNTRIED = "not tried with upstream's web application: a stand-in of jitsi-meet-web is what is served"
IDENTITY = "https://login.example.org"


_CHANGED = "etc/jitsi/meet etc/nginx/snippets usr/share/ratssaal usr/share/jitsi-meet"
_RESTORE = "tar -C / -xf /root/kept.tar && systemctl reload nginx && sleep 1"


@pytest.fixture(scope="module")
def site(site: LabSite) -> LabSite:
    """A converged Debian 13 host that keeps what is changed here."""
    ssh(site, f"tar -C / -cf /root/kept.tar {_CHANGED}")
    return site


def _findings(site: LabSite) -> dict[str, Finding]:
    return {finding.control: finding for finding in verify(load(site), controls=CONTROLS).findings}


def _browse(
    site: LabSite, job: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the browser in the outside namespace as a check does."""
    names = {site.domain: site.hosts[0].address}
    argv = [
        "/usr/sbin/ip",
        "netns",
        "exec",
        f"rs-{site.path.name}-out",
        "/bin/sh",
        "-c",
        browser_command({"names": names, **job}),
    ]
    env = {**os.environ, "RATSSAAL_PYTHON": sys.executable, **(environment or {})}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=90, check=False)


def test_a_converged_host_asks_nobody_else(site: LabSite) -> None:
    found = _findings(site)
    assert {name: finding.result for name, finding in found.items()} == dict.fromkeys(CONTROLS, Result.PASS), found
    for finding in found.values():
        assert finding.seen.startswith(UNTRIED)
        assert f"network namespace rs-{site.path.name}-out" in finding.vantage
    seen = found["VKS-11"].seen
    for text in (
        "room page asks own hosts: /{room} /css/all.css /libs/app.bundle.min.js",
        "imprint asks own hosts: /impressum /ratssaal/logo.svg",
        "service worker asks own hosts: /pwa-worker.js /static/offline.html",
        "cookies: none, local storage: features/base/settings, session storage: none",
        "the policy stops a foreign connection",
        "under the policy WebAssembly runs",
        "under the policy a worker from a blob runs",
    ):
        assert text in seen


@dataclass(frozen=True)
class Plant:
    """What is done to the host, what exactly is then found, and how it is repaired where a converge does not do it.

    `stored`: what is then listed as stored in the browser.
    """

    command: str
    seen: tuple[str, ...]
    control: str = "VKS-11"
    repair: str = ""
    stored: str = ""


_CONFIG = "/etc/jitsi/meet/*-config.js"
_HEADERS = "/etc/nginx/snippets/ratssaal-headers.conf"
_LOOSE = "default-src *; script-src * 'unsafe-inline'; style-src *; frame-src *; worker-src 'self'"
PLANTS = {
    "config.js": Plant(
        f"sed -i 's|https://[^/]*/ratssaal/branding.json|https://brand.example.net/b.json|; s|analytics: {{ disabled: true }}|analytics: "
        f"{{ scriptURLs: [ \"https://count.example.net/c.js\" ] }}|; s|disableThirdPartyRequests: true,$||' {_CONFIG}",
        (
            "start page asks https://brand.example.net/b.json (connection, stopped by the policy)",
            "start page asks https://count.example.net/c.js (script, stopped by the policy)",
            "room page asks https://brand.example.net/b.json (connection, stopped by the policy)",
            "room page asks https://count.example.net/c.js (script, stopped by the policy)",
            "config.js: disableThirdPartyRequests not set",
            "config.js names https://count.example.net (analytics.scriptURLs)",
            "config.js names https://brand.example.net (dynamicBrandingUrl)",
        ),
    ),
    "branding": Plant(
        "sed -i 's|https://[^/]*/ratssaal/logo.svg|//brand.example.net/logo.svg|; s|\"#1b2a3a\"|\"#1b2a3a\", \"premeetingBackground\": "
        "\"url(https://back.example.net/b.png)\", \"virtualBackgrounds\": [\"https://office.example.net/o.jpg\"]|' "
        "/usr/share/ratssaal/pages/branding.json",
        (
            "start page asks https://brand.example.net/logo.svg (image, stopped by the policy)",
            "room page asks https://brand.example.net/logo.svg (image, stopped by the policy)",
            "room page asks https://back.example.net/b.png (image, stopped by the policy)",
            "branding names //brand.example.net (logoImageUrl)",
            "branding names https://back.example.net (premeetingBackground)",
            "branding names https://office.example.net (virtualBackgrounds)",
        ),
    ),
    "page": Plant(
        "sed -i 's|</head>|<link rel=\"preconnect\" href=\"https://soon.example.net\"></head>|; s|</main>|<img alt=\"\" "
        "src=\"https://seal.example.net/s.png\"><iframe src=\"https://map.example.net/m\"></iframe>"
        "<script>sessionStorage.ofImprint = document.cookie = \"read=1\"</script></main>|' /usr/share/ratssaal/pages/impressum.html",
        (
            "imprint asks https://seal.example.net/s.png (image, stopped by the policy)",
            "imprint asks https://map.example.net (frame, stopped by the policy)",
            "imprint asks https://soon.example.net/ (hint)",
        ),
        stored=r"cookies: read \([^ ]+\), local storage: [^,]+, session storage: ofImprint, databases: none, ",
    ),
    "application": Plant(
        "sed -i 's|</body>|<script>new RTCPeerConnection({iceServers: [{urls: \"stun:stun.example.net:3478\"}]}); "
        "fetch(\"https://far.example.net/x\").catch(() => 0); sessionStorage[location.pathname == \"/\" ? \"ofStart\" : \"ofRoom\"] = 1; "
        "document.cookie = \"visited=1; Secure\"; indexedDB.open(\"kept\"); caches.open(\"laid\")</script></body>|' "
        "/usr/share/jitsi-meet/index.html",
        (
            "start page asks stun:stun.example.net:3478 (RTCPeerConnection)",
            "start page asks https://far.example.net/x (connection, stopped by the policy)",
            "room page asks stun:stun.example.net:3478 (RTCPeerConnection)",
            "room page asks https://far.example.net/x (connection, stopped by the policy)",
        ),
        repair="apt-get install -qq -y --reinstall --allow-change-held-packages jitsi-meet-web",
        stored=r"cookies: visited \([^ ]+\), local storage: [^,]+, session storage: ofRoom ofStart, databases: kept, caches: .*\blaid\b",
    ),
    "policy": Plant(
        f"sed -i \"s#Content-Security-Policy .*#Content-Security-Policy \\\"{_LOOSE}\\\" always;#\" {_HEADERS} "
        "&& systemctl reload nginx && sleep 1",
        (
            *(f"the policy lets through a foreign {k}" for k in ("connection", "image", "script", "style sheet", "frame")),
            "under the policy WebAssembly does not run",
            "under the policy a worker from a blob does not run",
        ),
    ),
    "joining": Plant(
        f"sed -i 's|startWithVideoMuted: true|startWithVideoMuted: false|; s|prejoinConfig: {{ enabled: true|prejoinConfig: "
        f"{{ enabled: false|' {_CONFIG}",
        ("camera on at joining (startWithVideoMuted false)", "prejoinConfig.enabled false"),
        control="VKS-03",
    ),
    "joining by the old key": Plant(
        f"sed -i 's|prejoinConfig: {{ enabled: true|prejoinPageEnabled: false, prejoinConfig: {{|' {_CONFIG}",
        ("prejoinPageEnabled false",),
        control="VKS-03",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_what_was_planted_is_found_and_nothing_else(site: LabSite, name: str) -> None:
    plant = PLANTS[name]
    ssh(site, plant.command)
    try:
        found = _findings(site)
    finally:
        ssh(site, _RESTORE)
    finding = found.pop(plant.control)
    assert finding.result is Result.FAIL, finding
    told = dict(zip(finding.seen.split("; "), finding.wanted.split("; "), strict=True))
    listed = {text for text in told if re.match(r"[a-z ]+ asks own hosts: |stored in the browser: ", text)}
    assert sorted(told.keys() - listed) == sorted(plant.seen)
    # What is asked and stored is told in any case.
    assert any("asks own hosts: /" in text for text in listed) is (plant.control == "VKS-11")
    assert re.search(plant.stored, finding.seen), finding.seen
    assert finding.remedy
    assert [other.result for other in found.values()] == [Result.PASS], found


def test_no_inside_control_turns_and_one_converge_repairs_everything(site: LabSite) -> None:
    for plant in PLANTS.values():
        ssh(site, plant.command)
    assert {finding.result for finding in _findings(site).values()} == {Result.FAIL}
    inside = verify(load(site), quick=True).findings
    assert [f for f in inside if f.result in (Result.FAIL, Result.ERROR)] == []
    play(site)
    ssh(site, PLANTS["application"].repair)
    assert {finding.result for finding in _findings(site).values()} == {Result.PASS}


def test_the_identity_provider_is_let_through_where_tokens_log_in(site: LabSite) -> None:
    """The policy as derived for jitsi_auth jwt, tried in the browser; the site's own policy keeps that origin out."""
    job = {"pages": [f"/{ROOM}"], "origins": [IDENTITY]}
    assert json.loads(_browse(site, job).stdout)["trial"]["declared"] == {IDENTITY: False}
    login = {"login_url": f"{IDENTITY}/realms/town/auth?room={{room}}"}
    policy = content_security_policy({**load(site).settings, "jitsi_auth": "jwt", "jitsi_jwt": login})
    sed = f's#Content-Security-Policy ".*" always#Content-Security-Policy "{policy}" always#'
    ssh(
        site,
        f"cp {_HEADERS} /root/headers && sed -i {shlex.quote(sed)} {_HEADERS} && systemctl reload nginx && sleep 1",
    )
    try:
        facts = json.loads(_browse(site, job).stdout)
    finally:
        ssh(site, f"mv /root/headers {_HEADERS} && systemctl reload nginx && sleep 1")
    assert [page["policy"] for page in facts["pages"]] == [policy]
    assert facts["trial"]["declared"] == {IDENTITY: True}
    assert facts["trial"]["wasm"]
    assert facts["trial"]["worker"]
    assert set(facts["trial"]["foreign"].values()) == {True}


def test_the_browser_stays_on_the_control_node_where_the_vantage_point_is_another_host(site: LabSite) -> None:
    vantage = {
        "verification_vantage": f"ssh://root@{site.hosts[0].address}",
        "verification_vantage_key_file": str(site.key_file),
    }
    loaded = load(site)
    report = verify(replace(loaded, settings={**loaded.settings, **vantage}), controls=("VKS-03",))
    assert [(f.result, f.vantage) for f in report.findings] == [(Result.PASS, "the control node")], report.findings


def test_without_a_browser_it_says_what_is_missing(site: LabSite, tmp_path: Path) -> None:
    (tmp_path / "timeout").symlink_to("/usr/bin/timeout")
    done = _browse(site, {"pages": ["/"], "origins": []}, {"PATH": str(tmp_path)})
    assert "chromium" in json.loads(done.stdout)["missing"], done


def test_a_host_without_a_web_server_is_an_error_and_leaves_nothing(site: LabSite) -> None:
    ssh(site, "systemctl stop haproxy")
    try:
        found = _findings(site)
    finally:
        ssh(site, "systemctl start haproxy; sleep 2")
    assert {finding.result for finding in found.values()} == {Result.ERROR}
    assert all("ERR_CONNECTION_REFUSED" in finding.reason for finding in found.values()), found
