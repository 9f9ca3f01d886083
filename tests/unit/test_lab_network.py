"""A lab's addresses, rules and names, and the machine's switches around them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from orchestrator.errors import TaskFailed
from orchestrator.lab import network, switches, timeserver
from orchestrator.lab.network import Network, dropping_chains, free_number, hosts_file, nat_rules


def machine_with(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    links = [{"ifname": f"eth{n}", "addr_info": [{"local": address}]} for n, address in enumerate(addresses)]
    monkeypatch.setattr(network, "_output", lambda *argv: json.dumps(links))


def test_a_number_is_free_when_no_lab_and_no_interface_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(monkeypatch, "192.0.2.1", "198.18.2.1", "2001:2:0:4::1", "198.19.3.1")
    assert free_number([1]) == 3
    machine_with(monkeypatch)
    assert free_number([]) == 1
    with pytest.raises(TaskFailed, match="all 254"):
        free_number(range(1, 255))


def test_names_fit_the_kernel_and_addresses_do_not_meet() -> None:
    lab = Network("abcdefghijkl", 254)
    assert len(lab.bridge) == 15
    addresses = {lab.gateway, lab.outside_address, *(lab.address(index) for index in range(1, 51))}
    assert len(addresses) == 52
    assert all(address.startswith("198.18.254.") for address in addresses)
    addresses6 = {lab.gateway6, lab.outside_address6, *(lab.address6(index) for index in range(1, 51))}
    assert len(addresses6) == 52
    assert all(address.startswith("2001:2:0:254::") for address in addresses6)


def test_rules_concern_this_lab_only() -> None:
    rules = nat_rules(Network("one", 3))
    assert rules.count("table inet ratssaal_lab_one") == 3
    masquerade = [line.strip() for line in rules.splitlines() if "masquerade" in line]
    assert masquerade == [
        'ip saddr 198.18.3.1/24 oifname != "rs-one" masquerade',
        'ip6 saddr 2001:2:0:3::1/64 oifname != "rs-one" masquerade',
    ]


def test_hosts_file_has_both_families() -> None:
    lines = hosts_file({"meet.x.lab.test turn.meet.x.lab.test": ("198.18.1.10", "2001:2:0:1::10")}).splitlines()
    assert "198.18.1.10 meet.x.lab.test turn.meet.x.lab.test" in lines
    assert "2001:2:0:1::10 meet.x.lab.test turn.meet.x.lab.test" in lines


def test_dropping_firewalls_of_the_machine_are_named() -> None:
    chain = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}
    others = [chain | {"name": "out", "hook": "output"}, chain | {"name": "open", "policy": "accept"}]
    ruleset = json.dumps({"nftables": [{"metainfo": {}}, *({"chain": entry} for entry in [chain, *others])]})
    assert dropping_chains(ruleset) == ["ip filter FORWARD"]


@pytest.mark.parametrize(("names", "unmounted"), [((), True), (("somebodys",), False)])
def test_what_holds_namespaces_goes_with_the_last_of_them(
    names: tuple[str, ...], unmounted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`ip netns add` mounts it for everybody and never unmounts it."""
    tried: list[tuple[str, ...]] = []
    monkeypatch.setattr(network, "_NAMESPACES", tmp_path)
    monkeypatch.setattr(network, "_try", lambda *argv: tried.append(argv))
    for name in names:
        (tmp_path / name).touch()
    Network.last_down()
    assert tried == ([("umount", str(tmp_path))] if unmounted else [])


def test_the_time_is_told_as_ntp_has_it() -> None:
    asked = bytes([0b00_100_011, 0, 6]) + bytes(37) + b"when-sent"[:8]
    told = timeserver.answer(asked, 1_000_000_000.5, 1_000_000_001.25)
    assert len(told) == 48
    leap, version, mode = told[0] >> 6, told[0] >> 3 & 7, told[0] & 7
    assert (leap, version, mode) == (0, 4, 4), "a server's answer, and no alarm"
    assert 0 < told[1] < 16, "a stratum that is synchronised"
    assert told[24:32] == b"when-sen", "or the client takes it for somebody else's answer"
    seconds, fraction, sent, part = struct.unpack("!4I", told[32:48])
    assert (seconds, fraction) == (3_208_988_800, 2**31)
    assert (sent, part) == (3_208_988_801, 2**30)


@pytest.mark.parametrize("asked", [b"", bytes(47), bytes([0b00_100_100]) + bytes(47), b"x" * 20])
def test_what_is_no_question_gets_no_time(asked: bytes) -> None:
    """A server's own answer, sent with a forged source, would go to and fro for ever."""
    assert timeserver.answer(asked, 1.0, 1.0) == b""


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A machine with one uplink, as the kernel shows its switches; `values` reads them all."""
    for name, value in {
        "net/ipv4/ip_forward": "0",
        "net/ipv4/conf/all/accept_redirects": "0",
        "net/ipv4/conf/all/forwarding": "0",
        "net/ipv4/conf/eth0/forwarding": "0",
        "net/ipv6/conf/all/forwarding": "0",
        "net/ipv6/conf/eth0/forwarding": "0",
        "net/ipv6/conf/eth0/accept_ra": "1",
        "net/ipv6/conf/all/accept_ra": "1",
        "fs/inotify/max_user_instances": "128",
    }.items():
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(value + "\n")
    return tmp_path / "sys"


def values(system: Path) -> dict[str, str]:
    return {str(path.relative_to(system)): path.read_text().strip() for path in system.rglob("*") if path.is_file()}


def test_switches_come_back_as_they_were(system: Path, tmp_path: Path) -> None:
    before, record = values(system), tmp_path / "switches.json"
    switches.enable(record, system)
    assert (values(system)["net/ipv4/ip_forward"], values(system)["net/ipv6/conf/all/forwarding"]) == ("1", "1")
    assert values(system)["net/ipv6/conf/eth0/accept_ra"] == "2"
    assert values(system)["fs/inotify/max_user_instances"] == "8192"
    (system / "net/ipv4/conf/all/accept_redirects").write_text(
        "1\n"
    )  # the kernel does that when forwarding is turned off
    switches.enable(record, system)  # a second lab
    switches.restore(record, system)
    assert values(system) == before
    assert not record.exists()


def _forwards(system: Path, instances: int) -> None:
    for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        (system / name).write_text("1\n")
    (system / "fs/inotify/max_user_instances").write_text(f"{instances}\n")


def test_of_a_machine_that_forwards_only_the_other_limit_is_raised(system: Path, tmp_path: Path) -> None:
    _forwards(system, 128)
    before, record = values(system), tmp_path / "switches.json"
    switches.enable(record, system)
    assert values(system) == before | {"fs/inotify/max_user_instances": "8192"}
    (system / "net/ipv4/conf/eth0/forwarding").write_text("1\n")  # by its owner
    before["net/ipv4/conf/eth0/forwarding"] = "1"
    switches.restore(record, system)
    assert values(system) == before


def test_a_machine_that_has_it_all_is_left_alone(system: Path, tmp_path: Path) -> None:
    _forwards(system, 10000)
    before, record = values(system), tmp_path / "switches.json"
    switches.enable(record, system)
    assert not record.exists()
    switches.restore(record, system)
    assert values(system) == before


def test_a_record_from_before_the_last_boot_is_only_removed(system: Path, tmp_path: Path) -> None:
    before, record = values(system), tmp_path / "switches.json"
    record.write_text(json.dumps({"boot": "another", "values": {"net/ipv4/ip_forward": "1"}}))
    switches.restore(record, system)
    assert values(system) == before
    assert not record.exists()
