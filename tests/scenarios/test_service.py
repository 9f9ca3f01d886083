"""What people get from a converged host, from the outside: pages, policy, log-ins, TURN with their true address."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.inventory.derivations import content_security_policy
from orchestrator.inventory.vault import VaultAccess, read_vault
from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import in_room, load, ssh

LOGIN = Path(__file__).with_name("xmpp_login.py").read_text()
ROTATION = "/etc/logrotate.d/prosody"


def _outside(site: LabSite, *argv: str, data: str = "") -> str:
    """Run a command in the lab's outside network namespace, where clients are."""
    namespace = f"rs-{site.path.name}-out"
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *argv], input=data, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def _head(site: LabSite, path: str) -> str:
    return _outside(site, "curl", "-sk", "-D", "-", "-o", "/dev/null", f"https://{site.domain}{path}")


@pytest.mark.parametrize("path", ["/", "/config.js", "/impressum", "/datenschutz", "/barrierefreiheit", "/some-room"])
def test_pages_and_the_policy_on_each(site: LabSite, path: str) -> None:
    head = _head(site, path)
    assert re.match(r"HTTP/[\d.]+ 200", head), head
    policy = content_security_policy(load(site).settings)
    assert f"content-security-policy: {policy.lower()}" in head.lower()
    assert "strict-transport-security" in head.lower()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("tst.wav", "audio/wav"), ("tst.wasm", "application/wasm"), ("tst.mp3", "audio/mpeg"), ("tst.css", "text/css")],
)
def test_a_file_is_sent_as_what_it_is(site: LabSite, name: str, kind: str) -> None:
    """The browser may not guess (nosniff); what we add to nginx's list takes nothing away from it."""
    path = f"/usr/share/jitsi-meet/sounds/{name}"
    ssh(site, f"mkdir -p /usr/share/jitsi-meet/sounds && echo x > {path}")
    try:
        assert f"content-type: {kind}" in _head(site, f"/sounds/{name}").lower()
    finally:
        ssh(site, f"rm {path}")


@pytest.mark.parametrize("folder", ["prosody-plugins", "scripts"])
def test_what_packages_keep_beside_the_pages_is_not_served(site: LabSite, folder: str) -> None:
    """Nor is it a room's name: upstream's packages have Prosody's modules and programs of their own there."""
    place = f"/usr/share/jitsi-meet/{folder}"
    ssh(site, f"mkdir -p {place} && echo x > {place}/planted.lua")
    try:
        head = _head(site, f"/{folder}/planted.lua")
        assert re.match(r"HTTP/[\d.]+ 404", head), head
    finally:
        ssh(site, f"rm {place}/planted.lua; rmdir --ignore-fail-on-non-empty {place}")


def test_plain_http_leads_to_https(site: LabSite) -> None:
    head = _outside(site, "curl", "-s", "-D", "-", "-o", "/dev/null", f"http://{site.domain}/room")
    assert re.match(r"HTTP/[\d.]+ 30[18]", head), head
    assert f"https://{site.domain}/room" in head


def test_the_page_names_no_third_party(site: LabSite) -> None:
    pages = [
        _outside(site, "curl", "-sk", f"https://{site.domain}{path}") for path in ("/", "/config.js", "/impressum")
    ]
    hosts = set(re.findall(r"(?:https?|wss?|stun|turns?):(?://)?([\w.-]+)", "\n".join(pages)))
    assert {host for host in hosts if not host.endswith((site.domain, "w3.org"))} == set()
    assert 'defaultLanguage: "de"' in pages[1]


@pytest.mark.parametrize(
    ("domain", "mechanism", "account", "let_in"),
    [
        ("guest.", "ANONYMOUS", "", True),
        ("", "ANONYMOUS", "", False),
        ("", "PLAIN", "right", True),
        ("", "PLAIN", "wrong", False),
    ],
    ids=["guest", "stranger-as-member", "member", "member-with-a-wrong-password"],
)
def test_who_may_log_in(site: LabSite, domain: str, mechanism: str, account: str, let_in: bool) -> None:
    with VaultAccess(site.vault_password_file) as access:
        password = str(read_vault(site.path, access)["jitsi_accounts"]["rehearsal"])
    words = f"rehearsal '{password if account == 'right' else 'wrong'}'" if account else ""
    command = f"python3 - {domain}{site.domain} {mechanism} '' {words} <<'END'\n{LOGIN}\nEND"
    answer = ssh(site, command)
    assert ("<success" in answer) is let_in, answer


