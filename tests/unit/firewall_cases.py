"""Rulesets as nft prints them and the firewall's unit as systemd does, for the tests of what is made of them."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.verification.checks import test_network
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject
from tests.unit.asked import sheet_of

BRIDGES = ["198.51.100.11", "198.51.100.12", "198.51.100.13", "198.51.100.20"]
CHAIN = {"family": "inet", "table": "ratssaal", "name": "input", "type": "filter", "hook": "input", "policy": "drop"}
ACCEPT: dict[str, Any] = {"accept": None}
DROP: dict[str, Any] = {"drop": None}
RETURN: dict[str, Any] = {"return": None}


class Server(Subject):
    """A server that lets everybody use SSH, and its bridges Prosody's port."""

    def flows(self) -> list[dict[str, Any]]:
        """See Subject."""
        anywhere = {"proto": "tcp", "port": 22, "sources": ["0.0.0.0/0", "::/0"]}
        return [anywhere, {"proto": "tcp", "port": 5222, "sources": [f"{address}/32" for address in BRIDGES]}]

    def listeners(self) -> list[dict[str, Any]]:
        """See Subject."""
        return [{"proto": "tcp", "address": "127.0.0.1", "port": 8080, "process": "java"}]


def match(protocol: str, field: str, right: Any) -> dict[str, Any]:
    """Return what compares a field of a packet."""
    return {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}}


def rules_for(*members: Any, table: str = "ratssaal") -> list[dict[str, Any]]:
    """Return an input chain that lets anybody use SSH, and some use port 5222."""
    ssh, prosody = match("tcp", "dport", 22), match("tcp", "dport", 5222)
    some = match("ip", "saddr", {"set": list(members)})
    rules = [[ssh, ACCEPT], [some, prosody, ACCEPT]]
    where = {"family": "inet", "table": table, "chain": "input"}
    return [{"chain": {**CHAIN, "table": table}}, *({"rule": {**where, "expr": rule}} for rule in rules)]


AS_DECLARED = rules_for(*BRIDGES)
TELEPHONE = match("tcp", "dport", {"range": [4000, 4999]})

# As systemd 252 and 257 print it; its order is its own.
UNIT = """\
ExecStart={ path=/usr/sbin/nft ; argv[]=/usr/sbin/nft --file /etc/ratssaal/firewall.nft ; ignore_errors=no ; pid=0 }
Wants=network-pre.target
WantedBy=sysinit.target
Before=shutdown.target network-pre.target
After=local-fs.target systemd-modules-load.service nftables.service system.slice
Requires=system.slice
Requisite=
BindsTo=
RootDirectory=
RootImage=
ExtensionDirectories=
ExtensionImages=
MountImages=
CapabilityBoundingSet=cap_chown cap_dac_override cap_net_bind_service cap_net_broadcast cap_net_admin cap_net_raw
User=
DynamicUser=no
InaccessiblePaths=
PrivateNetwork=no
PrivateUsers=no
SystemCallFilter=~
RestrictAddressFamilies=~
BindPaths=
BindReadOnlyPaths=
TemporaryFileSystem=
NetworkNamespacePath=
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no
nftables=enabled
"""
# What the file of the next start gives, and what is loaded.
BOOT = [{"table": {"family": "inet", "name": "ratssaal", "handle": 2}}, {"chain": {**CHAIN, "handle": 1}}]


def both_rulesets(at_boot: list[dict[str, Any]], loaded: list[dict[str, Any]]) -> str:
    """Return what is printed of the file of the next start and of what is loaded."""
    return "".join(json.dumps({"nftables": [{"metainfo": {}}, *rows]}) + "\n" for rows in (at_boot, loaded))


def judged(*rows: dict[str, Any], unit: str = UNIT, boot: str | tuple[int, str] = "") -> Sheet:
    """Return what NET-03 finds on a server with these rules, whose file and unit are as they should be or as given."""
    loaded = json.dumps({"nftables": rows})
    said = {"if command": loaded, "systemctl": unit, "unshare": boot or both_rulesets(BOOT, BOOT)}
    return sheet_of(test_network.test_firewall, said, subject=Server("h1", "", "", (), {}))


def seen_in(*rows: dict[str, Any]) -> list[str]:
    """Return what it finds wrong with these rules."""
    return [seen for seen, _ in judged(*rows).faults]


def meta(key: str, right: Any, *, op: str = "==") -> dict[str, Any]:
    """Return what compares what the kernel knows of a packet."""
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": right}}


def mapped(key: dict[str, Any], data: Any) -> dict[str, Any]:
    """Return a statement that takes its verdict from a map."""
    return {"vmap": {"key": key, "data": data}}


def in_further(*rules: list[dict[str, Any]]) -> list[str]:
    """Return what is seen where a chain of these rules is asked before everything is let in."""
    where = {"family": "inet", "table": "ratssaal"}
    asked = [{"rule": {**where, "chain": "asked", "expr": rule}} for rule in rules]
    last = [{"rule": {**where, "chain": "input", "expr": rule}} for rule in ([{"jump": {"target": "asked"}}], [ACCEPT])]
    return seen_in(*AS_DECLARED, {"chain": {**where, "name": "asked"}}, *asked, *last)
