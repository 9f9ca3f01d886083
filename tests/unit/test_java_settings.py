"""How Jicofo and the bridge are found to verify whom they talk to: in arguments, HOCON, and the file of old."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.verification.checks import test_links
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import faults_of, printed, sheet_of, subject_of


def _java(folder: Path, file: str, *words: str, old: str = "", **variables: str) -> dict[str, Any]:
    """Run the command itself for a Java process of this test's own making."""
    proc, group = folder / "proc" / "7", folder / "cgroup" / "system.slice" / "x.service"
    for path in (proc, group, folder / "etc" / "videobridge"):
        path.mkdir(parents=True)
    (group / "cgroup.procs").write_text("7\n")
    (proc / "comm").write_text("java\n")
    (proc / "cwd").symlink_to(folder / "etc")
    (proc / "cmdline").write_text("\0".join(["java", "-Dconfig.file=jvb.conf", *words, "Main", ""]))
    (proc / "environ").write_text("\0".join(f"{name}={value}" for name, value in variables.items()))
    (folder / "etc" / "jvb.conf").write_text(file)
    if old:
        (folder / "etc" / "videobridge" / "sip-communicator.properties").write_text(old)
    command = test_links._started("jicofo").replace("/sys/fs/cgroup", str(folder / "cgroup"))
    command = command.replace('"/proc"', f'"{folder / "proc"}"')
    found: dict[str, Any] = json.loads(printed(command, folder / "bin", systemctl="echo /system.slice/x.service"))
    return found


def _talking(folder: Path, file: str, *words: str, old: str = "", **variables: str) -> Sheet:
    said = {"python3": json.dumps(_java(folder, file, *words, old=old, **variables))}
    return sheet_of(test_links.test_services_know_whom_they_talk_to, said, subject=subject_of())


# As jitsi-videobridge's package and our own roles write it.
_BRIDGE = """videobridge {
    apis.xmpp-client.configs {
        shard { # verified: DISABLE_CERTIFICATE_VERIFICATION = true would not be
            HOSTNAME=localhost
            PASSWORD="use-tls=false#//x"
            // "use-tls" = false
        }
    }
}
"""
_OLD = "-Dnet.java.sip.communicator.SC_HOME_DIR_"


def test_services_that_verify_prosodys_certificate_pass(tmp_path: Path) -> None:
    usual = (f"{_OLD}LOCATION={tmp_path}/etc", f"{_OLD}NAME=videobridge")
    careful = "DISABLE_CERTIFICATE_VERIFICATION=false\n# a.DISABLE_CERTIFICATE_VERIFICATION=true\n"
    sheet = _talking(tmp_path, _BRIDGE, *usual, old=f"org.jitsi.videobridge.xmpp.user.a.{careful}")
    assert (sheet.faults, sheet.untested) == ([], [])
    assert "the bridge talks to Prosody with verification of its certificate" in sheet.seen


def test_values_of_other_settings_stay_on_the_host(tmp_path: Path) -> None:
    assert _java(tmp_path, _BRIDGE)["rows"] == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("DISABLE_CERTIFICATE_VERIFICATION = true", "disable-certificate-verification true"),
        ('x{PASSWORD="a/b#c",DISABLE_CERTIFICATE_VERIFICATION:yes}', "disable-certificate-verification true"),
        ('"use-tls" : false', "use-tls false"),
        ("disable-certificate-verification = no, use-tls = true", ""),
        ("SECURITY_MODE=disabled", "security-mode disabled"),
    ],
)
def test_services_that_take_any_certificate_are_found(tmp_path: Path, line: str, fault: str) -> None:
    sheet = _talking(tmp_path, f"{_BRIDGE}{line}\n")
    assert (fault in faults_of(sheet)) if fault else sheet.faults == []


def test_the_old_file_and_arguments_are_asked_too(tmp_path: Path) -> None:
    """Upstream takes the old file before any other (jicoco: JitsiConfig.legacyConfig)."""
    usual = (f"{_OLD}LOCATION={tmp_path}/a/etc", f"{_OLD}NAME=videobridge")
    line = "org.jitsi.videobridge.xmpp.user.a.DISABLE_CERTIFICATE_VERIFICATION = true\n"
    assert "disable-certificate-verification true" in faults_of(_talking(tmp_path / "a", _BRIDGE, *usual, old=line))
    # Nobody reads it where nothing says in which directory it lies.
    assert faults_of(_talking(tmp_path / "b", _BRIDGE, old=line)) == ""
    trusting = "-Dorg.jitsi.jicofo.ALWAYS_TRUST_MODE_ENABLED=true"
    assert "always-trust-mode-enabled true" in faults_of(_talking(tmp_path / "c", _BRIDGE, trusting))
    loose = "-Djicofo.xmpp.client.disable-certificate-verification=true"
    assert "disable-certificate-verification true" in faults_of(
        _talking(tmp_path / "d", _BRIDGE, JAVA_TOOL_OPTIONS=loose)
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('include "custom-jvb.conf"', "jvb.conf includes others"),
        ('include required(file("/etc/x.conf"))', "jvb.conf includes others"),
        ("DISABLE_CERTIFICATE_VERIFICATION=${?VERIFY}", "disable-certificate-verification, which its settings take"),
    ],
)
def test_what_settings_take_from_elsewhere_is_not_known(tmp_path: Path, line: str, reason: str) -> None:
    sheet = _talking(tmp_path, f"{_BRIDGE}{line}\n")
    assert sheet.faults == []
    assert reason in sheet.untested[0]


def test_settings_that_cannot_be_read_are_not_taken_for_good_ones(tmp_path: Path) -> None:
    missing = _talking(tmp_path, "", "-Dconfig.file=gone.conf")
    assert "gone.conf cannot be read" in missing.untested[0]
    stopped = {"python3": json.dumps({"running": False, "rows": [], "unknown": []})}
    sheet = sheet_of(test_links.test_services_know_whom_they_talk_to, stopped, subject=subject_of())
    assert "jicofo does not run" in sheet.untested
