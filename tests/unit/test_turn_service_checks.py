"""What the checks of coturn make of its settings, its sockets and its answers."""

from __future__ import annotations

import pytest

from orchestrator.verification.checks import test_log_levels, test_turn_service
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import faults_of, sheet_of, subject_of


def test_software_in_a_stun_answer() -> None:
    head = "0101{:04x}2112a442" + "00" * 12
    name = b"Coturn-4.6"
    attribute = "8022" + f"{len(name):04x}" + name.hex() + "0000"
    mapped = "002000080001000000000000"
    assert test_turn_service._software(head.format(0)) == ""
    assert test_turn_service._software(head.format(24) + mapped + attribute) == "Coturn-4.6"
    assert test_turn_service._software("none") is None


_TURN = "listening-port=3478\ntcp-proxy-port=5348\nno-cli\nno-tls\nuser-quota=12\ntotal-quota=1200\nmax-bps=9\n"
_RELAY = 'tcp LISTEN 0 1024 192.0.2.10:5348 0.0.0.0:* users:(("turnserver",pid=7,fd=3))'


def _started(file: str, arguments: tuple[str, ...]) -> str:
    return "\n".join(["/usr/bin/turnserver", "-c", "/etc/turnserver.conf", *arguments, "== file ==", file])


def _served(file: str, *arguments: str, listening: str = "") -> Sheet:
    """Judge coturn with this file and these arguments."""
    answer = "010100002112a442" + "00" * 12
    said = {"args": _started(file, arguments), "ss": f"{_RELAY}\n{listening}", "python3": answer}
    return sheet_of(test_turn_service.test_turn_offers_nothing_else, said, subject=subject_of())


def _listens(address: str) -> str:
    return f'tcp LISTEN 0 5 {address} 0.0.0.0:* users:(("turnserver",pid=7,fd=9))'


def test_turn_within_bounds_and_nothing_else_passes() -> None:
    assert faults_of(_served(_TURN, "--pidfile=")) == ""
    # As coturn reads it (coturn:src/apps/relay/mainrelay.c, parse_arg_string).
    spaced = 'tcp-proxy-port\t5348\nno-cli yes\nuser-quota 12\n  total-quota = "1200"\nmax-bps 9\nweb-admin=no\n'
    assert faults_of(_served(spaced)) == ""
    usual = _TURN.replace("tcp-proxy-port=5348\n", "")
    assert faults_of(_served(usual, listening=f"{_listens('192.0.2.10:3478')}\n{_listens('[::1]:5349')}")) == ""
    assert sheet_of(
        test_turn_service.test_turn_offers_nothing_else, {"args": "\n", "ss": "", "python3": ""}, subject=subject_of()
    ).untested


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--user-quota=0"], "user-quota 0"),
        (["--total-quota", "0"], "total-quota 0"),
        (["--total-q=0"], "total-quota 0"),
        (["-vq0"], "user-quota 0"),
        (["-s", "0"], "max-bps 0"),
        (["-n"], "total-quota not set"),
        (["--web-admin"], "web-admin is on"),
    ],
)
def test_turns_arguments_win_over_its_file(arguments: list[str], fault: str) -> None:
    file = "" if "-n" in arguments else _TURN
    assert fault in faults_of(_served(file, *arguments))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("web-admin yes", "web-admin is on"),
        ("web-admin\t1", "web-admin is on"),
        ("web-admin-listen-on-workers", "web-admin-listen-on-workers is on"),
        ("user-quota = 0", "user-quota 0"),
        # Of a name that coturn does not know, it takes nothing.
        ("--web-admin", ""),
    ],
)
def test_turns_file_is_read_as_it_reads_it(line: str, fault: str) -> None:
    found = faults_of(_served(f"{_TURN}{line}\n"))
    assert (fault in found) if fault else found == ""


def test_what_manages_turn_is_found_wherever_it_listens() -> None:
    with_cli = _TURN.replace("no-cli", "no-cli=0\ncli-port=7777")
    assert "the command line (telnet) listens on 127.0.0.1:7777" in faults_of(
        _served(with_cli, listening=_listens("127.0.0.1:7777"))
    )
    web = f"{_TURN}web-admin yes\nweb-admin-port 9443\n"
    assert "the web administration listens on 127.0.0.1:9443" in faults_of(
        _served(web, listening=_listens("127.0.0.1:9443"))
    )
    # Whatever opened it, and also where the file was changed since coturn began.
    assert "coturn listens on *:9641, where it relays nothing" in faults_of(
        _served(_TURN, listening=_listens("*:9641"))
    )
    assert "the command line (telnet) listens on 127.0.0.1:5766" in faults_of(
        _served(_TURN.replace("no-cli\n", ""), listening=_listens("127.0.0.1:5766"))
    )


_QUIET = "log-file=/dev/null\nno-stdout-log\nsimple-log\n"


def _logs(file: str, *arguments: str, journal: str = "") -> Sheet:
    said = {"args": _started(file, arguments), "pid": f"open /dev/null\nLogNamespace={journal}\nnow 1700000000\n"}
    return sheet_of(test_turn_service.test_turn_log, said, subject=subject_of(jitsi_conference_log_days=7))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", ""),
        ("verbose=no\nsyslog off", ""),
        ("verbose yes", "with verbose"),
        ("Verbose\nverbose=0", "with verbose"),
        ("syslog yes", "its lines go to the system's log"),
        ("log-file=syslog", "its lines go to the system's log"),
        ("no-stdout-log=false", "its lines go to the system journal"),
        ("no-stdout-log off", "its lines go to the system journal"),
        ("log-file -", "its lines go to the system journal"),
        ("log-file /var/lib/turn/turn.log", "it writes /var/lib/turn/turn.log"),
    ],
)
def test_what_turn_writes_down_is_read_as_it_reads_it(line: str, fault: str) -> None:
    found = faults_of(_logs(f"{_QUIET}{line}\n"))
    assert (fault in found) if fault else found == ""


def test_turns_arguments_come_last_but_for_its_log() -> None:
    assert "with verbose" in faults_of(_logs(_QUIET, "-v"))
    assert faults_of(_logs(f"{_QUIET}verbose\n", "--verbose=no")) == ""
    # The file is read after the arguments there (coturn:src/apps/relay/mainrelay.c, main).
    assert faults_of(_logs(_QUIET, "--no-stdout-log=0", "--syslog=no", "-l", "/var/lib/turn/turn.log")) == ""
    assert "the system's log" in faults_of(_logs(_QUIET, "--syslog"))
    assert faults_of(_logs(_QUIET.replace("no-stdout-log\n", ""), journal="conferencing")) == ""


@pytest.mark.parametrize(
    ("line", "arguments", "loud"),
    [
        ("", (), False),
        ("verbose=no", (), False),
        ("verbose", (), True),
        ("verbose", ("--verbose=no",), False),
        ("", ("-nv",), True),
        ("", ("-V",), True),
    ],
)
def test_a_verbose_turn_logs_more_than_it_must(line: str, arguments: tuple[str, ...], loud: bool) -> None:
    said = {"args": _started(f"{_QUIET}{line}\n", arguments)}
    sheet = sheet_of(test_log_levels.test_turn_level, said, subject=subject_of())
    assert faults_of(sheet) == ("coturn runs with verbose" if loud else "")


def test_the_loudness_of_a_turn_that_does_not_run_is_not_known() -> None:
    assert sheet_of(test_log_levels.test_turn_level, {"args": "\n"}, subject=subject_of()).untested
