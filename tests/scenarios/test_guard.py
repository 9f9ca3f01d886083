"""Never locked out: a wrong firewall or sshd configuration returns by itself, also when nobody is left to undo it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.lab.lab import LabSite
from orchestrator.lab.machines import enter
from tests.scenarios.conftest import BIN, RELOAD_SSH, ROOT, play, ssh

SECONDS = 12
# The tests' own network is left out, so that the control node locks itself out.
LOCKED_OUT = ("-e", '{"firewall_management_sources": ["192.0.2.0/24"], "firewall_confirm_seconds": %d}' % SECONDS)


def _ruleset(site: LabSite) -> str:
    return ssh(
        site,
        "nft --stateless list table inet ratssaal; cat /etc/ratssaal/firewall.nft; ls -A /etc /etc/ratssaal /var/lib/ratssaal/guard",
    )


def _wait_for_login(site: LabSite, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ssh(site, "echo in", check=False).endswith("in"):
            return
    pytest.fail(f"nobody can log in after {seconds} s")


def test_a_firewall_that_locks_us_out_is_put_back(site: LabSite) -> None:
    before = _ruleset(site)
    played = play(site, *LOCKED_OUT, playbook="provision.yml", check=False)
    assert played.code != 0
    assert "no second login was possible" in played.output
    _wait_for_login(site, SECONDS + 20)
    assert _ruleset(site) == before
    assert play(site, playbook="provision.yml").changed == 0


def test_it_returns_by_itself_when_the_control_node_dies(site: LabSite) -> None:
    before = _ruleset(site)
    _die_when(_ruleset_locks, site, *LOCKED_OUT, "playbooks/provision.yml")
    _wait_for_login(site, SECONDS + 20)
    assert _ruleset(site) == before


def _die_when(locked: Callable[[LabSite], bool], site: LabSite, *arguments: str) -> None:
    """Run a playbook and end the control node's side of it for good as soon as the change has locked it out."""
    argv = [str(BIN / "ansible-playbook"), "-i", str(site.path / "hosts.yml")]
    argv += ["--vault-password-file", str(site.vault_password_file), *arguments]
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as run:
        try:
            for _ in range(300):
                if locked(site):
                    break
                time.sleep(0.1)
            else:
                pytest.fail("the locking change was never in effect")
        finally:
            os.killpg(run.pid, signal.SIGKILL)
    # Ansible's workers are sessions of their own; one that lived on would put the old state back instead of the host.
    left = subprocess.run(["pgrep", "-f", str(site.path / "hosts.yml")], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def _ruleset_locks(site: LabSite) -> bool:
    """Look past the network, which is what the change cuts."""
    return "192.0.2.0/24" in enter(site.hosts[0], "nft", "list", "table", "inet", "ratssaal", check=False).stdout


def _sshd_locks(site: LabSite) -> bool:
    """Say whether the running sshd, not only its file, lets nobody in."""
    there = enter(site.hosts[0], "test", "-e", TRIAL, check=False).returncode == 0
    return there and ssh(site, "echo in", check=False) != "in"


TRIAL = "/etc/ssh/sshd_config.d/00-aaa-trial.conf"
PLAYBOOK = """
- name: A change of sshd
  hosts: all
  gather_facts: false
  vars_files: [{variables}]
  tasks:
    - name: sshd
      guarded_change:
        name: trial
        confirm_seconds: {seconds}
        files:
          - dest: {trial}
            content: "{content}\\n"
            mode: "0600"
        check: mkdir -p /run/sshd && sshd -t
        apply: "{{{{ __hardening_sshd_reads }}}}"
        undo: "{{{{ __hardening_sshd_lives }}}}"
"""


def _playbook(tmp_path: Path, content: str) -> Path:
    playbook = tmp_path / "trial.yml"
    variables = ROOT / "roles/hardening/vars/main.yml"
    playbook.write_text(PLAYBOOK.format(content=content, seconds=SECONDS, trial=TRIAL, variables=variables))
    return playbook


def _trial(site: LabSite, tmp_path: Path, content: str, **variables: object) -> subprocess.CompletedProcess[str]:
    argv = [str(BIN / "ansible-playbook"), "-i", str(site.path / "hosts.yml"), "-e", json.dumps(variables)]
    argv += ["--vault-password-file", str(site.vault_password_file), str(_playbook(tmp_path, content))]
    return subprocess.run(
        argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("AllowUsers nobody", "no second login was possible"),
        ("NoSuchKeyword yes", "NoSuchKeyword"),
        # An address that is nobody's: sshd accepts the file, and ends over it.
        ("ListenAddress 192.0.2.77", "put back as it was: apply failed: "),
    ],
    ids=["locks-out", "is-refused-by-sshd", "ends-sshd"],
)
def test_a_wrong_sshd_configuration_never_stays(site: LabSite, tmp_path: Path, content: str, told: str) -> None:
    done = _trial(site, tmp_path, content)
    assert done.returncode != 0
    assert told in done.stdout
    _wait_for_login(site, SECONDS + 20)
    _assert_as_before(site)


