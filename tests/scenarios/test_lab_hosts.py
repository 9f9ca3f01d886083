"""A lab host is what an operator would get: log-in, packages, network, and units whose sandboxes take effect."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from orchestrator.cli.lab import lab
from orchestrator.errors import UsageError
from orchestrator.lab import archives, machines
from orchestrator.lab.lab import STATE, Lab, LabSite
from tests.scenarios.conftest import BIN, play, ssh
from tests.scenarios.test_variants import LEFT_ALONE

RELEASES = {12: "bookworm", 13: "trixie"}


@pytest.fixture(scope="module", params=RELEASES)
def site(request: pytest.FixtureRequest) -> Iterator[LabSite]:
    """A lab without a package repository, one host of each release in turn."""
    name = f"h{request.param}p{os.getpid()}"
    try:
        yield Lab().up(name, debian=request.param, repository=False)
    finally:
        Lab().down(name)
        assert list(archives.SHARED.glob("nftables_*.deb")), "what a host downloaded is kept for the next"


def outside(site: LabSite, script: str) -> str:
    """Run a Python script in the lab's outside namespace and return what it printed."""
    argv = ["ip", "netns", "exec", site.network.outside, "python3", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("family", ["address", "address6"])
@pytest.mark.parametrize("user", ["root", "operator"])
def test_log_in_by_key(site: LabSite, user: str, family: str) -> None:
    address = getattr(site.hosts[0], family)
    assert ssh(site, "id --user --name", user=user, address=address) == user
    assert ssh(site, "sudo --non-interactive id --user", user=user, address=address) == "0"


def test_it_is_the_release_that_was_asked_for_and_marked_as_lab(site: LabSite) -> None:
    row = next(row for row in Lab().running() if row["lab"] == site.network.lab)
    codename = ssh(site, ". /etc/os-release; echo $VERSION_CODENAME")
    assert codename == RELEASES[row["debian"]]
    assert (
        ssh(site, "test -e /etc/ratssaal/lab-host && systemctl is-system-running && systemctl --failed --quiet")
        == "running"
    )


def test_hardening_that_is_left_alone_finds_nothing_to_take_back(site: LabSite) -> None:
    """A host on which nothing of ours ever was stays as it is, down to what it runs."""
    skipped = yaml.load(LEFT_ALONE, yaml.BaseLoader) | {"hardening_notice": ""}
    for flags in (["--check"], []):
        assert play(site, *flags, "-e", json.dumps(skipped), playbook="harden.yml").changed == 0


def test_up_twice_changes_nothing(site: LabSite) -> None:
    lines: list[str] = []
    row = next(row for row in Lab().running() if row["lab"] == site.network.lab)
    ssh(site, "touch /run/same-boot")
    again = Lab(lines.append).up(site.network.lab, debian=row["debian"], repository=False)
    assert again == site
    assert f"lab {site.network.lab} is running" in lines
    ssh(site, "test -e /run/same-boot")
    other = 25 - row["debian"]
    with pytest.raises(UsageError, match=f"has Debian {row['debian']} hosts"):
        Lab().up(site.network.lab, debian=other, repository=False)
    ssh(site, "test -e /run/same-boot")


def test_revert_returns_to_the_last_snapshot(site: LabSite) -> None:
    """Files, deletions and a directory that was replaced; a later snapshot lies on the earlier one."""
    driver, name = Lab(), site.network.lab
    with pytest.raises(UsageError, match=f"lab {name} has no snapshot of h1"):
        driver.revert(name)
    ssh(site, "mkdir /srv/kept; echo one > /srv/kept/file; echo one > /srv/gone; sync")
    driver.snapshot(name)
    assert ssh(site, "cat /srv/kept/file; systemctl is-system-running").split() == ["one", "running"]
    for number in ("two", "three"):
        ssh(
            site,
            f"rm -r /srv/kept; mkdir /srv/kept; echo {number} > /srv/kept/other; rm /srv/gone; echo new > /etc/motd",
        )
        driver.revert(name)
        assert ssh(site, "ls /srv/kept; cat /srv/kept/file /srv/gone").split() == ["file", "one", "one"]
        assert "new" not in ssh(site, "cat /etc/motd")
    ssh(site, "rm /srv/gone; echo two > /srv/kept/file")
    driver.snapshot(name)
    ssh(site, "echo three > /srv/kept/file; echo back > /srv/gone")
    driver.revert(name)
    assert ssh(site, "cat /srv/kept/file; ls /srv").split() == ["two", "kept"]


def test_packages_come_through_the_translated_network(site: LabSite) -> None:
    ssh(site, "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes nftables")
    assert ssh(site, "dpkg-query -W -f '${db:Status-Status}' nftables") == "installed"
    assert ssh(site, "ls /var/cache/apt/archives/nftables_*.deb")


def test_a_firewall_inside_stays_inside(site: LabSite) -> None:
    ssh(site, "dpkg -s nftables >/dev/null || apt-get install -qq --yes nftables; nft add table inet only_here")
    assert "only_here" in ssh(site, "nft list tables")
    own = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert "only_here" not in own
    ssh(site, "nft delete table inet only_here")


def test_names_resolve_inside_and_outside(site: LabSite) -> None:
    host = site.hosts[0]
    for name in (site.domain, f"turn.{site.domain}"):
        assert {line.split()[0] for line in ssh(site, f"getent ahosts {name}").splitlines()} == {
            host.address,
            host.address6,
        }
        script = f"import socket; print(*sorted({{a[4][0] for a in socket.getaddrinfo('{name}', 22)}}))"
        assert outside(site, script).split() == sorted([host.address, host.address6])


@pytest.mark.parametrize("family", ["address", "address6"])
def test_the_outside_reaches_the_host_from_its_own_address(site: LabSite, family: str) -> None:
    address = getattr(site.hosts[0], family)
    script = f"import socket; c = socket.create_connection(('{address}', 22), 10); print(c.recv(4), c.getsockname()[0])"
    banner, own = outside(site, script).rsplit(" ", 1)
    assert banner == "b'SSH-'"
    assert own == getattr(site.network, f"outside_{family}")


# Properties, a command that must fail or print something else without them, and what it prints with them.
SANDBOX = {
    "PrivateTmp=yes": ("ls -A /tmp", ""),
    "ProtectSystem=strict": ("touch /usr/x 2>/dev/null || echo denied", "denied"),
    "ProtectHome=yes": ("ls -A /root 2>/dev/null || true", ""),
    "PrivateDevices=yes": ("test -e /dev/net/tun || echo none", "none"),
    "PrivateNetwork=yes": ("grep -o host0 /proc/self/net/dev || echo none", "none"),
    "PrivateUsers=yes": ("awk '{print $3; exit}' /proc/self/uid_map", "1"),
    "ProtectKernelTunables=yes": ("echo 1 2>/dev/null > /proc/sys/net/ipv4/tcp_syncookies || echo denied", "denied"),
    "ProtectControlGroups=yes": ("mkdir /sys/fs/cgroup/x 2>/dev/null || echo denied", "denied"),
    "ProtectProc=invisible DynamicUser=yes": ("test -e /proc/1 || echo hidden", "hidden"),
    "RestrictNamespaces=yes": ("unshare --uts true 2>/dev/null || echo denied", "denied"),
    "NoNewPrivileges=yes": ("grep -c 'NoNewPrivs:.1' /proc/self/status", "1"),
    "SystemCallFilter=~@chown SystemCallErrorNumber=EPERM": (
        "f=$(mktemp); chown 1 $f 2>/dev/null || echo denied",
        "denied",
    ),
    "CapabilityBoundingSet=": ("grep CapBnd /proc/self/status | cut -f 2", "0000000000000000"),
    "RestrictAddressFamilies=AF_UNIX": (
        "python3 -c 'import socket; socket.socket()' 2>/dev/null || echo denied",
        "denied",
    ),
    "LoadCredential=word:/etc/hostname": ("cat $CREDENTIALS_DIRECTORY/word", "h1"),
    "TemporaryFileSystem=/srv": ("findmnt --noheadings --output FSTYPE /srv", "tmpfs"),
    "InaccessiblePaths=/etc/ssh": ("ls -A /etc/ssh 2>/dev/null || true", ""),
}


@pytest.mark.parametrize("properties", SANDBOX)
def test_sandboxes_of_units_take_effect(site: LabSite, properties: str) -> None:
    command, wanted = SANDBOX[properties]
    quoted = command.replace("'", "'\\''")
    ssh(site, "touch /tmp/there /root/there")
    options = " ".join(f"--property='{word}'" for word in properties.split())
    assert ssh(site, f"systemd-run --quiet --wait --pipe sh -c '{quoted}'", check=False) != wanted, (
        "the command proves nothing"
    )
    assert ssh(site, f"systemd-run --quiet --wait --pipe {options} sh -c '{quoted}'") == wanted


def test_a_host_can_be_looked_into_when_ssh_is_cut_off(site: LabSite) -> None:
    host = site.hosts[0]
    machines.enter(host, "systemctl", "stop", "ssh.service", "ssh.socket")
    try:
        with pytest.raises(AssertionError):
            ssh(site, "true")
        assert machines.enter(host, "hostname").stdout == "h1\n"
        assert host.address in machines.enter(host, "ip", "address").stdout
    finally:
        machines.enter(host, "systemctl", "start", "ssh.service")
    assert ssh(site, "hostname") == "h1"


def _lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [str(BIN / "ratssaal"), "lab", *arguments]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)


