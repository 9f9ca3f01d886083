"""Verification when the host is not as one hopes: it says what it could not see, and still sees everything else."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.evidence.document import canonical_json
from orchestrator.evidence.html import html_page
from orchestrator.evidence.results import Result
from orchestrator.inventory.site import Site
from orchestrator.lab import processes
from orchestrator.lab.lab import LabSite
from orchestrator.lab.rootfs import SUDO_USER
from orchestrator.transport import ssh as ssh_transport
from orchestrator.verification.catalogue import load_catalogue
from orchestrator.verification.runner import verify
from orchestrator.verification.shipping import SILENT_SECONDS
from tests.scenarios.breaks import failed, serve_a_certificate, unexpected
from tests.scenarios.conftest import BIN, load, play, ratssaal, ssh, wait_for_a_bridge

INSIDE = ("NET-01", "ACC-01", "OS-08")


@contextmanager
def changed(site: LabSite, command: str, undo: str) -> Iterator[None]:
    """Change the host for a while."""
    ssh(site, command)
    try:
        yield
    finally:
        ssh(site, undo)


# Argument: what to say, "" for nothing. TCP connections stay open where nothing is said, as with a service that hangs.
_LISTEN = """
import selectors, socket, sys
said, keep, ports = sys.argv[1].encode(), [], selectors.DefaultSelector()
for port, kind in ((443, socket.SOCK_STREAM), (3478, socket.SOCK_STREAM), (3478, socket.SOCK_DGRAM), (5222, socket.SOCK_STREAM)):
    line = socket.socket(socket.AF_INET6, kind)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    line.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        line.listen(512)
    ports.register(line, selectors.EVENT_READ)
while True:
    for key, _ in ports.select():
        line = key.fileobj
        if line.type == socket.SOCK_DGRAM:
            _, peer = line.recvfrom(4096)
            if said:
                line.sendto(said, peer)
            continue
        keep.append(line.accept()[0])
        if said:
            with keep.pop() as client:
                client.sendall(said)
"""
_SERVICES = "haproxy coturn prosody"
# What looks at these services, and at who has their ports. Of the others none may change.
_LOOKING = {
    *(
        "CRY-01",
        "CRY-02",
        "CRY-03",
        "CRY-04",
        "CRY-05",
        "CRY-07",
        "CRY-08",
        "NET-01",
        "NET-05",
        "ACC-06",
        "OS-08",
        "OS-12",
    ),
    *("TRN-01", "TRN-02", "TRN-03", "TRN-04", "TRN-05", "WEB-01", "WEB-02", "WEB-03", "WEB-05", "WEB-06"),
    *("VKS-01", "VKS-02", "VKS-03", "VKS-06", "VKS-11", "LOG-01", "LOG-03", "AVL-02"),
}
# What cannot look without a log-in or a handshake says so; everything else is a fault or an error.
_FAULTY = {
    *("CRY-01", "CRY-02", "CRY-03", "CRY-04", "CRY-07", "TRN-01", "WEB-01", "WEB-02", "WEB-03", "WEB-05", "WEB-06"),
    *("VKS-03", "VKS-11", "AVL-02"),
}


@pytest.mark.parametrize(
    ("said", "more", "seconds"), [("hello", set(), 150), ("", {"NET-02"}, 300)], ids=["babble", "silence"]
)
def test_ports_that_answer_without_the_protocol_or_not_at_all_fail_and_hide_nothing(
    site: LabSite, said: str, more: set[str], seconds: float
) -> None:
    """Everything is looked at, also from outside: in bounded time, and nobody blames the vantage point or the host's SSH."""
    listen = f"cat > /run/listen.py <<'END'\n{_LISTEN}\nEND\nsystemctl stop {_SERVICES}"
    listen += f"; systemd-run -q --unit=listen python3 /run/listen.py '{said}'; sleep 1"
    try:
        with changed(site, listen, f"systemctl stop listen; systemctl start {_SERVICES}"):
            began = time.monotonic()
            report = verify(load(site))
            took = time.monotonic() - began
    finally:
        wait_for_a_bridge(site)
    assert took < seconds
    turned = unexpected(report)
    assert set(turned) == _LOOKING | more, (set(turned) ^ (_LOOKING | more), turned)
    found = failed(report)
    outside = {control for control in found if any(f.vantage != "inside" for f in found[control])}
    assert outside == _FAULTY | more, (outside ^ (_FAULTY | more), found)
    named = re.compile(
        rf"{re.escape(site.domain)}|:(?:443|3478|5222)\b|3478/udp|WebSocket|config\.js|(?i:prosody|coturn|haproxy)"
    )
    for finding in report.findings:
        if finding.control in turned and finding.result is not Result.PASS:
            told = f"{finding.seen}; {finding.reason}"
            assert named.search(told), finding
            assert not re.search("vantage point|did not run|its turn did not come|no answer within", told), finding


