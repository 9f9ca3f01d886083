"""What somebody altered by hand since the last converge is told exactly, each host in one look, and a converge puts it right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.inventory.vault import VaultAccess, read_vault
from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import play, ratssaal, ssh

Row = tuple[str, str, str]
# One of each kind: what is done by hand, and the difference that is told of it: kind, name, in which respect.
HARMS: dict[str, Row] = {
    "echo // >> /etc/jitsi/meet/{domain}-config.js": ("file", "/etc/jitsi/meet/{domain}-config.js", "content"),
    "echo '# x' >> /etc/turnserver.conf": ("file", "/etc/turnserver.conf", "content"),
    "echo '# x' >> /etc/ssh/sshd_config.d/00-ratssaal.conf": (
        "file",
        "/etc/ssh/sshd_config.d/00-ratssaal.conf",
        "content",
    ),
    "chmod 0666 /etc/logrotate.d/prosody": ("file", "/etc/logrotate.d/prosody", "mode"),
    "chown operator /etc/nginx/conf.d/ratssaal.conf": ("file", "/etc/nginx/conf.d/ratssaal.conf", "owner"),
    "chgrp operator /etc/ratssaal/tls/key.pem": ("file", "/etc/ratssaal/tls/key.pem", "group"),
    "ln -sfn /usr/share/zoneinfo/Asia/Tokyo /etc/localtime": ("file", "/etc/localtime", "link"),
    "touch /etc/prosody/conf.d/localhost.cfg.lua": ("file", "/etc/prosody/conf.d/localhost.cfg.lua", "present"),
    "rm /etc/apt/preferences.d/ratssaal-vendor": ("file", "/etc/apt/preferences.d/ratssaal-vendor", "missing"),
    "echo '# x' >> /etc/sysctl.d/99-zz-ratssaal.conf": ("file", "/etc/sysctl.d/99-zz-ratssaal.conf", "content"),
    "apt-get -qq remove --yes unattended-upgrades >/dev/null 2>&1": ("package", "unattended-upgrades", "missing"),
    "sed -i '/^Package: jicofo$/,/^$/s/^Version: .*/Version: 0.1/' /var/lib/dpkg/status": (
        "package",
        "jicofo",
        "version",
    ),
    "apt-mark -q unhold prosody >/dev/null": ("package", "prosody", "hold"),
    "systemctl -q disable coturn 2>/dev/null": ("unit", "coturn.service", "enabled"),
    "systemctl stop logrotate.timer": ("unit", "logrotate.timer", "state"),
    "mount -o remount,exec /tmp": ("unit", "ratssaal-mounts.service", "effect"),
    "mount -o remount,hidepid=off /proc": ("unit", "ratssaal-processes.service", "effect"),
    "systemctl -q mask chrony.service": ("unit", "chrony.service", "masked"),
    "nft add rule inet ratssaal input tcp dport 4711 accept": ("ruleset", "inet ratssaal", "rule added"),
    "sysctl -qw net.ipv4.conf.all.accept_redirects=1": ("sysctl", "net.ipv4.conf.all.accept_redirects", "value"),
    "gpasswd -d root ssh-login >/dev/null": ("group", "ssh-login", "members lost"),
    "gpasswd -a operator ssh-login >/dev/null": ("group", "ssh-login", "members added"),
    "printf 'x\\nx\\n' | prosodyctl adduser eve@{domain}": ("accounts", "{domain}", "present"),
    "systemd-run -q --unit=planted python3 -m http.server 4712": ("socket", "0.0.0.0:4712/tcp", "present"),
}


def look(site: LabSite, state: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code of `ratssaal drift` and what it tells."""
    done = ratssaal(site, state, "drift", "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def told(report: dict[str, Any]) -> list[Row]:
    """Return what differs on the first host."""
    return sorted((row["kind"], row["name"], row["what"]) for row in report["hosts"][0]["differences"])


def test_what_somebody_adds_to_a_unit_is_told(site: LabSite, state_home: Path) -> None:
    """The sandbox is in the unit's own files, and another file beside them takes it away."""
    planted = "/etc/systemd/system/nginx.service.d/99-planted.conf"
    ssh(site, f"printf '[Service]\nPrivateTmp=no\n' > {planted}")
    try:
        _, report = look(site, state_home)
        assert told(report) == [("unit", "nginx.service", "settings added")]
        (row,) = report["hosts"][0]["differences"]
        assert row["found"] == planted
    finally:
        ssh(site, f"rm {planted}; systemctl daemon-reload")
    assert look(site, state_home)[0] == 0


@pytest.fixture(scope="module")
def pin(site: LabSite) -> tuple[str, str]:
    """Options that pin Jicofo to the version that is installed, and a converge with them."""
    version = ssh(site, "dpkg-query -W -f '${Version}' jicofo")
    options = ("-e", json.dumps({"vendor_repository_versions": {"jicofo": version}}))
    assert play(site, *options).changed == 0
    return options


def test_a_converged_host_shows_no_drift(site: LabSite, state_home: Path) -> None:
    code, report = look(site, state_home)
    assert (code, told(report)) == (0, [])
    roles = {part["role"] for part in report["hosts"][0]["applied"]}
    assert roles >= {
        "base",
        "certificates",
        "coturn",
        "firewall",
        "hardening",
        "jicofo",
        "prosody",
        "videobridge",
        "web",
    }
    done = ratssaal(site, state_home, "drift")
    assert "h1: no drift since " in done.stdout


def test_the_manifest_holds_no_secret(site: LabSite) -> None:
    assert ssh(site, "cd /var/lib/ratssaal/manifest && stat -c '%a %U' . key web") == "700 root\n600 root\n700 root"
    shown = ssh(site, "cat /var/lib/ratssaal/manifest/*/*.json")
    with VaultAccess(site.vault_password_file) as access:
        secrets = [str(value) for value in read_vault(site.path, access).values()]
    assert len(secrets) > 3
    assert [secret for secret in secrets if secret in shown] == []
    assert "BEGIN" not in shown


def test_each_kind_of_difference_is_told_exactly_and_a_converge_puts_it_right(
    site: LabSite, state_home: Path, pin: tuple[str, str]
) -> None:
    ssh(site, "\n".join(["set -e", *HARMS, "nft add table ip planted", "sleep 1"]).replace("{domain}", site.domain))
    wanted = sorted(tuple(word.replace("{domain}", site.domain) for word in row) for row in HARMS.values())
    code, report = look(site, state_home)
    assert told(report) == wanted
    assert code == 6
    assert report["hosts"][0]["other_tables"] == ["ip planted"]
    assert all(row["remedy"] for row in report["hosts"][0]["differences"])
    shown = ratssaal(site, state_home, "drift").stdout
    assert f"h1: {len(HARMS)} differences since " in shown
    assert "not ours: nftables ip planted" in shown

    play(site, *pin)
    _, report = look(site, state_home)
    by_hand = [("group", "ssh-login", "members added"), ("socket", "0.0.0.0:4712/tcp", "present")]
    assert told(report) == by_hand, "a converge leaves alone what it never applied"
    ssh(site, "gpasswd -d operator ssh-login; systemctl stop planted; nft delete table ip planted")
    assert look(site, state_home)[0] == 0
    assert play(site, *pin).changed == 0


def test_what_somebody_wrote_into_our_files_is_shown_and_replaced_on_purpose_only(
    site: LabSite, state_home: Path
) -> None:
    file = "/etc/ssh/sshd_config.d/00-ratssaal.conf"
    ssh(site, f"echo 'Banner /etc/issue.net' >> {file}")
    refused = ratssaal(site, state_home, "harden")
    assert refused.returncode == 3
    assert f"h1: {file} was altered since the last run" in refused.stderr
    assert ratssaal(site, state_home, "provision").returncode == 0, "of hardening's files provisioning touches none"
    shown = ratssaal(site, state_home, "harden", "--check", "--diff")
    assert shown.returncode == 0
    assert f"h1: {file} was altered since the last run" in shown.stderr
    assert "-Banner /etc/issue.net" in shown.stdout
    assert ssh(site, f"tail -n 1 {file}") == "Banner /etc/issue.net"
    assert ratssaal(site, state_home, "harden", "--replace-altered").returncode == 0
    assert "Banner" not in ssh(site, f"cat {file}")
    assert look(site, state_home)[0] == 0


def test_an_altered_binary_is_found_by_a_deep_look_only(site: LabSite, state_home: Path) -> None:
    _, before = look(site, state_home, "--deep")
    ssh(site, "cp -a /usr/bin/curl /root/curl; printf x >> /usr/bin/curl")
    try:
        assert told(look(site, state_home)[1]) == []
        code, after = look(site, state_home, "--deep")
    finally:
        ssh(site, "mv /root/curl /usr/bin/curl")
    assert code == 6
    (row,) = [row for row in after["hosts"][0]["differences"] if row not in before["hosts"][0]["differences"]]
    assert (row["kind"], row["name"], row["remedy"]) == (
        "package file",
        "/usr/bin/curl",
        "on the host: apt-get install --reinstall curl",
    )
    assert told(before) == []


def test_a_host_without_a_manifest_says_so_until_a_converge_has_written_one(site: LabSite, state_home: Path) -> None:
    ssh(site, "rm -r /var/lib/ratssaal/manifest")
    play(site, "--check")
    code, report = look(site, state_home)
    assert (code, report["hosts"][0]["manifest"], report["clean"]) == (6, False, False), "check mode wrote one"
    assert "h1: cannot be compared" in ratssaal(site, state_home, "drift").stdout
    assert play(site).changed == 0
    assert look(site, state_home)[0] == 0


def test_what_is_not_wanted_any_more_leaves_the_manifest(site: LabSite, state_home: Path) -> None:
    """Controls that the operator skips from now on: their file goes without being missed."""
    decided = {"who": "A. Meier", "why": "a jump host", "until": "2099-12-31"}
    skipped = {control: decided for control in ("ACC-01", "ACC-06", "ACC-08", "CRY-10")}
    play(site, "-e", json.dumps({"hardening_skip": skipped}), playbook="harden.yml")
    file = "/etc/ssh/sshd_config.d/00-ratssaal.conf"
    ssh(site, f"test ! -e {file}")
    assert look(site, state_home)[0] == 0
    ssh(site, f"touch {file}")
    assert told(look(site, state_home)[1]) == [("file", file, "present")]
    play(site)
    assert play(site).changed == 0
    assert look(site, state_home)[0] == 0


def test_a_host_that_does_not_answer_is_told_and_the_others_complete(site: LabSite, state_home: Path) -> None:
    file = site.path / "hosts.yml"
    text = file.read_text()
    marker = "    jitsi_bridges:\n      hosts:\n        h1:\n"
    assert marker in text
    gone = site.hosts[0].address.rpartition(".")[0] + ".250"
    more = f"        h2:\n          ansible_host: {gone}\n          ansible_user: root\n"
    file.write_text(text.replace(marker, marker + more))
    try:
        code, report = look(site, state_home)
    finally:
        file.write_text(text)
    hosts = {host["name"]: host for host in report["hosts"]}
    assert code == 4
    assert hosts["h2"]["error"]
    assert hosts["h1"]["error"] == ""
    assert hosts["h1"]["differences"] == []
