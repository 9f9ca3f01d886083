"""What single checks make of answers that a lab host cannot give: other releases, old packages, other web servers."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import content
from orchestrator.inventory.specs import load_options
from orchestrator.verification.checks import (
    test_containers,
    test_disclosure,
    test_foreign_names,
    test_log_levels,
    test_platform,
    test_recordings,
    test_system,
    test_web,
)
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.shipping import OUTSIDE_SECONDS
from orchestrator.verification.subject import Subject
from orchestrator.verification.support import load_support, older
from tests.unit.asked import SETTINGS, TOPOLOGY, FakeHost, Said, faults_of, printed, sheet_of, subject_of


@pytest.mark.parametrize(
    ("version", "than"),
    [
        ("1.0-1183-1", "1.0-1189-1"),
        ("2.3-38-g1234567-1", "2.3-295-g0-0"),
        ("2.3-294-gffffffff-1", "2.3-295-g0-0"),
        ("0.11.9-2+deb11u2", "0.12.0"),
        ("0.12.0~rc1-1", "0.12.0"),
        ("9:1", "10:0"),
        ("1.0", "1.0+deb12u1"),
        ("1.0a", "1.0b"),
        ("1.0~", "1.0"),
        ("1.0", "1.0-1"),
    ],
)
def test_order_of_versions_is_debians(version: str, than: str) -> None:
    def dpkg(relation: str) -> bool:
        argv = ["dpkg", "--compare-versions", version, relation, than]
        return subprocess.run(argv, check=False).returncode == 0

    assert older(version, than)
    assert dpkg("lt")
    assert not older(than, version)
    assert not older(version, version)


def test_support_data_is_consistent() -> None:
    support = load_support()
    for release in support.releases:
        assert release.security_until < release.lts_until
    for known in support.advisories:
        assert known.package in support.minimum
        assert not older(support.minimum[known.package], known.fixed), known.id


def _release(
    package: str, listed: str, *, named: str = "", architecture: str = "amd64", system: str = "debian"
) -> Sheet:
    said = f"{named or package}\n{package}\n{architecture}\n{system}\n"
    # 2026-11-25
    return sheet_of(test_platform.test_release, {"cat": said, "apt-get": listed, "date": "1795600000"})


def _policy(codename: str, *, security: str = "read") -> str:
    rows = [("", "Debian", "read"), ("-updates", "Debian", "read"), ("-security", "Debian-Security", security)]
    suites = [(f"{codename}{end}", label, state) for end, label, state in rows]
    return "".join(f"http://x/|{suite}|Debian|{label}|{suite}|{state}\n" for suite, label, state in suites)


def test_release_in_long_term_support_counts_where_it_is_kept() -> None:
    supported = _release("12.12+deb12u1", _policy("bookworm"))
    assert supported.faults == []
    assert "long-term support until 2028-06-30" in "; ".join(supported.seen)
    elsewhere = _release("12.12+deb12u1", _policy("bookworm"), architecture="s390x")
    assert elsewhere.faults == [("Debian 12 on s390x: support until 2026-07-11", "until 2027-05-27 or longer")]
    assert _release("13.8+deb13u8", _policy("trixie")).faults == []


def test_release_without_support_or_sources_is_a_fault() -> None:
    assert "nothing is known of the support" in faults_of(_release("11.1+deb11u11", _policy("bullseye")))
    assert "ID ubuntu" in faults_of(_release("13ubuntu10", _policy("trixie"), named="trixie/sid", system="ubuntu"))
    assert "no lists of trixie's security archive" in faults_of(_release("13.8", _policy("trixie", security="none")))
    assert "packages from bookworm, bookworm-updates" in faults_of(
        _release("13.8", _policy("trixie") + _policy("bookworm", security="none"))
    )


_BUILD = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.48-1 (2025-09-20)"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (f"none\n6.12.48+deb13-amd64\n{_BUILD}\n6.12.48+deb13-amd64\n6.12.48-1", ""),
        (f"none\n6.12.48+deb13-amd64\n{_BUILD}\n6.12.57+deb13-amd64\n6.12.48-1", "6.12.57+deb13-amd64 is the newest"),
        (f"none\n6.12.48+deb13-amd64\n{_BUILD}\n6.12.48+deb13-amd64\n6.12.48-2", "6.12.48-2 is installed"),
    ],
)
def test_running_kernel_must_be_the_installed_one(said: str, fault: str) -> None:
    sheet = sheet_of(test_platform.test_kernel, {"systemd-detect-virt": said})
    assert fault in faults_of(sheet)
    assert bool(sheet.faults) is bool(fault)
    assert sheet.untested == []


@pytest.mark.parametrize(
    ("runs", "newest"),
    [
        ("6.12.43+deb13-amd64", "6.12.48+deb13-amd64"),
        ("6.12.43+deb13-cloud-amd64", "6.12.43+deb13-cloud-amd64"),
        # Its packages were removed while it runs: what the next boot takes counts.
        ("6.1.0-9-rt-amd64", "6.12.48+deb13-amd64"),
        ("6.1.0-28-686-pae", "6.1.0-30-686-pae"),
    ],
)
def test_the_newest_kernel_is_one_of_the_flavour_that_runs(tmp_path: Path, runs: str, newest: str) -> None:
    for name in ("6.12.43+deb13-amd64", "6.12.48+deb13-amd64", "6.12.43+deb13-cloud-amd64", "6.1.0-30-686-pae"):
        (tmp_path / f"vmlinuz-{name}").touch()
    command = test_platform._NEWEST.replace("/boot/", f"{tmp_path}/").replace("$(uname -r)", runs)
    assert printed(command) == f"{newest}\n"


def test_kernel_that_is_not_the_hosts_is_not_tested() -> None:
    for said, reason in (
        ("systemd-nspawn\n6.1\n#1 SMP\n\n", "belongs to the machine below this container (systemd-nspawn)"),
        ("none\n6.1\n#1 SMP\n\n", "comes from no package of this host"),
    ):
        sheet = sheet_of(test_platform.test_kernel, {"systemd-detect-virt": said})
        assert reason in sheet.untested[0]


def _packages(changed: dict[str, str], locked: dict[str, str] | None = None, held: str = "") -> Sheet:
    """Judge packages at these versions; all are held where `held` names none."""
    versions = dict.fromkeys(("jitsi-meet-prosody", "jitsi-meet-web", "jitsi-meet-web-config"), "1.0.9321-1")
    versions |= {"jicofo": "1.0-1189-1", "jitsi-videobridge2": "2.3-307-g4bb0aead1-1", "prosody": "13.0.1-1", **changed}
    wish = {name: "hold" if name in (held or versions) else "install" for name in versions}
    rows = "".join(f"{name} {version} installed {wish[name]}\n" for name, version in versions.items() if version)
    return sheet_of(
        test_platform.test_packages, {"dpkg-query": rows}, subject=subject_of(vendor_repository_versions=locked or {})
    )


def test_packages_old_missing_free_or_off_their_lock_are_faults() -> None:
    good = _packages({})
    assert good.faults == []
    until = load_support().advisories_read_until.isoformat()
    told = f"Jitsi's advisories known to this version were read until {until}, newer ones are not compared"
    assert good.seen[-1] == told
    old = _packages({"jicofo": "1.0-1124-1"})
    assert ("jicofo 1.0-1124-1", "at least 1.0-1183-1") in old.faults
    assert ("jicofo 1.0-1124-1 has JSA-2025-0001 (unsafe XML parsing lets anybody stop it)", "1.0-1133-1 or newer") in (
        old.faults
    )
    assert "jitsi-meet-web is not installed" in faults_of(_packages({"jitsi-meet-web": ""}))
    assert _packages({}, {"jicofo": "1.0-1201-1"}).faults == [("jicofo 1.0-1189-1", "1.0-1201-1, as locked")]
    assert "prosody 13.0.1-1 is not held" in faults_of(_packages({}, held="jicofo"))


def test_every_package_that_the_roles_take_from_jitsi_can_be_locked_and_no_other() -> None:
    files = [path for part in ("tasks", "vars") for path in content.root().glob(f"roles/*/{part}/main.yml")]
    lines = [line for path in files for line in path.read_text().splitlines() if _TAKEN.match(line)]
    taken = {name for line in lines for name in re.findall(r"\bjicofo\b|\bjitsi-[a-z0-9-]+", line)}
    known = set(load_options()["vendor_repository_versions"].options)
    assert known == taken == set(load_support().minimum) - {"prosody"}


_TAKEN = re.compile(r" *(names|__[a-z]+_packages): ")


def test_pending_update_of_a_held_package_is_seen() -> None:
    def package(candidate: str, archive: str) -> str:
        return (
            f"prosody:\n  Installed: 13.0.1-1\n  Candidate: {candidate}\n  Version table:\n     {candidate} 500\n"
            f"        500 http://deb.debian.org/debian-security {archive}/main amd64 Packages\n *** 13.0.1-1 500\n"
            "        500 http://deb.debian.org/debian trixie/main amd64 Packages\n        100 /var/lib/dpkg/status\n"
        )

    assert test_system._pending(package("13.0.1-1+deb13u1", "trixie-security")) == {"prosody": "13.0.1-1+deb13u1"}
    assert test_system._pending(package("13.0.1-1+deb13u1", "trixie-updates")) == {}
    assert test_system._pending(package("13.0.1-1", "trixie-security")) == {}


_NO_RULES = '{"nftables": []}'
_ENGINE = {
    "for name in docker podman nerdctl": "",
    "ss": "",
    "if command -v nft": _NO_RULES,
    "for name in iptables": "",
}
_SILENT = {"if command -v docker": "", "if command -v podman": ""}


def _ports(said: Said, **settings: Any) -> Sheet:
    return sheet_of(
        test_containers.test_container_ports, {**_ENGINE, **_SILENT, **said}, subject=subject_of(**settings)
    )


def test_ports_that_docker_tells_of_are_faults_unless_declared_or_local() -> None:
    here = {"for name in docker podman nerdctl": "/usr/bin/docker\n"}
    row = {"Names": "cloud", "Ports": "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 127.0.0.1:9000->9000/tcp, 443/tcp"}
    told = {**here, "if command -v docker": json.dumps(row) + "\n"}
    assert faults_of(_ports(told)) == (
        "8080/tcp is published on 0.0.0.0 by docker's cloud; 8080/tcp is published on [::] by docker's cloud"
    )
    for port, faults in ((8080, 0), ("8000-8100", 0), ("8081-8100", 2)):
        flow = {"proto": "tcp", "port": port}
        assert len(_ports(told, firewall_extra_flows=[flow]).faults) == faults
    silent = _ports({**here, "if command -v docker": (1, "Cannot connect to the Docker daemon")})
    assert silent.faults == []
    assert "Cannot connect" in silent.untested[0]
    with pytest.raises(NotApplicable):
        _ports({})


def test_rules_that_forward_are_found_in_every_form() -> None:
    def match(protocol: str, field: str, right: Any) -> dict[str, Any]:
        return {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}}

    ports = {"key": {"payload": {"protocol": "tcp", "field": "dport"}}, "data": {"set": [[9001, "10.0.0.2"]]}}
    expressions: list[list[dict[str, Any]]] = [
        [match("udp", "dport", {"set": [{"range": [8084, 8087]}]}), {"dnat": {"addr": "10.0.0.2"}}],
        # What iptables-nft leaves for nft to show.
        [match("tcp", "dport", 8090), {"counter": {}}, {"xt": {"type": "target", "name": "DNAT"}}],
        [match("ip", "daddr", "127.0.0.1"), match("tcp", "dport", 8091), {"dnat": {"addr": "10.0.0.2"}}],
        [{"dnat": {"addr": {"map": ports}}}],
        [{"dnat": {"addr": "10.0.0.2"}}],
        [match("tcp", "dport", 22), {"accept": None}],
    ]
    rules = [{"rule": {"family": "ip", "table": "nat", "chain": "D", "expr": each}} for each in expressions]
    saved = (
        "*nat\n-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8090 -j DNAT --to-destination 172.17.0.9:80\n"
        "-A DOCKER -d 127.0.0.1/32 -p tcp -m tcp --dport 8091 -j DNAT --to-destination 172.17.0.9:80\n"
    )
    found = _ports({"if command -v nft": json.dumps({"nftables": rules}), "for name in iptables": saved})
    assert [seen.split(" by ")[0] for seen, _ in found.faults] == [
        "every port/any is published on any address",
        "8090/tcp is published on any address",
        "8090/tcp is published on any address",
        "9001/tcp is published on any address",
        "8084-8087/udp is published on any address",
    ]


def test_without_nginxs_own_account_nothing_is_known() -> None:
    said = {
        "\nconfigured": "",
        "nginx": "",
        "date": "1000000000",
        "cat": "log /dev/log local0 warning",
        "for folder": "",
    }
    for check in (test_recordings.test_recordings_are_closed, test_recordings.test_recordings_are_young):
        assert "nginx does not tell" in sheet_of(check, said, subject=subject_of()).untested[0]
        with pytest.raises(NotApplicable):
            sheet_of(check, {**said, "nginx": "server { listen 80; }"}, subject=subject_of())
    assert "nginx does not tell" in sheet_of(test_log_levels.test_web_levels, said, subject=subject_of()).untested[0]


def test_recordings_behind_links_and_on_other_disks_are_found(tmp_path: Path) -> None:
    """The command itself, with directories of this test's own in place of the usual ones."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        film = Path(elsewhere) / "2026" / "rat.mp4"
        film.parent.mkdir()
        film.write_text("film")
        (tmp_path / "recordings").symlink_to(elsewhere)
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "archive").symlink_to(elsewhere)
        (Path(elsewhere) / "loop").symlink_to(elsewhere)
        ours = f"{tmp_path}/recordings {tmp_path}/inner"
        command = test_recordings._RECORDINGS.replace("/srv/recordings /tmp/recordings", ours)
        shown = printed(command)
    folders, files = test_recordings._recordings(shown)
    assert folders == ours.split()
    found = [f"{tmp_path}/inner/archive/2026/rat.mp4", f"{tmp_path}/recordings/2026/rat.mp4"]
    assert sorted(file.path for file in files) == found


