"""Independent auditors judge machines with Debian's ordinary kernel."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import ratssaal, ssh

# Lynis counts what is installed; packages that only please a score are left out (docs/audit.md).
LEAST_INDEX = 70
LARGEST_EXPOSURE = {
    "jitsi-videobridge2.service": 2.0,
    "jicofo.service": 2.0,
    "coturn.service": 2.0,
    "nginx.service": 3.0,
    "prosody.service": 3.0,
}


def _bring_content(machine13: LabSite, folder: Path) -> None:
    """Unpack Debian 13's content for Debian 12 there: Debian 12's own package has none."""
    ssh(machine13, "cd /tmp && apt-get -qq update && apt-get -qq download ssg-debian && mv ssg-debian_*.deb ssg.deb")
    copy = ["scp", "-q", "-i", str(machine13.key_file), "-o", f"UserKnownHostsFile={machine13.known_hosts}"]
    subprocess.run([*copy, f"root@{machine13.hosts[0].address}:/tmp/ssg.deb", str(folder)], check=True, timeout=120)
    subprocess.run(["dpkg-deb", "-x", str(folder / "ssg.deb"), str(folder)], check=True, timeout=120)
    ssh(machine13, "rm /tmp/ssg.deb")


def _audit(machine: LabSite, state: Path) -> dict[str, dict[str, Any]]:
    done = ratssaal(machine, state, "audit", "--json")
    told = json.loads(done.stdout)
    rows: dict[str, dict[str, Any]] = {row["auditor"]: row for row in told["audits"]}
    assert done.returncode == 0, [row for row in told["audits"] if row["result"] in ("fail", "error")]
    assert rows["lynis"]["figures"]["hardening index"] >= LEAST_INDEX
    assert rows["ssh-audit"]["figures"]["policy"] == "passed"
    assert (rows["sslyze"]["result"], rows["nmap"]["result"]) == ("pass", "pass")
    exposures = rows["systemd"]["figures"]
    assert {unit: exposures[unit] for unit, most in LARGEST_EXPOSURE.items() if exposures[unit] > most} == {}
    return rows


def test_debian_13(machine13: LabSite, tmp_path: Path) -> None:
    assert _audit(machine13, tmp_path)["openscap"]["result"] == "not_applicable"


def test_debian_12(machine12: LabSite, machine13: LabSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _bring_content(machine13, tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "usr/share"))
    assert _audit(machine12, tmp_path)["openscap"]["result"] in ("pass", "waived")
