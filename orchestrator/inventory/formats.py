"""What types cannot say: names, addresses, origins, ports, days and files, judged by the variable's name.

Each rule takes a value and returns what is wrong with it, as (location inside the value, message, hint).
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import stat
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.inventory import vantagepoint
from orchestrator.inventory.derivations import control_path, security_contact

Location = tuple[str | int, ...]
Fault = tuple[Location, str, str]
Rule = Callable[[Any], Iterator[Fault]]

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
# Ansible splits its arguments for SSH as a shell does, and OpenSSH splits and expands each again.
_NOT_IN_SSH_PATHS = re.compile(r"[\s%$\"'\\{}]")
_NOT_IN_QUOTED_PATHS = re.compile(r"[\n%$\"\\{}]")
_CHARACTERS = {" ": "a space", "'": "an apostrophe", '"': "a quotation mark", "\\": "a backslash"}
# deb-version(7): an epoch, what upstream calls it, a revision.
_DEBIAN_VERSION = re.compile(r"(?:[0-9]+:)?[0-9][A-Za-z0-9.+~-]*(?<!-)")
# Debian's (groupadd(8)), and those of a directory, such as it-admins@town.example; to sshd *, ? and ! make a pattern.
_GROUP = re.compile(r"(?!\d+$)\w[\w.@+-]*\$?")
_CONTACT = re.compile(r"https://[^\s/]+\S*|mailto:[^\s@]+@\S+|tel:\+?[0-9][0-9().-]*", re.I)
_ACCOUNT = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def fqdn_fault(value: str) -> tuple[str, str] | None:
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


def account_fault(name: str) -> tuple[str, str] | None:
    """Return (message, hint) when a name cannot be an account; Prosody keeps names in lower case."""
    if _ACCOUNT.fullmatch(name):
        return None
    hint = "1 to 64 of a-z, 0-9, dot, dash and underscore; the first and the last a letter or a digit"
    return f"{name!r} is no valid account name", hint


def host_address_fault(value: str) -> tuple[str, str] | None:
    """Return (message, hint) when a text is no address of one host."""
    hint = "the host's own address, for example 192.0.2.10; a name could point elsewhere tomorrow"
    if not _is_address(value):
        return f"{value!r} is no IP address", hint
    address = ipaddress.ip_address(value)
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        return f"{value} is not the address of a host", hint
    return None


def ssh_path_fault(path: str, *, quoted: bool = False) -> tuple[str, str] | None:
    """Return (message, hint) when OpenSSH, given a path by Ansible, would take it for another one or for several.

    `quoted` is a path that Ansible itself puts into quotes, as it does with a key's.
    """
    found = sorted(set((_NOT_IN_QUOTED_PATHS if quoted else _NOT_IN_SSH_PATHS).findall(path)))
    if not found:
        return None
    named = ", ".join(_CHARACTERS.get(character, repr(character)) for character in found)
    return f"OpenSSH cannot be given the path {path!r}: it holds {named}", "move it to a path without"


def faults(name: str, value: Any, site: Path) -> Iterator[Fault]:
    """Yield what is wrong with a variable's value beyond its type; nothing for an empty optional value."""
    if value in ("", None, [], {}) and not (value == "" and name in _NEVER_EMPTY):
        return
    rule = _RULES.get(name)
    if rule is not None:
        yield from rule(value)
    elif name.endswith(("_days", "_seconds")):
        yield from _positive(value)
    # SSH goes on without a key's file: another operator of the site may have the key in an agent.
    if (name.endswith("_file") and not name.startswith("ansible_")) or name in _PATHS:
        yield from _existing(value, site)


def _existing(value: Any, site: Path) -> Iterator[Fault]:
    entries: Mapping[Any, Any] = value if isinstance(value, Mapping) else {None: value}
    for key, text in entries.items():
        path = control_path(text, site) if isinstance(text, str) and text else None
        fault = _file_fault(path) if path else None
        if fault:
            location: Location = () if key is None else (str(key),)
            yield location, f"the file {text!r} {fault[0]}", fault[1]


