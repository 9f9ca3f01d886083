"""What NET-03 makes of the unit that loads the firewall: whether the next start loads the same, and in time."""

from __future__ import annotations

import pytest

from tests.unit.firewall_cases import ACCEPT, AS_DECLARED, BOOT, DROP, UNIT, both_rulesets, judged


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        ("UnitFileState=enabled", "UnitFileState=disabled", "the firewall's unit is disabled at boot"),
        ("UnitFileState=enabled", "UnitFileState=enabled-runtime", "the firewall's unit is enabled-runtime at boot"),
        ("ActiveState=active", "ActiveState=failed", "the firewall's unit is failed"),
        ("NeedDaemonReload=no", "NeedDaemonReload=yes", "the firewall's unit was changed since systemd read it"),
        ("WantedBy=sysinit", "WantedBy=rescue", "the firewall's unit is started by rescue.target"),
        ("WantedBy=sysinit.target", "WantedBy=", "the firewall's unit is started by nothing"),
        (" network-pre.target\n", "\n", "the firewall is loaded at any time, not before the network"),
        ("Wants=network-pre.target", "Wants=", "the firewall is loaded at any time, not before the network"),
        ("nftables.service system", "system", "nftables.service may empty the firewall after it was loaded"),
        ("PrivateNetwork=no", "PrivateNetwork=yes", "the firewall's unit has PrivateNetwork=yes"),
        ("NetworkNamespacePath=", "NetworkNamespacePath=/run/x", "the firewall's unit has NetworkNamespacePath=/run/x"),
        (
            "Wants=",
            "ExecCondition={ path=/bin/false ; argv[]=/bin/false ; ignore_errors=no ; pid=0 }\nWants=",
            "the firewall's unit has ExecCondition=/bin/false",
        ),
        ("cap_net_admin ", "", "the firewall's unit may not change the network"),
        ("CapabilityBoundingSet=cap", "Other=cap", "the firewall's unit may not change the network"),
        ("User=\n", "User=nobody\n", "the firewall's unit has User=nobody"),
        ("PrivateUsers=no", "PrivateUsers=yes", "the firewall's unit has PrivateUsers=yes"),
        ("RootDirectory=", "RootDirectory=/srv", "the firewall's unit has RootDirectory=/srv"),
        (
            "BindPaths=",
            "BindPaths=/srv:/etc/ratssaal:rbind",
            "the firewall's unit has BindPaths=/srv:/etc/ratssaal:rbind",
        ),
        ("Requisite=", "Requisite=x.service", "the firewall's unit has Requisite=x.service"),
        ("Requires=", "Requires=x.service ", "the firewall's unit has Requires=x.service"),
        ("SystemCallFilter=~", "SystemCallFilter=read write", "the firewall's unit has SystemCallFilter=read write"),
        ("Families=~", "Families=AF_UNIX", "the firewall's unit has RestrictAddressFamilies=AF_UNIX"),
        ("Families=~", "Families=~AF_NETLINK", "the firewall's unit has RestrictAddressFamilies=~AF_NETLINK"),
        (
            "nftables=enabled",
            "AssertPathExists =/srv/x",
            "the firewall's unit starts only with AssertPathExists=/srv/x",
        ),
        (
            "nftables=enabled",
            "ConditionPathExists=/srv/x",
            "the firewall's unit starts only with ConditionPathExists=/srv/x",
        ),
        (
            "path=/usr/sbin/nft ; argv[]=/usr/sbin/nft --file /etc/ratssaal/firewall.nft",
            "path=/bin/true ; argv[]=/bin/true",
            "the firewall's unit runs /bin/true",
        ),
        # ExecStart=@/bin/true /usr/sbin/nft ...
        (
            "path=/usr/sbin/nft",
            "path=/bin/true",
            "the firewall's unit runs /bin/true as /usr/sbin/nft --file /etc/ratssaal/firewall.nft",
        ),
        ("ExecStart={", "ExecStartWas={", "the firewall's unit runs nothing"),
        (
            "Wants=",
            "ExecStartPost={ path=/usr/sbin/nft ; argv[]=/usr/sbin/nft flush ruleset ; pid=0 }\nWants=",
            "the firewall's unit runs /usr/sbin/nft --file /etc/ratssaal/firewall.nft; /usr/sbin/nft flush ruleset",
        ),
    ],
)
def test_a_unit_that_may_not_load_the_firewall_in_time(old: str, new: str, seen: str) -> None:
    assert old in UNIT
    sheet = judged(*AS_DECLARED, unit=UNIT.replace(old, new))
    assert [words for words, _ in sheet.faults] == [seen]