def test_recordings_are_judged_by_age_and_answer() -> None:
    files = "1000000000.5|/srv/recordings|/srv/recordings/old.mp4\n|/srv/recordings|\n"
    nginx = "server { listen 443 ssl; server_name meet.example.org; location /r/ { alias /srv/recordings/; } }"
    said = {"\nconfigured": files, "nginx": nginx, "date": str(1000000000 + 31 * 86400), "for folder": ""}
    old = sheet_of(test_recordings.test_recordings_are_young, said, subject=subject_of())
    assert old.faults == [("/srv/recordings/old.mp4 is 31 days old", "gone after 30 days")]

    def asked(answer: str, above: str = "HTTP/1.1 403 Forbidden\n") -> Sheet:
        begin = "curl -sk -m 8 --noproxy '*' --resolve meet.example.org:443:192.0.2.10"
        curls = {f"{begin} -o": answer, f"{begin} -i": above}
        return sheet_of(test_recordings.test_recordings_are_closed, {**said, **curls}, subject=subject_of())

    for answer in ("403||other", "404||other", "200||other"):
        assert (asked(answer).faults, asked(answer).untested) == ([], [])
    assert "https://meet.example.org/r/old.mp4 answers 200 with the recording" in faults_of(asked("200||same"))
    assert "whether a login follows was not tried" in asked("302|https://login.example.org/|other").untested[0]
    # Nobody was there to refuse it.
    for answer in ("000||other", "502||other", "429||other"):
        assert asked(answer).faults == []
        assert "https://meet.example.org/r/old.mp4" in asked(answer).untested[0]
    assert "/r/ lists old.mp4" in faults_of(asked("403||other", "HTTP/1.1 200 OK\n\n<a href='old.mp4'>"))
    assert "/r/ does not answer" in asked("403||other", "").untested[0]


