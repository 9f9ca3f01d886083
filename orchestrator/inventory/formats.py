"""What a text must look like to be a name, an address, an origin, a path ... of the kind that is wanted.

Each check takes a text and returns what is wrong with it, as (message, hint); None where nothing is.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable
from urllib.parse import urlsplit

from orchestrator.inventory import vantagepoint
from orchestrator.inventory.derivations import security_contact

Said = tuple[str, str]
Check = Callable[[str], Said | None]

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
# Ansible splits its arguments for SSH as a shell does, and OpenSSH splits and expands each again.
_NOT_IN_SSH_PATHS = re.compile(r"[\s%$\"'\\{}]")
_NOT_IN_QUOTED_PATHS = re.compile(r"[\n%$\"\\{}]")
_CHARACTERS = {" ": "a space", "'": "an apostrophe", '"': "a quotation mark", "\\": "a backslash"}
_CONTACT = re.compile(r"https://[^\s/]+\S*|mailto:[^\s@]+@\S+|tel:\+?[0-9][0-9().-]*", re.I)


def _shaped(pattern: str, what: str, example: str) -> Check:
    """Return the check of texts that fit a pattern as a whole."""
    return lambda value: None if re.fullmatch(pattern, value) else (f"{value!r} is no {what}", example)


account = _shaped(
    r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?",
    "valid account name",
    "1 to 64 of a-z, 0-9, dot, dash and underscore; the first and the last a letter or a digit",
)
"""Prosody keeps names in lower case."""
group = _shaped(
    r"(?!\d+$)\w[\w.@+-]*\$?", "name of a group", "one name as `getent group` shows it, such as helpdesk; no pattern"
)
"""Debian's (groupadd(8)), and those of a directory, such as it-admins@town.example; to sshd *, ? and ! make a pattern."""
suite = _shaped(r"[A-Za-z0-9./][A-Za-z0-9./_~+-]*", "suite of a repository", "one word, such as stable/")
key_fingerprint = _shaped(
    r"(?: *[0-9A-Fa-f]){40} *", "key fingerprint", "40 hexadecimal digits: gpg --show-keys --with-fingerprint KEYFILE"
)
ssh_fingerprint = _shaped(
    r"SHA256:[A-Za-z0-9+/]{43}",
    "fingerprint of an SSH key",
    "SHA256: and 43 characters, as `ssh-keygen -lf KEY.pub` shows it",
)
language = _shaped(r"[a-z]{2,3}(-?[A-Z]{2})?", "language code", "for example de, en or frCA")


def _url(schemes: set[str], what: str, example: str) -> Check:
    """Return the check of addresses of these schemes."""

    def check(value: str) -> Said | None:
        parts = urlsplit(value)
        fits = parts.scheme in schemes and parts.hostname and not re.search(r"\s", value)
        return None if fits else (f"{value!r} is no {what}", example)

    return check


https_url = _url({"https"}, "https address", "for example https://login.example.org/realms/town/...")
repository_url = _url({"https", "http"}, "repository address", "for example https://download.jitsi.org")


def fqdn(value: str) -> Said | None:
    """Return (message, hint) when a text is no fully qualified, lower-case domain name; None when it is one."""
    example = "a full name such as meet.example.org"
    if _is_address(value):
        return (f"{value!r} is an address, not a domain name", f"{example}; browsers need a name for the certificate")
    if not value.isascii():
        try:
            return (f"{value!r} has letters outside ASCII", f"write it as {value.encode('idna').decode()}")
        except UnicodeError:
            return f"{value!r} is no domain name", example
    if value != value.lower():
        return f"{value!r} has capital letters", f"write it as {value.lower()}"
    labels = value.removesuffix(".").split(".")
    if value.endswith("."):
        return f"{value!r} ends with a dot", f"write it as {value[:-1]}"
    if len(labels) < 2 or len(value) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return f"{value!r} is no fully qualified domain name", example
    if labels[-1].isdigit():
        return f"{value!r} ends with a number", example
    return None


