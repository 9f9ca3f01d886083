"""Hardening on hosts that are not as one expects: others' rules, mounts that are refused, a reboot in the middle of a run."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.evidence.results import Result
from orchestrator.lab import machines
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import failed, unexpected
from tests.scenarios.conftest import BIN, load, play, ratssaal, ssh
from tests.scenarios.test_variants import LEFT_ALONE, MISSED

OPERATORS_TABLE = """
table inet operator {
    chain count {
        type filter hook input priority filter - 5; policy accept;
        tcp dport 443 counter comment "the operator's own"
    }
}
"""


def test_an_operators_own_rules_stay(site: LabSite) -> None:
    """Ours are a table of their own: others' are neither removed nor rewritten."""
    ssh(site, f"cat > /etc/nftables.conf <<'END'\n{OPERATORS_TABLE}END\nnft -f /etc/nftables.conf")
    before = ssh(site, "sha256sum /etc/nftables.conf; nft --stateless list table inet operator")
    ssh(site, "echo '# altered' >> /etc/ratssaal/firewall.nft")
    assert play(site).changed > 0
    assert ssh(site, "sha256sum /etc/nftables.conf; nft --stateless list table inet operator") == before
    assert failed(verify(load(site), controls=("NET-01", "NET-03", "NET-05"), quick=True)) == {}


@pytest.mark.parametrize("change", ["start", "restart", "reload", "stop"])
def test_debians_own_firewall_service_leaves_ours(site: LabSite, change: str) -> None:
    """Its file begins by emptying all tables, ours among them (nftables:debian/nftables.conf)."""
    ssh(site, f"cp -p /etc/nftables.conf /root; cat > /etc/nftables.conf <<'END'\nflush ruleset{OPERATORS_TABLE}END")
    ours = "nft --stateless list table inet ratssaal | sha256sum"
    before = ssh(site, ours)
    try:
        if change != "start":
            ssh(site, "systemctl start nftables")
        ssh(site, f"systemctl {change} nftables")
        assert ssh(site, "nft list tables").count("inet operator") == (change != "stop")
        assert ssh(site, ours) == before
    finally:
        ssh(site, "systemctl stop nftables; mv /root/nftables.conf /etc/", check=False)
    assert failed(verify(load(site), controls=("NET-03",), quick=True)) == {}


def test_a_firewall_that_somebody_empties_is_back_soon(site: LabSite) -> None:
    """As by a file of an operator's own rules that begins as Debian's does; a stop on purpose is left alone."""
    ours = "nft --stateless list table inet ratssaal | sha256sum"
    before, gone, watch = ssh(site, ours), "nft list tables | grep -c ratssaal; true", "ratssaal-firewall-watch.timer"
    try:
        # Its next look may come at any moment, before ours too.
        ssh(site, f"systemctl stop {watch}; nft --file /dev/stdin <<'END'\nflush ruleset{OPERATORS_TABLE}END")
        assert ssh(site, gone) == "0"
        assert list(failed(verify(load(site), controls=("NET-03",), quick=True))) == ["NET-03"]
        ssh(site, f"systemctl start {watch}; for i in $(seq 60); do test $({gone}) = 1 && exit; sleep 1; done; exit 1")
        assert ssh(site, ours) == before
        assert ssh(site, "nft list tables").count("inet operator") == 1
        assert "somebody had emptied the firewall" in ssh(site, "journalctl -q -t ratssaal-firewall -p warning -o cat")
        ssh(site, "systemctl stop ratssaal-firewall && nft delete table inet ratssaal")
        ssh(site, "systemctl start ratssaal-firewall-watch.service")
        assert ssh(site, gone) == "0"
    finally:
        ssh(site, f"systemctl start ratssaal-firewall {watch}; nft delete table inet operator", check=False)
    assert failed(verify(load(site), controls=("NET-03",), quick=True)) == {}


