"""Independent auditors judge machines with Debian's ordinary kernel."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.lab.aptsources import debian_sources
from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import ratssaal, ssh

# Lynis counts what is installed; packages that only please a score are left out (docs/audit.md).
LEAST_INDEX = 84
LARGEST_EXPOSURE = {
    "jitsi-videobridge2.service": 2.0,
    "jicofo.service": 2.0,
    "coturn.service": 2.0,
    "nginx.service": 3.0,
    "prosody.service": 3.0,
}


def _fetch_content(folder: Path) -> None:
    """Unpack Debian 13's content for Debian 12 there: Debian 12's own package has none. Nothing is installed here."""
    for name in ("sources", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "sources/debian13.sources").write_text(debian_sources(13))
    places = {"Etc::SourceList": "/dev/null", "Etc::SourceParts": folder / "sources"}
    places |= {"State::Lists": folder / "lists", "Cache": folder / "cache"}
    apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root"]
    apt += [word for name, place in places.items() for word in ("-o", f"Dir::{name}={place}")]
    for action in (["update"], ["download", "ssg-debian"]):
        subprocess.run([*apt, *action], cwd=folder, check=True, timeout=600)
    (package,) = folder.glob("ssg-debian_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True, timeout=120)


def _audit(machine: LabSite, state: Path) -> dict[str, dict[str, Any]]:
    # An emulated machine needs minutes for the first look at all its files, without which OS-13 excuses nothing.
    begun = "/var/lib/ratssaal/integrity/begun"
    ssh(machine, f"for i in $(seq 600); do test -e {begun} && exit; sleep 1; done; exit 1")
    done = ratssaal(machine, state, "audit", "--json")
    told = json.loads(done.stdout)
    rows: dict[str, dict[str, Any]] = {row["auditor"]: row for row in told["audits"]}
    open_ = {
        name: [found["id"] for found in row["findings"] if not found["accepted"] and found["severity"] != "info"]
        for name, row in rows.items()
    }
    assert done.returncode == 0, (open_, [row for row in told["audits"] if row["result"] == "error"])
    assert rows["lynis"]["figures"]["hardening index"] >= LEAST_INDEX
    assert rows["ssh-audit"]["figures"]["policy"] == "passed"
    assert (rows["sslyze"]["result"], rows["nmap"]["result"]) == ("pass", "pass")
    exposures = rows["systemd"]["figures"]
    assert {unit: exposures[unit] for unit, most in LARGEST_EXPOSURE.items() if exposures[unit] > most} == {}
    return rows


@pytest.mark.xdist_group("bare")
def test_a_bare_debian_13_is_found_wanting(bare13: LabSite, tmp_path: Path) -> None:
    """What two of the auditors say of a machine of the same kind without us; Lynis's figures of both stand in docs/audit.md."""
    done = ratssaal(bare13, tmp_path, "audit", "--json", "--auditor", "lynis", "--auditor", "ssh-audit")
    assert done.returncode == 6, done.stderr
    figures = {row["auditor"]: row["figures"] for row in json.loads(done.stdout)["audits"]}
    assert figures["lynis"]["hardening index"] < LEAST_INDEX - 15
    assert figures["ssh-audit"]["policy"] == "failed"


@pytest.mark.xdist_group("13")
def test_debian_13(machine13: LabSite, tmp_path: Path) -> None:
    assert _audit(machine13, tmp_path)["openscap"]["result"] == "not_applicable"


@pytest.mark.xdist_group("12")
def test_debian_12(machine12: LabSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fetch_content(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "usr/share"))
    assert _audit(machine12, tmp_path)["openscap"]["result"] in ("pass", "waived")
