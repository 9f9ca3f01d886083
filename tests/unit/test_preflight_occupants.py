"""What a host serves before the first run: nothing is taken over silently, and what the firewall will cut off is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.operations import preflight_facts
from orchestrator.operations.preflight_checks import Remark
from orchestrator.operations.preflight_occupants import judge_occupants
from tests.unit.test_preflight_checks import facts, topology

SHOP = "/etc/nginx/sites-enabled/shop.conf"


def listening(process: str, port: int, proto: str = "tcp", address: str = "0.0.0.0") -> dict[str, Any]:
    return {"proto": proto, "address": address, "port": port, "process": process, "pid": 5}


def judge(*sockets: dict[str, Any], where: dict[str, Any] | None = None, **changes: Any) -> list[Remark]:
    return judge_occupants("meet", facts(sockets=list(sockets), **changes), topology(**(where or {})))


@pytest.mark.parametrize(
    ("process", "port", "name", "file", "package", "group", "theirs"),
    [
        *(
            ("lua5.4", port, "Prosody", "/etc/prosody/prosody.cfg.lua", "prosody", "signalling", ["jitsi-meet-prosody"])
            for port in (5222, 5269)
        ),
        ("turnserver", 3478, "coturn", "/etc/turnserver.conf", "coturn", "turn", ["jitsi-meet-turnserver"]),
        ("haproxy", 8000, "HAProxy", "/etc/haproxy/haproxy.cfg", "haproxy", "signalling", None),
    ],
)
def test_a_service_of_somebody_else_is_not_taken_over(
    process: str, port: int, name: str, file: str, package: str, group: str, theirs: list[str] | None
) -> None:
    socket = listening(process, port)
    (remark,) = judge(socket)
    assert remark.blocking
    assert remark.problem.message.startswith(f"{name} runs here already")
    assert remark.problem.message.endswith(file)
    assert remark.problem.hint.endswith(f"apt-get purge {package}")
    assert judge(socket, begun=True) == [], "ours, also where the first run was killed"
    elsewhere = {"signalling": "turn_servers", "turn": "jitsi_signalling"}[group]
    assert not any(r.blocking for r in judge(socket, where={"groups": [elsewhere]})), "the run leaves it alone there"
    # Whoever installed Jitsi by hand goes on from there.
    assert bool(judge(socket, jitsi=theirs or ["jitsi-meet-prosody"])) is (theirs is None)


def test_sites_of_somebody_else_are_not_put_under_our_settings() -> None:
    nginx = listening("nginx", 80)
    (remark,) = judge(nginx, nginx_sites=[SHOP])
    assert remark.blocking
    assert SHOP in remark.problem.message
    assert "reload nginx" in remark.problem.hint
    assert judge(nginx, nginx_sites=[SHOP], begun=True) == []
    assert judge(nginx, nginx_sites=[]) == judge(nginx, nginx_sites=None) == []
    assert judge(listening("sshd", 22), nginx_sites=[SHOP]) == [], "nginx does not run"


def test_only_sites_of_somebody_else_are_seen(tmp_path: Path) -> None:
    serves = "server {\n    listen 80;\n    root %s;\n}\n"
    files = {
        "sites-enabled/default": serves % "/var/www/html",
        "sites-enabled/meet.example.org.conf": serves % "/usr/share/jitsi-meet",
        "conf.d/ratssaal.conf": "# Kept by Ratssaal (role web)\n" + serves % "/x",
        "conf.d/gzip.conf": "gzip on;\n# server {\n",
        "conf.d/shop.conf": serves % "/srv/shop",
        "sites-available/off.conf": serves % "/srv/off",
        "sites-enabled/wiki": "map $a $b { default 1; }\n" + serves % "/srv/wiki",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sites-enabled/gone.conf").symlink_to(tmp_path / "nowhere")
    found = [str(tmp_path / name) for name in ("conf.d/shop.conf", "sites-enabled/wiki")]
    assert preflight_facts.nginx_sites(str(tmp_path)) == found
    assert preflight_facts.nginx_sites(str(tmp_path / "none")) == []


def test_what_a_host_with_another_role_loses_is_told() -> None:
    """Nobody arranges these anew on a host for bridges alone."""
    others = [("nginx", 443), ("lua5.4", 5222), ("turnserver", 3478), ("haproxy", 8443)]
    (remark,) = judge(*(listening(*each) for each in others), where={"groups": ["jitsi_bridges"]})
    assert not remark.blocking
    assert all(f"{port}/tcp ({process})" in remark.problem.message for process, port in others)


def test_what_the_firewall_will_cut_off_is_told_once() -> None:
    agents = [listening("zabbix_agentd", 10050, address=address) for address in ("0.0.0.0", "::")]
    (remark,) = judge(*agents, listening("sshd", 2222), listening("", 51820, "udp"), listening("sshd", 22))
    assert not remark.blocking
    assert remark.problem.message == (
        "will be unreachable from outside: "
        "2222/tcp (sshd), 10050/tcp (zabbix_agentd), 51820/udp (no process: the kernel)"
    )
    assert "firewall_extra_flows" in remark.problem.hint


@pytest.mark.parametrize(
    "socket",
    [
        listening("zabbix_agentd", 10050, address="127.0.0.1"),
        listening("zabbix_agentd", 10050, address="::1"),
        listening("java", 9000, address="::ffff:127.0.0.1"),
        listening("dhclient", 546, "udp", "fe80::1"),
        listening("dhcpcd", 68, "udp"),
        listening("systemd-resolve", 5355, "udp"),
        listening("chronyd", 45123, "udp"),
        listening("nginx", 443),
    ],
)
def test_what_loses_nothing_is_not_told(socket: dict[str, Any]) -> None:
    assert judge(socket) == []


def test_what_is_declared_is_let_in_and_a_begun_host_is_not_bothered() -> None:
    agent = listening("zabbix_agentd", 10050)
    extra = [{"proto": "tcp", "port": "10050-10051", "purpose": "monitoring"}]
    assert judge(agent, where={"settings": {"firewall_extra_flows": extra}}) == []
    assert judge(agent, where={"settings": {"firewall_extra_flows": [{**extra[0], "proto": "udp"}]}})
    assert judge(agent, begun=True) == []
    assert judge(listening("", 10050), root=False) == [], "nobody sees whose it is"
