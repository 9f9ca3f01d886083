"""What follows from a topology, written out by hand here."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestrator.inventory import derivations, openpgp
from tests.unit.applied import load

ALL = ["jitsi_signalling", "jitsi_bridges", "turn_servers"]


def topology(**settings: Any) -> dict[str, Any]:
    """Return one host that does everything."""
    host = {"address": "192.0.2.10", "address6": "2001:db8::10", "groups": ALL, "ssh_port": 22}
    return {"hosts": {"meet": host}, "settings": {"jitsi_domain": "meet.example.org", **settings}}


def three_hosts(**settings: Any) -> dict[str, Any]:
    """Return a topology with one host per group."""
    hosts = {
        name: {"address": f"192.0.2.{n}", "address6": "", "groups": [group], "ssh_port": 22}
        for n, (name, group) in enumerate(zip(("s", "b", "t"), ALL, strict=True), 1)
    }
    return {"hosts": hosts, "settings": {"jitsi_domain": "meet.example.org", **settings}}


def opened(value: dict[str, Any], host: str = "meet") -> set[tuple[str, Any]]:
    return {(flow["proto"], flow["port"]) for flow in derivations.flows(value, host)}


def test_single_host_opens_exactly_this() -> None:
    expected = {("tcp", 22), ("tcp", 80), ("tcp", 443), ("udp", 10000), ("udp", 3478), ("udp", "49152-65535")}
    assert opened(topology()) == expected
    assert opened(topology(jitsi_turn_tls="port5349")) == expected | {("tcp", 5349)}


def test_management_sources_bound_ssh_only() -> None:
    flows = derivations.flows(topology(firewall_management_sources=["192.0.2.0/24"]), "meet")
    assert [flow["id"] for flow in flows if flow["sources"] == ["192.0.2.0/24"]] == ["ssh"]


def test_relay_ports_are_open_to_bridges_only_unless_calls_go_peer_to_peer() -> None:
    def sources(**settings: Any) -> list[str]:
        return next(f["sources"] for f in derivations.flows(topology(**settings), "meet") if f["id"] == "turn-relay")

    assert sources() == ["192.0.2.10/32", "2001:db8::10/128"]
    assert sources(jitsi_p2p=True) == ["0.0.0.0/0", "::/0"]


def test_hosts_open_only_what_their_groups_need() -> None:
    value = three_hosts()
    assert opened(value, "s") == {("tcp", 22), ("tcp", 80), ("tcp", 443), ("tcp", 5222)}
    assert opened(value, "b") == {("tcp", 22), ("udp", 10000)}
    assert opened(value, "t") == {("tcp", 22), ("udp", 3478), ("tcp", 443), ("udp", "49152-65535")}
    xmpp = next(flow for flow in derivations.flows(value, "s") if flow["id"] == "xmpp")
    assert xmpp["sources"] == ["192.0.2.2/32"]


def test_declared_flows_are_added() -> None:
    extra = [
        {"proto": "tcp", "port": 9100, "sources": ["192.0.2.9/32"], "purpose": "monitoring"},
        {"proto": "udp", "port": "5-6"},
    ]
    flows = derivations.flows(topology(firewall_extra_flows=extra), "meet")[-2:]
    assert [(f["id"], f["port"], f["sources"]) for f in flows] == [
        ("extra-1", 9100, ["192.0.2.9/32"]),
        ("extra-2", "5-6", ["0.0.0.0/0", "::/0"]),
    ]


@pytest.mark.parametrize("mode", ["sni443", "port5349"])
def test_every_open_flow_has_a_listener_and_no_public_listener_lacks_a_flow(mode: str) -> None:
    value = topology(jitsi_turn_tls=mode)
    public = {
        (entry["proto"], entry["port"])
        for entry in derivations.listeners(value, "meet")
        if entry["address"] == "*" and entry["port"] not in (68, 546)
    }
    assert public == opened(value)


def test_internal_services_listen_on_loopback_only() -> None:
    local = {e["port"] for e in derivations.listeners(topology(), "meet") if e["address"] == "127.0.0.1"}
    assert {5222, 5280, 8888, 8080} <= local
    remote = {e["port"]: e["address"] for e in derivations.listeners(three_hosts(), "s")}
    assert remote[5222] == "*"
    assert remote[5280] == "127.0.0.1"


def test_names() -> None:
    assert derivations.turn_domain({"jitsi_domain": "meet.example.org"}) == "turn.meet.example.org"
    assert derivations.turn_domain({"jitsi_domain": "m.example", "jitsi_turn_domain": "t.example"}) == "t.example"
    domains = derivations.xmpp_domains({"jitsi_domain": "m.example"})
    assert domains["domain"] == "m.example"
    assert domains["muc"] == "conference.m.example"
    assert domains["internal"] == "internal.auth.m.example"


def test_certificate_names() -> None:
    own = ["meet.example.org", "turn.meet.example.org", "auth.meet.example.org"]
    assert derivations.certificate_names(topology(), "meet") == own
    assert derivations.certificate_names(topology(certificates_source="pem"), "meet") == own[:2]
    assert derivations.certificate_names(three_hosts(), "b") == []
    assert derivations.certificate_names(three_hosts(), "t") == ["turn.meet.example.org"]


@pytest.mark.parametrize(("mode", "port"), [("sni443", 443), ("port5349", 5349)])
def test_ice_servers_are_only_our_own(mode: str, port: int) -> None:
    servers = derivations.ice_servers({"jitsi_domain": "m.example", "jitsi_turn_tls": mode})
    assert {server["host"] for server in servers} == {"turn.m.example"}
    assert [(s["type"], s["port"], s["transport"]) for s in servers] == [
        ("stun", 3478, "udp"),
        ("turn", 3478, "udp"),
        ("turns", port, "tcp"),
    ]


def denied(settings: dict[str, Any], address: str) -> bool:
    value = ipaddress.ip_address(address)
    for text in derivations.turn_denied_peers(topology(**settings)):
        low, _, high = text.partition("-")
        first, last = ipaddress.ip_address(low), ipaddress.ip_address(high or low)
        if first.version == value.version and int(first) <= int(value) <= int(last):
            return True
    return False


INSIDE = ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"]
INSIDE6 = [
    "::1",
    "fd00::1",
    "fe80::1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "ff02::1",
    "::",
    "fec0::1",
    "::10.0.0.1",
]


@pytest.mark.parametrize("address", INSIDE + INSIDE6)
def test_turn_never_reaches_inside(address: str) -> None:
    assert denied({}, address)
    assert denied({"jitsi_p2p": True}, address)


def test_turn_reaches_the_public_only_for_peer_to_peer() -> None:
    for address in ("8.8.8.8", "2a00:1450::1"):
        assert denied({}, address)
        assert not denied({"jitsi_p2p": True}, address)


def test_turn_reaches_every_bridge_of_the_site() -> None:
    assert derivations.turn_allowed_peers(topology()) == ["192.0.2.10", "2001:db8::10"]
    assert derivations.turn_allowed_peers(three_hosts()) == ["192.0.2.2"]
    public = topology(jitsi_p2p=True)
    public["hosts"]["meet"] |= {"address": "9.9.9.9", "address6": ""}
    assert derivations.turn_allowed_peers(public) == []


def test_turn_never_reaches_the_sites_own_hosts_without_a_bridge() -> None:
    value = three_hosts(jitsi_p2p=True)
    assert [text for text in derivations.turn_denied_peers(value) if "-" not in text] == ["192.0.2.1", "192.0.2.3"]


def test_turn_never_reaches_the_administrations_networks_but_for_a_bridge_there() -> None:
    declared = ["8.8.4.0/24", "2a00:1450::/64", "9.9.9.9/32"]
    p2p = {"jitsi_p2p": True, "firewall_management_sources": declared}
    for address in ("8.8.4.0", "8.8.4.255", "2a00:1450::1", "9.9.9.9"):
        assert denied(p2p, address)
    for address in ("8.8.5.0", "2a00:1450:0:1::", "9.9.9.10"):
        assert not denied(p2p, address)
    value = topology(**p2p)
    value["hosts"]["meet"] |= {"address": "8.8.4.7", "address6": ""}
    assert derivations.turn_allowed_peers(value) == ["8.8.4.7"]


def test_an_administration_that_sits_everywhere_denies_nobody() -> None:
    everywhere = {"jitsi_p2p": True, "firewall_management_sources": ["0.0.0.0/0", "::/0"]}
    assert not denied(everywhere, "8.8.8.8")
    assert derivations.management_networks({}) == []


@pytest.mark.parametrize(
    ("address", "address6", "private"),
    [
        ("10.0.0.1", "", True),
        ("10.0.0.1", "2001:db8::1", False),
        ("198.18.1.10", "", False),
        ("10.0.0.1", "fd00::1", True),
    ],
)
def test_private_bridge_by_javas_notion(address: str, address6: str, private: bool) -> None:
    value = topology()
    value["hosts"]["meet"] |= {"address": address, "address6": address6}
    assert derivations.bridge_private(value, "meet") is private


@pytest.mark.parametrize(
    ("address6", "present", "offered"),
    [
        ("2001:DB8::10", ["127.0.0.1", "192.0.2.10", "172.17.0.1", "2001:db8::10"], ["192.0.2.10", "2001:db8::10"]),
        # Not there yet, or not declared.
        ("2001:db8::10", ["192.0.2.10"], ["192.0.2.10", "2001:db8::10"]),
        ("", ["192.0.2.10", "2001:db8::10"], ["192.0.2.10"]),
        # Behind a translation: whatever the host has.
        ("", ["10.0.0.5"], []),
    ],
)
def test_a_bridge_offers_its_declared_addresses_where_they_are_its_own(
    address6: str, present: list[str], offered: list[str]
) -> None:
    value = topology()
    value["hosts"]["meet"] |= {"address": "192.0.2.10", "address6": address6}
    assert derivations.bridge_addresses(value, "meet", present) == offered


def directives(**settings: Any) -> dict[str, list[str]]:
    text = derivations.content_security_policy({"jitsi_domain": "meet.example.org", **settings})
    return {words[0]: words[1:] for words in (part.split() for part in text.split("; "))}


def test_policy_names_no_other_origin() -> None:
    for name, values in directives().items():
        for value in values:
            assert value in {"data:", "blob:", "wss://meet.example.org"} or value.startswith("'"), (name, value)
    assert directives()["object-src"] == ["'none'"]
    assert "'unsafe-eval'" not in directives()["script-src"]


def test_policy_takes_declared_origins_but_never_as_scripts() -> None:
    policy = directives(jitsi_allowed_origins=["https://files.example.org"])
    assert "https://files.example.org" in policy["connect-src"]
    assert "https://files.example.org" not in policy["script-src"]


def test_policy_lets_the_identity_provider_in() -> None:
    token = {"login_url": "https://login.example.org/auth?x={room}", "identity_origins": ["https://id.example.org"]}
    policy = directives(jitsi_auth="jwt", jitsi_jwt=token)
    assert {"https://login.example.org", "https://id.example.org"} <= set(policy["connect-src"])
    assert "https://login.example.org" not in directives(jitsi_jwt=token)["connect-src"]
    service = {"token_service_url": "https://tokens.example.org/realms/town/protocol/openid-connect"}
    assert "https://tokens.example.org" in directives(jitsi_auth="jwt", jitsi_jwt=service)["connect-src"]
    # A log-out takes place in a frame.
    out = {"logout_url": "https://out.example.org/logout"}
    assert "https://out.example.org" in directives(jitsi_auth="jwt", jitsi_jwt=out)["frame-src"]


def test_the_filters_are_the_same_functions(tmp_path: Path) -> None:
    filters = load("filter_plugins/ratssaal.py").FilterModule().filters()
    hostvars = {"meet": {"ansible_host": "192.0.2.10", "base_address6": "2001:db8::10"}}
    built = filters["ratssaal_topology"](hostvars, {key: ["meet"] for key in ALL}, {"jitsi_domain": "meet.example.org"})
    assert built == topology()
    assert filters["ratssaal_flows"](built, "meet") == derivations.flows(topology(), "meet")
    assert filters["ratssaal_control_path"]("tls/chain.pem", str(tmp_path)) == str(tmp_path / "tls/chain.pem")
    assert filters["ratssaal_control_path"]("/etc/x.pem", str(tmp_path)) == "/etc/x.pem"
    assert filters["ratssaal_control_path"]("", str(tmp_path)) == ""
    assert filters["ratssaal_csp"](built["settings"]) == derivations.content_security_policy(built["settings"])


@pytest.mark.parametrize("module", [derivations, openpgp])
def test_what_the_filters_load_needs_the_standard_library_only(module: ModuleType) -> None:
    text = Path(str(module.__file__)).read_text()
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported - {"__future__"} <= set(sys.stdlib_module_names)
