"""What hardening takes from hosts elsewhere, and ours keep: files that services can read, sessions, long links.

Those that want a kernel of their own are in tests/vm/test_traps.py; addresses by routers and full disks in
test_hardening_faults.py, heap dumps in hardening_breaks.py, counted passwords in test_hardening_sshd.py.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.lab.lab import LabSite
from orchestrator.lab.rootfs import SUDO_USER
from tests.scenarios.conftest import ssh


def _sftp(site: LabSite, user: str, batch: str) -> None:
    argv = ["sftp", "-q", "-i", str(site.key_file), "-o", f"UserKnownHostsFile={site.known_hosts}", "-b", "-"]
    target = f"{user}@{site.hosts[0].address}"
    done = subprocess.run([*argv, target], input=batch, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("user", ["root", SUDO_USER])
def test_what_is_uploaded_or_written_can_be_read_by_services(site: LabSite, tmp_path: Path, user: str) -> None:
    """No umask for everybody: neither sshd's SFTP nor a shell makes files that nginx or apt's helper may not read."""
    here, there = tmp_path / "page.html", f"/var/tmp/{user}"
    here.write_text("<p>Tagesordnung</p>")
    here.chmod(0o644)
    ssh(site, f"mkdir {there}", user=user)
    try:
        _sftp(site, user, f"put {here} {there}/put\n")
        ssh(site, f"echo x > {there}/written; mkdir {there}/folder", user=user)
        modes = ssh(site, f"stat -c '%n %a' {there}/put {there}/written {there}/folder").split()
        # A user's own group may write, too, as Debian has it (pam_umask: usergroups).
        assert [mode[-1] for mode in modes[1::2]] == ["4", "4", "5"]
        assert ssh(site, f"runuser -u www-data -- cat {there}/put") == here.read_text()
    finally:
        ssh(site, f"rm -r {there}")


def test_a_log_in_is_a_session_although_nobody_sees_others_processes(site: LabSite) -> None:
    """systemd-logind follows sessions by the processes of others, which hidepid hides from it (proc(5))."""
    ways = ssh(site, "findmnt -no OPTIONS /proc")
    assert "hidepid=invisible" in ways or "hidepid=2" in ways
    command = (
        'loginctl show-session "$XDG_SESSION_ID" -P Name -P State -P Service; ps -eo user= | sort -u | tr "\\n" " "'
    )
    name, service, state, *seen = ssh(site, command, user=SUDO_USER).split()
    assert (name, service, state) == (SUDO_USER, "sshd", "active")
    assert seen == [SUDO_USER]
    assert "prosody" in ssh(site, "ps -eo user= | sort -u").split()


def test_a_link_with_a_long_token_opens_the_room(site: LabSite) -> None:
    """Tokens of identity providers take kilobytes, and stand in the link of a room."""
    name = f"rs-{site.path.name}-out"
    argv = ["ip", "netns", "exec", name, "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}"]
    for length, code in ((7000, "200"), (9000, "414")):
        address = f"https://{site.domain}/sitzung?jwt={'x' * length}"
        done = subprocess.run([*argv, address], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == code, length


def test_programs_that_raise_rights_still_do(site: LabSite) -> None:
    """None loses its set-user-ID bit: sudo, and what changes one's own password."""
    assert ssh(site, "sudo -n id -u", user=SUDO_USER) == "0"
    assert ssh(site, "stat -c %a $(command -v sudo) $(command -v passwd) $(command -v su)").split() == ["4755"] * 3
