"""The one module that opens SSH connections from Python: pinned host keys, bounded commands, typed errors.

A host key is never added silently. Ansible uses OpenSSH with the same file of pinned keys.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import logging
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

import paramiko

from orchestrator.errors import Problem, Unreachable
from orchestrator.inventory.site import Host
from orchestrator.inventory.vault import write_private
from orchestrator.transport.knownhosts import host_keys, site_of, usable

CONNECT_SECONDS = 15
# For `Connection.run`: the script is a Python program and runs as root.
PYTHON_AS_ROOT = "sh -c 'if [ \"$(id -u)\" = 0 ]; then exec python3 -; else exec sudo -n python3 -; fi'"
_CHUNK = 65536
# What one command may answer: more is no answer but a host that fills our memory.
_MOST_BYTES = 64 << 20
_END_SECONDS = 5
_WATCH_SECONDS = 0.5
# Paramiko logs a traceback of its own for what is told here as an error with a hint.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Reason(StrEnum):
    """Why a connection could not be used."""

    UNREACHABLE = "unreachable"
    AUTHENTICATION = "authentication"
    UNKNOWN_KEY = "unknown_key"
    CHANGED_KEY = "changed_key"
    TIMEOUT = "timeout"


class ConnectionFailed(Unreachable):
    """One host could not be talked to; `reason` says why, `host` is its name."""

    def __init__(self, host: str, reason: Reason, message: str, hint: str) -> None:
        super().__init__([Problem(message, host, hint)])
        self.host = host
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command on a host gave back."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host's public key as it stands in known_hosts."""

    kind: str
    base64: str

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 fingerprint as `ssh-keygen -lf` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.base64)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class _Reject(paramiko.MissingHostKeyPolicy):
    """Refuses an unknown key, keeping it so that the error can show its fingerprint."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise _UnknownKey(key)


class _UnknownKey(paramiko.SSHException):
    def __init__(self, key: paramiko.PKey) -> None:
        super().__init__("unknown host key")
        self.key = HostKey(key.get_name(), key.get_base64())


class _TooMuch(Exception):
    """A command answers without end."""


class _Lost(Exception):
    """The connection ended before the command did."""


class Connection:
    """An open connection to one host."""

    def __init__(self, host: Host, client: paramiko.SSHClient) -> None:
        self.host = host
        self._client = client

    def run(self, script: str, *, command: str = "sh -s", timeout: float = 60, silent: float | None = None) -> Answer:
        """Run a script on the host, given to `command` by standard input, and return its answer.

        Nothing of the script appears in a process list. After `timeout` seconds the host ends it, and
        ConnectionFailed (TIMEOUT) is raised; so it is for a script that prints all the time, when it was `silent` for so
        many seconds, and where the host takes nothing that is sent. A host that answers without end is ended, too: Unreachable.
        A connection that is lost meanwhile is told at once (UNREACHABLE).
        """
        stuck = max(silent or CONNECT_SECONDS, CONNECT_SECONDS) + _END_SECONDS
        with self._watched(stuck) as alive:
            return self._run(script, command, timeout, silent, alive)

    def _run(
        self, script: str, command: str, timeout: float, silent: float | None, alive: Callable[[], None]
    ) -> Answer:
        seconds, mark = max(1, int(timeout)), secrets.token_hex(16)
        out: list[bytes] = []
        channel = self._channel()
        try:
            # What the login shell's profile prints comes before the mark, and is no answer.
            told = f"echo {mark} $$; exec timeout --kill-after=5 {seconds} {command}"
            alive()
            _start(channel, told, silent or CONNECT_SECONDS)
            answer = _exchange(channel, script.encode(), out, seconds + 10, silent or seconds + 10, alive)
        except TimeoutError as error:
            self._end(_text(out).partition(mark)[2].partition("\n")[0])
            raise self._failed(str(error)) from error
        except _TooMuch as error:
            self._end(_text(out).partition(mark)[2].partition("\n")[0])
            hint = "look at what a login prints: ssh HOST true"
            raise Unreachable([Problem(str(error), self.host.name, hint)]) from error
        except _Lost as error:
            hint = "the host restarts, or the network between is gone: try again when it answers"
            message = "the connection was lost while a command ran"
            raise ConnectionFailed(self.host.name, Reason.UNREACHABLE, message, hint) from error
        except (paramiko.SSHException, EOFError) as error:
            raise self._failed(f"the host started no command: {_reason(error)}", Reason.UNREACHABLE) from error
        finally:
            channel.close()
        # 124: coreutils' timeout ended the command, 137: it had to be killed.
        if answer.code in {124, 137}:
            raise self._failed(f"a command did not end within {seconds} s")
        before, found, printed = answer.stdout.partition(mark)
        return Answer(answer.code, printed.partition("\n")[2] if found else before, answer.stderr)

    @contextmanager
    def _watched(self, seconds: float) -> Iterator[Callable[[], None]]:
        """Yield what is to be called again and again; where it was not for some seconds, the connection is ended.

        Paramiko writes without end to a host that reads nothing (Packetizer.write_all), whatever it sends, and every time
        limit of ours waits for that.
        """
        transport, over, late = self._transport(), threading.Event(), threading.Event()
        heard = [time.monotonic()]

        def watch() -> None:
            while not over.wait(_WATCH_SECONDS):
                if time.monotonic() > heard[0] + seconds:
                    late.set()
                    transport.close()
                    return

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield lambda: heard.__setitem__(0, time.monotonic())
        except Exception as error:
            if late.is_set():
                raise self._failed(f"the host took nothing for {seconds:.0f} s") from error
            raise
        finally:
            over.set()

    def _end(self, process: str) -> None:
        """Let the host end what we no longer wait for: a closed channel alone does not."""
        with suppress(Exception):
            kill = f"kill {int(process)}"
            with self._transport().open_session(timeout=_END_SECONDS) as channel:
                _start(channel, kill, _END_SECONDS)
                channel.status_event.wait(_END_SECONDS)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _transport(self) -> paramiko.Transport:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            hint = "the host closed the connection; try again"
            raise ConnectionFailed(self.host.name, Reason.UNREACHABLE, "the SSH connection is gone", hint)
        return transport

    def _channel(self) -> paramiko.Channel:
        try:
            return self._transport().open_session(timeout=CONNECT_SECONDS)
        except (paramiko.SSHException, EOFError) as error:
            raise self._failed(f"the host opened no channel: {_reason(error)}") from error

    def _failed(self, message: str, reason: Reason = Reason.TIMEOUT) -> ConnectionFailed:
        return ConnectionFailed(self.host.name, reason, message, "look at the host's load: uptime")


def connect(host: Host, known_hosts: Path, *, timeout: float = CONNECT_SECONDS) -> Connection:
    """Open a connection whose host key is the pinned one; raises ConnectionFailed otherwise."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_Reject())
    pinned = host_keys(known_hosts).lookup(known_name(host))
    # Paramiko asks for the kind of key that is pinned first; the same one as fetch_host_key shows, where it is there.
    for kind, key in sorted((pinned or {}).items(), key=lambda item: item[0] != "ssh-ed25519"):
        client.get_host_keys().add(known_name(host), kind, key)
    with _typed_errors(host, known_hosts, client):
        client.connect(
            host.address,
            port=host.port,
            username=host.user or getpass.getuser(),
            key_filename=host.key_file or None,
            look_for_keys=not host.key_file,
            timeout=timeout,
            banner_timeout=timeout,
            auth_timeout=timeout,
        )
    return Connection(host, client)


