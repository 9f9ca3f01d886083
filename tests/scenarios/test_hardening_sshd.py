"""Hardening of sshd where it is not as one expects: other ports, other files, people who log in otherwise. Nobody is locked out."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.evidence.results import Result
from orchestrator.lab.lab import LabSite
from orchestrator.operations.preflight import inspect
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import failed
from tests.scenarios.conftest import RELOAD_SSH, load, play, ratssaal, ssh

PORT = 2222


def _try_password(site: LabSite, tmp_path: Path, user: str, password: str) -> int:
    """Log in from outside by a password, three times where it is refused; return how ssh ended."""
    answer = tmp_path / "answer"
    answer.write_text(f"#!/bin/sh\necho {password}\n")
    answer.chmod(0o700)
    argv = ["ip", "netns", "exec", site.network.outside, "ssh", "-o", "PreferredAuthentications=password"]
    argv += ["-o", "ConnectTimeout=5", "-o", f"UserKnownHostsFile={site.known_hosts}"]
    environment = {**os.environ, "SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force"}
    argv += [f"{user}@{site.hosts[0].address}", "true"]
    return subprocess.run(argv, env=environment, capture_output=True, check=False, timeout=120).returncode


def _counted(site: LabSite, user: str) -> int:
    """Return how many failed attempts pam_faillock has counted of an account."""
    return ssh(site, f"faillock --user {user}").count(f"RHOST {site.network.outside_address} ")


def test_strangers_attempts_lock_nobody_out(site: LabSite, tmp_path: Path) -> None:
    """Somebody outside tries keys and passwords, time and again: root gets in from elsewhere, and nobody is counted."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    argv = ["ip", "netns", "exec", site.network.outside, "ssh", "-i", str(key), "-o", "IdentitiesOnly=yes"]
    argv += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", f"UserKnownHostsFile={site.known_hosts}"]
    argv += [f"root@{site.hosts[0].address}", "true"]
    assert _try_password(site, tmp_path, "root", "wrong") == 255
    assert {subprocess.run(argv, capture_output=True, check=False).returncode for _ in range(15)} == {255}
    assert ssh(site, "id -un; find /run/faillock -type f 2>/dev/null; true") == "root"
    (finding, *_) = verify(load(site), controls=("ACC-06",), quick=True).findings
    assert finding.result is Result.PASS, finding


# An operator's own count of attempts, with log-in by password; without penalties, for which sshd would not ask PAM at all.
_COUNT = f"""
useradd -m -s /bin/bash -G sudo clerk && echo clerk:right | chpasswd && cp -a /etc/pam.d/sshd /root/pam-sshd
sed -i '1i auth required pam_faillock.so preauth deny=3\\
auth [success=1 default=ignore] pam_unix.so\\
auth [default=die] pam_faillock.so authfail deny=3' /etc/pam.d/sshd
cp -a /etc/shadow /root/shadow && echo root:right | chpasswd
printf 'PasswordAuthentication yes\\nPermitRootLogin yes\\nPerSourcePenaltyExemptList %s\\n' {{address}} \\
    > /etc/ssh/sshd_config.d/00-aaa-planted.conf
{RELOAD_SSH}
"""
_UNCOUNT = f"""
mv /root/pam-sshd /etc/pam.d/sshd; mv /root/shadow /etc/shadow; rm -f /etc/ssh/sshd_config.d/00-aaa-planted.conf; {RELOAD_SSH}
faillock --user root --reset; faillock --user clerk --reset; userdel -rf clerk 2>/dev/null; rm -rf /run/faillock
"""


def test_an_operators_count_of_attempts_locks_others_but_not_root(site: LabSite, tmp_path: Path) -> None:
    """Where pam_faillock counts, three wrong passwords lock an account; root's is let in, and the control says just that."""
    try:
        ssh(site, _COUNT.format(address=site.network.outside_address))
        assert {_try_password(site, tmp_path, user, "right") for user in ("root", "clerk")} == {0}
        assert [_counted(site, user) for user in ("root", "clerk")] == [0, 0]
        for user in ("root", "clerk"):
            assert _try_password(site, tmp_path, user, "wrong") == 255
            assert _counted(site, user) == 3, user
        assert _try_password(site, tmp_path, "clerk", "right") == 255
        assert ssh(site, "id -un") == "root"
        # A key asks PAM for no password, and would get in whatever was counted.
        assert _try_password(site, tmp_path, "root", "right") == 0
        (finding, *_) = verify(load(site), controls=("ACC-06",), quick=True).findings
    finally:
        ssh(site, _UNCOUNT)
    assert finding.result is Result.PASS, finding
    assert "failed attempts lock accounts, but not root" in finding.seen


_MAIN = "/etc/ssh/sshd_config"