def _file_fault(path: Path) -> tuple[str, str] | None:
    """Return (message, hint) when a file is not there, or nobody can tell; whoever only verifies need not read a key."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "does not exist", f"looked for {path}; paths are relative to the site's directory"
    except OSError as error:
        return f"cannot be read: {error.strerror}", f"ls -l {shlex.quote(str(path))}"
    if not regular:
        return "is no regular file", f"ls -ld {shlex.quote(str(path))}"
    return None


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _text_rule(check: Callable[[str], tuple[str, str] | None]) -> Rule:
    def rule(value: Any) -> Iterator[Fault]:
        found = check(str(value))
        if found:
            yield (), *found

    return rule


def _each(check: Callable[[str], tuple[str, str] | None]) -> Rule:
    def rule(value: Any) -> Iterator[Fault]:
        for number, item in enumerate(value if isinstance(value, Sequence) else ()):
            found = check(str(item))
            if found:
                yield (number,), *found

    return rule


def _address6(value: str) -> tuple[str, str] | None:
    if not _is_address(value) or ipaddress.ip_address(value).version != 6:
        return f"{value!r} is no IPv6 address", "for example 2001:db8::10"
    address = ipaddress.IPv6Address(value)
    if host_address_fault(value) or address.is_link_local or address.scope_id or address.ipv4_mapped:
        return f"{value} is not the address of a host", "the one by which others reach it, for example 2001:db8::10"
    return None


def _server(value: str) -> tuple[str, str] | None:
    # Names in a town's own network often hold an underscore.
    labels = value.lower().removesuffix(".").replace("_", "-").split(".")
    if _is_address(value) or (all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()):
        return None
    return f"{value!r} is neither a host's name nor an address", "for example ntp.example.org or 192.0.2.123"


def _group(value: str) -> tuple[str, str] | None:
    if _GROUP.fullmatch(value):
        return None
    return f"{value!r} is no name of a group", "one name as `getent group` shows it, such as helpdesk; no pattern"


def _network(value: str) -> tuple[str, str] | None:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        if "host bits" in str(error):
            return (f"{value!r} has host bits set", f"write it as {ipaddress.ip_network(value, strict=False)}")
        return f"{value!r} is no network", "for example 192.0.2.0/24 or 2001:db8::/32"
    return None


def _origin(value: str) -> tuple[str, str] | None:
    parts = urlsplit(value)
    bare = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in {"https", "wss"} or not parts.hostname or re.search(r"[\s;,'\"]", value):
        return f"{value!r} is no https origin", "for example https://portal.example.org"
    if value != bare:
        return f"{value!r} has more than an origin", f"write it as {bare}"
    return None


def _https_url(value: str) -> tuple[str, str] | None:
    parts = urlsplit(value)
    if parts.scheme == "https" and parts.hostname and not re.search(r"\s", value):
        return None
    return (f"{value!r} is no https address", "for example https://login.example.org/realms/town/...")


def _repository_url(value: str) -> tuple[str, str] | None:
    parts = urlsplit(value)
    if parts.scheme in {"https", "http"} and parts.hostname and not re.search(r"\s", value):
        return None
    return (f"{value!r} is no repository address", "for example https://download.jitsi.org")


def _suite(value: str) -> tuple[str, str] | None:
    if re.fullmatch(r"[A-Za-z0-9./][A-Za-z0-9./_~+-]*", value):
        return None
    return f"{value!r} is no suite of a repository", "one word, such as stable/"


def _contact(value: str) -> tuple[str, str] | None:
    # Of anything else security.txt would be left out, or have a line that is none.
    if _CONTACT.fullmatch(security_contact({"web_security_contact": value})):
        return None
    return (
        f"{value!r} is no contact for security.txt",
        "for example security@example.org or https://example.org/security",
    )


def _heap(value: str) -> tuple[str, str] | None:
    """The JVM takes a number without a unit for bytes, and does not start with what it cannot read or get."""
    found = re.fullmatch(r"([0-9]{1,7})([mMgG])", value)
    if found and 128 <= int(found[1]) * (1024 if found[2] in "gG" else 1) <= 1024 * 1024:
        return None
    return f"{value!r} is no size of a heap", "a number with m or g, such as 3072m; 128m to 1024g"


def _fingerprint(value: str) -> tuple[str, str] | None:
    if re.fullmatch(r"[0-9A-Fa-f]{40}", value.replace(" ", "")):
        return None
    return (f"{value!r} is no key fingerprint", "40 hexadecimal digits: gpg --show-keys --with-fingerprint KEYFILE")


def _vantage(value: str) -> tuple[str, str] | None:
    try:
        vantagepoint.parse(value)
    except ValueError as error:
        return str(error), "empty for the control node, or ssh://user@probe.example.org"
    return None


def _timezone(value: str) -> tuple[str, str] | None:
    known = zoneinfo.available_timezones()
    return None if not known or value in known else (f"{value!r} is no time zone", "for example Europe/Berlin")


def _language(value: str) -> tuple[str, str] | None:
    if re.fullmatch(r"[a-z]{2,3}(-?[A-Z]{2})?", value):
        return None
    return f"{value!r} is no language code", "for example de, en or frCA"


def _versions(value: Any) -> Iterator[Fault]:
    for package, version in value.items() if isinstance(value, Mapping) else ():
        if version in (None, ""):
            hint = "give one in quotes, or remove the line to take what the repository offers"
            yield (str(package),), f"{package} has no version", hint
        elif not _DEBIAN_VERSION.fullmatch(str(version)):
            hint = f'such as "2.3-324-ga1b2c3d4-1": apt-cache madison {package} shows them'
            yield (str(package),), f"{version!r} is no version of a Debian package", hint


def _positive(value: Any) -> Iterator[Fault]:
    if isinstance(value, int) and value < 1:
        yield (), f"{value} is not allowed", "1 or more"


def _between(low: int, high: int, remark: str = "") -> Rule:
    def rule(value: Any) -> Iterator[Fault]:
        if isinstance(value, int) and not low <= value <= high:
            yield (), f"{value} is not allowed", f"{low} to {high}{remark}"

    return rule


def _limit(low: int) -> Rule:
    """Return the rule of a bound that its service leaves out at 0 and below, and at what it has no room for."""
    return _between(low, 2**31 - 1, "; 0 would be no limit at all")


def _port(value: Any) -> Iterator[Fault]:
    low, _, high = str(value).partition("-")
    numbers = [int(part) if part.isdecimal() else 0 for part in (low, high or low)]
    if not 1 <= numbers[0] <= numbers[1] <= 65535:
        yield ((), f"{value!r} is no port", "a number from 1 to 65535, or a range such as 8000-8010")


def _ssh_port(value: Any) -> Iterator[Fault]:
    text = str(value)
    if not text.isdecimal() or not 1 <= int(text[:6]) <= 65535:
        yield ((), f"{value!r} is no port", "a number from 1 to 65535")


def _ssh_user(value: Any) -> Iterator[Fault]:
    if not isinstance(value, str) or value.startswith("-") or re.search(r"\s", value):
        yield (), f"{value!r} is no user", "the name of one account on the host, such as root; a number in quotes"


def _ssh_key_file(value: Any) -> Iterator[Fault]:
    """A relative path would be another file to Ansible (from where it was started) than to us (from the site)."""
    if not isinstance(value, str):
        yield (), f"{value!r} is no path", "~/.ssh/id_ed25519"
    elif not os.path.isabs(os.path.expanduser(without_inventory_dir(value, "/"))):
        yield (
            (),
            f"the path {value!r} is relative",
            f'"{{{{ inventory_dir }}}}/{value}", or a path that starts with / or ~',
        )
    elif fault := ssh_path_fault(without_inventory_dir(value, "/"), quoted=True):
        yield (), *fault


def without_inventory_dir(text: str, directory: str) -> str:
    """Return a path with the site's directory in place of `{{ inventory_dir }}`, the one template that makes a site movable."""
    for spelling in ("{{ inventory_dir }}", "{{inventory_dir}}"):
        text = text.replace(spelling, directory)
    return text


