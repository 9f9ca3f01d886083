"""Whether the firewall of the next start is the one that is loaded now: its unit, and the file that this loads."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from testinfra.backend.base import CommandResult

from orchestrator.verification.nftables import Ruleset
from orchestrator.verification.sheet import Sheet

_NAME = "ratssaal-firewall.service"
# What keeps nft from the host's network, or shows it another file than the one that is looked at here; with what systemd
# 252 and 257 show where nothing is set.
_UNSET = {
    **{"PrivateNetwork": "no", "PrivateUsers": "no", "DynamicUser": "no", "SystemCallFilter": "~"},
    **dict.fromkeys(
        ("NetworkNamespacePath", "User", "RootDirectory", "RootImage", "BindPaths", "BindReadOnlyPaths"), ""
    ),
    **dict.fromkeys(("TemporaryFileSystem", "InaccessiblePaths", "MountImages", "ExtensionImages"), ""),
    **dict.fromkeys(("ExtensionDirectories", "Requisite", "BindsTo"), ""),
}
_SHOWN = ",".join(
    (
        *("UnitFileState", "ActiveState", "NeedDaemonReload", "Wants", "WantedBy", "Before", "After", "Requires"),
        *("ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost"),
        *("CapabilityBoundingSet", "RestrictAddressFamilies", *_UNSET),
    )
)
UNIT = (
    f"systemctl show {_NAME} -p {_SHOWN}; echo nftables=$(systemctl is-enabled nftables.service 2>/dev/null); "
    f"systemctl cat {_NAME} 2>/dev/null | grep -E '^[[:space:]]*(Condition|Assert)[[:alpha:]]+[[:space:]]*='; true"
)
# Targets of every start. Ordering alone starts nothing.
_STARTERS = {"sysinit.target", "basic.target", "network-pre.target", "multi-user.target"}
_NO_NAMESPACE = 77
_RULES = (
    f"unshare --net true || exit {_NO_NAMESPACE}; unshare --net sh -c "
    "'nft --file \"$1\" && nft -j -s list ruleset' - {file} && nft -j -s list ruleset"
)


def judge_unit(told: str, sheet: Sheet) -> str | None:
    """Judge the firewall's unit as systemd knows it; return the file that it loads, None where it loads none or several."""
    shown: dict[str, list[str]] = {}
    for name, _, value in (line.partition("=") for line in told.splitlines()):
        shown.setdefault(name.strip(), []).append(value)
    one = {name: " ".join(values) for name, values in shown.items()}
    state = one.get("UnitFileState") or "not there"
    sheet.expect(state == "enabled", f"the firewall's unit is {state} at boot", "enabled")
    if state == "not there":
        return None
    active = one.get("ActiveState", "")
    sheet.expect(active == "active", f"the firewall's unit is {active}", "active")
    if one.get("NeedDaemonReload") != "no":
        sheet.expect(False, "the firewall's unit was changed since systemd read it", "as systemd knows it")
    _judge_order(one, sheet)
    for name in (name for name in shown if name.startswith(("Condition", "Assert"))):
        sheet.expect(False, f"the firewall's unit starts only with {name}={one[name]}", "started in any case")
    _judge_bounds(one, sheet)
    return _file(one, sheet)


def _judge_order(one: Mapping[str, str], sheet: Sheet) -> None:
    starters = set(one.get("WantedBy", "").split())
    by = ", ".join(sorted(starters)) or "nothing"
    sheet.expect(bool(starters & _STARTERS), f"the firewall's unit is started by {by}", "sysinit.target")
    early = all("network-pre.target" in one.get(key, "").split() for key in ("Before", "Wants"))
    sheet.expect(
        early, f"the firewall is loaded {'before' if early else 'at any time, not before'} the network", "before"
    )
    if one.get("nftables") == "enabled" and "nftables.service" not in one.get("After", "").split():
        sheet.expect(
            False, "nftables.service may empty the firewall after it was loaded", "loaded after nftables.service"
        )


