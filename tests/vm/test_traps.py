"""What hardening breaks elsewhere, on a machine with a kernel of its own: containers, missing modules."""

from __future__ import annotations

import pytest

from orchestrator.evidence.results import Result
from orchestrator.lab import repository
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios import machine_breaks
from tests.scenarios.breaks import Break, Series, failed
from tests.scenarios.conftest import load, play, ssh
from tests.vm.conftest import reboot

pytestmark = pytest.mark.xdist_group("13")

# Debian's own busybox as an image from a tar: no registry is asked.
DOCKER = """
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update && apt-get -qq install --yes --no-install-recommends docker.io docker-cli iptables busybox-static >/dev/null 2>&1
mkdir -p /root/image/bin && cp /bin/busybox /root/image/bin/ && tar -C /root/image -c . | docker import - town:lab
docker run -d --restart always --name web -p 127.0.0.1:8085:80 town:lab /bin/busybox httpd -f -p 80 -h /bin
"""
WITHOUT_DOCKER = """
docker rm -f open web
DEBIAN_FRONTEND=noninteractive apt-get -qq purge --yes docker.io docker-cli
nft flush ruleset
"""

# What a container publishes on the host's loopback is declared as well: nobody else may come in there.
DECLARED = """
firewall_extra_flows:
  - {proto: tcp, port: "8085", sources: ["127.0.0.0/8"], purpose: the town's own page}
"""


def _container_lives(machine: LabSite) -> None:
    """It answers at its published port, and reaches what lies beyond the host."""
    answers = "for i in $(seq 60); do curl -sfo /dev/null http://127.0.0.1:8085/busybox && break; sleep 1; done"
    assert ssh(machine, f"{answers}; curl -sfo /dev/null http://127.0.0.1:8085/busybox && echo yes") == "yes"
    beyond = f"{repository.url(machine.network).rstrip('/')}/stable/InRelease"
    asked = f"docker run --rm town:lab /bin/busybox wget -T 120 -qO /dev/null {beyond}"
    assert ssh(machine, f"{asked} 2>&1 && echo yes").endswith("yes")
    assert ssh(machine, "cat /proc/sys/net/ipv4/ip_forward") == "1"


def test_docker_goes_on_forwarding(machine13: LabSite) -> None:
    """Forwarding switched off, or a firewall that drops it, stops every container without a word."""
    machine, settings = machine13, machine13.path / "group_vars/all/site.yml"
    undeclared = settings.read_text()
    settings.write_text(undeclared + DECLARED)
    try:
        ssh(machine, DOCKER)
        _container_lives(machine)
        assert play(machine).changed > 0
        assert play(machine).changed == 0
        ssh(machine, "systemctl restart ratssaal-firewall docker")
        _container_lives(machine)
        reboot(machine)
        _container_lives(machine)
        controls = ("NET-01", "NET-03", "NET-04", "NET-09")
        assert failed(verify(load(machine), controls=controls, quick=True)) == {}
        ssh(machine, "docker run -d --name open -p 8086:80 town:lab /bin/busybox httpd -f -p 80 -h /bin")
        found = failed(verify(load(machine), controls=controls, quick=True))
        assert "8086/tcp is published on 0.0.0.0 by docker's open" in found["NET-04"][0].seen
    finally:
        # The other tests on this machine want none of it.
        ssh(machine, WITHOUT_DOCKER, check=False)
        settings.write_text(undeclared)
    assert play(machine).changed > 0
    reboot(machine)


def test_a_kernel_without_a_module_that_a_rule_wants(machine13: LabSite) -> None:
    """The firewall cannot be loaded: that is said, SSH alone gets in, and with the module all is well again."""
    machine, banned = machine13, "/etc/modprobe.d/planted.conf"
    ssh(machine, f"printf 'install nft_ct /bin/false\\nblacklist nft_ct\\n' > {banned}")
    reboot(machine)
    (finding,) = verify(load(machine), controls=("NET-03",), quick=True).findings
    assert finding.result is Result.FAIL
    assert "policy drop" in ssh(machine, "nft list chain inet ratssaal input")
    assert "ct state" not in ssh(machine, "nft list table inet ratssaal")
    played = play(machine, check=False)
    assert played.code != 0
    assert "Firewall" in played.output
    assert "nft" in played.output
    ssh(machine, f"rm {banned}")
    assert play(machine).changed > 0
    assert failed(verify(load(machine), controls=("NET-03",), quick=True)) == {}


def test_modules_and_namespaces_that_others_need(machine13: LabSite) -> None:
    """EFI's partition is vfat, a snap is a squashfs; rootless containers and browsers make namespaces of their own."""
    needed = "for each in vfat squashfs overlay veth nf_conntrack; do modprobe $each || echo $each; done"
    assert ssh(machine13, needed) == ""
    assert ssh(machine13, "cat /proc/sys/kernel/modules_disabled") == "0"
    assert ssh(machine13, "runuser -u nobody -- unshare --user --map-root-user id -u") == "0"
    # What nobody mounts here stays away, as OS-11 wants it.
    assert ssh(machine13, "modprobe udf; grep -c ^udf /proc/modules || true") == "0"


@pytest.mark.parametrize("row", machine_breaks.BREAKS, ids=lambda row: row.control)
def test_control_turns(machine13: LabSite, row: Break) -> None:
    """AppArmor and swap, which no container has of its own; whole before, and whole after."""
    (whole,) = verify(load(machine13), controls=(row.control,)).findings
    assert whole.result is row.repaired, whole
    Series(machine13, quick=True).turn(row, controls=(row.control,))
    (again,) = verify(load(machine13), controls=(row.control,)).findings
    assert again.result is row.repaired, again