@pytest.mark.parametrize(
    ("planted", "said", "beforehand"),
    [
        (
            f"sed -i '/^Include/d' {_MAIN}; echo PasswordAuthentication yes >> {_MAIN}",
            "passwordauthentication no; ",
            "sshd does not read /etc/ssh/sshd_config.d/00-ratssaal.conf for everybody",
        ),
        (
            "echo X11Forwarding yes > /etc/ssh/sshd_config.d/00-panel.conf",
            "in effect though it is in /etc/ssh/sshd_config.d/00-ratssaal.conf: x11forwarding no.",
            "X11Forwarding yes (/etc/ssh/sshd_config.d/00-panel.conf:1) comes before `ratssaal harden` sets no",
        ),
        (
            f"printf 'Match User *\nPasswordAuthentication yes\nMatch LocalPort 2222\nX11Forwarding yes\n' >> {_MAIN}",
            "in effect though it is in /etc/ssh/sshd_config.d/00-ratssaal.conf: passwordauthentication no.",
            "",
        ),
    ],
    ids=["not-included", "earlier-file", "match"],
)
def test_settings_that_sshd_does_not_heed_fail_the_run(
    site: LabSite, state_home: Path, planted: str, said: str, beforehand: str
) -> None:
    """As an upgrade or a panel leaves sshd_config; told again by each run, beforehand, and by a look in check mode."""
    ours = "sha256sum /etc/ssh/sshd_config.d/00-ratssaal.conf; ls -A /var/lib/ratssaal/guard"
    before = ssh(site, f"cp -p {_MAIN} /root/sshd_config; {ours}")
    try:
        ssh(site, f"{planted}; {RELOAD_SSH}")
        for again in range(2):
            played = play(site, playbook="harden.yml", check=False)
            assert (played.code, played.changed) == (2, 0), again
            told = " ".join(played.output.split())
            assert said in told
            assert 'put "Include /etc/ssh/sshd_config.d/*.conf" first in /etc/ssh/sshd_config' in told
        assert ssh(site, ours) == before
        looked = play(site, "--check", playbook="harden.yml", check=False)
        assert said in " ".join(looked.output.split())
        assert {each.result for each in verify(load(site), controls=("ACC-01",), quick=True).findings} == {Result.FAIL}
        if beforehand:
            done = ratssaal(site, state_home, "harden")
            assert done.returncode == 3, done.stderr
            assert beforehand in done.stderr
            ready = ratssaal(site, state_home, "preflight")
            assert ready.returncode == 0, "it can be provisioned"
            assert f"note: h1: {beforehand}" in ready.stderr
    finally:
        ssh(site, f"mv /root/sshd_config {_MAIN}; rm -f /etc/ssh/sshd_config.d/00-panel.conf; {RELOAD_SSH}")
    assert play(site, playbook="harden.yml").changed == 0


def test_the_old_state_comes_back_where_sshd_does_not_heed_the_new_one(site: LabSite) -> None:
    """On a host that nobody has hardened before, nothing of ours is left."""
    own = "/etc/ssh/sshd_config.d/00-ratssaal.conf"
    ssh(site, f"cp -p {_MAIN} /root/sshd_config; sed -i '/^Include/d' {_MAIN}; rm {own}; {RELOAD_SSH}")
    try:
        assert "check failed: Not in effect" in play(site, playbook="harden.yml", check=False).output
        assert ssh(site, f"ls {own} 2>/dev/null; ls -A /var/lib/ratssaal/guard") == ""
    finally:
        ssh(site, f"mv /root/sshd_config {_MAIN}; {RELOAD_SSH}")
    assert play(site, playbook="harden.yml").changed == 1
    assert failed(verify(load(site), controls=("ACC-01", "CRY-10"), quick=True)) == {}


def test_what_somebody_wrote_and_sshd_never_read_is_not_put_to_use(site: LabSite) -> None:
    """No undo of ours could take it back; whoever wrote it has to look first whether they still get in."""
    own, theirs = "/etc/ssh/sshd_config.d/00-ratssaal.conf", "/etc/ssh/sshd_config.d/90-somebody.conf"
    ssh(site, f"rm {own}; {RELOAD_SSH}; sleep 2; echo 'AllowUsers nobody' > {theirs}")
    try:
        told = " ".join(play(site, playbook="harden.yml", check=False).output.split())
        assert f"nothing was changed: sshd has not read {theirs} since it was changed" in told
        assert "systemctl reload ssh" in told
        assert ssh(site, f"ls {own} 2>/dev/null; ls -A /var/lib/ratssaal/guard") == ""
    finally:
        ssh(site, f"rm -f {theirs}")
    assert play(site, playbook="harden.yml").changed == 1
    assert play(site, playbook="harden.yml").changed == 0


def test_a_file_of_ours_that_sshd_has_not_read_is_put_to_use(site: LabSite) -> None:
    """As a backup leaves it: the file is right, and what runs is not."""
    own = "/etc/ssh/sshd_config.d/00-ratssaal.conf"
    ssh(site, f"mv {own} /root; {RELOAD_SSH}; sleep 2; mv /root/00-ratssaal.conf {own}")
    assert play(site, playbook="harden.yml").changed == 1
    assert play(site, playbook="harden.yml").changed == 0
    assert failed(verify(load(site), controls=("ACC-01", "CRY-10"), quick=True)) == {}