def _extra_flows(value: Any) -> Iterator[Fault]:
    for number, flow in enumerate(value):
        if not isinstance(flow, Mapping):
            continue
        for key in ("proto", "port"):
            if flow.get(key) in {None, ""}:
                yield ((number,), f"the flow has no {key}", "{proto: tcp, port: 8443, sources: [192.0.2.0/24]}")
        if flow.get("proto") not in {None, "", "tcp", "udp"}:
            yield (number, "proto"), f"{flow['proto']!r} is no protocol", "tcp or udp"
        if flow.get("port") not in {None, ""}:
            yield from (((number, "port"), message, hint) for _, message, hint in _port(flow["port"]))
        for inner, message, hint in _each(_network)(flow.get("sources") or []):
            yield (number, "sources", *inner), message, hint
        if not str(flow.get("purpose") or "").strip():
            yield (number,), "the flow has no purpose", "say why it is open, such as purpose: monitoring of the town"


def _jwt(value: Any) -> Iterator[Fault]:
    for key in ("jwks_url", "login_url", "token_service_url", "logout_url"):
        found = _https_url(str(value[key])) if value.get(key) else None
        if found:
            yield (key,), *found
    service = str(value.get("token_service_url") or "")
    if re.search(r"/token/*$|[?#]", service):
        hint = "upstream's page adds /token: https://id.example.org/realms/town/protocol/openid-connect"
        yield ("token_service_url",), f"{service!r} is not the address below which /token lies", hint
    if service and "?" not in str(value.get("login_url") or ""):
        hint = (
            "the provider's authorization endpoint: https://.../auth?client_id=...&response_type=code&scope=openid&..."
        )
        yield ("token_service_url",), "there is a token service, but login_url holds no question", hint
    for inner, message, hint in _each(_origin)(value.get("identity_origins") or []):
        yield ("identity_origins", *inner), message, hint


def _accounts(value: Any) -> Iterator[Fault]:
    for name, password in value.items() if isinstance(value, Mapping) else ():
        found = account_fault(str(name))
        if found:
            yield (str(name),), *found
        # A mapping is what Ansible makes of a value that is encrypted for itself.
        elif not isinstance(password, (str, Mapping)) or not (
            password.strip() if isinstance(password, str) else password
        ):
            hint = f"a text in quotes; ratssaal users add --reset {name} makes one"
            yield (str(name),), f"the account {name} has no password", hint


