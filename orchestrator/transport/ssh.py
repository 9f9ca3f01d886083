"""The one module that opens SSH connections from Python: pinned host keys, bounded commands, typed errors.

A host key is never added silently. Ansible uses OpenSSH with the same file of pinned keys.
"""

from __future__ import annotations

import getpass
import logging
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Self

import paramiko

from orchestrator.errors import Problem, Unreachable
from orchestrator.inventory.site import Host
from orchestrator.transport import route
from orchestrator.transport.exchange import Answer, Lost, TooMuch, exchange, start, text
from orchestrator.transport.knownhosts import HostKey, host_keys, known_name, site_of

CONNECT_SECONDS = 15
# For `Connection.run`: the script, a shell's or a Python program, runs as root.
SHELL_AS_ROOT, PYTHON_AS_ROOT = (
    f"sh -c 'if [ \"$(id -u)\" = 0 ]; then exec {program}; else exec sudo -n {program}; fi'"
    for program in ("sh -s", "python3 -")
)
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


# Why a connection failed, the message and the hint.
_Told = tuple[Reason, str, str]


class ConnectionFailed(Unreachable):
    """One host could not be talked to; `reason` says why, `host` is its name."""

    def __init__(self, host: str, reason: Reason, message: str, hint: str) -> None:
        super().__init__([Problem(message, host, hint)])
        self.host = host
        self.reason = reason


