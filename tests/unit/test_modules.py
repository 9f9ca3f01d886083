"""What our actions tell of a host, without a host."""

from __future__ import annotations

import base64
import importlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import content
from orchestrator.operations.preflight_checks import SUPPORTED_DEBIAN
from orchestrator.operations.preflight_facts import started_by_us
from tests.unit.applied import load

host_capabilities = load("host/ratssaal_host/capabilities.py")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a host runs for managed_host."""
    monkeypatch.syspath_prepend(str(content.root() / "playbooks/host"))
    return importlib.import_module("ratssaal_host.steps")


def _file(path: Path, text: str) -> dict[str, Any]:
    folder = next(parent for parent in path.parents if parent.exists())
    owner = {"owner": folder.owner(), "group": folder.group()}
    return {"files": [{"dest": str(path), **owner}], "contents": {"0": base64.b64encode(text.encode()).decode()}}


def test_a_step_that_fails_tells_what_the_ones_before_it_changed(steps: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    wanted = [_file(tmp_path / "one", "1"), _file(tmp_path / "taken", "2"), _file(tmp_path / "three", "3")]
    told = steps.run({"steps": wanted, "check_mode": False, "diff": False})
    assert told["failed"] is True
    assert told["changed"] is True
    assert told["changed_paths"] == [str(tmp_path / "one")]
    assert "is a directory, a file was wanted" in told["msg"]
    assert not (tmp_path / "three").exists()


def test_steps_add_up(steps: Any, tmp_path: Path) -> None:
    wanted = [_file(tmp_path / "one", "1"), _file(tmp_path / "two", "2")]
    told = steps.run({"steps": wanted, "check_mode": True, "diff": True})
    assert told["changed_paths"] == [str(tmp_path / "one"), str(tmp_path / "two")]
    assert [entry["after"] for entry in told["diff"]] == ["1", "2"]
    assert list(tmp_path.iterdir()) == [], "check mode writes nothing"


def test_what_root_may_not_show_by_its_umask_is_as_the_roles_mean_it(tmp_path: Path) -> None:
    """UMASK 027 in /etc/login.defs, or in a PAM rule, would close the directories of services to them."""
    start = (
        "import os; os.umask(0o027); from ratssaal_host import steps;"
        f" steps._AT_WORK = {str(tmp_path / 'at-work')!r}; steps.main()"
    )
    wanted = _file(tmp_path / "folder/below/file", "1")
    task = json.dumps({"steps": [wanted], "check_mode": False, "diff": False})
    done = subprocess.run(
        [sys.executable, "-c", start],
        input=task,
        cwd=content.root() / "playbooks/host",
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"changed": true' in done.stdout
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("folder", "folder/below", "folder/below/file")]
    assert modes == [0o755, 0o755, 0o644]


def test_hosts_of_package_sources(tmp_path: Path) -> None:
    """A mirror that holds Debian and Jitsi under one name must not lose its Debian half to our pin."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example.org/debian sid main\ndeb http://cache:3142/debian bookworm main\n"
    )
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb\nURIs: https://user:word@mirror.town.example/debian\n"
    )
    (tmp_path / "sources.list.d/six.list").write_text(
        "deb [signed-by=/k.gpg] http://[2001:db8::1]:80/debian bookworm main\n"
    )
    (tmp_path / "sources.list.d/ratssaal-vendor.sources").write_text("URIs: https://download.jitsi.org\n")
    assert host_capabilities._apt_hosts(str(tmp_path)) == ["2001:db8::1", "cache", "mirror.town.example"]


_USB = {
    "name": "sda",
    "tran": "usb",
    "mountpoints": [None],
    "children": [
        {"name": "sda1", "tran": None, "mountpoints": ["/boot"]},
        {"name": "sda2", "tran": None, "children": [{"name": "vg-root", "mountpoints": ["/", "/home"]}]},
        {"name": "sda3", "mountpoints": ["[SWAP]"]},
    ],
}
_DISK = {"name": "vda", "tran": "virtio", "mountpoints": [None], "children": [{"name": "vda1", "mountpoints": ["/"]}]}
_PLUGGED = {"name": "sdb", "tran": "usb", "mountpoints": [None]}


