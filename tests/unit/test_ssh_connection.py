"""A host that takes a connection and then does not do what a host does: no command may hang, or fill our memory."""

from __future__ import annotations

import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from orchestrator.errors import InvalidSite, Unreachable
from orchestrator.inventory.site import Host
from orchestrator.transport import exchange, knownhosts, ssh
from orchestrator.transport.ssh import ConnectionFailed
from orchestrator.verification import shipping
from orchestrator.verification.shipping import Line

Exec = Callable[[paramiko.Channel], bool]


class Server(paramiko.ServerInterface):
    """Lets everybody in and leaves to the test what becomes of a command."""

    def __init__(self, run: Exec) -> None:
        self._run = run
        self.asked = 0

    def get_allowed_auths(self, username: str) -> str:
        """Keys only, as on our hosts."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """Take any key."""
        return paramiko.common.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Take any channel."""
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Answer as the test says."""
        self.asked += 1
        return self._run(channel)


@contextmanager
def _served(folder: Path, run: Exec, *, buffer: int = 0) -> Iterator[tuple[Host, Path, Server]]:
    """Yield a host, the file with its pinned key, and the server behind it, for which the system keeps `buffer` bytes."""
    own, key_file, known_hosts = paramiko.ECDSAKey.generate(), folder / "key", folder / "known_hosts"
    paramiko.ECDSAKey.generate().write_private_key_file(str(key_file))
    server, open_transports = Server(run), []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        host = Host("h1", "127.0.0.1", "", listening.getsockname()[1], "root", str(key_file), ())
        knownhosts.pin_host_key(host, known_hosts, knownhosts.HostKey(own.get_name(), own.get_base64()))

        def accept() -> None:
            with suppress(OSError):  # the test is over
                while True:
                    transport = paramiko.Transport(listening.accept()[0])
                    transport.add_server_key(own)
                    open_transports.append(transport)
                    transport.start_server(server=server, event=threading.Event())

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield host, known_hosts, server
        finally:
            for transport in open_transports:
                transport.close()


@pytest.fixture
def mute() -> Iterator[Exec]:
    """Return what takes a command and never answers; it lets go when the test is over."""
    over = threading.Event()
    yield lambda _: over.wait(30) and False
    over.set()


def test_a_host_that_takes_the_channel_and_never_starts_the_command_costs_a_bounded_time(
    tmp_path: Path, mute: Exec
) -> None:
    with _served(tmp_path, mute) as (host, known_hosts, _), ssh.connect(host, known_hosts) as connection:
        began = time.monotonic()
        with pytest.raises(ssh.ConnectionFailed, match="h1: the host did not start a command within 1 s") as caught:
            connection.run("true", silent=1)
        assert caught.value.reason is ssh.Reason.TIMEOUT
        assert time.monotonic() - began < 10


def test_a_host_that_starts_a_command_and_then_reads_nothing_costs_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(ssh, "_END_SECONDS", 0)
    over = threading.Event()

    def deaf(channel: paramiko.Channel) -> bool:
        def read() -> None:
            over.wait(60)
            raise EOFError

        assert channel.transport is not None
        monkeypatch.setattr(channel.transport.packetizer, "read_message", read)
        return True

    with _served(tmp_path, deaf, buffer=4096) as (host, known_hosts, _):
        with ssh.connect(host, known_hosts) as connection:
            plain = connection._transport().sock
            assert isinstance(plain, socket.socket)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            began = time.monotonic()
            with pytest.raises(ssh.ConnectionFailed, match="h1: the host took nothing for 2 s") as caught:
                connection.run("#" * (1 << 20), timeout=40)
            assert time.monotonic() - began < 15
        over.set()
    assert caught.value.reason is ssh.Reason.TIMEOUT


def test_a_host_that_refuses_a_command_is_an_error_with_its_name(tmp_path: Path) -> None:
    with _served(tmp_path, lambda _: False) as (host, known_hosts, _), ssh.connect(host, known_hosts) as connection:
        with pytest.raises(ssh.ConnectionFailed, match="h1: the host started no command: Channel closed") as caught:
            connection.run("true")
        assert caught.value.reason is ssh.Reason.UNREACHABLE


def test_a_connection_that_is_lost_before_a_command_starts_is_told_as_such(tmp_path: Path) -> None:
    def restart(channel: paramiko.Channel) -> bool:
        assert channel.transport is not None
        channel.transport.close()
        return False

    with (
        _served(tmp_path, restart) as (host, known_hosts, _),
        ssh.connect(host, known_hosts) as connection,
        pytest.raises(ssh.ConnectionFailed, match="h1: the connection was lost while a command ran") as caught,
    ):
        connection.run("true")
    assert caught.value.reason is ssh.Reason.UNREACHABLE


@pytest.mark.parametrize(
    ("kind", "method", "told"),
    [
        (paramiko.Channel, "exec_command", "h1: the connection was lost while a command ran"),
        (paramiko.Transport, "open_session", r"h1: the host opened no channel: .*Connection reset by peer"),
    ],
)
def test_what_the_socket_says_of_a_lost_connection_is_an_error_with_the_hosts_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, method: str, told: str
) -> None:
    def reset(*_: object, **__: object) -> None:
        connection.close()
        raise ConnectionResetError(104, "Connection reset by peer")

    with _served(tmp_path, lambda _: True) as (host, known_hosts, _), ssh.connect(host, known_hosts) as connection:
        monkeypatch.setattr(kind, method, reset)
        with pytest.raises(ssh.ConnectionFailed, match=told):
            connection.run("true")


@pytest.mark.parametrize("before", [b"", b"half an answer"])
@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("script", ["true", "#" * (8 << 20)], ids=["short", "long"])
def test_a_connection_that_is_lost_while_a_command_runs_is_told_at_once(
    tmp_path: Path, script: str, ended: bool, before: bytes
) -> None:
    def restart(channel: paramiko.Channel) -> bool:
        def end() -> None:
            channel.recv(1)  # the script comes only once our answer to the command arrived
            channel.sendall(before)
            if ended:  # an output that ends says nothing of the command, which gave no exit status
                channel.shutdown_write()
                time.sleep(0.1)
            assert channel.transport is not None
            channel.transport.close()

        threading.Thread(target=end, daemon=True).start()
        return True

    with _served(tmp_path, restart) as (host, known_hosts, _), ssh.connect(host, known_hosts) as connection:
        began = time.monotonic()
        with pytest.raises(ssh.ConnectionFailed, match="h1: the connection was lost while a command ran") as caught:
            connection.run(script, timeout=120)
        assert time.monotonic() - began < 60
    assert caught.value.reason is ssh.Reason.UNREACHABLE
    assert "try again when it answers" in str(caught.value.problems[0].hint)


@pytest.mark.parametrize("code", [0, 7, None])
def test_a_command_that_ended_without_reading_its_input_has_its_answer(tmp_path: Path, code: int | None) -> None:
    def answer(channel: paramiko.Channel) -> bool:
        def end() -> None:
            channel.recv(1)
            channel.sendall(b"done")
            if code is not None:  # else a signal ended it
                channel.send_exit_status(code)
            channel.shutdown_write()
            channel.close()

        threading.Thread(target=end, daemon=True).start()
        return True

    with _served(tmp_path, answer) as (host, known_hosts, _), ssh.connect(host, known_hosts) as connection:
        told = connection.run("#" * (8 << 20), timeout=20)
    assert told == exchange.Answer(-1 if code is None else code, "done", "")


def test_a_host_that_hangs_costs_its_time_once(tmp_path: Path, mute: Exec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "SILENT_SECONDS", 1)
    with _served(tmp_path, mute) as (host, known_hosts, server):
        line = Line(host, known_hosts)
        for _ in range(3):
            with pytest.raises(ssh.ConnectionFailed, match="did not start a command"):
                line.ship(["true"])
        line.close()
        assert server.asked == 1


def test_a_line_is_opened_before_it_is_needed_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()
    connect, connections = ssh.connect, []

    def counted(host: Host, known_hosts: Path) -> ssh.Connection:
        connections.append(connect(host, known_hosts))
        opened.set()
        return connections[-1]

    monkeypatch.setattr(ssh, "connect", counted)
    with _served(tmp_path, lambda _: True) as (host, known_hosts, server):
        line = Line(host, known_hosts)
        line.open_soon()
        assert opened.wait(10)
        assert line.connection() is connections[0]
        line.close()
        assert len(connections) == 1
        assert server.asked == 0


def test_a_line_that_could_not_be_opened_says_so_to_whoever_asks(tmp_path: Path) -> None:
    with _served(tmp_path, lambda _: True) as (host, known_hosts, _):
        known_hosts.write_text("")
        line = Line(host, known_hosts)
        line.open_soon()
        with pytest.raises(ConnectionFailed) as caught:
            line.ship(["true"])
    assert caught.value.reason == ssh.Reason.UNKNOWN_KEY


@pytest.mark.parametrize("stream", ["sendall", "sendall_stderr"])
def test_a_host_that_answers_without_end_is_an_error_before_memory_is_full(
    tmp_path: Path, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_MOST_BYTES", 3 << 20)

    def flood(channel: paramiko.Channel) -> bool:
        def send() -> None:
            with suppress(OSError, EOFError):
                while True:
                    getattr(channel, stream)(bytes(1 << 16))

        threading.Thread(target=send, daemon=True).start()
        return True

    with (
        _served(tmp_path, flood) as (host, known_hosts, _),
        ssh.connect(host, known_hosts) as connection,
        pytest.raises(Unreachable, match="h1: the host answered more than 3 MB"),
    ):
        connection.run("true", timeout=20)


@pytest.mark.parametrize("kind", ["empty", "text", "binary", "cut", "public", "directory"])
def test_a_broken_private_key_is_told_as_such(tmp_path: Path, mute: Exec, kind: str) -> None:
    with _served(tmp_path, mute) as (host, known_hosts, _):
        file = Path(host.key_file)
        good = file.read_bytes()
        file.unlink()
        if kind == "directory":
            file.mkdir()
        else:
            contents = {"empty": b"", "text": b"a key\n", "binary": b"\xb1\x00" * 99, "cut": good[:99]}
            file.write_bytes(contents.get(kind, b"ssh-ed25519 AAAA me\n"))
        with pytest.raises(ConnectionFailed) as caught:
            ssh.connect(host, known_hosts)
    assert caught.value.reason == ssh.Reason.AUTHENTICATION
    (problem,) = caught.value.problems
    assert f"the private key {file}" in problem.message
    assert str(file) in problem.hint


def test_a_host_without_ssh_is_not_the_keys_fault(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("broken")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host = Host("h1", "127.0.0.1", "", listening.getsockname()[1], "root", str(tmp_path / "key"), ())
        with pytest.raises(ConnectionFailed, match="does not answer as an SSH server"):
            ssh.connect(host, tmp_path / "known_hosts", timeout=1)


_RELAY = """
import os, socket, sys, threading
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def send():
    while data := os.read(0, 65536):
        line.sendall(data)
    line.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while data := line.recv(65536):
    os.write(1, data)