def test_an_sshd_that_its_socket_starts_is_hardened_too(site: LabSite) -> None:
    own = "/etc/ssh/sshd_config.d/00-ratssaal.conf"
    ssh(
        site,
        f"rm {own}; {RELOAD_SSH}; systemd-run --quiet sh -c 'systemctl stop ssh.service; systemctl start ssh.socket'; sleep 3",
    )
    try:
        assert ssh(site, "systemctl is-active ssh.socket") == "active"
        assert play(site, playbook="harden.yml").changed == 1
        assert play(site, playbook="harden.yml").changed == 0
        assert failed(verify(load(site), controls=("ACC-01", "CRY-10"), quick=True)) == {}
    finally:
        ssh(site, "systemd-run --quiet sh -c 'systemctl stop ssh.socket; systemctl restart ssh.service'; sleep 3")
    assert ssh(site, "systemctl is-active ssh.socket; systemctl is-active ssh.service", check=False).split() == [
        "inactive",
        "active",
    ]


# Each a person who gets in now: by a key that is too small, by a password, and into no group of those who may.
_PEOPLE = f"""
useradd -m -s /bin/bash -G sudo small && useradd -m -s /bin/bash -G sudo clerk && useradd -m -s /bin/bash keeper
echo clerk:x9-Kanarienvogel | chpasswd 2>/dev/null
ssh-keygen -q -t rsa -b 2048 -N '' -C small@desk -f /root/small
for who in small keeper; do
    install -d -o $who -m 0700 /home/$who/.ssh; install -o $who -m 0600 /root/small.pub /home/$who/.ssh/authorized_keys
done
mv /etc/ssh/sshd_config.d/00-ratssaal.conf /root; {RELOAD_SSH}
"""
_NO_PEOPLE = f"""
mv /root/00-ratssaal.conf /etc/ssh/sshd_config.d; {RELOAD_SSH}; rm /root/small*
for who in small clerk keeper; do userdel -rf $who 2>/dev/null; done
"""


def test_whom_hardening_shuts_out_is_told_before(site: LabSite) -> None:
    def told() -> list[str]:
        loaded = load(site)
        by_operator = replace(loaded, hosts=(replace(loaded.hosts[0], user="operator"),))
        return [problem.message for problem in inspect(by_operator).warnings if "ratssaal harden" in problem.message]

    small = "key small@desk (RSA, 2048 bits) will be refused after `ratssaal harden`"
    ssh(site, _PEOPLE)
    try:
        assert set(told()) == {
            "root logs in by a key now and will not after `ratssaal harden`",
            f"small's {small}",
            "clerk logs in by a password now and has no key, which `ratssaal harden` asks for",
            "keeper logs in by a key now and will not after `ratssaal harden`",
            f"keeper's {small}",
        }
    finally:
        ssh(site, _NO_PEOPLE)
    # Who is shut out already is not told of at each run.
    assert told() == ["root logs in by a key now and will not after `ratssaal harden`"]


@pytest.fixture
def at_another_port(site: LabSite) -> LabSite:
    """The host's sshd listens at another port, as it did before we came, and the inventory says so."""
    ssh(
        site,
        f"echo 'Port {PORT}' > /etc/ssh/sshd_config.d/10-port.conf; {RELOAD_SSH}; "
        "systemctl stop ratssaal-firewall; nft delete table inet ratssaal",
    )
    file = site.path / "hosts.yml"
    user = "          ansible_user: root\n"
    text = file.read_text()
    assert text.count(user) == 1
    file.write_text(text.replace(user, f"{user}          ansible_port: {PORT}\n"))
    address = site.hosts[0].address
    with site.known_hosts.open("a") as pinned:
        for line in site.known_hosts.read_text().splitlines():
            name, _, key = line.partition(" ")
            pinned.write(f"[{address}]:{PORT} {key}\n" if name.split(",")[0] == address else "")
    return site


def test_sshd_on_another_port(at_another_port: LabSite, state_home: Path) -> None:
    """The firewall opens the port that is used, and closes the one that nobody uses."""
    site = at_another_port
    for verb in ("provision", "harden"):
        done = ratssaal(site, state_home, verb)
        assert done.returncode == 0, done.stderr
    report = verify(load(site), controls=("NET-01", "NET-02", "NET-03", "ACC-01", "CRY-10"))
    assert failed(report) == {}
    seen = "; ".join(finding.seen for finding in report.findings)
    assert f"are open: 80, 443, {PORT}" in seen
    closed = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", f"root@{site.hosts[0].address}", "true"]
    assert subprocess.run(closed, capture_output=True, check=False).returncode == 255
