"""Every control can fail: the host is changed, exactly this control turns, a repair is seen to help. Nothing is mocked."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.evidence.results import Result
from orchestrator.lab.lab import LabSite
from orchestrator.lab.machines import enter
from orchestrator.lab.rootfs import SUDO_USER
from orchestrator.verification.catalogue import load_catalogue
from orchestrator.verification.child import CHECKS
from orchestrator.verification.runner import verify
from tests.plain_pytest import plain_pytest
from tests.scenarios import (
    conference_breaks,
    hardening_breaks,
    inside_breaks,
    machine_breaks,
    test_browser,
    test_outside,
)
from tests.scenarios.breaks import Break, Series, controls_of, in_batches, name_of, serve_a_certificate
from tests.scenarios.conftest import RELOAD_SSH, load, play, ratssaal, ssh

_NGINX = "/etc/nginx/sites-available/*.conf"
_JVB = "/etc/jitsi/videobridge/jvb.conf"
_SANDBOX = "/etc/systemd/system/coturn.service.d/80-ratssaal-sandbox.conf"
_PLANTED_UDP = (
    "systemd-run -q --unit=planted-udp python3 -c"
    " 'import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); s.bind((str(), 4713)); time.sleep(900)'"
)
_PLANTED = "systemd-run -q --unit=planted python3 -m http.server 4712 --bind 0.0.0.0"
BREAKS = [
    Break(
        "CRY-01",
        f"sed -i 's/ssl_protocols .*;/ssl_protocols TLSv1.1 TLSv1.2 TLSv1.3;/; s/ssl_ciphers .*;/ssl_ciphers ALL:@SECLEVEL=0;/'"
        f" {_NGINX} && systemctl reload nginx && sleep 1",
        "TLSv1.1 spoken",
    ),
    Break("CRY-03", "", "9 days left", change=serve_a_certificate),
    Break(
        "CRY-10",
        f"sed -i 's/^MACs /MACs hmac-sha1,/' /etc/ssh/sshd_config.d/00-ratssaal.conf && {RELOAD_SSH}",
        "macs: hmac-sha1",
    ),
    Break(
        "NET-01",
        f"{_PLANTED} && {_PLANTED_UDP} && sleep 1",
        "python3 listens on 0.0.0.0:4712/tcp",
        "systemctl stop planted planted-udp",
        more=("python3 listens on 0.0.0.0:4713/udp",),
    ),
    Break(
        "NET-03",
        "nft add rule inet ratssaal input tcp dport 4711 accept && nft add rule inet ratssaal input udp sport 53 accept",
        "4711/tcp is let in from anywhere",
        more=(
            "every port/udp is let in from anywhere",
            "the loaded table inet ratssaal is not what /etc/ratssaal/firewall.nft gives at boot",
        ),
    ),
    # The next start would let everybody in, though what is loaded is as declared.
    Break(
        "NET-03",
        "sed -i 's/policy drop/policy accept/' /etc/ratssaal/firewall.nft"
        " && systemctl disable -q ratssaal-firewall"
        " && sed -i 's/^Before=network-pre.target /Before=/; s/sysinit.target/rescue.target/'"
        " /etc/systemd/system/ratssaal-firewall.service && systemctl daemon-reload && systemctl enable -q ratssaal-firewall",
        "which is loaded at boot, has no input chain that drops by default",
        more=("is started by rescue.target", "at any time, not before the network"),
    ),
    # What a rule drops does not reach the one below it that lets it in.
    Break(
        "NET-03",
        "nft insert rule inet ratssaal input udp dport 10000 drop",
        "10000/udp is not let in from anywhere",
    ),
    # Before there is a container engine, which forwards. Switching it sets the redirects anew (kernel: net/ipv4/devinet.c).
    Break(
        "NET-09",
        "sysctl -qw net.ipv4.ip_forward=1",
        "packets are forwarded (net.ipv4.conf.all.forwarding, ",
        "sysctl -qw net.ipv4.ip_forward=0; systemctl restart systemd-sysctl || true",
    ),
    Break(
        "NET-05",
        f'sed -i \'s/host = "127.0.0.1"/host = "0.0.0.0"/\' {_JVB} && systemctl restart jitsi-videobridge2 && sleep 6',
        "the bridge's REST interface is bound to",
        f'sed -i \'s/host = "0.0.0.0"/host = "127.0.0.1"/\' {_JVB} && systemctl restart jitsi-videobridge2 && sleep 6',
        also=("NET-01",),
    ),
    Break(
        "ACC-01",
        "sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes/' /etc/ssh/sshd_config.d/00-ratssaal.conf"
        f" && {RELOAD_SSH}",
        "passwordauthentication yes",
    ),
    Break(
        "ACC-05",
        # As a version before left it: the answer to a question that debconf takes for no password.
        "chmod 0644 /etc/turnserver.conf && secret=$(sed -n 's/^static-auth-secret=//p' /etc/turnserver.conf) && test -n \"$secret\""
        ' && echo "jitsi-meet-prosody jitsi-meet-prosody/turn-secret string $secret" | debconf-set-selections',
        "/etc/turnserver.conf 0644 root:turnserver can be read by anybody",
        more=("/var/cache/debconf/config.dat 0644 holds a copy of a secret and can be read by anybody",),
        uses="/etc/turnserver.conf",
    ),
    Break(
        "OS-02",
        'sed -i \'s/Unattended-Upgrade "1"/Unattended-Upgrade "0"/\' /etc/apt/apt.conf.d/52ratssaal-upgrades',
        "APT::Periodic::Unattended-Upgrade 0",
    ),
    Break(
        "OS-05",
        "echo 'deb [trusted=yes] file:/srv/planted ./' > /etc/apt/sources.list.d/planted.list",
        "planted.list",
        "rm /etc/apt/sources.list.d/planted.list",
    ),
    Break(
        "OS-08",
        # Started without a sandbox; then there is one, without its filter of system calls.
        f"mv {_SANDBOX} /root/sandbox && systemctl daemon-reload && systemctl restart coturn && "
        f"grep -v ^SystemCallFilter= /root/sandbox > {_SANDBOX} && systemctl daemon-reload",
        "coturn: exposure 2.7, mostly SystemCallFilter=~@",
        f"mv /root/sandbox {_SANDBOX} && systemctl daemon-reload && systemctl restart coturn && sleep 1",
        # The sandbox holds the limit for core dumps, too.
        also=("OS-12",),
        more=("coturn: started without its sandbox",),
    ),
    Break(
        "LOG-03", "sed -i 's/rotate 6/rotate 51/; s/maxage 7/maxage 400/' /etc/logrotate.d/prosody", "/var/log/prosody"
    ),
    *inside_breaks.BREAKS,
    *hardening_breaks.BREAKS,
    # Last: others restart the bridge.
    Break(
        "AVL-02",
        "systemctl stop jitsi-videobridge2 && sleep 3",
        "jitsi-videobridge2.service is inactive",
        more=("the bridge's health: 000", "Jicofo sees 0 operational bridges"),
        alone=True,
    ),
]
# Nothing can be said of them yet, whatever the host is like.
NOT_YET = {"BCK-01", "CHG-02"}


def test_every_control_has_a_negative_test() -> None:
    rows = {row.control for row in (*BREAKS, *test_outside.BREAKS, *conference_breaks.BREAKS.values())}
    # These turn on a machine with a kernel of its own, by `make test-vm` alone.
    rows |= {row.control for row in machine_breaks.BREAKS}
    rows |= {plant.control for plant in test_browser.PLANTS.values()}
    assert rows | {"CHG-01", *NOT_YET} == {control.id for control in load_catalogue()}


def test_a_converge_in_check_mode_finds_what_it_would_change(site: LabSite, state_home: Path) -> None:
    def look() -> dict[str, Any]:
        done = ratssaal(site, state_home, "verify", "--converge", "--control", "CHG-01", "--json")
        (finding,) = json.loads(done.stdout)["findings"]
        return dict(finding)

    ssh(site, f"rm {_SANDBOX}")
    try:
        finding = look()
    finally:
        play(site)
    assert finding["result"] == "fail"
    assert "a converge would change: " in finding["seen"]
    assert look()["result"] == "pass"


def test_what_cannot_be_looked_at_does_not_pass(site: LabSite) -> None:
    """The kernel of a container, backups and evidence that do not exist yet; and what the host has nothing of."""
    below = dict.fromkeys(
        ("NET-09", "NET-10", "OS-03", "OS-06", "OS-10", "OS-11"), "to the machine below this container"
    )
    named = below | {"BCK-01": "makes no backups", "CHG-02": "signs"}
    absent = {"NET-04": "no container engine", "VKS-08": "no directory of recordings", "VKS-09": "no directory of"}
    findings = verify(load(site), controls=(*named, *absent), quick=True).findings
    for finding in findings:
        wanted = Result.NOT_TESTED if finding.control in named else Result.NOT_APPLICABLE
        assert finding.result is wanted, finding
        assert (named | absent)[finding.control] in finding.reason
    assert len(findings) == len(named) + len(absent)


def test_closed_and_young_recordings_pass(site: LabSite) -> None:
    """A directory of recordings is no fault where it asks for a login, and what lies there is young."""
    server = f"/etc/nginx/sites-available/{site.domain}.conf"
    place = "location /aufnahmen/ { auth_basic x; auth_basic_user_file /dev/null; alias /srv/recordings/; }"
    try:
        ssh(site, f"mkdir /srv/recordings && echo film > '/srv/recordings/Rat im Mai.mp4' && cp -a {server} /root")
        ssh(site, f"sed -i 's#location = /config.js#{place} &#' {server} && systemctl reload nginx && sleep 1")
        closed = verify(load(site), controls=("VKS-08", "VKS-09"), quick=True).findings
        ssh(site, f"sed -i 's#auth_basic x;#autoindex on;#' {server} && systemctl reload nginx && sleep 1")
        (opened,) = verify(load(site), controls=("VKS-08",), quick=True).findings
    finally:
        ssh(site, f"rm -r /srv/recordings; mv /root/{site.domain}.conf {server} && systemctl reload nginx")
    assert [finding.result for finding in closed] == [Result.PASS, Result.PASS], closed
    assert "/aufnahmen/Rat%20im%20Mai.mp4 answers 401" in closed[0].seen
    assert opened.result is Result.FAIL
    assert "answers 200 with the recording" in opened.seen
    assert "lists Rat%20im%20Mai.mp4" in opened.seen


@pytest.fixture(scope="module")
def series(site: LabSite) -> Series:
    """What the rows have done to the host so far."""
    return Series(site, quick=True)


@pytest.mark.parametrize("batch", in_batches(BREAKS), ids=name_of)
def test_controls_turn(series: Series, batch: tuple[Break, ...]) -> None:
    assert series.turn(*batch) == controls_of(batch)


def test_one_converge_repairs_it_all(series: Series) -> None:
    assert series.repair() == {}


@pytest.fixture
def plainly(site: LabSite) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run checks under plain pytest on a converged host."""
    environment = {"ANSIBLE_VAULT_PASSWORD_FILE": str(site.vault_password_file), "PATH": "/usr/bin:/usr/sbin:/bin"}
    with plain_pytest(site, shared=True) as argv:

        def run(
            *where: Path, user: str = "root", option: str = "--ratssaal-inside"
        ) -> subprocess.CompletedProcess[str]:
            command = [*argv, f"--hosts=ssh://{user}@{site.hosts[0].address}", option, *map(str, where)]
            return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)

        yield run