def fetch_host_key(host: Host) -> HostKey:
    """Ask the host for its public key without logging in, so that a person can compare and pin it."""
    with (
        _typed_errors(host, Path(), None),
        socket.create_connection((host.address, host.port), CONNECT_SECONDS) as plain,
    ):
        transport = paramiko.Transport(plain)
        try:
            transport.start_client(timeout=CONNECT_SECONDS)
            key = transport.get_remote_server_key()
            return HostKey(key.get_name(), key.get_base64())
        finally:
            transport.close()


def known_name(host: Host) -> str:
    """Return the host's name in known_hosts: the address, with the port where it is not 22."""
    return host.address if host.port == 22 else f"[{host.address}]:{host.port}"


def pinned_keys(host: Host, known_hosts: Path) -> tuple[HostKey, ...]:
    """Return the keys that are pinned for the host."""
    entry = host_keys(known_hosts).lookup(known_name(host))
    return tuple(HostKey(kind, key.get_base64()) for kind, key in entry.items()) if entry else ()


def pin_host_key(host: Host, known_hosts: Path, key: HostKey) -> None:
    """Write the key as the only one of this host; other hosts' lines stay as they are."""
    with usable(known_hosts):
        lines = known_hosts.read_text(encoding="utf-8").splitlines() if known_hosts.is_file() else []
        kept = [line for line in lines if not _names_host(line, known_name(host))]
        write_private(known_hosts, "\n".join([*kept, f"{known_name(host)} {key.kind} {key.base64}"]) + "\n")