class _Reject(paramiko.MissingHostKeyPolicy):
    """Refuses an unknown key, keeping it so that the error can show its fingerprint."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise _UnknownKey(key)


class _UnknownKey(paramiko.SSHException):
    def __init__(self, key: paramiko.PKey) -> None:
        super().__init__("unknown host key")
        self.key = HostKey.of(key)


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
            start(channel, told, silent or CONNECT_SECONDS)
            answer = exchange(channel, script.encode(), out, seconds + 10, silent or seconds + 10, alive)
        except TimeoutError as error:
            self._end(text(out).partition(mark)[2].partition("\n")[0])
            raise self._failed(str(error)) from error
        except TooMuch as error:
            self._end(text(out).partition(mark)[2].partition("\n")[0])
            hint = "look at what a login prints: ssh HOST true"
            raise Unreachable([Problem(str(error), self.host.name, hint)]) from error
        except Lost as error:
            hint = "the host restarts, or the network between is gone: try again when it answers"
            message = "the connection was lost while a command ran"
            raise ConnectionFailed(self.host.name, Reason.UNREACHABLE, message, hint) from error
        except paramiko.SSHException as error:
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
                start(channel, kill, _END_SECONDS)
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
        except (paramiko.SSHException, EOFError, OSError) as error:
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
    with _typed_errors(host, known_hosts, client), _way(host) as line:
        client.connect(
            host.address,
            port=host.port,
            username=host.user or getpass.getuser(),
            key_filename=host.key_file or None,
            look_for_keys=not host.key_file,
            timeout=timeout,
            banner_timeout=timeout,
            auth_timeout=timeout,
            sock=line,
        )
    return Connection(host, client)


def fetch_host_key(host: Host) -> HostKey:
    """Ask the host for its public key without logging in, so that a person can compare and pin it."""
    with (
        _typed_errors(host, Path(), None),
        _way(host) as line,
        line or socket.create_connection((host.address, host.port), CONNECT_SECONDS) as plain,
    ):
        transport = paramiko.Transport(plain)
        try:
            transport.start_client(timeout=CONNECT_SECONDS)
            return HostKey.of(transport.get_remote_server_key())
        finally:
            transport.close()


@contextmanager
def _way(host: Host) -> Iterator[socket.socket | None]:
    """Yield a connection through the jump host or the command by which OpenSSH, so Ansible, reaches the host; None: directly.

    The command ends with the connection, and the connection with the command. Where connecting fails it is ended, and what it
    said is the reason. It has no terminal: with one it would go on asking there, and take what is typed for us.
    """
    way = _command(host)
    if not way:
        yield None
        return
    ours, its = socket.socketpair()
    with its, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {way}"],
            stdin=its.fileno(),
            stdout=its.fileno(),
            stderr=said,
            start_new_session=True,
            env=os.environ | {"SSH_ASKPASS_REQUIRE": "never"},
        )
        threading.Thread(target=process.wait, daemon=True).start()
        its.close()
        try:
            yield ours
        except BaseException as error:
            ours.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            said.seek(0)
            for line in said.read().decode(errors="replace").strip().splitlines()[-1:]:
                error.add_note(line)
            raise


def _command(host: Host) -> str:
    """Return the command through which OpenSSH would reach the host, "" where it would connect itself."""
    asked = ["ssh", "-G", *shlex.split(host.ssh_arguments), "-p", str(host.port)]
    asked += [
        *(["-i", host.key_file] if host.key_file else []),
        *(["-l", host.user] if host.user else []),
        host.address,
    ]
    return route.through(asked, route.settings_of(asked)) if shutil.which("ssh") else ""


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
        found = (_key_fault(host, error) if answered else None) or _describe(host, known_hosts, error)
        if found is None:
            raise
        raise ConnectionFailed(host.name, *found) from error


def _reason(error: Exception) -> str:
    return str(error).removeprefix("[Errno None] ").strip() or type(error).__name__


def _key_fault(host: Host, error: Exception) -> _Told | None:
    """Return what is wrong with the private key itself; None where something else is, which `_describe` tells."""
    key = host.key_file or "in ~/.ssh"
    # As Paramiko says it where it has found no key at all (SSHClient._auth).
    if str(error) == "No authentication methods available":
        message, hint = "there is no private key to log in with", "ssh-keygen makes one; or name it in hosts.yml"
    elif isinstance(error, OSError) and error.filename is not None and not isinstance(error, FileNotFoundError):
        message = f"the private key {key} cannot be read: {error.strerror}"
        hint = f"ls -ld {shlex.quote(host.key_file)}"
    elif isinstance(error, ValueError) or type(error) is paramiko.SSHException:
        message = f"the private key {key} is none that can be used: {_reason(error)}"
        hint = f"ssh-keygen -y -f {shlex.quote(host.key_file)}" if host.key_file else "ls -l ~/.ssh"
    else:
        return None
    return Reason.AUTHENTICATION, message, hint


def _describe(host: Host, known_hosts: Path, error: Exception) -> _Told | None:
    login = f"{host.user or getpass.getuser()}@{host.address}"
    pin = f"ratssaal preflight {site_of(known_hosts)} --accept-keys"
    match error:
        case _UnknownKey():
            message = f"the host key is not pinned: {error.key.kind} {error.key.fingerprint}"
            hint = f"compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host, then: {pin}"
            return Reason.UNKNOWN_KEY, message, hint
        case paramiko.BadHostKeyException():
            seen, pinned = HostKey.of(error.key), HostKey.of(error.expected_key)
            message = (
                f"the host key has CHANGED: {seen.kind} {seen.fingerprint}, pinned is {pinned.kind} "
                f"{pinned.fingerprint}; another machine may be answering"
            )
            hint = f"only if the host was really reinstalled, and after comparing the fingerprint on it: {pin}"
            return Reason.CHANGED_KEY, message, hint
        case paramiko.PasswordRequiredException():
            message = f"the key {host.key_file or 'in ~/.ssh'} is protected by a passphrase"
            return Reason.AUTHENTICATION, message, f"ssh-add {host.key_file}".strip()
        case paramiko.AuthenticationException():
            offered = host.key_file or "SSH's default keys and the agent's"
            message = f"{login} does not accept {offered}"
            hint = f"ssh-copy-id -i {host.key_file or '~/.ssh/id_ed25519'}.pub -p {host.port} {login}"
            return Reason.AUTHENTICATION, message, hint
        case FileNotFoundError():
            message = f"the private key {host.key_file} does not exist"
            return Reason.AUTHENTICATION, message, "ansible_ssh_private_key_file in hosts.yml names it"
        case paramiko.SSHException() | OSError() | EOFError():
            # What the jump host's command said tells more than that its connection ended.
            reason = next(iter(getattr(error, "__notes__", ())), _reason(error))
            message = f"{host.address} port {host.port} does not answer as an SSH server: {reason}"
            return (
                Reason.UNREACHABLE,
                message,
                " ".join(["ssh", *filter(None, [host.ssh_arguments]), f"-p {host.port} {login}"]),
            )
    return None