def test_a_ruleset_that_cannot_be_loaded_lets_in_ssh_alone(site: LabSite) -> None:
    """As at the start of a kernel without a module that a rule wants; a whole file is taken at the next run."""
    web = ["ip", "netns", "exec", f"rs-{site.path.name}-out", "curl", "-skm5", f"https://{site.domain}/config.js"]
    assert "hosts" in subprocess.run(web, capture_output=True, text=True, timeout=30, check=False).stdout
    ssh(site, "echo 'a word that nft does not know' >> /etc/ratssaal/firewall.nft")
    ssh(site, "nft delete table inet ratssaal; systemctl restart ratssaal-firewall", check=False)
    assert ssh(site, "systemctl is-failed ratssaal-firewall") == "failed"
    done = subprocess.run(web, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (28, "")
    # Who empties it then, or uses Debian's own service, does not open the host.
    ssh(site, "nft flush ruleset; systemctl start ratssaal-firewall-watch.service")
    assert "SSH alone is let in" in ssh(site, "journalctl -q -t ratssaal-firewall -p warning -o cat")
    assert subprocess.run(web, capture_output=True, timeout=30, check=False).returncode == 28
    for change in ("start", "stop"):
        ssh(site, f"systemctl {change} nftables")
        assert subprocess.run(web, capture_output=True, timeout=30, check=False).returncode == 28, change
    # The host's own connections and those within it go on.
    ssh(site, f"curl -skfm5 https://{site.domain}/config.js >/dev/null && apt-get -qq update")
    assert list(failed(verify(load(site), controls=("NET-03",), quick=True))) == ["NET-03"]
    assert play(site).changed > 0
    assert failed(verify(load(site), controls=("NET-03",), quick=True)) == {}
    assert subprocess.run(web, capture_output=True, timeout=30, check=False).returncode == 0


def test_what_changed_since_the_night_before_is_named(site: LabSite) -> None:
    """A program that no package knows, and a file of a service, are in the journal with their names."""
    yesterday = "touch -d '1 day ago' /var/lib/aide/aide.db"
    ssh(
        site,
        f"systemctl start ratssaal-integrity; {yesterday}; cp /bin/true /usr/local/bin/planted; echo '#' >> /etc/hosts",
    )
    try:
        ssh(site, "systemctl start ratssaal-integrity")
        told = ssh(site, "journalctl -q --no-pager -o cat -u ratssaal-integrity")
    finally:
        ssh(site, "rm /usr/local/bin/planted; sed -i '$d' /etc/hosts")
    assert re.search(r"f\++: /usr/local/bin/planted", told), told[-3000:]
    assert re.search(r"^f.*: /etc/hosts$", told, re.MULTILINE), told[-3000:]


def test_a_full_tmp_stops_no_service(site: LabSite) -> None:
    """Bridge and Jicofo unpack what they load elsewhere, and a converge needs no room there."""
    restart = "systemctl restart jitsi-videobridge2 jicofo prosody nginx haproxy coturn && sleep 10"
    # A small one is as full as a large one, and does not take this machine's memory.
    small = "mount -o remount,size=16m /tmp"
    fill = "dd if=/dev/zero of=/tmp/full bs=1M 2>&1 | grep -o 'No space left on device'"
    size = ssh(site, "findmnt -bno SIZE /tmp")
    try:
        assert "No space left" in ssh(site, f"{small} && {fill}")
        ssh(site, restart)
        assert failed(verify(load(site), controls=("AVL-02", "OS-08"), quick=True)) == {}
        assert play(site).changed == 0
    finally:
        ssh(site, f"rm -f /tmp/full; mount -o remount,size={size} /tmp")


# What stands in for a container's manager: it refuses some mounts, whoever asks.
_REFUSES = """
printf '#!/bin/sh\\ncase "$*" in *bind*/home*|*remount*/proc) echo denied >&2; exit 32;; esac\\nexec /usr/bin/mount "$@"\\n' \\
    >/usr/local/sbin/mount && chmod 0755 /usr/local/sbin/mount
umount /home; /usr/bin/mount -o remount,hidepid=off /proc; /usr/bin/mount -o remount,exec /tmp
rm /etc/systemd/system/coturn.service.d/80-ratssaal-sandbox.conf
"""


def test_a_mount_that_is_refused_keeps_nothing_else_from_the_host(site: LabSite) -> None:
    """What comes after it is applied, a second run finds nothing to do, and the controls say that the host may not."""
    ssh(site, _REFUSES)
    try:
        assert play(site, playbook="harden.yml").changed == 1
        assert play(site, playbook="harden.yml").changed == 0
        report = verify(load(site), controls=("OS-06", "OS-08", "OS-09"), quick=True)
        assert ssh(site, "systemctl --failed --no-legend") == ""
    finally:
        ssh(site, "rm /usr/local/sbin/mount")
    assert failed(report) == {}
    untested = {
        f.control: f.reason for f in report.findings if f.result is Result.NOT_TESTED and "machine below" in f.reason
    }
    assert untested["OS-09"].startswith("/home is no mount of its own")
    assert "any user sees the processes of others in /proc" in untested["OS-06"]
    assert play(site, playbook="harden.yml").changed == 1


_LATE = """
printf 'tmpfs /home tmpfs _netdev,size=9m 0 0\\ntmpfs /var/tmp tmpfs nofail,mode=1777,size=8m 0 0\\n' >> /etc/fstab
"""


def test_what_fstab_mounts_late_is_mounted_and_flagged(site: LabSite) -> None:
    """Neither is waited for before the start of services, and where something lies already systemd mounts nothing."""
    ssh(site, f"cp -a /etc/fstab /root; {_LATE}")
    try:
        _reboot(site)
        sizes = ssh(site, "findmnt -rno SIZE -M /home; findmnt -rno SIZE -M /var/tmp").split()
        assert sizes == ["9M", "8M"]
        (finding,) = verify(load(site), controls=("OS-09",), quick=True).findings
        assert finding.result is Result.PASS, finding
        # Somebody mounts it anew, by hand.
        flagged = "findmnt -no OPTIONS /home | grep nosuid,nodev"
        ssh(site, f"umount /home && mount /home; for i in $(seq 40); do {flagged} && exit; sleep 0.25; done; exit 1")
        assert play(site, playbook="harden.yml").changed == 0
    finally:
        ssh(
            site,
            "mv /root/fstab /etc/fstab; systemctl daemon-reload; umount /home /var/tmp; systemctl restart ratssaal-mounts",
        )


def _reboot(site: LabSite) -> None:
    """Boot the host anew and wait until all has started."""
    before = ssh(site, _BOOT)
    machines.enter(site.hosts[0], "systemctl", "reboot", check=False)
    deadline = time.monotonic() + 90
    while ssh(site, _BOOT, check=False) in ("", before):
        assert time.monotonic() < deadline, "the host did not come back"
        time.sleep(0.5)
    ssh(site, "systemctl is-system-running --wait", check=False)


# Of a container's first process, which starts with it: its kernel's boot is the machine's.
_BOOT = "stat -c %Y /proc/1"


def test_a_reboot_in_the_middle_of_a_run_needs_one_more_run(site: LabSite, tmp_path: Path) -> None:
    ssh(
        site,
        "rm /etc/systemd/system/*.service.d/80-ratssaal-sandbox.conf /etc/sysctl.d/99-zz-ratssaal.conf;"
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
    assert ssh(site, "dpkg --audit; find /var/lib/ratssaal/pending -type f; true") == ""
    assert unexpected(verify(load(site), quick=True)).keys() <= OUTSIDE_ONLY


# What --quick leaves out.
OUTSIDE_ONLY = {
    *("CRY-02", "CRY-04", "CRY-05", "NET-02", "TRN-01", "TRN-02"),
    *("WEB-01", "WEB-02", "WEB-03", "WEB-05", "VKS-01", "VKS-02", "VKS-03", "VKS-11"),
}


SERVICES = ("nginx", "prosody", "jicofo", "jitsi-videobridge2", "coturn", "haproxy")
# What is there of the controls that can be left alone, and of what they have in effect: on a host without them a line of each.
# Instances of a template that have ended systemd forgets when it likes.
_OF_HARDENING = f"""
{{ for kind in profile modprobe sysctl security ssh sysusers; do find /etc/$kind* -name '*ratssaal*'; done
find /etc/systemd/ -name '*ratssaal-[imp]*' -o -name 80-ratssaal*; find /var/lib/ratssaal/pending -type f
find /var/lib/ratssaal -name integrity
systemctl list-units --all --plain --no-legend 'ratssaal-[imp]*' | tr -s ' ' | grep -v '@.* inactive dead'
grep -ls 'Kept by Ratssaal' /etc/login.defs /etc/aide/aide.conf; grep -ls 'for security' /etc/issue* /etc/motd.d/*
grep -o 'hidepid[^ ,]*' /proc/mounts
systemctl show -P ProtectSystem {" ".join(SERVICES)} | grep -Ev '^(no|)$'; dpkg --verify login login.defs base-files
sshd -T | grep -E '^(maxauthtries 4|clientaliveinterval 300|allowgroups|passwordauthentication no)'
}} | sort
"""


def test_what_is_left_alone_from_now_on_is_taken_back(site: LabSite, state_home: Path) -> None:
    """Nothing of it is left in files, units and in effect, the services run without it, and the report tells who wanted it so."""
    file, active = site.path / "group_vars/all/site.yml", f"systemctl is-active systemd-logind {' '.join(SERVICES)}"
    text, before = file.read_text(), ssh(site, _OF_HARDENING)
    file.write_text(text + LEFT_ALONE + 'hardening_notice: ""\n')
    try:
        assert play(site, "--check", playbook="harden.yml").changed == 2
        assert ssh(site, _OF_HARDENING) == before
        assert play(site, playbook="harden.yml").changed == 2
        assert ssh(site, _OF_HARDENING) == ""
        assert set(ssh(site, active).split()) == {"active"}
        assert ssh(site, "systemctl is-system-running; systemctl --failed --no-legend") == "running"
        assert play(site, "--check").changed == 0
        assert play(site).changed == 0
        assert ratssaal(site, state_home, "drift").returncode == 0
        report = verify(load(site), quick=True)
    finally:
        file.write_text(text)
    assert failed(report) == {}
    # A container does not boot for this: directories keep their flags until then.
    assert {f.control for f in report.findings if f.result is Result.WAIVED} == MISSED - {"OS-09"}
    play(site)
    assert play(site).changed == 0
    assert ssh(site, _OF_HARDENING) == before
    assert unexpected(verify(load(site), quick=True)).keys() <= OUTSIDE_ONLY


# Runs a program from a directory as a service's own user, within what the service sees.
_FROM = """
pid=$(systemctl show -P MainPID {unit}) && user=$(stat -c %u /proc/$pid) && group=$(stat -c %g /proc/$pid)
own=$(tr '\\0' '\\n' </proc/$pid/cmdline | sed -n 's/^-Djava.io.tmpdir=//p' | tail -n 1)
for place in "$own" /tmp /var/tmp /dev/shm; do
    nsenter --target $pid --mount --setuid $user --setgid $group \
        sh -c "cp /bin/true $place/probe && $place/probe && echo $place; rm -f $place/probe" 2>&1
done
"""


@pytest.mark.parametrize(("unit", "place"), [("jicofo", "jicofo"), ("jitsi-videobridge2", "jitsi-videobridge")])
def test_a_library_is_loaded_though_tmp_runs_nothing(site: LabSite, unit: str, place: str) -> None:
    """Where JNA cannot map what it unpacked, nobody can join: each JVM has a directory of its own for that."""
    told = ssh(site, _FROM.format(unit=unit)).splitlines()
    assert told[0] == f"/var/cache/{place}"
    assert [line for line in told[1:] if "Permission denied" not in line] == []
    assert len(told) == 4


def test_what_others_depend_on_is_left_alone(site: LabSite) -> None:
    """Containers need forwarding; packages and scripts the umask; connections their time stamps, which protect nobody."""
    before = ssh(site, "cat /proc/sys/net/ipv4/ip_forward")
    ssh(site, "sysctl -qw net.ipv4.ip_forward=1")
    try:
        assert play(site, playbook="harden.yml").changed == 0
        assert ssh(site, "cat /proc/sys/net/ipv4/ip_forward") == "1"
    finally:
        # Without forwarding the kernel begins to accept redirects (linux:net/ipv4/devinet.c, inet_forward_change).
        ssh(site, f"sysctl -qw net.ipv4.ip_forward={before} net.ipv4.conf.all.accept_redirects=0")
    assert ssh(site, "umask; bash -lc umask").split() == ["0022", "0022"]
    assert ssh(site, "sysctl -n net.ipv4.tcp_timestamps") == "1"
    assert ssh(site, "grep -lE 'tcp_timestamps|accept_ra|autoconf|ip_forward' /etc/sysctl.d/*ratssaal*; true") == ""


# A router that advertises 2001:db8:77::/64 (RFC 4861 4.2 and 4.6.2); the kernel adds the checksum.
_ADVERTISE = """
import socket, struct, time
prefix = socket.inet_pton(socket.AF_INET6, "2001:db8:77::")
sent = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0) + struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 300, 300, 0) + prefix
line = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
for _ in range(10):
    line.sendto(sent, ("ff02::1", 0, 0, socket.if_nametoindex("slaac1")))
    time.sleep(0.5)
"""


def test_addresses_that_routers_advertise_are_taken(site: LabSite) -> None:
    """Through the hardened kernel and the firewall, on an interface that nobody configures but the kernel."""
    ssh(
        site,
        "ip netns add planted; ip link add slaac0 type veth peer name slaac1 netns planted; ip link set slaac0 up;"
        " ip -n planted link set slaac1 up; sleep 3",
    )
    try:
        ssh(site, f"ip netns exec planted python3 - <<'END'\n{_ADVERTISE}END")
        assert "2001:db8:77:" in ssh(site, "ip -6 -o address show dev slaac0")
    finally:
        ssh(site, "ip link delete slaac0; ip netns delete planted")


def test_a_second_owner_of_the_firewall_stops_a_run_before_it_begins(site: LabSite, state_home: Path) -> None:
    ssh(site, "mkdir -p /etc/ufw && echo ENABLED=yes > /etc/ufw/ufw.conf && touch /usr/sbin/ufw")
    try:
        done = ratssaal(site, state_home, "provision")
    finally:
        ssh(site, "rm -r /etc/ufw /usr/sbin/ufw")
    assert done.returncode == 3, done.stderr
    assert "ufw keeps a firewall here" in done.stderr
    assert "ufw disable" in done.stderr
