"""The file of a site's pinned host keys, and how it is told when it cannot be used."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko

from orchestrator.errors import InvalidSite, Problem
from orchestrator.inventory.yamlfiles import show


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