@pytest.mark.parametrize(
    ("table", "targets"),
    [
        ('{\n\tinfo = "/var/log/prosody/prosody.log";\n\terror = "e";\n}', [("/var/log/prosody/prosody.log", "info"), ("e", "error")]),
        ('{\n\t{\n\t\tto = "syslog";\n\t\tlevels = {\n\t\t\t"warn", "error";\n\t\t};\n\t};\n}', [("syslog", "warn")]),
        ('{ { levels = { min = "debug" }, to = "file", filename = "x" } }', [("x", "debug")]),
        # Without levels a target takes everything.
        ('{ { to = "console" } }', [("console", "debug")]),
        ('{ "*syslog"; }', [("*syslog", "debug")]),
        ('{ ["debug"] = "x" }', [("x", "debug")]),
        ('{ { to = "syslog", levels = "error" } }', [("syslog", "error")]),
        ("nil", [("nil", "info")]),
        ('"*console"', [('"*console"', "debug")]),
    ],
)  # fmt: skip
def test_log_targets_of_prosody(table: str, targets: list[tuple[str, str]]) -> None:
    assert list(test_log_levels._prosody_targets(table)) == targets


@pytest.mark.parametrize(
    ("properties", "loggers"),
    [
        # jitsi-videobridge:lib/logging.properties: the handler lets everything through, the loggers do not
        ("handlers=java.util.logging.ConsoleHandler\njava.util.logging.ConsoleHandler.level = ALL\n.level=INFO", [("", "INFO")]),
        ("handlers= java.util.logging.ConsoleHandler\n.level=FINE", [("", "INFO")]),
        ("handlers=java.util.logging.FileHandler\n.level=FINE", [("", "FINE")]),
        ("handlers=x.Own\nx.Own.level=ALL\n#.level=ALL\norg.jitsi.level=FINEST", [("", "INFO"), ("org.jitsi", "FINEST")]),
        ("handlers=x.Own\nx.Own.level=ALL\n.level=500", [("", "ALL")]),
        ("", [("", "INFO")]),
    ],
)  # fmt: skip
def test_java_loggers_are_as_loud_as_their_handlers_let_them(properties: str, loggers: list[tuple[str, str]]) -> None:
    assert test_log_levels._loggers(properties) == loggers


