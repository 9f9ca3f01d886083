"""Hardening on hosts that are not as one expects: other ports, others' rules, a reboot in the middle. Nobody is locked out."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.evidence.results import Result
from orchestrator.lab import machines
from orchestrator.lab.lab import LabSite
from orchestrator.operations.preflight import inspect
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import failed, unexpected
from tests.scenarios.conftest import BIN, load, play, ratssaal, ssh
from tests.scenarios.test_variants import LEFT_ALONE, MISSED

PORT = 2222
OPERATORS_TABLE = """
table inet operator {
    chain count {
        type filter hook input priority filter - 5; policy accept;
        tcp dport 443 counter comment "the operator's own"
    }
}
"""


# sshd opens its port anew when it reads its settings, and nobody gets in meanwhile.
_RELOAD = "systemctl reload ssh; for i in $(seq 100); do sleep 0.2; ss -Hltn sport = :22 | grep -q . && break; done"


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
    before, gone = ssh(site, ours), "nft list tables | grep -c ratssaal; true"
    try:
        ssh(site, f"nft --file /dev/stdin <<'END'\nflush ruleset{OPERATORS_TABLE}END")
        assert ssh(site, gone) == "0"
        assert list(failed(verify(load(site), controls=("NET-03",), quick=True))) == ["NET-03"]
        ssh(site, f"for i in $(seq 60); do test $({gone}) = 1 && exit; sleep 1; done; exit 1")
        assert ssh(site, ours) == before
        assert ssh(site, "nft list tables").count("inet operator") == 1
        assert "somebody had emptied the firewall" in ssh(site, "journalctl -q -t ratssaal-firewall -p warning -o cat")
        ssh(site, "systemctl stop ratssaal-firewall && nft delete table inet ratssaal")
        ssh(site, "systemctl start ratssaal-firewall-watch.service")
        assert ssh(site, gone) == "0"
    finally:
        ssh(site, "systemctl start ratssaal-firewall; nft delete table inet operator", check=False)
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
_COUNT = """
useradd -m -s /bin/bash -G sudo clerk && echo clerk:right | chpasswd && cp -a /etc/pam.d/sshd /root/pam-sshd
sed -i '1i auth required pam_faillock.so preauth deny=3\\
auth [success=1 default=ignore] pam_unix.so\\
auth [default=die] pam_faillock.so authfail deny=3' /etc/pam.d/sshd
printf 'PasswordAuthentication yes\\nPerSourcePenaltyExemptList %s\\n' {address} > /etc/ssh/sshd_config.d/00-aaa-planted.conf
systemctl reload ssh && sleep 1
"""
_UNCOUNT = """
mv /root/pam-sshd /etc/pam.d/sshd; rm -f /etc/ssh/sshd_config.d/00-aaa-planted.conf; systemctl reload ssh
faillock --user root --reset; faillock --user clerk --reset; userdel -rf clerk 2>/dev/null; rm -rf /run/faillock; sleep 1
"""


def test_an_operators_count_of_attempts_locks_others_but_not_root(site: LabSite, tmp_path: Path) -> None:
    """Where pam_faillock counts, three wrong passwords lock an account; root gets in by key, and the control says just that."""
    try:
        ssh(site, _COUNT.format(address=site.network.outside_address))
        assert _try_password(site, tmp_path, "clerk", "right") == 0
        assert [_counted(site, user) for user in ("root", "clerk")] == [0, 0]
        for user in ("root", "clerk"):
            assert _try_password(site, tmp_path, user, "wrong") == 255
            assert _counted(site, user) == 3, user
        assert _try_password(site, tmp_path, "clerk", "right") == 255
        assert ssh(site, "id -un") == "root"
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
        ssh(site, f"{planted}; {_RELOAD}")
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
        ssh(site, f"mv /root/sshd_config {_MAIN}; rm -f /etc/ssh/sshd_config.d/00-panel.conf; {_RELOAD}")
    assert play(site, playbook="harden.yml").changed == 0


def test_the_old_state_comes_back_where_sshd_does_not_heed_the_new_one(site: LabSite) -> None:
    """On a host that nobody has hardened before, nothing of ours is left."""
    own = "/etc/ssh/sshd_config.d/00-ratssaal.conf"
    ssh(site, f"cp -p {_MAIN} /root/sshd_config; sed -i '/^Include/d' {_MAIN}; rm {own}; {_RELOAD}")
    try:
        assert "check failed: Not in effect" in play(site, playbook="harden.yml", check=False).output
        assert ssh(site, f"ls {own} 2>/dev/null; ls -A /var/lib/ratssaal/guard") == ""
    finally:
        ssh(site, f"mv /root/sshd_config {_MAIN}; {_RELOAD}")
    assert play(site, playbook="harden.yml").changed == 1
    assert failed(verify(load(site), controls=("ACC-01", "CRY-10"), quick=True)) == {}


# Each a person who gets in now: by a key that is too small, by a password, and into no group of those who may.
_PEOPLE = f"""
useradd -m -s /bin/bash -G sudo small && useradd -m -s /bin/bash -G sudo clerk && useradd -m -s /bin/bash keeper
echo clerk:x9-Kanarienvogel | chpasswd 2>/dev/null
ssh-keygen -q -t rsa -b 2048 -N '' -C small@desk -f /root/small
for who in small keeper; do
    install -d -o $who -m 0700 /home/$who/.ssh; install -o $who -m 0600 /root/small.pub /home/$who/.ssh/authorized_keys
done
mv /etc/ssh/sshd_config.d/00-ratssaal.conf /root; {_RELOAD}
"""
_NO_PEOPLE = f"""
mv /root/00-ratssaal.conf /etc/ssh/sshd_config.d; {_RELOAD}; rm /root/small*
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
        f"echo 'Port {PORT}' > /etc/ssh/sshd_config.d/10-port.conf; systemctl reload ssh; "
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