def _twice(site: Site) -> Site:
    """Return the site with its host once more under its IPv6 address, as a second host."""
    (host,) = site.hosts
    other = replace(host, name="h2", address=host.address6, address6="")
    hosts = {**site.topology["hosts"], "h2": {**site.topology["hosts"]["h1"], "address": other.address, "address6": ""}}
    return replace(site, hosts=(host, other), topology={**site.topology, "hosts": hosts})


def test_the_command_tells_writes_and_ends_as_it_should(site: LabSite, state_home: Path, tmp_path: Path) -> None:
    """`ratssaal verify` itself, on a whole host and on one with a stranger's socket."""
    bounded = ("--host", "h1", "--quick", "--out", str(tmp_path / "out"), "--language", "en")
    named = ("--junit", str(tmp_path / "ci/junit.xml"), "--html", str(tmp_path / "page.html"))
    whole = ratssaal(site, state_home, "verify", *bounded, *named)
    assert whole.returncode == 0, whole.stderr
    report = json.loads((tmp_path / f"out/{site.path.name}.json").read_text())
    counts = f"{report['counts']['pass']} pass, "
    assert whole.stdout.startswith(counts)
    assert whole.stdout.splitlines()[-1] == str(tmp_path / f"out/{site.path.name}.html")
    told = [line.split()[0] for line in whole.stderr.splitlines() if line.startswith("  ")]
    findings = report["findings"]
    looked_at = {
        f["control"] for f in findings if f["vantage"] == "inside" and not f["reason"].startswith("looked at from")
    }
    assert looked_at <= set(told), "each result is told as it comes"
    assert {f["host"] for f in findings} == {"h1"}
    assert not [f for f in findings if f["vantage"] not in ("inside", "compliance/waivers.yml")]
    assert {row["setting"] for row in report["loosened"]} == {"verification_sudo_users"}
    assert '<html lang="en">' in (tmp_path / "page.html").read_text()
    assert (tmp_path / "ci/junit.xml").read_text().startswith("<?xml")
    listening = "systemd-run -q --unit=planted python3 -m http.server 4712 --bind 0.0.0.0 && sleep 2"
    with changed(site, listening, "systemctl stop planted"):
        found = ratssaal(site, state_home, "verify", *bounded, "--control", "NET-01", "--control", "ACC-01")
    assert found.returncode == 6
    assert found.stdout.startswith("1 pass, 1 fail, 0 waived, 0 declared, 0 not applicable, 0 not tested, 0 error\n")
    assert "NET-01 on h1: python3 listens on 0.0.0.0:4712/tcp" in found.stderr
    assert "  hint: " in found.stderr


def test_host_that_hangs_is_an_error_in_time_and_the_others_complete(site: LabSite) -> None:
    """Python hangs for whoever comes to the IPv6 address: there the second host is looked at."""
    lines = ["#!/bin/sh", 'case "$SSH_CONNECTION" in *2001:*) exec sleep 600 ;; esac', 'exec /usr/bin/python3 "$@"']
    command = f"printf '%s\\n' {' '.join(map(repr, lines))} > /usr/local/bin/python3; chmod 0755 /usr/local/bin/python3"
    with changed(site, command, "rm /usr/local/bin/python3"):
        began = time.monotonic()
        report = verify(_twice(load(site)), controls=INSIDE)
        assert time.monotonic() - began < SILENT_SECONDS + 40
    by_host = {name: {f.result for f in report.findings if f.host == name} for name in ("h1", "h2")}
    assert by_host == {"h1": {Result.PASS}, "h2": {Result.ERROR}}
    assert all("said nothing" in finding.reason for finding in report.findings if finding.host == "h2")
    assert ssh(site, "pgrep -f '^sleep 600$' || echo none") == "none"