def test_java_settings_changed_after_the_start_are_not_known() -> None:
    def looked(changed: int, started: str = "@1000") -> Sheet:
        said = f"java\n-Dconfig.file=/x\n\n{started}\n{changed}\n\n.level=WARNING\n"
        return sheet_of(test_log_levels.test_java_levels, {"for each": said}, subject=subject_of())

    assert looked(999).untested == []
    assert "were changed after it started" in looked(1001).untested[0]
    stopped = sheet_of(test_log_levels.test_java_levels, {"for each": "\n\n\n0\n\n"}, subject=subject_of())
    assert stopped.untested == ["jicofo does not run", "jitsi-videobridge2 does not run"]
    # A script of System V's: systemd knows no main process.
    unknown = looked(999, "")
    assert [text.partition(":")[2] for text in unknown.untested] == [
        " systemd does not tell when it started, and so not which log settings it read"
    ] * 2
    assert unknown.faults == []


def test_a_haproxy_without_settings_is_not_known() -> None:
    said: Said = {"\nconfigured": "", "nginx": "server { listen 80; }", "cat": (1, "No such file or directory")}
    sheet = sheet_of(test_log_levels.test_web_levels, said, subject=subject_of())
    assert sheet.untested == ["HAProxy, which is to stand before nginx, has no settings: No such file or directory"]


