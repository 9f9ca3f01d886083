"""Judging a host's facts: each lack is named with its remedy, and a fit host is not bothered."""

from __future__ import annotations

import base64
import fcntl
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import PreflightFailed, Unreachable
from orchestrator.inventory import openpgp
from orchestrator.operations import preflight, preflight_facts
from orchestrator.operations.preflight_checks import Remark, Wanted, judge_host
from orchestrator.transport.ssh import ConnectionFailed, Reason

TOPOLOGY: dict[str, Any] = {
    "hosts": {
        "meet": {
            "address": "192.0.2.10",
            "address6": "",
            "groups": ["jitsi_signalling", "jitsi_bridges", "turn_servers"],
            "ssh_port": 22,
        }
    },
    "settings": {"jitsi_domain": "meet.example.org"},
}


def topology(*, settings: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the topology of one host with everything, with changes of its entry and more settings."""
    whole = {**TOPOLOGY["hosts"]["meet"], **changes}
    return {"hosts": {"meet": whole}, "settings": {**TOPOLOGY["settings"], **(settings or {})}}


FINGERPRINT = "A" * 24 + "0123456789ABCDEF"


def signature(issuer: str) -> str:
    """Return a version 4 signature packet that names its issuer, as apt's repositories carry it."""
    fingerprint = b"\x21" + b"\x04" + bytes.fromhex(issuer)
    hashed = bytes([len(fingerprint)]) + fingerprint
    body = b"\x04\x01\x01\x08" + len(hashed).to_bytes(2, "big") + hashed + b"\x00\x00" + b"\x00\x00"
    return base64.b64encode(b"\xc2" + bytes([len(body)]) + body).decode()


def facts(**changes: Any) -> dict[str, Any]:
    """Return what a fit, fresh Debian 13 host tells, with changes."""
    return {
        "os": {"ID": "debian", "VERSION_ID": "13", "PRETTY_NAME": "Debian GNU/Linux 13 (trixie)"},
        "architecture": "x86_64",
        "python": "3.13",
        "root": True,
        "lab_host": False,
        "begun": False,
        "jitsi": [],
        "addresses": ["127.0.0.1", "192.0.2.10"],
        "input_drops": [],
        "nginx_sites": [],
        "systemd": True,
        "memory_mb": 8000,
        "disk_free_mb": {"/": 40_000, "/var": 40_000},
        "locks": [],
        "sockets": [{"proto": "tcp", "address": "0.0.0.0", "port": 22, "process": "sshd", "pid": 7}],
        "repository": {"url": "u", "error": "", "signed": signature(FINGERPRINT), "origin": "jitsi.org"},
        "time": 1000.0,
        **changes,
    }


WANTED = Wanted("https://download.jitsi.org", (FINGERPRINT,), 1001.0)


def judge(**changes: Any) -> list[Remark]:
    return judge_host("meet", facts(**changes), TOPOLOGY, WANTED)


def test_a_fit_host_is_not_bothered() -> None:
    assert judge() == []


@pytest.mark.parametrize(
    ("changes", "message", "blocking"),
    [
        (
            {"os": {"ID": "ubuntu", "VERSION_ID": "24.04", "PRETTY_NAME": "Ubuntu 24.04"}},
            "unsupported distribution: Ubuntu 24.04",
            True,
        ),
        (
            {"os": {"ID": "debian", "VERSION_ID": "11", "PRETTY_NAME": "Debian 11"}},
            "unsupported distribution: Debian 11",
            True,
        ),
        ({"os": None}, "unsupported distribution: an unknown system", True),
        ({"root": False}, "the user has no root rights without a password", True),
        ({"systemd": False}, "systemd does not run on the host", True),
        ({"architecture": "armv7l"}, "the bridge has no native libraries for armv7l", True),
        ({"memory_mb": 1000}, "too little memory: 1000 MB", True),
        ({"memory_mb": 3000}, "too little memory: 3000 MB", False),
        ({"memory_mb": None}, "the memory cannot be determined", False),
        ({"disk_free_mb": {"/": 40_000, "/var": 200}}, "too little disk space: 200 MB free below /var", True),
        ({"disk_free_mb": {"/": 5000}}, "too little disk space: 5000 MB free below /", False),
        (
            {"disk_free_mb": {"/": 40_000, "/var": None}},
            "the free disk space below /var cannot be determined",
            False,
        ),
        ({"time": 4000.0}, "the clock is 2999 s ahead of this machine's", False),
        ({"locks": None}, "the package manager's locks cannot be looked at", False),
        ({"sockets": None}, "the listening sockets cannot be looked at", False),
        ({"addresses": None}, "the addresses of the host's interfaces cannot be looked at", False),
        ({"repository": None}, "the package repository cannot be looked at", False),
    ],
)
def test_each_lack(changes: dict[str, Any], message: str, blocking: bool) -> None:
    (remark,) = judge(**changes)
    assert remark.problem.message == message
    assert remark.problem.where == "meet"
    assert remark.problem.hint
    assert remark.blocking is blocking


def test_what_hardening_will_remove_is_told_before() -> None:
    (remark,) = judge(unwanted=["autofs", "cups"], automounted_home={})
    assert remark.problem.message == "`ratssaal harden` will remove what no conferencing server needs: autofs, cups"
    assert not remark.blocking
    assert "hardening_skip: {OS-11: " in remark.problem.hint
    assert judge(unwanted=[], automounted_home={"user": "anna", "place": "/home"}) == []


def test_who_logs_in_by_a_home_of_autofs_is_not_locked_out() -> None:
    home = {"user": "anna", "place": "/home"}
    first, second = judge(unwanted=["autofs"], automounted_home=home)
    assert (first.blocking, second.blocking) == (True, False)
    assert first.problem.message.startswith("the home of anna comes by autofs (/home)")
    assert "hardening_skip: {OS-11: " in first.problem.hint


def test_the_role_says_what_hardening_removes() -> None:
    names = preflight.unwanted_packages({})
    assert {"autofs", "cups", "avahi-daemon"} <= set(names)
    assert preflight.unwanted_packages({"hardening_skip": {"OS-12": {}}}) == names
    # The remark names this control only.
    assert preflight.unwanted_packages({"hardening_skip": {"OS-11": {}}}) == []


def test_a_package_of_which_only_the_settings_are_left_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "dpkg-query"
    program.write_text("#!/bin/sh\necho installed cups\necho config-files autofs\necho not-installed nis\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert preflight_facts.installed(["autofs", "cups", "nis", "xinetd"]) == ["cups"]
    assert preflight_facts.installed([]) == []


@pytest.mark.parametrize(
    ("mount", "place"),
    [
        ("auto.home {top} autofs rw,fd=6 0 0", "{top}"),
        ("/etc/auto.direct {home} autofs rw,fd=6 0 0", "{home}"),
        ("/etc/auto.misc /misc autofs rw,fd=6 0 0", ""),
        ("auto.home {home}-else autofs rw,fd=6 0 0", ""),
        ("systemd-1 {top} autofs rw,fd=6 0 0", ""),
        ("server:/home {top} nfs4 rw 0 0", ""),
    ],
)
def test_a_home_that_autofs_brings_in_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: str, place: str
) -> None:
    home = tmp_path / "anna"
    user = SimpleNamespace(pw_name="anna", pw_dir=str(home))
    monkeypatch.setattr(preflight_facts, "pwd", SimpleNamespace(getpwnam={"anna": user}.__getitem__))
    monkeypatch.setenv("SUDO_USER", "anna")
    names = {"top": str(tmp_path), "home": str(home)}
    (tmp_path / "mounts").write_text("proc /proc proc rw 0 0\n" + mount.format(**names) + "\n")
    wanted = {"user": "anna", "place": place.format(**names)} if place else {}
    assert preflight_facts.automounted_home(str(tmp_path / "mounts")) == wanted


@pytest.mark.parametrize("owner", ["ufw", "firewalld"])
def test_a_second_owner_of_the_firewall_is_refused(owner: str) -> None:
    (remark,) = judge(firewalls=[owner])
    assert remark.blocking
    assert remark.problem.message.startswith(f"{owner} keeps a firewall")
    assert "disable" in remark.problem.hint


@pytest.mark.parametrize(
    ("settings", "found"),
    [("ENABLED=yes\nLOGLEVEL=low\n", ["ufw"]), ("# ENABLED=yes\nENABLED=no\n", []), ('ENABLED="yes"\n', ["ufw"])],
)
def test_ufw_keeps_a_firewall_where_it_is_switched_on(tmp_path: Path, settings: str, found: list[str]) -> None:
    (tmp_path / "ufw.conf").write_text(settings)
    program = tmp_path / "ufw"
    assert preflight_facts.firewalls(str(tmp_path / "ufw.conf"), str(program)) == [], (
        "removed, its settings left behind"
    )
    program.touch()
    assert preflight_facts.firewalls(str(tmp_path / "ufw.conf"), str(program)) == found


def test_the_memory_is_read_in_mebibytes(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        8131072 kB\nMemFree:          512000 kB\nMemAvailable:    4096000 kB\n")
    assert preflight_facts.memory_mb(str(meminfo)) == 7940
    meminfo.write_text("SwapTotal:        512000 kB\n")
    assert preflight_facts.attempt(preflight_facts.memory_mb, str(meminfo)) is None
    assert preflight_facts.attempt(preflight_facts.memory_mb, str(tmp_path / "none")) is None
    assert preflight_facts.attempt(preflight_facts.disk_free_mb, str(tmp_path / "none")) is None


def test_host_without_python_is_told_so_and_nothing_more() -> None:
    remarks = judge_host("meet", {"python": "", "os": {"ID": "debian", "VERSION_ID": "12"}}, TOPOLOGY, WANTED)
    assert [r.problem.message for r in remarks] == ["Python is missing on the host"]
    assert remarks[0].problem.hint == "apt-get install --yes python3"


def test_apt_lock_names_its_holder_once() -> None:
    lock = {"pid": 812, "command": "/usr/bin/dpkg", "ours": False}
    held = [{"path": path, **lock} for path in preflight_facts.APT_LOCKS[:2]]
    (remark,) = judge(locks=held)
    assert remark.blocking
    assert "process 812 (/usr/bin/dpkg)" in remark.problem.message
    assert "ps -fp 812" in remark.problem.hint


def test_apt_that_a_killed_run_left_at_work_does_not_stop_the_next() -> None:
    lock = {"pid": 812, "command": "/usr/bin/dpkg", "ours": True}
    (remark,) = judge(locks=[{"path": path, **lock} for path in preflight_facts.APT_LOCKS[:2]])
    assert not remark.blocking
    assert "process 812" in remark.problem.message


@pytest.mark.parametrize(
    ("proto", "address", "port", "process", "taken"),
    [
        ("tcp", "0.0.0.0", 80, "apache2", True),
        ("tcp", "::", 443, "apache2", True),
        ("udp", "192.0.2.10", 10000, "other", True),
        ("tcp", "127.0.0.1", 5280, "other", True),
        ("tcp", "::", 8080, "tomcat", True),
        ("udp", "0.0.0.0", 3478, "", True),
        ("tcp", "0.0.0.0", 80, "nginx", False),
        ("tcp", "::", 8080, "java", True),
        ("udp", "0.0.0.0", 80, "other", False),
        ("tcp", "192.0.2.10", 5280, "other", False),
        ("udp", "0.0.0.0", 50000, "other", False),
        ("tcp", "0.0.0.0", 9999, "other", False),
    ],
)
def test_taken_ports(proto: str, address: str, port: int, process: str, taken: bool) -> None:
    remarks = judge(sockets=[{"proto": proto, "address": address, "port": port, "process": process, "pid": 5}])
    assert [r.blocking for r in remarks] == ([True] if taken else [])
    if taken:
        assert f"port {port}/{proto} is taken by {process or 'an unseen process'}" in remarks[0].problem.message


@pytest.mark.parametrize(
    ("process", "provisioned", "taken"),
    [("nginx", True, False), ("nginx", False, True), ("apache2", True, True)],
)
def test_a_port_may_go_from_one_of_our_services_to_another(process: str, provisioned: bool, taken: bool) -> None:
    socket = {"proto": "tcp", "address": "0.0.0.0", "port": 443, "process": process, "pid": 5}
    remarks = judge(sockets=[socket], provisioned=provisioned)
    assert [r.blocking for r in remarks] == ([True] if taken else [])


@pytest.mark.parametrize("known", [{"begun": True}, {"jitsi": ["jicofo"]}, {"jitsi": None}])
def test_jicofo_is_no_other_program_in_its_place(known: dict[str, Any]) -> None:
    sockets = [{"proto": "tcp", "address": "127.0.0.1", "port": 8888, "process": "java", "pid": 5}]
    assert judge(sockets=sockets, **known) == []


@pytest.mark.parametrize(
    ("address6", "present", "missing"),
    [
        ("", ["10.0.0.5"], ["192.0.2.10 (ansible_host)"]),
        ("2001:db8::10", ["192.0.2.10", "fe80::1"], ["2001:db8::10 (base_address6)"]),
        ("2001:db8::10", ["10.0.0.5"], ["192.0.2.10 (ansible_host)", "2001:db8::10 (base_address6)"]),
        ("2001:0DB8:0::10", ["192.0.2.10", "2001:db8::10"], []),
    ],
)
def test_an_address_that_a_translation_gives_is_refused(address6: str, present: list[str], missing: list[str]) -> None:
    remarks = judge_host("meet", facts(addresses=present), topology(address6=address6), WANTED)
    assert [r.problem.message for r in remarks] == [f"{each} is on no interface of the host" for each in missing]
    assert all(r.blocking and "not supported yet" in r.problem.hint for r in remarks)


def test_a_web_server_alone_may_stand_behind_a_translation() -> None:
    assert judge_host("meet", facts(addresses=["10.0.0.5"]), topology(groups=["jitsi_signalling"]), WANTED) == []


def test_this_machines_addresses_are_seen() -> None:
    assert "127.0.0.1" in preflight_facts.addresses()


@pytest.mark.parametrize(
    ("groups", "memory", "wanted", "named"),
    [
        (["jitsi_signalling", "jitsi_bridges"], 4500, 4696, "videobridge_max_memory (3g) + jicofo_max_memory (1024m)"),
        (["jitsi_signalling", "jitsi_bridges"], 4696, 0, ""),
        (["jitsi_bridges"], 3600, 3672, "videobridge_max_memory (3g) + 600 MB"),
        (["jitsi_signalling"], 3600, 0, ""),
        (["turn_servers"], 3600, 0, ""),
    ],
)
def test_heaps_that_the_host_cannot_hold(groups: list[str], memory: int, wanted: int, named: str) -> None:
    heaps = {"videobridge_max_memory": "3g", "jicofo_max_memory": "1024m"}
    remarks = judge_host("meet", facts(memory_mb=memory), topology(groups=groups, settings=heaps), WANTED)
    assert [r.blocking for r in remarks] == [False] * bool(wanted)
    if wanted:
        assert f"{wanted} MB of {memory} MB" in remarks[0].problem.message
        assert named in remarks[0].problem.hint


def test_a_foreign_chain_that_drops_is_told_with_what_it_must_let_in() -> None:
    chain = {"family": "ip", "table": "filter", "chain": "INPUT"}
    (remark,) = judge(input_drops=[chain])
    assert not remark.blocking
    assert remark.problem.message.startswith("the chain INPUT of the table ip filter drops")
    assert "80/tcp, 443/tcp, 10000/udp, 3478/udp" in remark.problem.hint
    (unknown,) = judge(input_drops=None)
    assert not unknown.blocking
    assert "iptables -S INPUT" in unknown.problem.hint
    (other,) = judge(input_drops=[chain], firewalls=["ufw"])
    assert other.problem.message.startswith("ufw keeps a firewall"), "the chain is ufw's own"


def test_chains_of_others_that_drop_are_seen(tmp_path: Path) -> None:
    def chain(family: str, table: str, **base: str) -> dict[str, Any]:
        return {"chain": {"family": family, "table": table, "name": "INPUT", "handle": 1, **base}}

    drop, accept = {"hook": "input", "policy": "drop"}, {"hook": "input", "policy": "accept"}
    told = [
        {"metainfo": {"version": "1.1.3"}},
        chain("ip", "filter", **drop),
        chain("ip6", "filter", **accept),
        chain("ip", "docker", hook="forward", policy="drop"),
        chain("arp", "filter", **drop),
        chain("inet", "ratssaal", **drop),
        chain("inet", "f2b-table"),
    ]
    program = tmp_path / "nft"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps({'nftables': told})}\nEND\n")
    program.chmod(0o755)
    assert preflight_facts.input_drops(str(program)) == [{"family": "ip", "table": "filter", "chain": "INPUT"}]
    assert preflight_facts.attempt(preflight_facts.input_drops, str(tmp_path / "none")) is None


def test_unreachable_repository() -> None:
    (remark,) = judge(repository={"url": "https://x/InRelease", "error": "timed out", "signed": "", "origin": ""})
    assert "cannot be read from the host meet: timed out" in remark.problem.message


def test_repository_signed_by_another_key() -> None:
    other = "B" * 40
    (remark,) = judge(repository={"url": "u", "error": "", "signed": signature(other), "origin": ""})
    assert remark.blocking
    assert (
        remark.problem.message == f"the package repository is signed by another key, as the host meet sees it: {other}"
    )
    assert FINGERPRINT in remark.problem.hint


def test_unsigned_repository() -> None:
    (remark,) = judge(repository={"url": "u", "error": "", "signed": "", "origin": ""})
    assert "is not signed" in remark.problem.message


def test_stand_ins_are_refused_outside_the_lab() -> None:
    answer = {"url": "u", "error": "", "signed": signature(FINGERPRINT), "origin": "Ratssaal stand-ins"}
    assert "stand-ins" in judge(repository=answer)[0].problem.message
    assert judge(repository=answer, lab_host=True) == []


def test_all_lacks_at_once() -> None:
    assert len(judge(memory_mb=100, disk_free_mb={"/": 1}, systemd=False, root=False)) == 4


def test_keys_of_gpg_are_read(tmp_path: Path) -> None:
    environment = {"GNUPGHOME": str(tmp_path), "PATH": os.environ["PATH"]}
    tmp_path.chmod(0o700)

    def gpg(*arguments: str, data: bytes = b"") -> bytes:
        command = ["gpg", "--batch", "--quiet", "--passphrase", "", *arguments]
        return subprocess.run(command, input=data, capture_output=True, env=environment, check=True).stdout

    gpg("--quick-generate-key", "test@example.org", "ed25519", "sign", "never")
    listed = gpg("--with-colons", "--list-keys").decode()
    fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
    assert fingerprint in openpgp.key_fingerprints(gpg("--export", "--armor"))
    assert fingerprint in openpgp.key_fingerprints(gpg("--export"))
    armoured = gpg("--detach-sign", "--armor", data=b"text")
    (signer,) = openpgp.signers(armoured)
    assert openpgp.same_key(signer, fingerprint)
    assert not openpgp.same_key(signer, "B" * 40)
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n????\n-----END", b"\x99\xff\xff"]
)
def test_files_that_are_no_keys(data: bytes) -> None:
    with pytest.raises(openpgp.NotOpenPGP):
        openpgp.key_fingerprints(data)


