"""The vantage point is another host, reached by SSH: by root, and by a user who may do nothing special there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.evidence.results import Finding, Result
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios.conftest import load, ssh, throwaway

CONTROLS = ("CRY-01", "CRY-02", "NET-02", "TRN-01", "TRN-02", "VKS-01")
_NEEDS = "nmap openssl curl"
_USER = (
    "useradd --create-home probe && install -d -m 0700 -o probe -g probe ~probe/.ssh"
    " && install -m 0600 -o probe -g probe ~/.ssh/authorized_keys ~probe/.ssh/"
)


@pytest.fixture(scope="module")
def site() -> Iterator[LabSite]:
    """A site with one host; beside it another, which has no role of ours and what a vantage point needs."""
    with throwaway("vantage", hosts=2, playbook="site.yml") as made:
        elsewhere = made.hosts[1].address
        ssh(
            made,
            f"apt-get -qq update && apt-get -qq install --yes {_NEEDS} >/dev/null 2>&1; {_USER}",
            address=elsewhere,
        )
        yield made


def _look(site: LabSite, user: str, controls: tuple[str, ...] = CONTROLS) -> dict[str, Finding]:
    """Return what was found from outside, with the vantage point as an operator declares it."""
    path = site.path / "group_vars/all/site.yml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("verification_vantage")]
    lines.append(f"verification_vantage: ssh://{user}@{site.hosts[1].address}")
    lines.append(f"verification_vantage_key_file: {site.key_file}")
    path.write_text("\n".join(lines) + "\n")
    found = {f.control: f for f in verify(load(site), controls=controls).findings if f.vantage != "inside"}
    assert found.keys() == set(controls)
    assert {f.vantage for f in found.values()} == {f"{site.hosts[1].address} (by SSH)"}
    assert ssh(site, "find /tmp -name 'ratssaal*'", address=site.hosts[1].address) == ""
    return found


def _greeting(site: LabSite) -> str:
    """Return the first letters that the site's sshd says to the vantage point."""
    return ssh(site, f"head -c4 < /dev/tcp/{site.hosts[0].address}/22", address=site.hosts[1].address)


def test_root_sees_everything_from_there(site: LabSite) -> None:
    found = _look(site, "root")
    assert {f.result for f in found.values()} == {Result.PASS}, found
    for address in (site.hosts[0].address, site.hosts[0].address6):
        assert f"{address}: of 65535 TCP ports, looked at half-open, are open: 22, 80, 443" in found["NET-02"].seen


def test_a_user_without_rights_sees_all_but_udp_and_is_told_so(site: LabSite) -> None:
    found = _look(site, "probe")
    ports = found.pop("NET-02")
    assert {f.result for f in found.values()} == {Result.PASS}, found
    assert ports.result is Result.NOT_TESTED, ports
    for address in (site.hosts[0].address, site.hosts[0].address6):
        assert f"{address}: UDP cannot be scanned without root at the vantage point" in ports.reason
        assert (
            f"{address}: of 65535 TCP ports, looked at by whole connections, without root, are open: 22, 80, 443"
            in (ports.seen)
        )


def test_a_port_that_nobody_declared_is_seen_from_there(site: LabSite) -> None:
    ssh(
        site,
        "systemd-run -q --unit=planted python3 -m http.server 4712 --bind ::"
        " && nft add rule inet ratssaal input tcp dport 4712 accept && sleep 1",
    )
    try:
        ports = _look(site, "probe", ("NET-02",))["NET-02"]
    finally:
        ssh(site, "systemctl stop planted; systemctl restart ratssaal-firewall")
    assert ports.result is Result.FAIL
    assert "4712/tcp open" in ports.seen


def test_sshd_has_nothing_against_the_vantage_point(site: LabSite) -> None:
    """OpenSSH 9.8 and later turn away for minutes who connects again and again without logging in."""
    assert _greeting(site) == "SSH-"
    assert "drop connection" not in ssh(site, "journalctl -u ssh --output=cat")
    # That it would show: whoever knocks much more often than the scans do is turned away.
    knock = f"for i in $(seq 40); do head -c1 < /dev/tcp/{site.hosts[0].address}/22 >/dev/null; done"
    ssh(site, knock, address=site.hosts[1].address)
    assert _greeting(site) != "SSH-"
    assert "drop connection" in ssh(site, "journalctl -u ssh --output=cat")
