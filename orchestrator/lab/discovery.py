"""What of labs is on this machine, found by names: a crash may have lost the state, or left only parts behind."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.lab import processes
from orchestrator.lab.network import NAMES, lab_tables

_MACHINE = re.compile(r"(?:--machine|guest)=rs-([a-z][a-z0-9]*)-h[0-9]+")


def traces(state: Path) -> dict[str, list[str]]:
    """Return every lab of which anything is left on this machine, each with what that is, for people to read."""
    found: dict[str, list[str]] = {}

    def note(lab: str, what: str) -> None:
        found.setdefault(lab, []).append(what)

    for path in sorted(state.glob("[a-z]*/")):
        note(path.name, f"directory {path}")
    for lab, target in mounts(state):
        note(lab, f"mount {target}")
    for path in Path("/sys/class/net").glob("rs-*"):
        if (path / "bridge").is_dir():
            note(path.name.removeprefix("rs-"), f"bridge {path.name}")
    for folder in (Path("/run/netns"), NAMES):
        for path in folder.glob("rs-*-out"):
            note(path.name.removeprefix("rs-").removesuffix("-out"), f"network namespace {path}")
    for table in lab_tables():
        note(table.removeprefix("ratssaal_lab_"), f"nftables table {table}")
    for pid, words in processes.command_lines():
        for match in filter(None, map(_MACHINE.fullmatch, words)):
            note(match.group(1), f"process {pid}")
    for path in _control_groups():
        note(path.name.split("-")[1], f"control group {path}")
    return found


def mounts(state: Path) -> list[tuple[str, Path]]:
    """Return (lab, mount point) of every mount below the labs' state directory, the innermost first."""
    targets = [Path(line.split()[1].removesuffix("\\040(deleted)")) for line in _mount_lines()]
    below = [target for target in targets if target.is_relative_to(state) and target != state]
    return [(target.relative_to(state).parts[0], target) for target in sorted(below, reverse=True)]


def _control_groups() -> list[Path]:
    roots = [Path(line.split()[1]) for line in _mount_lines() if line.split()[2] == "cgroup2"]
    return [path for root in roots for path in root.glob("rs-*-h*") if path.is_dir()]


def _mount_lines() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()