def _stated(what: str) -> Rule:
    """Return the rule of statements by control: who answers for each, why, and until which day."""

    def judge(value: Any) -> Iterator[Fault]:
        for control, row in value.items() if isinstance(value, Mapping) else ():
            said = row if isinstance(row, Mapping) else {}
            missing = [key for key in ("who", "why", "until") if not str(said.get(key) or "").strip()]
            if missing:
                yield (str(control),), f"{what} {control} says no {', '.join(missing)}", _STATEMENT
            yield from (((str(control), "until"), *rest) for rest in _day(said.get("until")))

    return judge


def _admins(value: Any) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for number, row in enumerate(value if isinstance(value, Sequence) else ()):
        if not isinstance(row, Mapping):
            continue
        for key in ("account", "who", "keys"):
            if not row.get(key) or not str(row[key]).strip():
                yield (number,), f"the entry says no {key}", _ADMIN
        yield from (((number, "until"), *rest) for rest in _day(row.get("until")))
        for at, key in enumerate(row.get("keys") or ()):
            if not _KEY.fullmatch(str(key)):
                hint = "SHA256: and 43 characters, as `ssh-keygen -lf KEY.pub` shows it"
                yield (number, "keys", at), f"{key!r} is no fingerprint of an SSH key", hint
            elif owners.setdefault(str(key), str(row.get("who"))) != str(row.get("who")):
                yield (number, "keys", at), "the key is declared for two people", "a key belongs to one person"


def _day(value: Any) -> Iterator[tuple[str, str]]:
    text = str(value or "").strip()
    try:
        if text:
            date.fromisoformat(text)
    except ValueError:
        yield f"{text!r} is no day", "such as 2027-03-31"


_STATEMENT = "{who: IT department, why: 'what was decided', until: 2027-03-31}"
_ADMIN = "{account: ameier, who: A. Meier, keys: ['SHA256:...']}"
_KEY = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
# The vendor's key is looked for by preflight, which can also fetch it.
_PATHS = {"web_pages", "web_logo_file"}
# Their roles write the text as it is; every other variable means by "" that there is none.
_NEVER_EMPTY = {
    *("jitsi_language", "base_timezone", "jicofo_max_memory", "videobridge_max_memory"),
    *("vendor_repository_url", "vendor_repository_suite"),
}
# In less a second login has not come through; for longer nobody wants to stay locked out.
_CONFIRMED = _between(10, 3600)
_RULES: dict[str, Rule] = {
    "jitsi_domain": _text_rule(fqdn_fault),
    "jitsi_turn_domain": _text_rule(fqdn_fault),
    "jitsi_allowed_origins": _each(_origin),
    "jitsi_embedding_origins": _each(_origin),
    "jitsi_jwt": _jwt,
    "jitsi_accounts": _accounts,
    "jitsi_language": _text_rule(_language),
    "jicofo_max_memory": _text_rule(_heap),
    "videobridge_max_memory": _text_rule(_heap),
    # coturn:src/apps/relay/userdb.c and src/server/ns_turn_server.c
    "coturn_user_quota": _limit(1),
    "coturn_total_quota": _limit(1),
    "coturn_max_bps": _limit(1),
    # jitsi-meet:resources/prosody-plugins/mod_muc_max_occupants.lua
    "prosody_max_occupants": _limit(2),
    # Apple's browsers take none that is valid for longer, whoever has signed it.
    "certificates_days": _between(1, 825),
    "base_address6": _text_rule(_address6),
    "base_ntp_servers": _each(_server),
    "base_timezone": _text_rule(_timezone),
    "firewall_management_sources": _each(_network),
    "firewall_extra_flows": _extra_flows,
    "firewall_confirm_seconds": _CONFIRMED,
    "hardening_confirm_seconds": _CONFIRMED,
    "hardening_ssh_allow_groups": _each(_group),
    "hardening_skip": _stated("the decision to leave alone"),
    "vendor_repository_url": _text_rule(_repository_url),
    "vendor_repository_suite": _text_rule(_suite),
    "vendor_repository_fingerprint": _text_rule(_fingerprint),
    "vendor_repository_versions": _versions,
    "verification_vantage": _text_rule(_vantage),
    "verification_admins": _admins,
    "verification_declarations": _stated("the declaration of"),
    "web_people_per_address": _between(10, 1000),
    "web_security_contact": _text_rule(_contact),
    "ansible_host": _text_rule(host_address_fault),
    "ansible_port": _ssh_port,
    "ansible_user": _ssh_user,
    "ansible_ssh_private_key_file": _ssh_key_file,
}