def test_a_slow_host_is_told_from_one_that_hangs(site: LabSite) -> None:
    loaded = load(site)
    slowly = "import time\nfor _ in range(5):\n    print('working', flush=True)\n    time.sleep(1)"
    with ssh_transport.connect(loaded.hosts[0], loaded.known_hosts) as connection:
        assert connection.run(slowly, command="python3 -", silent=3).stdout == "working\n" * 5
        with pytest.raises(ssh_transport.ConnectionFailed, match="said nothing for 3 s"):
            connection.run("import time; time.sleep(10)", command="python3 -", silent=3)


def test_sudo_that_asks_for_a_password_is_an_error_with_a_hint(site: LabSite) -> None:
    loaded = load(site)
    as_operator = replace(loaded, hosts=tuple(replace(host, user=SUDO_USER) for host in loaded.hosts))
    assert failed(verify(as_operator, controls=INSIDE)) == {}
    file = f"/etc/sudoers.d/{SUDO_USER}"
    with changed(site, f"sed -i s/NOPASSWD:// {file}", f"sed -i 's/ALL=(ALL) /ALL=(ALL) NOPASSWD:/' {file}"):
        report = verify(as_operator, controls=INSIDE)
    assert {finding.result for finding in report.findings} == {Result.ERROR}
    assert all("password is required" in f.reason and "visudo" in f.reason for f in report.findings), report.findings


def test_profile_that_prints_disturbs_nothing(site: LabSite, state_home: Path) -> None:
    """Bash reads ~/.bashrc for commands by SSH, too; what it prints comes before every answer."""
    noisy = "printf 'Welcome {\\\\377\\n[1, 2]\\n'; echo Mind the gap >&2"
    with changed(
        site,
        f'cp /root/.bashrc /root/.bashrc.kept; echo "{noisy}" > /root/.bashrc',
        "mv /root/.bashrc.kept /root/.bashrc",
    ):
        assert "Welcome" in ssh(site, "true")
        assert failed(verify(load(site), controls=INSIDE)) == {}
        for verb in ("status", "preflight"):
            done = ratssaal(site, state_home, verb)
            assert done.returncode == 0, done.stdout + done.stderr


# The port scan takes as long as everything else, and the browser loads the vantage point itself.
_TOO_LONG = {"NET-02", "VKS-03", "VKS-11"}


def test_host_under_full_load_is_still_seen(site: LabSite) -> None:
    """From inside and outside: handshakes, TURN and a conversation have limits of their own. There are twice as many loops as
    processors, each in a session of its own, or Linux gives them all together the time of one (sched_autogroup_enabled).
    """
    loops = 2 * (os.cpu_count() or 1)
    loop = 'setsid timeout 300 sh -c "while :; do :; done"'
    command = f"systemd-run -q --unit=load sh -c 'for i in $(seq {loops}); do {loop} & done; wait'"
    with changed(site, command, "systemctl stop load"):
        report = verify(load(site), controls=tuple(c.id for c in load_catalogue() if c.id not in _TOO_LONG))
        assert len(ssh(site, "pgrep -f '^sh -c while :'").split()) == loops
    for finding in (f for several in failed(report).values() for f in several):
        # Who came too late from outside may say so, and blames nobody.
        assert (finding.result, finding.vantage == "inside") == (Result.ERROR, False), finding
        assert re.search("within|in time|turn did not come", finding.reason), finding


def test_html_in_a_finding_stands_in_the_report_as_text(site: LabSite) -> None:
    """A process that listens is called `<img src=x>`."""
    command = (
        "cp /usr/bin/python3 '/run/<img src=x>' && cd / &&"
        " systemd-run -q --unit=planted '/run/<img src=x>' -m http.server 4712 --bind 0.0.0.0 && sleep 2"
    )
    with changed(site, command, "systemctl stop planted; rm '/run/<img src=x>'"):
        report = verify(load(site), controls=("NET-01",))
    assert "<img src=x> listens on 0.0.0.0:4712/tcp" in failed(report)["NET-01"][0].seen
    assert "<img src=x> listens on 0.0.0.0:4712/tcp" in canonical_json(report)
    for language in ("de", "en"):
        page = html_page(report, language)
        assert "<img" not in page
        assert "&lt;img src=x&gt;" in page