def _names_host(line: str, name: str) -> bool:
    names = line.split(" ", 1)[0]
    if names.startswith("|1|"):  # OpenSSH's HashKnownHosts
        return paramiko.HostKeys.hash_host(name, names) == names
    return name in names.split(",")


def _start(channel: paramiko.Channel, command: str, seconds: float) -> None:
    """Start a command; raises TimeoutError where the host takes the channel and then does not answer.

    Paramiko waits for that answer without end (Channel._wait_for_event), until somebody closes the channel.
    """
    late = threading.Event()

    def give_up() -> None:
        late.set()
        with suppress(EOFError):  # the connection was ended meanwhile
            channel.close()

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        channel.exec_command(command)
    except (paramiko.SSHException, EOFError):
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError(f"the host did not start a command within {seconds:.0f} s")


def _exchange(
    channel: paramiko.Channel,
    data: bytes,
    out: list[bytes],
    seconds: float,
    silent: float,
    alive: Callable[[], None],
) -> Answer:
    """Send the input and collect both outputs at the same time, standard output in `out`, so that neither side waits.

    Raises TimeoutError after `seconds`, or when nothing came for `silent` seconds, _TooMuch, and _Lost.
    """
    channel.settimeout(0.05)
    err: list[bytes] = []
    size = 0
    rest: bytes | None = data
    began = heard = time.monotonic()
    while True:
        alive()
        now = time.monotonic()
        if now > began + seconds:
            raise TimeoutError(f"a command did not end within {seconds:.0f} s")
        if now > heard + silent:
            raise TimeoutError(f"the host said nothing for {silent:.0f} s")
        if rest is not None and channel.send_ready():
            try:
                rest = rest[channel.send(rest[:_CHUNK]) :]
            except OSError:
                rest = b""  # the command ended without reading all of its input, or the connection is lost: see below
            if not rest:
                rest = None
                with suppress(OSError):
                    channel.shutdown_write()
        ended = channel.exit_status_ready()
        if came := _collect(channel, out, err):
            heard, size = now, size + came
        if size > _MOST_BYTES:
            raise _TooMuch(f"the host answered more than {_MOST_BYTES >> 20} MB")
        if ended and not channel.recv_ready() and not channel.recv_stderr_ready():
            if _lost(channel):
                raise _Lost
            if channel.eof_received:
                return Answer(channel.recv_exit_status(), _text(out), _text(err))


def _lost(channel: paramiko.Channel) -> bool:
    """Say whether a channel was closed by no host: without an end of the output, or with the connection before a status.

    A command that was ended by a signal has no status either.
    """
    if not channel.closed or (channel.eof_received and channel.exit_status != -1):
        return False
    # Paramiko closes the channels before it calls the connection inactive, but keeps the reason before that.
    transport = channel.transport
    gone = transport is None or not transport.is_active() or transport.saved_exception is not None
    return not channel.eof_received or gone


def _collect(channel: paramiko.Channel, out: list[bytes], err: list[bytes]) -> int:
    """Add what came, waiting a moment for it; return how many bytes that were."""
    size = 0
    # Not for ever: our limits are looked at between two calls.
    while channel.recv_stderr_ready() and size < 16 * _CHUNK:
        err.append(channel.recv_stderr(_CHUNK))
        size += len(err[-1])
    with suppress(TimeoutError):
        if received := channel.recv(_CHUNK):
            out.append(received)
            size += len(received)
        else:
            time.sleep(0.02)  # standard output is closed, the command has not ended yet
    return size