def _web(answers: Callable[[str], str]) -> Sheet:
    sheet, outside = Sheet(), FakeHost({})
    outside._answer = lambda command: (0, answers(command).encode(), b"")  # type: ignore[method-assign]
    test_web.test_headers(host=None, outside=outside, subject=subject_of(), sheet=sheet)
    return sheet


def _web_checks() -> Iterator[Callable[..., None]]:
    """Yield the checks that ask by curl alone, from outside."""
    for module in (test_web, test_disclosure, test_foreign_names):
        for name, check in inspect.getmembers(module, inspect.isfunction):
            outside = "outside" in inspect.signature(check).parameters
            if name.startswith("test_") and outside and not name.endswith("_for_strangers"):
                yield check


@pytest.mark.parametrize("check", list(_web_checks()))
def test_a_web_server_that_says_nothing_takes_no_more_than_all_requests_of_a_check_may(
    check: Callable[..., None],
) -> None:
    """On a vantage point with one core, which makes two requests at a time: it would be blamed for the host otherwise."""
    asked = []

    def silent(command: str) -> tuple[int, bytes, bytes]:
        if not command.startswith("curl "):
            return 0, b"192.0.2.9\n", b""
        asked.append(command)
        return 28, b"curl: (28) Operation timed out", b""

    outside, both = FakeHost({}), replace(subject_of(), address6="2001:db8::10")
    outside._answer = silent  # type: ignore[method-assign]
    check(host=None, outside=outside, subject=both, sheet=Sheet())
    seconds = [float(word) for command in asked for word in re.findall(r" -m (\S+)", command)]
    assert len(seconds) == len(asked) > 0
    assert sum(seconds) / 2 + max(seconds) <= OUTSIDE_SECONDS