def test_guests_wait_until_a_member_has_opened_the_room(site: LabSite) -> None:
    """A member shows the password over a second connection and comes in as the guest that the browser is."""
    with VaultAccess(site.vault_password_file) as access:
        password = str(read_vault(site.path, access)["jitsi_accounts"]["rehearsal"])
    steps = ["gast request", "gast join", "rehearsal request", "rehearsal join", "rehearsal own", "gast request"]
    told = in_room(site, [*steps, "gast join"], accounts={"rehearsal": password})
    assert told["gast request"][0]["error"] == "not-authorized"
    assert told["gast join"][0]["error"] == "not-allowed"
    assert told["rehearsal request"][0]["ready"] is True
    assert told["rehearsal request"][0]["identity"] == f"rehearsal@{site.domain}"
    assert told["rehearsal join"][0]["error"] == "", "the member must not wait for itself"
    assert told["rehearsal own"][0]["affiliation"] == "owner"
    assert told["gast request"][1]["ready"] is True
    assert told["gast join"][1] == {**told["gast join"][1], "error": "", "affiliation": "none"}


def test_nobody_opens_a_room_over_http(site: LabSite) -> None:
    """Jicofo cannot tell there who asks (jicofo:doc/conference-request.md), so browsers must not be sent there."""
    assert "conferenceRequestUrl:" not in _outside(site, "curl", "-sk", f"https://{site.domain}/config.js")
    asked = '{"room": "by-http@conference.' + site.domain + '"}'
    answer = _outside(
        site,
        *("curl", "-sk", "-w", "%{http_code}", "-H", "Content-Type: application/json", "-d", asked),
        f"https://{site.domain}/conference-request/v1",
    )
    assert answer == "403"


def test_prosody_writes_into_the_new_file_after_a_rotation(site: LabSite) -> None:
    """Otherwise the old file would grow for ever, past its days, or be written to after its deletion."""
    written = "readlink /proc/$(systemctl show -P MainPID prosody)/fd/* | grep ^/var/log/prosody | sort -u"
    before = ssh(site, written).splitlines()
    assert "/var/log/prosody/prosody.log" in before
    started = ssh(site, "systemctl show -P ActiveEnterTimestampMonotonic prosody")
    ssh(site, f"echo line >> /var/log/prosody/prosody.log; logrotate -f {ROTATION}")
    # A reload is a signal: Prosody opens the new file when it comes to it.
    deadline = time.monotonic() + 20
    while (now := ssh(site, written).splitlines()) != before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert now == before
    assert ssh(site, "systemctl show -P ActiveEnterTimestampMonotonic prosody") == started, "meetings would have ended"


# A STUN binding request over TLS under TURN's name, and the address that the server believes the client to have (RFC 8489).
_MAPPED = """
import ipaddress, os, socket, ssl, struct, sys
address, name = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
plain = socket.create_connection((address, 443), timeout=8)
print("mine", plain.getsockname()[0])
with context.wrap_socket(plain, server_hostname=name) as stream:
    cookie = bytes.fromhex("2112a442")
    transaction = os.urandom(12)
    stream.sendall(b"\\0\\1\\0\\0" + cookie + transaction)
    answer = stream.recv(2000)
    print("type", answer[:2].hex())
    body = answer[20:]
    while body:
        kind, length = struct.unpack(">HH", body[:4])
        if kind == 0x20:
            key = (cookie + transaction)[: length - 4]
            print("mapped", ipaddress.ip_address(bytes(a ^ b for a, b in zip(body[8 : 4 + length], key))))
        body = body[4 + length + (-length % 4) :]
"""


@pytest.mark.parametrize("family", ["address", "address6"])
def test_turn_over_tls_on_443_sees_the_clients_true_address(site: LabSite, family: str) -> None:
    answer = _outside(site, "python3", "-", getattr(site.hosts[0], family), f"turn.{site.domain}", data=_MAPPED)
    assert "type 0101" in answer, answer
    mine, mapped = (re.search(rf"^{word} (\S+)$", answer, re.M) for word in ("mine", "mapped"))
    assert mine is not None
    assert mapped is not None
    assert mapped.group(1) == mine.group(1)