def _text(parts: Sequence[bytes]) -> str:
    return b"".join(parts).decode(errors="replace")


@contextmanager
def _typed_errors(host: Host, known_hosts: Path, client: paramiko.SSHClient | None) -> Iterator[None]:
    """Turn what Paramiko and the socket raise into one error with a hint, and close what is half open."""
    try:
        yield
    except Exception as error:
        transport = client.get_transport() if client is not None else None
        # The host has proven itself, so that what fails now is our key's fault.
        answered = transport is not None and transport.is_active() and transport.initial_kex_done
        if client is not None:
            client.close()
        failed = (_key_fault(host, error) if answered else None) or _describe(host, known_hosts, error)
        if failed is None:
            raise
        raise failed from error


def _reason(error: Exception) -> str:
    return str(error).removeprefix("[Errno None] ").strip() or type(error).__name__


def _key_fault(host: Host, error: Exception) -> ConnectionFailed | None:
    """Return what is wrong with the private key itself; None where something else is, which `_describe` tells."""
    key = host.key_file or "in ~/.ssh"
    # As Paramiko says it where it has found no key at all (SSHClient._auth).
    if str(error) == "No authentication methods available":
        message, hint = "there is no private key to log in with", "ssh-keygen makes one; or name it in hosts.yml"
    elif isinstance(error, OSError) and error.filename is not None and not isinstance(error, FileNotFoundError):
        message, hint = (
            f"the private key {key} cannot be read: {error.strerror}",
            f"ls -ld {shlex.quote(host.key_file)}",
        )
    elif isinstance(error, ValueError) or type(error) is paramiko.SSHException:
        message = f"the private key {key} is none that can be used: {_reason(error)}"
        hint = f"ssh-keygen -y -f {shlex.quote(host.key_file)}" if host.key_file else "ls -l ~/.ssh"
    else:
        return None
    return ConnectionFailed(host.name, Reason.AUTHENTICATION, message, hint)


def _describe(host: Host, known_hosts: Path, error: Exception) -> ConnectionFailed | None:
    login = f"{host.user or getpass.getuser()}@{host.address}"
    by_hand = f"ssh -p {host.port} {login}"
    pin = f"ratssaal preflight {site_of(known_hosts)} --accept-keys"
    match error:
        case _UnknownKey():
            message = f"the host key is not pinned: {error.key.kind} {error.key.fingerprint}"
            hint = f"compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host, then: {pin}"
            return ConnectionFailed(host.name, Reason.UNKNOWN_KEY, message, hint)
        case paramiko.BadHostKeyException():
            seen = HostKey(error.key.get_name(), error.key.get_base64())
            pinned = HostKey(error.expected_key.get_name(), error.expected_key.get_base64())
            message = (
                f"the host key has CHANGED: {seen.kind} {seen.fingerprint}, pinned is {pinned.kind} "
                f"{pinned.fingerprint}; another machine may be answering"
            )
            hint = f"only if the host was really reinstalled, and after comparing the fingerprint on it: {pin}"
            return ConnectionFailed(host.name, Reason.CHANGED_KEY, message, hint)
        case paramiko.PasswordRequiredException():
            message = f"the key {host.key_file or 'in ~/.ssh'} is protected by a passphrase"
            return ConnectionFailed(host.name, Reason.AUTHENTICATION, message, f"ssh-add {host.key_file}".strip())
        case paramiko.AuthenticationException():
            offered = host.key_file or "SSH's default keys and the agent's"
            message = f"{login} does not accept {offered}"
            hint = f"ssh-copy-id -i {host.key_file or '~/.ssh/id_ed25519'}.pub -p {host.port} {login}"
            return ConnectionFailed(host.name, Reason.AUTHENTICATION, message, hint)
        case FileNotFoundError():
            message = f"the private key {host.key_file} does not exist"
            hint = "ansible_ssh_private_key_file in hosts.yml names it"
            return ConnectionFailed(host.name, Reason.AUTHENTICATION, message, hint)
        case paramiko.SSHException() | OSError() | EOFError():
            message = f"{host.address} port {host.port} does not answer as an SSH server: {_reason(error)}"
            return ConnectionFailed(host.name, Reason.UNREACHABLE, message, by_hand)
    return None