def test_a_host_without_the_unit_loads_nothing_at_boot() -> None:
    gone = "ActiveState=inactive\nNeedDaemonReload=no\nUnitFileState=\nnftables=disabled\n"
    assert [seen for seen, _ in judged(*AS_DECLARED, unit=gone).faults] == ["the firewall's unit is not there at boot"]


def test_a_unit_that_need_not_wait_for_anothers_rules() -> None:
    alone = UNIT.replace("nftables=enabled", "nftables=disabled").replace("nftables.service system", "system")
    assert judged(*AS_DECLARED, unit=alone).faults == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("User=\n", "User=root\n"),
        ("Families=~", "Families=AF_UNIX AF_NETLINK"),
        ("Families=~", "Families=~AF_PACKET"),
        ("Requires=", "Requires=-.mount "),
        ("cap_chown cap_dac_override ", ""),
    ],
)
def test_what_does_not_keep_the_unit_from_loading_the_firewall(old: str, new: str) -> None:
    assert old in UNIT
    sheet = judged(*AS_DECLARED, unit=UNIT.replace(old, new))
    assert (sheet.faults, sheet.untested) == ([], [])


def test_what_systemd_does_not_show_is_not_known() -> None:
    sheet = judged(*AS_DECLARED, unit=UNIT.replace("PrivateUsers=no\n", ""))
    assert (sheet.faults, sheet.untested) == ([], ["systemd does not show the PrivateUsers of the firewall's unit"])


def test_what_is_loaded_must_be_what_the_next_start_loads() -> None:
    rule = {"rule": {"family": "inet", "table": "ratssaal", "chain": "input", "handle": 4, "expr": [ACCEPT]}}
    same = {"rule": {**rule["rule"], "handle": 9}}
    others = {"table": {"family": "ip", "name": "docker", "handle": 7}}
    differs = "the loaded table inet ratssaal is not what /etc/ratssaal/firewall.nft gives at boot"
    file = "/etc/ratssaal/firewall.nft, which is loaded at boot,"
    for answer, seen in (
        (both_rulesets([*BOOT, rule], [others, *BOOT, same]), []),
        (both_rulesets(BOOT, [*BOOT, rule]), [differs]),
        (both_rulesets([*BOOT, rule], BOOT), [differs]),
        (both_rulesets(BOOT, [others]), [differs]),
        (both_rulesets([], BOOT), [f"{file} has no input chain that drops by default"]),
        (
            (1, "firewall.nft:1:1-3: Error: syntax error\nmore"),
            [f"{file} cannot be loaded: firewall.nft:1:1-3: Error: syntax error"],
        ),
    ):
        sheet = judged(*AS_DECLARED, boot=answer)
        assert ([words for words, _ in sheet.faults], sheet.untested) == (seen, [])


def test_the_order_of_rules_belongs_to_what_is_compared() -> None:
    where = {"family": "inet", "table": "ratssaal", "chain": "input"}
    one, other = ({"rule": {**where, "expr": expr}} for expr in ([ACCEPT], [DROP]))
    assert judged(*AS_DECLARED, boot=both_rulesets([*BOOT, one, other], [*BOOT, other, one])).faults


def test_a_host_that_gives_no_namespace_is_not_tested() -> None:
    sheet = judged(*AS_DECLARED, boot=(77, "unshare failed: Operation not permitted"))
    assert sheet.faults == []
    assert "no network namespace (unshare failed" in sheet.untested[0]


def test_a_file_whose_table_sleeps_gives_no_firewall_at_boot() -> None:
    asleep = {"table": {**BOOT[0]["table"], "flags": "dormant"}}
    sheet = judged(*AS_DECLARED, boot=both_rulesets([asleep, BOOT[1]], [asleep, BOOT[1]]))
    assert [seen for seen, _ in sheet.faults] == [
        "/etc/ratssaal/firewall.nft, which is loaded at boot, has no input chain that drops by default"
    ]