def test_lab_ssh_runs_a_command_and_ends_as_it_does(site: LabSite) -> None:
    name = site.network.lab
    assert _lab("ssh", name, "hostname", ";", "exit", "3").stdout == "h1\n"
    assert _lab("ssh", name, "hostname", ";", "exit", "3").returncode == 3
    assert _lab("ssh", name, "--user", "operator", "whoami").stdout == "operator\n"
    unknown = _lab("ssh", name, "--host", "h7", "true")
    assert unknown.returncode == 2
    assert "it has h1" in unknown.stderr
    assert _lab("ssh", "nowhere", "true").returncode == 2


def test_lab_logs_shows_a_hosts_journal_also_when_it_cannot_be_reached(site: LabSite) -> None:
    name, host = site.network.lab, site.hosts[0]
    ssh(site, "logger --tag=planted 'a line of ours'; journalctl --sync")
    machines.enter(host, "systemctl", "stop", "ssh.service", "ssh.socket")
    try:
        whole, unit = _lab("logs", name), _lab("logs", name, "--unit", "ssh.service")
    finally:
        machines.enter(host, "systemctl", "start", "ssh.service")
    assert "a line of ours" in whole.stdout
    assert "sshd" in unit.stdout
    assert "a line of ours" not in unit.stdout
    assert _lab("logs", name, "--console").stdout == host.console.read_text() != ""
    assert _lab("logs", name, "--host", "h7").returncode == 2