def test_a_request_whose_turn_did_not_come_is_no_fault_of_the_host() -> None:
    outside, sheet = FakeHost({}), Sheet()
    late = (124, b"", b"its turn did not come: the others took all of 120 s")
    outside._answer = lambda command: late if command.startswith("curl") else (0, b"192.0.2.9", b"")  # type: ignore[method-assign]
    test_web.test_headers(host=None, outside=outside, subject=subject_of(), sheet=sheet)
    assert sheet.faults == []
    assert sheet.untested[0] == "https://meet.example.org/ (IPv4): its turn did not come: the others took all of 120 s"


def test_header_that_is_sent_twice_or_not_at_all_is_a_fault() -> None:
    from orchestrator.inventory.derivations import content_security_policy

    policy = content_security_policy(SETTINGS)
    good = [
        f"Content-Security-Policy: {policy}",
        "x-content-type-options: nosniff",
        "Referrer-Policy: no-referrer",
        "Permissions-Policy: camera=(self), microphone=self, display-capture=(self), geolocation=()",
    ]

    def answer(*lines: str) -> Callable[[str], str]:
        return lambda command: "\r\n".join(["HTTP/1.1 200 OK", *lines, "", "body"])

    assert _web(answer(*good)).faults == []
    twice = _web(answer(*good, "Content-Security-Policy: default-src *"))
    assert len(twice.faults) == 10
    assert twice.faults[0][0].endswith("default-src *")
    without = _web(answer(*good[:3], "Permissions-Policy: camera=(self), microphone=*"))
    assert "Permissions-Policy microphone *" in faults_of(without)
    nobody = _web(answer(*good[:3], "Permissions-Policy: camera=(), microphone=(self), display-capture=(self)"))
    assert all(seen.endswith("Permissions-Policy camera ()") for seen, _ in nobody.faults)
    assert len(nobody.faults) == 10
    assert "Permissions-Policy display-capture not named" in faults_of(without)
    dark = _web(lambda command: "curl: (7) Couldn't connect to server")
    assert len(dark.faults) == 10
    refused = "curl: (7) Failed to connect to meet.example.org port 443 after 0 ms: Couldn't connect to server"
    unrouted = _web(lambda command: "none" if "SOCK_DGRAM" in command else refused)
    assert unrouted.faults == []
    (reason,) = unrouted.untested
    assert "the vantage point has no way to " in reason


