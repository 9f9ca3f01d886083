"""Never locked out: a wrong firewall or sshd configuration returns by itself, also when nobody is left to undo it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import BIN, ROOT, play, ssh

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
    argv = [str(BIN / "ansible-playbook"), "-i", str(site.path / "hosts.yml"), *LOCKED_OUT]
    argv += ["--vault-password-file", str(site.vault_password_file), "playbooks/provision.yml"]
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as run:
        _wait_until_armed(site)
        os.killpg(run.pid, signal.SIGKILL)
    # Ansible's workers are sessions of their own; one that lived on would put the old state back instead of the host.
    left = subprocess.run(["pgrep", "-f", str(site.path / "hosts.yml")], capture_output=True, text=True, check=False)
    assert left.stdout == ""
    _wait_for_login(site, SECONDS + 20)
    assert _ruleset(site) == before


def _wait_until_armed(site: LabSite) -> None:
    """Look past the network, which is what the change cuts."""
    from orchestrator.lab.machines import enter

    for _ in range(300):
        listed = enter(site.hosts[0], "nft", "list", "table", "inet", "ratssaal", check=False).stdout
        if "192.0.2.0/24" in listed:
            return
        time.sleep(0.1)
    pytest.fail("the locking ruleset was never loaded")


PLAYBOOK = """
- name: A change of sshd
  hosts: all
  gather_facts: false
  tasks:
    - name: sshd
      guarded_change:
        name: trial
        confirm_seconds: {seconds}
        files:
          - dest: /etc/ssh/sshd_config.d/00-aaa-trial.conf
            content: "{content}\\n"
            mode: "0600"
        check: mkdir -p /run/sshd && sshd -t
        apply: systemctl reload ssh
"""


def _trial(site: LabSite, tmp_path: Path, content: str) -> subprocess.CompletedProcess[str]:
    playbook = tmp_path / "trial.yml"
    playbook.write_text(PLAYBOOK.format(content=content, seconds=SECONDS))
    argv = [str(BIN / "ansible-playbook"), "-i", str(site.path / "hosts.yml")]
    argv += ["--vault-password-file", str(site.vault_password_file), str(playbook)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize(
    ("content", "told"),
    [("AllowUsers nobody", "no second login was possible"), ("NoSuchKeyword yes", "NoSuchKeyword")],
    ids=["locks-out", "is-refused-by-sshd"],
)
def test_a_wrong_sshd_configuration_never_stays(site: LabSite, tmp_path: Path, content: str, told: str) -> None:
    done = _trial(site, tmp_path, content)
    assert done.returncode != 0
    assert told in done.stdout
    _wait_for_login(site, SECONDS + 20)
    assert "00-aaa-trial.conf" not in ssh(site, "ls /etc/ssh/sshd_config.d")
    assert "allowusers" not in ssh(site, "sshd -T")
    assert ssh(site, "systemctl list-timers --all | grep -c ratssaal-guard || true") == "0"


def test_a_good_change_stays(site: LabSite, tmp_path: Path) -> None:
    assert _trial(site, tmp_path, "MaxAuthTries 5").returncode == 0
    time.sleep(SECONDS + 2)
    assert "maxauthtries 5" in ssh(site, "sshd -T")
    assert ".ratssaal" not in ssh(site, "ls -A /etc/ssh/sshd_config.d /etc/ssh")
    ssh(site, "rm /etc/ssh/sshd_config.d/00-aaa-trial.conf; systemctl reload ssh")