def test_broken_utf8_on_a_host_is_read_and_hides_nothing(site: LabSite) -> None:
    """A process that listens has a name that is no UTF-8."""
    name = "\"/run/$(printf 'kaputt\\377')\""
    command = f"cp /usr/bin/python3 {name} && cd / && setsid -f {name} -m http.server 4712 </dev/null >/dev/null 2>&1; sleep 2"
    with changed(site, command, f"pkill -f 'http.server 471[2]'; rm {name}"):
        report = verify(load(site), controls=INSIDE)
    found = failed(report)
    assert set(found) == {"NET-01"}, found
    assert "kaputt\N{REPLACEMENT CHARACTER} listens on 0.0.0.0:4712/tcp" in found["NET-01"][0].seen
    assert "kaputt\N{REPLACEMENT CHARACTER} listens on 0.0.0.0:4712/tcp" in canonical_json(report)
    assert report.count(Result.PASS) == len(INSIDE) - 1


def test_clock_that_is_an_hour_ahead_is_found(site: LabSite) -> None:
    """A container has the machine's clock, so every program of the host is told another time (libfaketime)."""
    library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
    ssh(site, "apt-get -qq install --yes --no-install-recommends libfaketime >/dev/null 2>&1")
    with changed(
        site,
        f"echo '+1h' > /etc/faketimerc; echo {library} > /etc/ld.so.preload",
        "rm /etc/ld.so.preload /etc/faketimerc",
    ):
        report = verify(load(site), controls=("AVL-02", "ACC-01"), quick=True)
    found = failed(report)
    assert set(found) == {"AVL-02"}
    assert re.search(r"the clock is \+(3600|35[89]\d) s off", found["AVL-02"][0].seen), found
    ssh(site, "apt-get -qq purge --yes libfaketime >/dev/null 2>&1")


def test_expired_certificate_fails(site: LabSite) -> None:
    serve_a_certificate(site, days=-1)
    try:
        found = failed(verify(load(site), controls=("CRY-03",)))
    finally:
        play(site)
    assert {finding.result for finding in found["CRY-03"]} == {Result.FAIL}
    assert "certificate has expired" in found["CRY-03"][0].seen
    assert failed(verify(load(site), controls=("CRY-03",))) == {}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended, or it is in a container with users of its own
        return b""


def test_interrupted_verification_leaves_nothing_running(site: LabSite, tmp_path: Path) -> None:
    argv = ["env", "--default-signal=INT", str(BIN / "ratssaal"), "verify", str(site.path)]
    argv += ["--vault-password-file", str(site.vault_password_file)]
    mark = f"TMPDIR={tmp_path}"
    run = subprocess.Popen(argv, env={**os.environ, "TMPDIR": str(tmp_path)}, cwd=tmp_path, stderr=subprocess.PIPE)
    assert run.stderr is not None
    assert run.stderr.readline()  # the first result is told; checks from outside are still under way
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 130
    # What a killed parent leaves is told to end, which takes a moment where the machine is busy.
    deadline = time.monotonic() + 10
    while left := [pid for pid in processes.ids() if mark.encode() in _bytes(Path(f"/proc/{pid}/environ"))]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    assert [path for path in tmp_path.iterdir() if path.name.startswith("ratssaal-verify")] == []


def test_host_that_has_ipv6_only(site: LabSite) -> None:
    """The inventory knows no IPv4 address, and the host has none: everything is looked at over IPv6."""
    host, hosts_file = site.hosts[0], site.path / "hosts.yml"
    text = hosts_file.read_text().replace(f"ansible_host: {host.address}", f"ansible_host: {host.address6}")
    hosts_file.write_text("".join(line for line in text.splitlines(True) if "base_address6" not in line))
    play(site)
    # The bridge gathers its addresses when it starts.
    command = f"ip address del {host.address}/24 dev host0; systemctl restart jitsi-videobridge2; sleep 10"
    # Both changes that could lock somebody out are made, and proven by second logins, while there is no other way in.
    lost = "rm /etc/ssh/sshd_config.d/00-ratssaal.conf /etc/ratssaal/firewall.nft; systemctl reload ssh"
    ssh(site, f"{command}; {lost}", address=host.address6)
    assert play(site).changed > 0
    assert unexpected(verify(load(site))) == {}