"""


def test_the_host_is_reached_through_what_ansible_goes_through(tmp_path: Path) -> None:
    """The host itself is at a name that is none here: only the jump host knows it."""
    (tmp_path / "relay.py").write_text(_RELAY)
    with _served(tmp_path, lambda _: True) as (direct, known_hosts, _):
        command = f"{sys.executable} {tmp_path}/relay.py {direct.port}"
        way = f"-F /dev/null -o {shlex.quote(f'ProxyCommand={command}')}"
        host = replace(direct, address="inside.test", ssh_arguments=way)
        knownhosts.pin_host_key(host, known_hosts, ssh.fetch_host_key(host))
        assert knownhosts.pinned_keys(host, known_hosts) == knownhosts.pinned_keys(direct, known_hosts)
        ssh.connect(host, known_hosts).close()


def test_a_way_that_ends_is_told_at_once_and_how_to_try_it(tmp_path: Path) -> None:
    way = "-F /dev/null -o ProxyCommand=false"
    host = Host("h1", "inside.test", "", 22, "root", "", (), way)
    for use in (lambda: ssh.connect(host, tmp_path / "known_hosts"), lambda: ssh.fetch_host_key(host)):
        with pytest.raises(ConnectionFailed, match="does not answer as an SSH server") as caught:
            use()
        assert caught.value.problems[0].hint == f"ssh {way} -p 22 root@inside.test"


def test_what_a_jump_host_says_is_told_and_nothing_asks_at_the_terminal(tmp_path: Path) -> None:
    """A command with a terminal would ask there for a passphrase, and take what is typed for us."""
    said = "import os, sys; print('a session of its own:', os.getsid(0) == os.getpid(), file=sys.stderr); sys.exit(255)"
    way = f"-F /dev/null -o {shlex.quote(f'ProxyCommand={sys.executable} -c {shlex.quote(said)}')}"
    host = Host("h1", "inside.test", "", 22, "root", "", (), way)
    for use in (lambda: ssh.connect(host, tmp_path / "known_hosts"), lambda: ssh.fetch_host_key(host)):
        with pytest.raises(ConnectionFailed, match="a session of its own: True") as caught:
            use()
        assert caught.value.reason is ssh.Reason.UNREACHABLE


def test_a_jump_hosts_command_does_not_outlive_a_connection_that_failed(tmp_path: Path) -> None:
    command = f"sh -c {shlex.quote(f'echo $$ > {tmp_path}/pid; exec sleep 60')}"
    host = Host(
        "h1", "inside.test", "", 22, "root", "", (), f"-F /dev/null -o {shlex.quote(f'ProxyCommand={command}')}"
    )
    with pytest.raises(ConnectionFailed):
        ssh.connect(host, tmp_path / "known_hosts", timeout=1)
    process = Path("/proc", (tmp_path / "pid").read_text().strip())
    deadline = time.monotonic() + 10
    while process.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_configuration_that_does_not_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSH itself waits for such a command without end."""
    (tmp_path / "config").write_text('Match exec "sleep 60"\n')
    monkeypatch.setattr("orchestrator.transport.route.SECONDS", 0.2)
    host = Host("h1", "127.0.0.1", "", 22, "root", "", (), f"-F {shlex.quote(str(tmp_path / 'config'))}")
    for use in (lambda: ssh.connect(host, tmp_path / "known_hosts"), lambda: ssh.fetch_host_key(host)):
        with pytest.raises(ConnectionFailed, match="Match exec"):
            use()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", b"192.0.2.1 ssh-ed25519 AAA\n"])
def test_pinned_keys_that_are_none(tmp_path: Path, content: bytes) -> None:
    host, file = Host("h1", "192.0.2.1", "", 22, "root", "", ()), tmp_path / "known_hosts"
    file.write_bytes(content)
    for use in (lambda: ssh.connect(host, file), lambda: knownhosts.pinned_keys(host, file)):
        with pytest.raises(InvalidSite, match="the pinned host keys cannot be used") as caught:
            use()
        assert caught.value.exit_code == 3
        assert "--accept-keys" in caught.value.problems[0].hint


def test_pinned_keys_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the system's answer to another user is put in."""

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    host, file = Host("h1", "192.0.2.1", "", 22, "root", "", ()), tmp_path / "known_hosts"
    file.write_text("")
    monkeypatch.setattr(paramiko.HostKeys, "load", forbidden)
    monkeypatch.setattr(Path, "read_text", forbidden)
    uses = (
        ssh.connect,
        knownhosts.pinned_keys,
        lambda h, f: knownhosts.pin_host_key(h, f, knownhosts.HostKey("ssh-ed25519", "AAAA")),
    )
    for use in uses:
        with pytest.raises(InvalidSite, match="Permission denied") as caught:
            use(host, file)
        assert "chown" in caught.value.problems[0].hint