def host_address(value: str) -> Said | None:
    """Return (message, hint) when a text is no address of one host."""
    hint = "the host's own address, for example 192.0.2.10; a name could point elsewhere tomorrow"
    if not _is_address(value):
        return f"{value!r} is no IP address", hint
    address = ipaddress.ip_address(value)
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        return f"{value} is not the address of a host", hint
    return None


def ssh_path(path: str, *, quoted: bool = False) -> Said | None:
    """Return (message, hint) when OpenSSH, given a path by Ansible, would take it for another one or for several.

    `quoted` is a path that Ansible itself puts into quotes, as it does with a key's.
    """
    found = sorted(set((_NOT_IN_QUOTED_PATHS if quoted else _NOT_IN_SSH_PATHS).findall(path)))
    if not found:
        return None
    named = ", ".join(_CHARACTERS.get(character, repr(character)) for character in found)
    return f"OpenSSH cannot be given the path {path!r}: it holds {named}", "move it to a path without"


def address6(value: str) -> Said | None:
    """Check an IPv6 address by which others reach a host."""
    if not _is_address(value) or ipaddress.ip_address(value).version != 6:
        return f"{value!r} is no IPv6 address", "for example 2001:db8::10"
    address = ipaddress.IPv6Address(value)
    if host_address(value) or address.is_link_local or address.scope_id or address.ipv4_mapped:
        return f"{value} is not the address of a host", "the one by which others reach it, for example 2001:db8::10"
    return None


def server(value: str) -> Said | None:
    """Check a host, by its name or its address."""
    # Names in a town's own network often hold an underscore.
    labels = value.lower().removesuffix(".").replace("_", "-").split(".")
    if _is_address(value) or (all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()):
        return None
    return f"{value!r} is neither a host's name nor an address", "for example ntp.example.org or 192.0.2.123"


def network(value: str) -> Said | None:
    """Check a network."""
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        if "host bits" in str(error):
            return (f"{value!r} has host bits set", f"write it as {ipaddress.ip_network(value, strict=False)}")
        return f"{value!r} is no network", "for example 192.0.2.0/24 or 2001:db8::/32"
    return None


def origin(value: str) -> Said | None:
    """Check an origin of the web, without a path."""
    parts = urlsplit(value)
    bare = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in {"https", "wss"} or not parts.hostname or re.search(r"[\s;,'\"]", value):
        return f"{value!r} is no https origin", "for example https://portal.example.org"
    if value != bare:
        return f"{value!r} has more than an origin", f"write it as {bare}"
    return None


def contact(value: str) -> Said | None:
    """Check a contact that security.txt could name."""
    # Of anything else security.txt would be left out, or have a line that is none.
    if _CONTACT.fullmatch(security_contact({"web_security_contact": value})):
        return None
    return (
        f"{value!r} is no contact for security.txt",
        "for example security@example.org or https://example.org/security",
    )


def heap(value: str) -> Said | None:
    """The JVM takes a number without a unit for bytes, and does not start with what it cannot read or get."""
    found = re.fullmatch(r"([0-9]{1,7})([mMgG])", value)
    if found and 128 <= int(found[1]) * (1024 if found[2] in "gG" else 1) <= 1024 * 1024:
        return None
    return f"{value!r} is no size of a heap", "a number with m or g, such as 3072m; 128m to 1024g"


def vantage(value: str) -> Said | None:
    """Check a vantage point."""
    try:
        vantagepoint.parse(value)
    except ValueError as error:
        return str(error), "empty for the control node, or ssh://user@probe.example.org"
    return None


def timezone(value: str) -> Said | None:
    """Check a time zone that this machine knows."""
    known = zoneinfo.available_timezones()
    return None if not known or value in known else (f"{value!r} is no time zone", "for example Europe/Berlin")


def without_inventory_dir(text: str, directory: str) -> str:
    """Return a path with the site's directory in place of `{{ inventory_dir }}`, the one template that makes a site movable."""
    for spelling in ("{{ inventory_dir }}", "{{inventory_dir}}"):
        text = text.replace(spelling, directory)
    return text


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