@pytest.mark.parametrize(
    ("url", "suite", "expected"),
    [
        ("https://download.jitsi.org", "stable/", ["https://download.jitsi.org/stable/InRelease"]),
        ("http://198.18.1.1:8043/", "./", ["http://198.18.1.1:8043/InRelease"]),
        ("https://deb.example.org", "trixie", ["https://deb.example.org/dists/trixie/InRelease"]),
    ],
)
def test_where_the_index_lies(url: str, suite: str, expected: list[str]) -> None:
    settings = {"vendor_repository_url": url, "vendor_repository_suite": suite}
    assert preflight.repository_addresses(settings) == expected


def test_facts_script_runs_from_standard_input() -> None:
    encoded = base64.b64encode(json.dumps({"repository": []}).encode()).decode()
    script = Path(preflight_facts.__file__).read_text() + f'\nmain("{encoded}")\n'
    output = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, check=True).stdout
    assert json.loads(output)["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.mark.parametrize("ours", [False, True])
def test_lock_holder_is_seen_without_taking_the_lock(tmp_path: Path, ours: bool) -> None:
    path = tmp_path / "lock"
    path.touch()
    program = f"import fcntl,sys; f=open({str(path)!r},'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # As playbooks/host/ratssaal_host/apt.py starts it; tests/unit/test_modules.py holds the two together.
        env={**os.environ, "RATSSAAL_AT_WORK": "1"} if ours else None,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        (found,) = preflight_facts.locks([str(path)])
        assert found["pid"] == holder.pid
        assert "fcntl" in found["command"]
        assert found["ours"] is ours
        holder.communicate()
    assert preflight_facts.locks([str(path)]) == []
    with path.open("w") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_listening_socket_is_seen(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        (found,) = [entry for entry in preflight_facts.sockets() if entry["port"] == port]
    assert (found["proto"], found["address"], found["pid"]) == ("tcp", address, os.getpid())


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serve a directory on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_repository_is_read(tmp_path: Path, web: str) -> None:
    (tmp_path / "InRelease").write_text(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nOrigin: jitsi.org\nSuite: stable\n"
        f"-----BEGIN PGP SIGNATURE-----\n\n{signature(FINGERPRINT)}\n=abcd\n-----END PGP SIGNATURE-----\n"
    )
    answer = preflight_facts.repository([f"{web}/missing", f"{web}/InRelease"], {})
    assert (answer["error"], answer["origin"]) == ("", "jitsi.org")
    assert openpgp.signers(base64.b64decode(answer["signed"])) == (FINGERPRINT,)
    assert preflight_facts.repository([f"{web}/missing"], {})["error"] == "HTTP status 404"


def test_report_prefers_unreachable_hosts() -> None:
    failed = ConnectionFailed("meet", Reason.UNREACHABLE, "does not answer", "ssh meet")
    (remark,) = judge(systemd=False)
    report = preflight.Report((remark.problem,), (), failed.problems, {}, ())
    with pytest.raises(Unreachable) as unreachable:
        report.require()
    assert unreachable.value.exit_code == 4
    assert len(unreachable.value.problems) == 2
    with pytest.raises(PreflightFailed) as failed_check:
        preflight.Report((remark.problem,), (), (), {}, ()).require()
    assert failed_check.value.exit_code == 3
    preflight.Report((), (remark.problem,), (), {}, ()).require()


@pytest.mark.parametrize(
    ("people", "said"), [(12, "12 people are in meetings"), (1, "1 person is in meetings"), (0, ""), (None, "")]
)
def test_whoever_meets_now_is_told_before_services_restart(people: int | None, said: str) -> None:
    remarks = judge(people_in_meetings=people)
    assert [remark.blocking for remark in remarks] == [False] * bool(said)
    assert all(said in remark.problem.message and "--check" in remark.problem.hint for remark in remarks)


@pytest.mark.parametrize(
    ("told", "people"),
    [
        ('{"participants": 12}', 12),
        *((other, None) for other in ('{"x": 1}', "soon", "[]", "null", '{"participants": null}')),
    ],
)
def test_the_bridge_tells_who_meets(tmp_path: Path, web: str, told: str, people: int | None) -> None:
    (tmp_path / "stats").write_text(told)
    assert preflight_facts.attempt(preflight_facts.people_in_meetings, f"{web}/stats") == people
    assert preflight_facts.attempt(preflight_facts.people_in_meetings, f"{web}/missing") is None
