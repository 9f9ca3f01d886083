"""The same converge by plain Ansible: on both releases, without a warning, idempotent, clean in check mode, repairing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from orchestrator.lab.lab import LabSite
from orchestrator.lab.rootfs import SUDO_USER
from orchestrator.verification.catalogue import load_catalogue
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import unexpected
from tests.scenarios.conftest import Played, load, play, ssh, throwaway

Converged = tuple[LabSite, Played, Played, str]


def _user(site: LabSite) -> str:
    return SUDO_USER if f"ansible_user: {SUDO_USER}" in (site.path / "hosts.yml").read_text() else "root"


def as_root(site: LabSite, command: str) -> str:
    """Run a shell command as root; after hardening root itself logs in only where it is the site's own user."""
    return ssh(site, f"sudo sh -c {shlex.quote(command)}", user=_user(site))


@pytest.fixture(scope="module", params=[12, 13], ids=["debian12", "debian13"])
def converged(request: pytest.FixtureRequest) -> Iterator[Converged]:
    """A host that plain Ansible looked at in check mode while it was bare, and then converged.

    Debian 12 by a user with sudo. Debian 13 as a town set it up: what root makes is not for everybody, packets come back by the
    way they would go, and who logs in reads the town's own words.
    """
    with throwaway(f"conv{request.param}", debian=request.param) as site:
        if request.param == 13:
            town = "/etc/sysctl.d/50-town.conf"
            ssh(site, "echo 'session optional pam_umask.so umask=0027' >> /etc/pam.d/sshd")
            ssh(site, f"echo 'net.ipv4.conf.all.rp_filter = 1' > {town}; chmod 644 {town}; sysctl -qp {town}")
            assert ssh(site, "umask") == "0027"
            installed = "/var/log/installer && echo x > /var/log/installer/syslog && touch -d '-200 days' /var/log/installer/syslog"
            ssh(site, f"mkdir -p {installed} /var/log/faillog")
            ssh(site, "echo Rathaus > /etc/issue.net; echo UMASK 027 >> /etc/login.defs; chmod 640 /etc/login.defs")
        else:
            hosts = site.path / "hosts.yml"
            login = "ansible_user: root"
            assert login in hosts.read_text()
            by_sudo = f"ansible_user: {SUDO_USER}\n          ansible_become: true"
            hosts.write_text(hosts.read_text().replace(login, by_sudo))
        ssh(site, "touch /run/before")
        bare = play(site, "--check", "--diff")
        touched = ssh(site, "find /etc /usr /srv /var/lib -newer /run/before -not -path '/var/lib/systemd/*'")
        yield site, bare, play(site), touched


def test_check_mode_on_a_bare_host_changes_nothing_and_ends_well(converged: Converged) -> None:
    _, bare, first, touched = converged
    assert bare.code == 0
    assert touched == ""
    assert bare.changed == first.changed > 10


def test_no_warning(converged: Converged) -> None:
    _, bare, first, _ = converged
    assert bare.warnings == []
    assert first.warnings == []


def test_what_somebody_had_written_is_kept(converged: Converged) -> None:
    """And nothing else: neither what packages bring nor ours."""
    site = converged[0]
    kept = as_root(site, "cd /var/lib/ratssaal && find replaced -type f -printf '%P %m\\n' | sort").splitlines()
    if as_root(site, "cut -d . -f 1 /etc/debian_version") == "12":
        # Which a package's script wrote: dpkg does not know how.
        assert kept == ["etc/timezone 644"]
        return
    assert [name for name in kept if "timezone" not in name] == ["etc/issue.net 644", "etc/login.defs 640"]
    assert (
        as_root(site, "cat /var/lib/ratssaal/replaced/etc/issue.net; grep ^UMASK /etc/login.defs")
        == "Rathaus\nUMASK 027"
    )


def test_second_run_changes_nothing(converged: Converged) -> None:
    assert play(converged[0]).changed == 0


