"""Hardening on hosts that are not as one expects: other ports, others' rules, a reboot in the middle. Nobody is locked out."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.lab import machines
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import failed, unexpected
from tests.scenarios.conftest import BIN, load, play, ratssaal, ssh

PORT = 2222
OPERATORS_TABLE = """
table inet operator {
    chain count {
        type filter hook input priority filter - 5; policy accept;
        tcp dport 443 counter comment "the operator's own"
    }
}
"""


def test_an_operators_own_rules_stay(site: LabSite) -> None:
    """Ours are a table of their own: others' are neither removed nor rewritten, not at boot either."""
    ssh(site, f"cat > /etc/nftables.conf <<'END'\n{OPERATORS_TABLE}END\nnft -f /etc/nftables.conf")
    before = ssh(site, "sha256sum /etc/nftables.conf; nft --stateless list table inet operator")
    ssh(site, "echo '# altered' >> /etc/ratssaal/firewall.nft")
    assert play(site).changed > 0
    assert ssh(site, "sha256sum /etc/nftables.conf; nft --stateless list table inet operator") == before
    assert failed(verify(load(site), controls=("NET-01", "NET-03", "NET-05"), quick=True)) == {}


def test_a_full_tmp_stops_no_service(site: LabSite) -> None:
    """Bridge and Jicofo unpack what they load elsewhere, and a converge needs no room there."""
    restart = "systemctl restart jitsi-videobridge2 jicofo prosody nginx haproxy coturn && sleep 10"
    fill = "dd if=/dev/zero of=/tmp/full bs=1M 2>&1 | grep -o 'No space left on device'"
    try:
        assert "No space left" in ssh(site, fill)
        ssh(site, restart)
        assert failed(verify(load(site), controls=("AVL-02", "OS-08"), quick=True)) == {}
        assert play(site).changed == 0
    finally:
        ssh(site, "rm -f /tmp/full")


def test_a_reboot_in_the_middle_of_a_run_needs_one_more_run(site: LabSite, tmp_path: Path) -> None:
    ssh(
        site,
        "rm /etc/systemd/system/*.service.d/80-ratssaal-sandbox.conf /etc/sysctl.d/80-ratssaal.conf;"
        " apt-get -qq purge --yes --allow-change-held-packages coturn >/dev/null 2>&1",
    )
    argv = [str(BIN / "ratssaal"), "provision", str(site.path), "--harden", "--skip-preflight"]
    argv += ["--vault-password-file", str(site.vault_password_file)]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "Package repository" in line:  # its end: TURN begins
                break
        time.sleep(1)
        machines.enter(site.hosts[0], "systemctl", "reboot", check=False)
        rest = run.stderr.read()
    assert run.returncode in (4, 5), rest
    deadline = time.monotonic() + 90
    while not ssh(site, "systemctl is-system-running --wait", check=False):
        assert time.monotonic() < deadline, "the host did not come back"
    done = ratssaal(site, tmp_path, "provision", "--harden")
    assert done.returncode == 0, done.stderr
    assert (
        ssh(site, "dpkg --audit; find /var/lib/ratssaal/pending -type f; ls /usr/sbin/policy-rc.d 2>/dev/null; true")
        == ""
    )
    assert unexpected(verify(load(site), quick=True)).keys() <= OUTSIDE_ONLY


# What --quick leaves out.
OUTSIDE_ONLY = {
    *("CRY-02", "CRY-04", "CRY-05", "NET-02", "TRN-01", "TRN-02"),
    *("WEB-01", "WEB-02", "WEB-03", "WEB-05", "VKS-01", "VKS-02", "VKS-03", "VKS-11"),
}


@pytest.fixture
def at_another_port(site: LabSite) -> LabSite:
    """The host's sshd listens at another port, as it did before we came, and the inventory says so."""
    ssh(
        site,
        f"echo 'Port {PORT}' > /etc/ssh/sshd_config.d/10-port.conf; systemctl reload ssh; nft delete table inet ratssaal",
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
