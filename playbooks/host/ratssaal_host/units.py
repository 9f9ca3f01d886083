# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of systemd: enabled, started, restarted and reloaded, seen to stay active, and to call themselves healthy."""

from __future__ import annotations

import glob
import http.client
import json
import os
import subprocess
import time
import urllib.error
import urllib.request

from . import pending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, NoReturn

    from .steps import Step

_LINKING = ("enable", "disable", "mask", "unmask")
_UNKNOWN = {"LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": ""}
ACTIVE = ("active", "activating", "reloading")
# A Java service on a small machine takes its time, and Jicofo is not healthy before a bridge has come to it.
HEALTH_SECONDS = 180
_ASKING_SECONDS = 10
_SANDBOX = "/etc/systemd/system/%s.d/80-ratssaal-sandbox.conf"
_WITHOUT_SANDBOX = "\nHint: if its sandbox is in the way, hardening_skip with OS-08 and `ratssaal harden` take it away"
_PROPERTIES = "Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths,Result"


def _systemctl(*words: str) -> tuple[int, str]:
    done = subprocess.run(["systemctl", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def states_of(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return systemd's properties of each unit by its name."""
    code, output = _systemctl("show", "--property", _PROPERTIES, *names)
    if code != 0:
        return {}
    found = {}
    blocks = [block for block in output.strip().split("\n\n") if block]
    for name, block in zip(names, blocks, strict=False):
        found[name] = dict(line.partition("=")[::2] for line in block.splitlines())
    return found


def drop_ins(name: str) -> list[str]:
    """Return the files below /etc that add to a unit or overrule it, whoever wrote them."""
    return sorted(glob.glob("/etc/systemd/system/%s.d/*.conf" % glob.escape(name)))


def enabled(name: str, state: Mapping[str, str]) -> bool:
    """Say whether a unit starts at boot; a SysV script has no unit file state, so its links are looked at."""
    if state["UnitFileState"] in ("enabled", "enabled-runtime", "static", "alias", "generated", "indirect"):
        if state["UnitFileState"] != "generated":
            return True
        return _systemctl("is-enabled", name)[0] == 0
    return False


def _outdated(name: str, state: Mapping[str, str]) -> bool:
    """Say whether systemd knows an older unit than the disk.

    NeedDaemonReload compares only the files that systemd has read; it notices neither a unit of ours that newly hides the
    one generated from a SysV script, nor (systemd 252, Debian 12) the first drop-in of a unit, whose directory is new.
    """
    own = "/etc/systemd/system/%s" % name
    hidden = os.path.isfile(own) and not os.path.islink(own) and state.get("FragmentPath") != own
    read = state.get("DropInPaths", "").split()
    unread = state.get("LoadState") == "loaded" and any(path not in read for path in glob.glob(own + ".d/*.conf"))
    return hidden or unread or state.get("NeedDaemonReload") == "yes"


def _reread(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Let systemd read its units anew, and return their properties."""
    _systemctl("daemon-reload")
    return states_of(names)


def _lacking(wanted: Mapping[str, Any], states: Mapping[str, Mapping[str, str]]) -> bool:
    """Say whether a unit that is to run does not exist."""
    to_run = wanted.get("state", "started") == "started" and not wanted.get("masked")
    return to_run and states.get(wanted["name"], _UNKNOWN)["LoadState"] == "not-found"


class Units:
    """Collects what is done, in check mode only by name."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.done: list[str] = []
        self.started: list[str] = []
        self.refused: list[str] = []

    def act(self, verb: str, name: str) -> None:
        """Run one systemctl verb, or only note it in check mode."""
        self.done.append("%s %s" % (verb, name))
        if self.step.check_mode:
            return
        # One reload for all of them comes afterwards.
        code, output = _systemctl(verb, *(["--no-reload"] if verb in _LINKING else []), name)
        if code != 0 and verb in ("start", "restart"):
            # A port that another unit gives up by a reload becomes free only a moment after that.
            time.sleep(3)
            _systemctl("reset-failed", name)
            code, output = _systemctl(verb, name)
        if code != 0:
            self.fail(name, "systemctl %s failed: %s" % (verb, output.strip()[-300:]))

    def fail(self, name: str, why: str) -> NoReturn:
        """End the task with what the unit said last."""
        tail = subprocess.run(
            ["journalctl", "--no-pager", "--quiet", "-n", "8", "-o", "cat", "-u", name, "--namespace=*"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        ).stdout.decode(errors="replace")
        hint = _WITHOUT_SANDBOX if os.path.exists(_SANDBOX % name) else ""
        self.step.fail(msg="%s: %s\n%s%s" % (name, why, tail.strip()[-1200:], hint), actions=self.done)

    def lack(self, name: str) -> None:
        """End the task because a unit to start does not exist; in check mode its package is not there yet either."""
        if not self.step.check_mode:
            self.fail(name, "there is no such service: its package is not installed. Hint: provision the host first")
        self.done.append("start %s" % name)

    def link(self, wanted: Mapping[str, Any], state: Mapping[str, str]) -> None:
        """Mask or unmask, enable or disable one unit."""
        name = wanted["name"]
        if wanted.get("masked"):
            if state["LoadState"] != "masked":
                self.act("mask", name)
            return
        if state["LoadState"] == "masked" and wanted.get("state") != "kept":
            self.act("unmask", name)
        if "enabled" in wanted and bool(wanted["enabled"]) != enabled(name, state):
            self.act("enable" if wanted["enabled"] else "disable", name)

    def end(self, name: str, state: Mapping[str, str]) -> None:
        """Stop a unit; what is stopped at work may call that a failure, and the host itself degraded until it boots."""
        if state["ActiveState"] in ACTIVE:
            self.act("stop", name)
            if not self.step.check_mode:
                _systemctl("reset-failed", name)
        elif state["ActiveState"] == "failed":
            self.act("reset-failed", name)

    def bring(self, wanted: Mapping[str, Any], state: Mapping[str, str]) -> None:
        """Start, stop, restart or reload one unit."""
        name, how = wanted["name"], wanted.get("state", "started")
        if wanted.get("masked") or how == "timed":
            return
        active, restart, reload = (
            state["ActiveState"] in ACTIVE,
            name in pending.marked("restart"),
            name in pending.marked("reload"),
        )
        # One that could not run with its old files is kept by a start with the new ones.
        kept_down = how == "kept" and not active and not (restart and state["ActiveState"] == "failed")
        if how == "stopped":
            self.end(name, state)
        if how == "stopped" or kept_down:
            if not self.step.check_mode:
                # A unit that does not run has nothing to restart: it reads its files when it starts.
                pending.clear("restart", name)
                pending.clear("reload", name)
            return
        if not active:
            self.act("start", name)
        elif restart:
            self.act("restart", name)
        elif reload:
            self.act("reload-or-restart", name)
        elif not in_force(wanted):
            self.renew(name, wanted)
        if not active or restart or reload:
            self.started.append(name)

    def renew(self, name: str, wanted: Mapping[str, Any]) -> None:
        """Start one unit anew whose effect somebody took away; what this host does not let it set is told, and no change."""
        self.act("restart", name)
        if not self.step.check_mode and not in_force(wanted):
            self.done.pop()
            self.refused.append(name)

    def prove(self, settle: float) -> None:
        """Wait until everything that was started is active and stays so."""
        deadline = time.monotonic() + 30
        time.sleep(settle)
        while True:
            states = states_of(self.started)
            waiting = [name for name in self.started if states[name]["ActiveState"] in ("activating", "reloading")]
            if not waiting or time.monotonic() > deadline:
                break
            time.sleep(0.3)
        for name in self.started:
            if states[name]["ActiveState"] != "active":
                self.fail(name, "is %s (%s) after its start" % (states[name]["ActiveState"], states[name]["Result"]))
            pending.clear("restart", name)
            pending.clear("reload", name)

    def answer(self, wanted: Iterable[Mapping[str, Any]]) -> None:
        """Wait until every unit that has a health check passes it: active says only that the process runs."""
        deadline = time.monotonic() + HEALTH_SECONDS
        for unit in wanted:
            while "health" in unit:
                code, said = health(unit["health"])
                if code == 200:
                    break
                if time.monotonic() > deadline:
                    told = "is not healthy after %s s: %s answers %s %s"
                    self.fail(unit["name"], told % (HEALTH_SECONDS, unit["health"], code or "nothing:", said))
                time.sleep(0.5)


def in_force(wanted: Mapping[str, Any]) -> bool:
    """Say whether what a unit sets is so: active says only that it ran once."""
    if "effective" not in wanted:
        return True
    done = subprocess.run(wanted["effective"], shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def health(url: str) -> tuple[int, str]:
    """Return the status of a service's own health check and the end of what it says; status 0 where nothing answers.

    The address's fragment names a number in the answer (`bridges.count`), which must not be 0: else it says so, without a status.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    address, _, name = url.partition("#")
    try:
        with direct.open(address, timeout=_ASKING_SECONDS) as answer:
            counted = _named(json.load(answer), name) if name else 1
            return (answer.status, "") if counted else (0, "%s is %s" % (name, counted))
    except urllib.error.HTTPError as error:
        return error.code, error.read(2000).decode(errors="replace").strip()[-200:]
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, str(error)


def _named(answer: Any, name: str) -> Any:
    """Return what a JSON answer says under a dotted name; None where it says nothing."""
    for part in name.split("."):
        answer = answer.get(part) if isinstance(answer, dict) else None
    return answer


def applied(step: Step) -> list[dict[str, Any]]:
    """Return what the manifest keeps of this step."""
    return applied_units(step.params)


def applied_units(wanted: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the manifest keeps of units that are in their wanted state."""
    items = []
    for unit in wanted:
        if unit.get("state") == "kept":
            continue
        item = {"kind": "unit", "name": unit["name"], "masked": bool(unit.get("masked"))}
        if not item["masked"]:
            # Of one that a timer starts nobody wants either.
            item["started"] = None if unit.get("state") == "timed" else unit.get("state", "started") == "started"
            if "enabled" in unit:
                item["enabled"] = bool(unit["enabled"])
            if "effective" in unit and in_force(unit):
                item["effective"] = unit["effective"]
            # Those of our tasks are in the manifest as files, whichever of them came first.
            item["drop_ins"] = [path for path in drop_ins(unit["name"]) if "ratssaal" not in os.path.basename(path)]
        items.append(item)
    return items


def bring(step: Step) -> dict[str, Any]:
    """Compare states, act on what differs, prove the effect; return what was done."""
    if not os.path.isdir("/run/systemd/system"):
        step.fail(msg="this host is not run by systemd")
    units = Units(step)
    names = [unit["name"] for unit in step.params]
    states = states_of(names)
    old = any(_outdated(name, state) for name, state in states.items())
    # One that is made from a SysV script comes with a reload, too.
    if not step.check_mode and (old or any(_lacking(unit, states) for unit in step.params)):
        states = _reread(names)
    there = [unit for unit in step.params if not _lacking(unit, states)]
    for unit in step.params:
        if unit not in there:
            units.lack(unit["name"])
    for unit in there:
        units.link(unit, states.get(unit["name"], _UNKNOWN))
    if units.done and not step.check_mode:
        states = _reread(names)
    for unit in there:
        units.bring(unit, states.get(unit["name"], _UNKNOWN))
    if units.started and not step.check_mode:
        units.prove(step.settle)
    if not step.check_mode:
        units.answer([unit for unit in step.params if unit.get("state") != "kept" or unit["name"] in units.started])
    return {"changed": bool(units.done), "actions": units.done, "not_settable": units.refused}