def test_down_all_takes_whatever_is_there_of_any_lab(site: LabSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other labs may be at work on this machine, so none is really removed here."""
    removed: list[str] = []

    def down(labs: Lab, name: str) -> bool:
        del labs
        removed.append(name)
        return True

    monkeypatch.setattr(Lab, "down", down)
    left = STATE / f"left{os.getpid()}"
    left.mkdir()
    try:
        told = CliRunner().invoke(lab, ["down", "--all"])
    finally:
        left.rmdir()
    assert told.exit_code == 0
    assert {site.network.lab, left.name} <= set(removed)
    assert f"{len(removed)} labs removed" in told.stderr
    for wrong in (["down"], ["down", site.network.lab, "--all"]):
        assert isinstance(CliRunner().invoke(lab, wrong).exception, UsageError)
    assert len(removed) == len(set(removed))


def test_a_reboot_keeps_the_disk(site: LabSite) -> None:
    ssh(site, "touch /root/kept /run/forgotten && sync")
    ssh(site, "systemctl reboot", check=False)
    deadline = time.monotonic() + 60
    while ssh(site, "test ! -e /run/forgotten && systemctl is-system-running --wait", check=False) != "running":
        assert time.monotonic() < deadline, "the host did not come back"
        time.sleep(0.5)
    assert ssh(site, "ls /root/kept") == "/root/kept"


def test_nothing_of_the_machine_shows_inside(site: LabSite, tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    assert ssh(site, f"test -e {tmp_path / 'here'} || echo none") == "none"
    assert str(os.getpid()) not in ssh(site, "ls /proc").split()
    assert ssh(site, "ls /sys/class/net").split() == ["host0", "lo"]
