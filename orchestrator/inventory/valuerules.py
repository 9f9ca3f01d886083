"""What types cannot say: the values of variables, judged by the variable's name.

Each rule takes a value and yields what is wrong with it, as (location inside the value, message, hint).
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from orchestrator.inventory import formats
from orchestrator.inventory.derivations import control_path

Location = tuple[str | int, ...]
Fault = tuple[Location, str, str]
Rule = Callable[[Any], Iterator[Fault]]

# deb-version(7): an epoch, what upstream calls it, a revision.
_DEBIAN_VERSION = re.compile(r"(?:[0-9]+:)?[0-9][A-Za-z0-9.+~-]*(?<!-)")


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


def _file_fault(path: Path) -> formats.Said | None:
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


def _text_rule(check: formats.Check) -> Rule:
    def rule(value: Any) -> Iterator[Fault]:
        found = check(str(value))
        if found:
            yield (), *found

    return rule


def _each(check: formats.Check) -> Rule:
    def rule(value: Any) -> Iterator[Fault]:
        for number, item in enumerate(value if isinstance(value, Sequence) else ()):
            found = check(str(item))
            if found:
                yield (number,), *found

    return rule


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
    elif not os.path.isabs(os.path.expanduser(formats.without_inventory_dir(value, "/"))):
        yield (
            (),
            f"the path {value!r} is relative",
            f'"{{{{ inventory_dir }}}}/{value}", or a path that starts with / or ~',
        )
    elif fault := formats.ssh_path(formats.without_inventory_dir(value, "/"), quoted=True):
        yield (), *fault


def _ssh_arguments(value: Any) -> Iterator[Fault]:
    hint = "-o ProxyJump=bastion.example.org; each quote has its second one"
    if not isinstance(value, str):
        yield (), f"{value!r} is no text", hint
        return
    try:
        shlex.split(value)
    except ValueError as error:
        yield (), f"{value!r} cannot be taken apart into arguments: {error}", hint


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
        for inner, message, hint in _each(formats.network)(flow.get("sources") or []):
            yield (number, "sources", *inner), message, hint
        if not str(flow.get("purpose") or "").strip():
            yield (number,), "the flow has no purpose", "say why it is open, such as purpose: monitoring of the town"


def _jwt(value: Any) -> Iterator[Fault]:
    for key in ("jwks_url", "login_url", "token_service_url", "logout_url"):
        found = formats.https_url(str(value[key])) if value.get(key) else None
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
    for inner, message, hint in _each(formats.origin)(value.get("identity_origins") or []):
        yield ("identity_origins", *inner), message, hint


def _accounts(value: Any) -> Iterator[Fault]:
    for name, password in value.items() if isinstance(value, Mapping) else ():
        found = formats.account(str(name))
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
            if fault := formats.ssh_fingerprint(str(key)):
                yield (number, "keys", at), *fault
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
    "jitsi_domain": _text_rule(formats.fqdn),
    "jitsi_turn_domain": _text_rule(formats.fqdn),
    "jitsi_allowed_origins": _each(formats.origin),
    "jitsi_embedding_origins": _each(formats.origin),
    "jitsi_jwt": _jwt,
    "jitsi_accounts": _accounts,
    "jitsi_language": _text_rule(formats.language),
    "jicofo_max_memory": _text_rule(formats.heap),
    "videobridge_max_memory": _text_rule(formats.heap),
    # coturn:src/apps/relay/userdb.c and src/server/ns_turn_server.c
    "coturn_user_quota": _limit(1),
    "coturn_total_quota": _limit(1),
    "coturn_max_bps": _limit(1),
    # jitsi-meet:resources/prosody-plugins/mod_muc_max_occupants.lua
    "prosody_max_occupants": _limit(2),
    # Apple's browsers take none that is valid for longer, whoever has signed it.
    "certificates_days": _between(1, 825),
    "base_address6": _text_rule(formats.address6),
    "base_ntp_servers": _each(formats.server),
    "base_timezone": _text_rule(formats.timezone),
    "firewall_management_sources": _each(formats.network),
    "firewall_extra_flows": _extra_flows,
    "firewall_confirm_seconds": _CONFIRMED,
    "hardening_confirm_seconds": _CONFIRMED,
    "hardening_ssh_allow_groups": _each(formats.group),
    "hardening_skip": _stated("the decision to leave alone"),
    "vendor_repository_url": _text_rule(formats.repository_url),
    "vendor_repository_suite": _text_rule(formats.suite),
    "vendor_repository_fingerprint": _text_rule(formats.key_fingerprint),
    "vendor_repository_versions": _versions,
    "verification_vantage": _text_rule(formats.vantage),
    "verification_admins": _admins,
    "verification_declarations": _stated("the declaration of"),
    "web_people_per_address": _between(10, 1000),
    "web_security_contact": _text_rule(formats.contact),
    "ansible_host": _text_rule(formats.host_address),
    "ansible_port": _ssh_port,
    "ansible_user": _ssh_user,
    "ansible_ssh_private_key_file": _ssh_key_file,
    "ansible_ssh_common_args": _ssh_arguments,
    "ansible_ssh_extra_args": _ssh_arguments,
}