def test_check_mode_after_converge_finds_nothing(converged: Converged) -> None:
    assert play(converged[0], "--check", "--diff").changed == 0


def test_its_own_openssh_gets_in(converged: Converged) -> None:
    """Debian 12 has OpenSSH 9.2; that Paramiko gets in is seen by all that verify looks at."""
    site = converged[0]
    client = "ssh -i /dev/shm/key -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no"
    login = f"{_user(site)}@127.0.0.1"
    key = shlex.quote(site.key_file.read_text())
    told = as_root(
        site,
        f"umask 077; printf %s {key} >/dev/shm/key; ssh -V 2>&1; {client} {login} echo in 2>&1 | tail -n 1; rm /dev/shm/key",
    )
    version, said = told.splitlines()
    assert version.startswith(
        {"12": "OpenSSH_9.2", "13": "OpenSSH_10.0"}[as_root(site, ". /etc/os-release; echo $VERSION_ID")]
    )
    assert said == "in"


def test_all_controls_pass(converged: Converged) -> None:
    report = verify(load(converged[0]))
    assert {finding.control for finding in report.findings} == {control.id for control in load_catalogue()}
    assert unexpected(report) == {}
    assert all(trips <= 3 for trips in report.round_trips.values())
    assert report.standins


def test_no_other_file_has_the_last_word_on_a_kernel_setting_at_the_next_boot(converged: Converged) -> None:
    setting = re.compile(r"^-?([\w.*/-]+) *= *(.*)$", re.MULTILINE)
    ours = dict(setting.findall(as_root(converged[0], "cat /etc/sysctl.d/99-zz-ratssaal.conf")))
    last = dict(setting.findall(as_root(converged[0], "systemd-analyze cat-config sysctl.d")))
    assert len(ours) > 20
    assert {name: last[name] for name in ours} == ours


def test_what_is_stricter_than_we_want_is_kept(converged: Converged) -> None:
    site = converged[0]
    told = as_root(
        site, "cat /proc/sys/net/ipv4/conf/all/rp_filter; grep -h all.rp_filter /etc/sysctl.d/99-zz-*; ls /etc/sysctl.d"
    )
    wanted = 1 if "50-town.conf" in told else 2
    assert told.splitlines()[:2] == [f"{wanted}", f"net.ipv4.conf.all.rp_filter = {wanted}"]


def test_what_was_altered_by_hand_is_found_and_repaired(converged: Converged) -> None:
    """One file, one package, one unit, one sysctl, and a running firewall: all in one run."""
    site = converged[0]
    domain = site.domain
    as_root(site, f"sed -i s/startWithAudioMuted/startWithVideoOnly/ /etc/jitsi/meet/{domain}-config.js")
    as_root(site, "apt-get -qq purge --yes unattended-upgrades >/dev/null 2>&1")
    as_root(site, "systemctl disable --now coturn 2>/dev/null")
    as_root(site, "sysctl -qw net.ipv4.conf.all.accept_redirects=1")
    as_root(site, "nft add rule inet ratssaal input tcp dport 4711 accept")
    folders = "/etc/ratssaal /usr/share/ratssaal /usr/share/ratssaal/pages /usr/share/ratssaal/prosody-plugins"
    as_root(site, f"chmod 0750 {folders}")
    told = play(site, "--check")
    assert told.changed >= 5, told.output[-3000:]
    play(site)
    assert "startWithAudioMuted" in as_root(site, f"cat /etc/jitsi/meet/{domain}-config.js")
    assert as_root(site, "dpkg-query -W -f '${db:Status-Status}' unattended-upgrades") == "installed"
    assert as_root(site, "systemctl is-active coturn; systemctl is-enabled coturn").split() == ["active", "enabled"]
    assert as_root(site, "cat /proc/sys/net/ipv4/conf/all/accept_redirects") == "0"
    assert "4711" not in as_root(site, "nft list ruleset")
    assert set(as_root(site, f"stat -c %a {folders}").split()) == {"755"}
    assert play(site).changed == 0