@pytest.mark.parametrize(
    ("told", "mounts"),
    [
        (json.dumps({"blockdevices": [_DISK, _USB]}), ["/", "/boot", "/home", "[SWAP]"]),
        (json.dumps({"blockdevices": [_DISK, _PLUGGED]}), []),
        ("", []),
    ],
    ids=["used", "plugged in", "none"],
)
def test_what_is_mounted_from_a_usb_disk_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, mounts: list[str]
) -> None:
    (tmp_path / "lsblk").write_text(f"#!/bin/sh\ncat <<'END'\n{told}\nEND\n")
    (tmp_path / "lsblk").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    container = tmp_path / "container"
    assert host_capabilities._usb_mounts(str(container)) == mounts
    container.touch()
    assert host_capabilities._usb_mounts(str(container)) == []


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("UMASK\t\t022\n", "022"),
        ("UMASK 027\n", "027"),
        ("UMASK 027\n UMASK 077 \n", "077"),
        ("UMASK 000\n", "022"),
        ("UMASK 0070\n", "072"),
        ("# UMASK 077\nHOME_MODE 0700\nUMASKED 077\n", ""),
        ("UMASK x\n", ""),
        (None, ""),
    ],
)
def test_a_stricter_mask_of_log_ins_is_kept_and_a_weaker_one_is_not(
    tmp_path: Path, text: str | None, mask: str
) -> None:
    file = tmp_path / "login.defs"
    if text is not None:
        file.write_text(text)
    assert host_capabilities._umask(str(file)) == mask


def test_preflight_knows_an_apt_that_we_started(steps: Any) -> None:
    apt = importlib.import_module("ratssaal_host.apt")
    with (
        subprocess.Popen(["sleep", "60"], env=apt._ENVIRONMENT) as ours,
        subprocess.Popen(["sleep", "60"]) as other,
    ):
        try:
            assert (started_by_us(ours.pid), started_by_us(other.pid)) == (True, False)
        finally:
            ours.kill()
            other.kill()


@pytest.mark.parametrize(
    ("release", "told"),
    [
        ({"ID": "debian", "VERSION_ID": "11"}, "debian 11"),
        ({"ID": "ubuntu", "VERSION_ID": "24.04"}, "ubuntu 24"),
        ({}, "unknown 0"),
    ],
)
def test_a_host_that_the_roles_are_not_made_for_is_refused(
    steps: Any, monkeypatch: pytest.MonkeyPatch, release: dict[str, str], told: str
) -> None:
    measure = {"steps": [{"capabilities": {"debian": [12, 13]}}], "check_mode": False, "diff": False}
    capabilities = importlib.import_module("ratssaal_host.capabilities")
    monkeypatch.setattr(capabilities, "_release", lambda: release)
    refused = steps.run(measure)
    assert refused["failed"]
    assert refused["msg"] == f"unsupported distribution: {told}; nothing was changed. Hint: install Debian 12 or 13"
    monkeypatch.setattr(capabilities, "_release", lambda: {"ID": "debian", "VERSION_ID": "12"})
    assert steps.run(measure)["ansible_facts"]["ratssaal_host"]["major"] == 12


def test_only_what_preflight_supports_is_played() -> None:
    """Also where nobody ran preflight: each playbook begins with these tasks."""
    role = content.root() / "roles/jitsi"
    *_, last = yaml.safe_load((role / "tasks/settings.yml").read_text())
    assert last["managed_host"] == {"steps": [{"capabilities": {"debian": "{{ __jitsi_debian }}"}}]}
    # Only where it has been looked at before in this run.
    assert last["when"] == "'ratssaal_host' not in ansible_facts"
    releases = yaml.safe_load((role / "vars/main.yml").read_text())["__jitsi_debian"]
    assert tuple(map(str, releases)) == SUPPORTED_DEBIAN
