"""A site's pinned host keys, their file, and how it is told when it cannot be used."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import paramiko

from orchestrator.errors import InvalidSite, Problem
from orchestrator.inventory.site import Host
from orchestrator.inventory.vault import write_private
from orchestrator.inventory.yamlfiles import show


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host's public key as it stands in known_hosts."""

    kind: str
    base64: str

    @classmethod
    def of(cls, key: paramiko.PKey) -> Self:
        """Return a key of Paramiko's."""
        return cls(key.get_name(), key.get_base64())

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 fingerprint as `ssh-keygen -lf` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.base64)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def host_keys(known_hosts: Path) -> paramiko.HostKeys:
    """Return the pinned keys; none where there is no file. Raises InvalidSite where it cannot be used."""
    keys = paramiko.HostKeys()
    with usable(known_hosts):
        if known_hosts.is_file():
            keys.load(str(known_hosts))
    return keys


@contextmanager
def usable(known_hosts: Path) -> Iterator[None]:
    """Raise InvalidSite where the file of the pinned keys cannot be read, written or understood."""
    try:
        yield
    except OSError as error:
        hint = f'it must be yours: sudo chown "$USER" {shlex.quote(show(known_hosts))}'
        message = f"the pinned host keys cannot be used: {error.strerror}"
        raise InvalidSite([Problem(message, show(known_hosts), hint)]) from error
    except (ValueError, paramiko.hostkeys.InvalidHostKey) as error:
        # No more of the error: it holds the whole line.
        hint = f"take it from your backup; or remove it, then: ratssaal preflight {site_of(known_hosts)} --accept-keys"
        message = "the pinned host keys cannot be used: it is not a file of known hosts"
        raise InvalidSite([Problem(message, show(known_hosts), hint)]) from error


def site_of(known_hosts: Path) -> str:
    """Return the site to which the file belongs, as one types it into a shell."""
    return shlex.quote(show(known_hosts.parent))


def known_name(host: Host) -> str:
    """Return the host's name in known_hosts: the address, with the port where it is not 22."""
    return host.address if host.port == 22 else f"[{host.address}]:{host.port}"


def pinned_keys(host: Host, known_hosts: Path) -> tuple[HostKey, ...]:
    """Return the keys that are pinned for the host."""
    entry = host_keys(known_hosts).lookup(known_name(host))
    return tuple(map(HostKey.of, entry.values())) if entry else ()


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