# Asks over IPv4 for what leads nowhere until that is refused, then once over IPv6, then over IPv4 again.
_FLOOD = """
import http.client, socket, ssl, sys
domain, *addresses = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def connected(address):
    line = http.client.HTTPSConnection(domain)
    line.sock = context.wrap_socket(socket.create_connection((address, 443), 8), server_hostname=domain)
    return line
def asked(line):
    line.request("GET", "/nicht/da")
    answer = line.getresponse()
    answer.read()
    return answer.status
first, second = map(connected, addresses)
flood = next((code for code in (asked(first) for _ in range(900)) if code == 429), 0)
print(flood, *(max(asked(line) for _ in range(20)) for line in (second, first)))
"""
_WEB = "/etc/nginx/conf.d/ratssaal.conf"


def _flooded(site: LabSite) -> list[str]:
    """Return what the flood, the other address and the flood once more were answered."""
    host = site.hosts[0]
    answer = _outside(site, "python3", "-", site.domain, host.address, host.address6, data=_FLOOD)
    return answer.split()


def test_the_web_server_sees_the_clients_true_address_behind_haproxy(site: LabSite) -> None:
    """Its limits of requests bound an address; by HAProxy's own, which all would share, one flood would shut everybody out."""
    assert _flooded(site) == ["429", "404", "429"]
    ssh(site, f"cp -a {_WEB} /root/; sed -i /real_ip/d {_WEB}; systemctl reload nginx; sleep 1")
    try:
        assert _flooded(site) == ["429", "429", "429"]
    finally:
        ssh(site, f"mv /root/ratssaal.conf {_WEB}; systemctl reload nginx; sleep 1")


def _allocate(site: LabSite, peer: str, *credentials: str) -> str:
    """Try to relay to a peer by coturn's own client."""
    words = " ".join(credentials)
    return ssh(
        site,
        f"timeout 20 turnutils_uclient -v -n 1 -m 1 -e {peer} {words} {site.hosts[0].address} 2>&1",
        check=False,
    )


def test_turn_wants_credentials_and_relays_to_the_bridge_alone(site: LabSite) -> None:
    with VaultAccess(site.vault_password_file) as access:
        secret = str(read_vault(site.path, access)["coturn_secret"])
    bridge = site.hosts[0].address
    stranger = _allocate(site, bridge, "-u", "nobody", "-w", "wrong")
    assert "Cannot complete Allocation" in stranger
    assert "success" not in stranger
    for peer in ("127.0.0.1", "10.0.0.1", "192.0.2.1"):
        refused = _allocate(site, peer, "-W", f"'{secret}'")
        assert "Forbidden" in refused, (peer, refused)
    allowed = _allocate(site, bridge, "-W", f"'{secret}'")
    assert "Received relay addr" in allowed, allowed
    assert "Forbidden" not in allowed, allowed


@pytest.mark.parametrize(
    ("unit", "file"),
    [("coturn", "/etc/turnserver.conf"), ("jitsi-videobridge2", "/etc/jitsi/videobridge/jvb.conf")],
)
def test_no_service_runs_on_the_package_s_own_configuration(site: LabSite, unit: str, file: str) -> None:
    """As after a reboot that comes between the package and our configuration."""
    ssh(site, f"mv {file} /root/kept.conf; sed '/Kept by Ratssaal/d' /root/kept.conf > {file}; chmod 0644 {file}")
    try:
        ssh(site, f"systemctl restart {unit}", check=False)
        assert ssh(site, f"systemctl is-active {unit} || true") == "inactive"
    finally:
        ssh(site, f"mv /root/kept.conf {file}; systemctl restart {unit}")
    assert ssh(site, f"systemctl is-active {unit}") == "active"


def test_prosody_keeps_nothing_of_connections_that_are_lost(site: LabSite) -> None:
    """Jicofo and the bridge are connected when it stops, which by default leaves a file of each (mod_smacks)."""
    ssh(site, "systemctl restart prosody.service")
    kept = ssh(site, "find /var/lib/prosody")
    assert "/accounts/" in kept
    assert "smacks" not in kept


def test_the_bridge_offers_its_declared_addresses_only(site: LabSite) -> None:
    """Such as another network's: participants would be told it, and it leads nowhere."""
    listening = "ss -Hlnu sport = :10000 | awk '{print $4}' | sort"
    before = ssh(site, listening)
    ssh(site, "ip address add 203.0.113.9/32 dev host0")
    try:
        ssh(site, "systemctl restart jitsi-videobridge2.service")
        bound = f'for i in $(seq 60); do test -n "$({listening})" && break; sleep 0.5; done'
        assert ssh(site, f"{bound}; {listening}") == before != ""
        assert site.hosts[0].address in before
    finally:
        ssh(site, "ip address del 203.0.113.9/32 dev host0")