def test_the_same_checks_run_under_plain_pytest(
    site: LabSite, plainly: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """All inside checks by testinfra's own ssh backend: none fails; on a broken host one does. By a user with sudo and from
    outside it is some of them."""
    good = plainly(CHECKS)
    assert re.search(r"^[5-9][0-9] passed, [0-9]+ skipped, [0-9]+ deselected in", good.stdout, re.M), (
        good.stdout + good.stderr
    )
    assert good.returncode == 0
    ssh(site, "nft add rule inet ratssaal input tcp dport 4711 accept")
    try:
        bad = plainly(CHECKS / "test_network.py")
    finally:
        ssh(site, "systemctl restart ratssaal-firewall")
    assert re.search(r"\b1 failed, [1-9] passed\b", bad.stdout), bad.stdout + bad.stderr
    assert "4711/tcp is let in from anywhere (wanted: not declared, dropped)" in bad.stdout
    files = [CHECKS / f"test_{name}.py" for name in ("access", "management", "network", "turn")]
    both = plainly(*files, user=SUDO_USER, option="--sudo")
    assert re.search(r"^10 passed in", both.stdout, re.M), both.stdout + both.stderr


def test_unreachable_host_is_an_error_and_never_a_pass(site: LabSite) -> None:
    enter(site.hosts[0], "systemctl", "stop", "ssh.service")
    try:
        report = verify(load(site), controls=("NET-01", "ACC-01"))
    finally:
        enter(site.hosts[0], "systemctl", "start", "ssh.service")
    assert [f.result for f in report.findings] == [Result.ERROR, Result.ERROR]
    assert "h1" in report.findings[0].reason
    assert report.exit_code == 6