def _alike(other: str, *, way: str = "2001:db8::9") -> Sheet:
    """Look over two addresses, of which the second serves another config.js and has another way."""

    def answer(command: str) -> tuple[int, bytes, bytes]:
        away = "2001:db8::10" in command
        if "SOCK_DGRAM" in command:
            return 0, (way if away else "192.0.2.9").encode(), b""
        body = other if away and "config.js" in command else "page"
        return 0, f"HTTP/1.1 200 OK\r\n\r\n{body}".encode(), b""

    sheet, outside = Sheet(), FakeHost({})
    outside._answer = answer  # type: ignore[method-assign]
    subject = replace(subject_of(), address6="2001:db8::10")
    test_web.test_every_address_serves_the_same(host=None, outside=outside, subject=subject, sheet=sheet)
    return sheet


def test_every_address_must_serve_the_same() -> None:
    assert (_alike("page").faults, _alike("page").untested) == ([], [])
    assert faults_of(_alike("another")) == "/config.js is another over 192.0.2.10 and 2001:db8::10"
    unseen = _alike("another", way="none")
    assert (unseen.faults, unseen.untested) == ([], ["the vantage point has no way to 2001:db8::10"])


_TABLES = """\
  NAME                                    DESCRIPTION                                             EXPOSURE
+ SystemCallFilter=~@swap                 System call allow list defined for service              {swap}
- PrivateNetwork=                         Service has access to the host's network                     0.5
- MemoryDenyWriteExecute=                 Service may create writable executable memory mappings       0.1
- RestrictAddressFamilies=~AF_(INET|INET6)  Service may allocate Internet sockets                      0.3
- CapabilityBoundingSet=~CAP_SET(UID|GID|PCAP)  Service may change UID/GID identities/capabilities     0.3
  Delegate=                               Service does not maintain its own delegated control group

-> Overall exposure level for coturn.service: {level}
"""


@pytest.mark.parametrize(
    ("told", "faults", "untested"),
    [
        (_TABLES.format(swap="", level="2.0 OK :-)"), "", []),
        (
            _TABLES.format(swap="", level="2.1 OK :-)"),
            "coturn: exposure 2.1, mostly CapabilityBoundingSet=~CAP_SET(UID|GID|PCAP) 0.3, MemoryDenyWriteExecute= 0.1",
            [],
        ),
        ("Unit coturn.service not found, cannot analyze.", "", ["systemd-analyze tells no exposure of coturn"]),
    ],
    ids=["within", "above", "unknown"],
)
def test_a_unit_may_not_be_exposed_beyond_its_limit(told: str, faults: str, untested: list[str]) -> None:
    topology = {**TOPOLOGY, "settings": {**SETTINGS, "jitsi_turn_tls": "port5349"}}
    subject = Subject("h1", "192.0.2.10", "", ("turn_servers",), topology)
    said = {"LC_ALL=C systemd-analyze security": told, "python3 -c": "coturn.service turnserver 1\n"}
    sheet = sheet_of(test_system.test_sandboxes, said, subject=subject)
    assert faults_of(sheet) == faults
    assert sheet.untested == untested


def test_exposures_of_several_units_are_told_apart() -> None:
    first = _TABLES.format(swap="0.2", level="5.2 MEDIUM :-|")
    second = first.replace("coturn", "nginx").replace("5.2 MEDIUM :-|", "10.0 DANGEROUS >:-(")
    found = test_system.exposures(f"{first}\n\n{second}")
    assert {unit: row.level for unit, row in found.items()} == {"coturn": 5.2, "nginx": 10.0}
    assert [len(row.points) for row in found.values()] == [5, 5]


@pytest.mark.parametrize(
    ("processes", "faults", "untested"),
    [
        ([("turnserver", "1")], "", []),
        ([("turnserver", "1"), ("turnserver", "0")], "coturn: started without its sandbox", []),
        ([("root", "1")], "coturn: runs as root", []),
        ([], "", ["coturn does not run"]),
    ],
    ids=["inside", "outside", "root", "nothing"],
)
def test_processes_run_in_their_sandbox(processes: list[tuple[str, str]], faults: str, untested: list[str]) -> None:
    sheet = Sheet()
    test_system._judge_processes("coturn", processes, sheet)
    assert faults_of(sheet) == faults
    assert sheet.untested == untested