def test_a_refused_file_puts_nothing_of_others_to_use(site: LabSite, tmp_path: Path) -> None:
    """What somebody wrote there and sshd has not read would lock everybody out at the next reload."""
    theirs = "/etc/ssh/sshd_config.d/90-somebody.conf"
    ssh(site, f"echo 'AllowUsers nobody' > {theirs}")
    try:
        assert "NoSuchKeyword" in _trial(site, tmp_path, "NoSuchKeyword yes").stdout
        assert ssh(site, "echo in", check=False) == "in"
    finally:
        enter(site.hosts[0], "sh", "-c", f"rm {theirs}; systemctl reload ssh")
    _wait_for_login(site, 10)
    _assert_as_before(site)


@pytest.mark.parametrize("connection", ["paramiko_ssh", "ansible.builtin.paramiko_ssh"])
def test_a_connection_over_which_no_second_login_is_proven_changes_nothing(
    site: LabSite, tmp_path: Path, connection: str
) -> None:
    done = _trial(site, tmp_path, "MaxAuthTries 5", ansible_connection=connection)
    assert done.returncode != 0
    assert "no second login can be proven over ansible_connection: " in done.stdout
    _assert_as_before(site)


def test_a_wrong_sshd_configuration_returns_by_itself_when_the_control_node_dies(site: LabSite, tmp_path: Path) -> None:
    _die_when(_sshd_locks, site, str(_playbook(tmp_path, "AllowUsers nobody")))
    # What is left to put it back is the host's timer, and nobody gets in before that.
    assert "ratssaal-guard" in enter(site.hosts[0], "systemctl", "list-timers", "--all").stdout
    assert ssh(site, "echo in", check=False) != "in"
    _wait_for_login(site, SECONDS + 20)
    _assert_as_before(site)


def _assert_as_before(site: LabSite) -> None:
    assert Path(TRIAL).name not in ssh(site, "ls /etc/ssh/sshd_config.d")
    assert "allowusers" not in ssh(site, "sshd -T")
    # The host's own undo looks for a second whether sshd lives.
    ssh(
        site,
        "for i in $(seq 50); do systemctl list-timers --all | grep -q ratssaal-guard || exit 0; sleep 0.1; done; exit 1",
    )


@pytest.mark.parametrize("way", ["-J jump", "-o ProxyCommand='ssh -F {config} -W %h:%p jump'"])
def test_a_second_login_is_proven_through_a_bastion(site: LabSite, tmp_path: Path, way: str) -> None:
    """The host is its own: it reaches itself at an address that is another machine's for us."""
    pinned = site.known_hosts.read_text().splitlines()
    known, config = tmp_path / "known_hosts", tmp_path / "config"
    known.write_text("".join(f"127.0.0.1 {line.partition(' ')[2]}\n" for line in pinned))
    config.write_text(
        f"Host jump\nHostName {site.hosts[0].address}\nUser root\nIdentityFile {site.key_file}\n"
        f"UserKnownHostsFile {site.known_hosts}\nStrictHostKeyChecking yes\n"
    )
    common, extra = f"-o UserKnownHostsFile={known}", f"-F {config} {way.format(config=config)}"
    variables = {"ansible_host": "127.0.0.1", "ansible_ssh_common_args": common, "ansible_ssh_extra_args": extra}
    done = _trial(site, tmp_path, "MaxAuthTries 5", **variables)
    assert done.returncode == 0, done.stdout
    assert "maxauthtries 5" in ssh(site, "sshd -T")
    ssh(site, f"rm {TRIAL}; {RELOAD_SSH}")


# What a router before the host would do.
_TRANSLATE = (
    "nft 'table ip nat { chain before { type nat hook prerouting priority dstnat; tcp dport 2222 redirect to :22; }; }'"
)


def test_a_translated_port_is_told_as_such(site: LabSite) -> None:
    """The firewall opens ansible_port, which is the router's; the host hears of port 22 only."""
    before, pinned = _ruleset(site), site.known_hosts.read_text()
    for line in pinned.splitlines():
        with site.known_hosts.open("a") as known:
            known.write(f"[{site.hosts[0].address}]:2222 {line.partition(' ')[2]}\n")
    ssh(site, _TRANSLATE)
    try:
        given = {"ansible_port": 2222, "firewall_confirm_seconds": SECONDS}
        played = play(site, "-e", json.dumps(given), playbook="provision.yml", check=False)
    finally:
        ssh(site, "nft delete table ip nat")
        site.known_hosts.write_text(pinned)
    assert played.code != 0
    assert "on the host sshd listens at 22, not at 2222" in " ".join(played.output.split())
    assert _ruleset(site) == before


def test_a_good_change_stays(site: LabSite, tmp_path: Path) -> None:
    assert _trial(site, tmp_path, "MaxAuthTries 5").returncode == 0
    time.sleep(SECONDS + 2)
    assert "maxauthtries 5" in ssh(site, "sshd -T")
    assert ".ratssaal" not in ssh(site, "ls -A /etc/ssh/sshd_config.d /etc/ssh")
    ssh(site, f"rm {TRIAL}; {RELOAD_SSH}")