def _judge_bounds(one: Mapping[str, str], sheet: Sheet) -> None:
    """Expect that nothing keeps the unit's program from starting, from the host's network and from the host's files."""
    untold = [name for name in _UNSET if name not in one]
    if untold:
        sheet.could_not_look(f"systemd does not show the {', '.join(untold)} of the firewall's unit")
    bound = {name: one[name] for name, unset in _UNSET.items() if one.get(name, unset) not in (unset, "root", "0")}
    families = one.get("RestrictAddressFamilies", "")
    if ("AF_NETLINK" in families.lstrip("~").split()) == families.startswith("~"):
        bound["RestrictAddressFamilies"] = families
    # Slices and mounts are there at every start.
    needed = [name for name in one.get("Requires", "").split() if not name.endswith((".slice", ".mount"))]
    if needed:
        bound["Requires"] = " ".join(needed)
    if one.get("ExecCondition"):
        bound["ExecCondition"] = ", ".join(_called(path, line) for path, line in _commands(one["ExecCondition"]))
    for name, value in bound.items():
        sheet.expect(False, f"the firewall's unit has {name}={value[:80]}", "not set: started in any case, on the host")
    if "cap_net_admin" not in one.get("CapabilityBoundingSet", "").split():
        sheet.expect(False, "the firewall's unit may not change the network", "cap_net_admin in CapabilityBoundingSet")


def _commands(shown: str) -> list[tuple[str, str]]:
    """Return the programs that a unit runs, each with the command line that it is given."""
    return re.findall(r"path=(\S+) ; argv\[\]=(.*?) ; ", shown)


def _called(path: str, line: str) -> str:
    """Return a command as people write it; a program may be told another name than its own (systemd.service(5), `@`)."""
    return line if line.partition(" ")[0] == path else f"{path} as {line}"


def _file(one: Mapping[str, str], sheet: Sheet) -> str | None:
    """Return the one file that the unit loads when it starts."""
    commands = [
        _called(path, line) for when in ("Pre", "", "Post") for path, line in _commands(one.get(f"ExecStart{when}", ""))
    ]
    loads = re.fullmatch(r"(?:/usr)?/sbin/nft (?:--file|-f) (/\S+)", commands[0]) if len(commands) == 1 else None
    if loads is None:
        does = "; ".join(commands) or "nothing"
        sheet.expect(False, f"the firewall's unit runs {does}", "nft --file FILE, and nothing else")
    return loads[1] if loads else None


def rules_of(file: str) -> str:
    """Return the command that prints what a file gives in an empty network namespace, and what is loaded, as JSON."""
    return _RULES.format(file=shlex.quote(file))


def judge_rules(file: str, answer: CommandResult, sheet: Sheet) -> None:
    """Expect that every table that the file gives is loaded like that, and that one of them drops by default."""
    if answer.rc == _NO_NAMESPACE:
        sheet.could_not_look(f"what {file} gives is unknown: no network namespace ({answer.stderr.strip()[:200]})")
        return
    if answer.rc != 0:
        why = answer.stderr.strip().partition("\n")[0][:200]
        sheet.expect(False, f"{file}, which is loaded at boot, cannot be loaded: {why}", "loadable")
        return
    at_boot, loaded = (json.loads(line)["nftables"] for line in answer.stdout.splitlines())
    if not Ruleset(at_boot).dropping():
        sheet.expect(False, f"{file}, which is loaded at boot, has no input chain that drops by default", "one")
    now = _tables(loaded)
    for name, rows in _tables(at_boot).items():
        same = now.get(name) == rows
        sheet.expect(same, f"the loaded {name} is {'what' if same else 'not what'} {file} gives at boot", "the same")


def _tables(listed: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what each table holds, rules in their order, without the kernel's numbers of them."""
    found: dict[str, list[str]] = {}
    for kind, row in (pair for each in listed for pair in each.items() if pair[0] != "metainfo"):
        name = f"table {row['family']} {row['name'] if kind == 'table' else row['table']}"
        content = {key: value for key, value in row.items() if key != "handle"}
        found.setdefault(name, []).append(json.dumps([kind, content], sort_keys=True))
    return found
