"""Judges what was read: structure, keys, types, formats and what must fit together. All problems at once."""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.errors import Problem
from orchestrator.inventory import formats
from orchestrator.inventory.derivations import BRIDGES, GROUPS, SIGNALLING, TURN
from orchestrator.inventory.loosened import table
from orchestrator.inventory.reader import RawSite
from orchestrator.inventory.specs import Option, first_sentence, model, prefixes
from orchestrator.inventory.valuerules import faults
from orchestrator.inventory.vault import VAULT
from orchestrator.inventory.yamlfiles import show

Options = Mapping[str, Option]

# Design: the names of all host groups; a topology uses some of them.
KNOWN_GROUPS = (*GROUPS, "jitsi_recorders", "bbb_nodes", "bbb_balancers", "bbb_frontends", "monitoring", "standby")
# What `ratssaal new` puts into the vault though it is no secret (scaffold.py).
IN_VAULT = ("certificates_ca_certificate",)
_FREE_PREFIXES = ("ansible_", "site_")
_KEY_FILE = "ansible_ssh_private_key_file"
# OpenSSH's arguments may hold templates: Ansible fills them in.
_SSH_ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args")
_JUDGED_ANSIBLE_KEYS = ("ansible_host", "ansible_port", "ansible_user", _KEY_FILE, *_SSH_ARGUMENTS)
_ROLE_GROUPS = {"prosody": SIGNALLING, "jicofo": SIGNALLING, "web": SIGNALLING, "videobridge": BRIDGES, "coturn": TURN}


def judge(raw: RawSite, options: Options) -> list[Problem]:
    """Return every problem of the site, without repetition, those of reading first."""
    found = [*_site_path(raw), *raw.problems]
    if not raw.files.whole:
        return found  # what was not read would seem to be missing
    if os.path.isfile(raw.files.hosts_file):
        found += [*_structure(raw), *_addresses(raw)]
    found += [*_unknown_keys(raw, options), *_plain_secrets(raw, options), *_values(raw, options)]
    found += [*_unfilled(raw, options), *_together(raw)]
    return list(dict.fromkeys(found))


def _site_path(raw: RawSite) -> Iterator[Problem]:
    """The pinned host keys lie in the site, and SSH is told so."""
    path = str(raw.path.resolve())
    fault = formats.ssh_path(path)
    if fault:
        yield Problem(fault[0], path, fault[1])


def _structure(raw: RawSite) -> Iterator[Problem]:
    files = raw.files
    for group, line in files.groups.items():
        if group in {"all", "ungrouped", *KNOWN_GROUPS} or group.startswith("site_"):
            continue
        where = f"{show(files.hosts_file)}:{line}"
        yield Problem(f"unknown group {group}", where, _nearest(group, KNOWN_GROUPS) or f"known: {_words(GROUPS)}")
    if not files.hosts:
        if not files.problems:
            yield Problem("the inventory has no host", show(files.hosts_file), "ratssaal new SITE shows a complete one")
        return
    for host in files.hosts:
        if not any(host in raw.groups.get(group, ()) for group in KNOWN_GROUPS):
            yield Problem(f"host {host} is in no group", files.at_host(host), f"put it below {_words(GROUPS)}")
    signalling = raw.groups.get(SIGNALLING, ())
    for bridge in raw.groups.get(BRIDGES, ()):
        if not signalling:
            hint = f"put one host below {SIGNALLING}: a bridge takes part only through Prosody and Jicofo"
            yield Problem(f"bridge {bridge} has no signalling host", files.at_host(bridge), hint)
    if len(signalling) > 1:
        hint = "one host holds nginx, Prosody and Jicofo; more hosts become bridges"
        yield Problem(f"{len(signalling)} signalling hosts", files.at_host(signalling[1]), hint)


def _addresses(raw: RawSite) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for host, variables in raw.hostvars.items():
        value = variables.get("ansible_host")
        where = raw.files.where("ansible_host", host) or raw.files.at_host(host)
        if value in (None, ""):
            hint = f"edit {where.rpartition(':')[0]}: the host's own IP address"
            yield Problem(f"the address of {host} is not filled in", where, hint)
        for name in ("ansible_host", "base_address6"):
            text = str(variables.get(name) or "")
            try:
                address = str(ipaddress.ip_address(text))
            except ValueError:
                continue
            if address in owners:
                message = f"{host} has the same address as {owners[address]}: {address}"
                yield Problem(message, raw.files.where(name, host), "every host has an address of its own")
            owners.setdefault(address, host)


def _unknown_keys(raw: RawSite, options: Options) -> Iterator[Problem]:
    ours = prefixes(options)
    written = [(key.name, f"{show(key.file)}:{key.line}") for key in raw.files.keys]
    resolved = {name for variables in raw.hostvars.values() for name in variables if raw.in_vault(name)}
    for name, where in [*written, *((name, raw.files.where(name)) for name in sorted(resolved))]:
        if name in options or name.startswith(_FREE_PREFIXES):
            continue
        nearest = _nearest(name, tuple(options))
        if name.startswith(ours) or nearest:
            own = "a variable of your own starts with site_"
            yield Problem(f"unknown key {name}", where, f"{nearest} ({own})" if nearest else own)


def _plain_secrets(raw: RawSite, options: Options) -> Iterator[Problem]:
    for key in raw.files.keys:
        option = options.get(key.name)
        if option is not None and option.secret and key.node.tag != "!vault" and key.node.value not in ("", []):
            hint = f"move it into the vault: ansible-vault edit {show(raw.path / 'group_vars/all/vault.yml')}"
            yield Problem(f"the secret {key.name} stands in plain text", f"{show(key.file)}:{key.line}", hint)


def _values(raw: RawSite, options: Options) -> Iterator[Problem]:
    variables_model = model(options)
    for host, variables in raw.hostvars.items():
        judged: dict[str, Any] = {}
        for name, value in variables.items():
            if name not in options and name not in _JUDGED_ANSIBLE_KEYS:
                continue
            where = raw.files.where(name, host)
            if name not in _SSH_ARGUMENTS and _has_template(_movable(value) if name == _KEY_FILE else value):
                message = f"{name} holds a template where a literal value is required"
                yield Problem(message, where, "write the value itself; Ratssaal reads it before Ansible runs")
            elif value is None:
                yield Problem(f"{name} has no value", where, "give one, or remove the line to get the default")
            elif not _is_inline_vault(value):
                judged[name] = value
            elif name not in options or not options[name].secret:
                yield Problem(f"{name} is encrypted, but is no secret", where, "write it in plain text: it is reported")
        mistyped = set()
        chosen = {name: value for name, value in judged.items() if name in options}
        for problem, name in _types(raw, host, variables_model, options, chosen):
            mistyped.add(name)
            yield problem
        for name, value in judged.items():
            for location, message, hint in () if name in mistyped else faults(name, value, raw.path):
                yield Problem(f"{name}: {message}", raw.files.where(name, host, location), hint)


def _types(
    raw: RawSite, host: str, variables: Any, options: Options, values: dict[str, Any]
) -> Iterator[tuple[Problem, str]]:
    from pydantic import ValidationError

    try:
        variables.model_validate(values)
    except ValidationError as error:
        # Without input: the value of a secret must not travel in an error.
        for item in error.errors(include_url=False, include_input=False):
            location = tuple(item["loc"])
            name, inner = str(location[0]), location[1:]
            known, value = _options_at(options[name], inner), _at(values[name], inner)
            message, hint = _type_message(item["type"], item.get("ctx", {}), inner, value, known)
            if item["type"] == "model_type" and (parts := _options_at(options[name], (*inner, ""))):
                hint = f"write {{{', '.join(f'{part}: ...' for part in parts)}}}"
            dotted = ".".join([name, *map(str, inner)])
            yield (Problem(f"{dotted}: {message}", raw.files.where(name, host, inner), hint), name)


_KINDS: dict[str, tuple[str, str]] = {
    "string_type": ("a text", "put it in quotes"),
    "int_type": ("a whole number", "write it without quotes"),
    "float_type": ("a number", "write it without quotes"),
    "bool_type": ("true or false", "write true or false without quotes"),
    "list_type": ("a list", "write [a, b], or one `- item` per line"),
    "dict_type": ("a mapping", "write `key: value` lines below it"),
    "model_type": ("a mapping", "write `key: value` lines below it"),
}


def _options_at(option: Option, location: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the keys that are known where a location's last step stands."""
    for step in location[:-1]:
        option = option.options.get(str(step), option)
    return tuple(option.options)


def _type_message(
    kind: str, context: Mapping[str, Any], inner: tuple[Any, ...], value: Any, known: tuple[str, ...]
) -> tuple[str, str]:
    if kind == "extra_forbidden":
        return f"unknown key {inner[-1]}", _nearest(str(inner[-1]), known) or f"known: {_words(known)}"
    if kind == "literal_error":
        return "is none of the allowed values", f"allowed: {context.get('expected', '')}"
    expected, hint = _KINDS.get(kind, ("another type", ""))
    return f"wrong type: expected {expected}, got {_kind_of(value)}", hint


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    names = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "a mapping"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "nothing")


def _at(value: Any, location: tuple[Any, ...]) -> Any:
    for step in location:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return value
    return value


def _unfilled(raw: RawSite, options: Options) -> Iterator[Problem]:
    for name, option in options.items():
        group = _ROLE_GROUPS.get(option.role, "all")
        if not option.required or not raw.groups.get(group):
            continue
        host = raw.groups[group][0]
        if raw.hostvars[host].get(name) not in (None, ""):
            continue
        unknown = option.secret or name in IN_VAULT or (raw.files.problems and raw.files.find(name, host) is None)
        if not raw.vault_open and unknown:
            # It may stand in the vault, or in a file that cannot be read.
            continue
        if option.secret:
            where = raw.files.where(name)
            yield Problem(f"the vault has no {name}", where, f"ansible-vault edit {where}")
        else:
            where = raw.files.where(name, host) or show(raw.path / "group_vars/all/site.yml")
            hint = f"edit {where.rpartition(':')[0] or where}: {first_sentence(option.description)}"
            yield Problem(f"{name} is not filled in", where, hint)


def _together(raw: RawSite) -> Iterator[Problem]:
    for host, variables in raw.hostvars.items():
        where = raw.files.where
        token = variables.get("jitsi_jwt")
        if variables.get("jitsi_auth") == "jwt":
            place = where("jitsi_jwt", host) if token else where("jitsi_auth", host)
            token = token if isinstance(token, Mapping) else {}
            if not token.get("app_id"):
                yield Problem("jitsi_auth is jwt, but jitsi_jwt.app_id is missing", place, "the client id of the realm")
            shared = variables.get("jitsi_jwt_app_secret") or not raw.vault_open
            if not token.get("jwks_url") and not shared:
                hint = "jitsi_jwt.jwks_url, or jitsi_jwt_app_secret in the vault"
                yield Problem("jitsi_auth is jwt, but there is nothing to check a token with", place, hint)
        source = variables.get("certificates_source", "own_ca")
        needed = {"pem": ("certificates_chain_file", "certificates_key_file"), "pkcs12": ("certificates_pkcs12_file",)}
        for name in needed.get(str(source), ()):
            if not variables.get(name):
                place = where("certificates_source", host)
                yield Problem(f"certificates_source is {source}, but {name} is missing", place, f"{name}: FILE")
        if source == "own_ca" and raw.vault_open:
            for name in ("certificates_ca_key", "certificates_ca_certificate"):
                if not variables.get(name):
                    hint = f"ansible-vault edit {where(name)}, or use a certificate of your own (certificates_source)"
                    yield Problem(f"the site's own CA is incomplete: {name} is missing", where(name), hint)
        probe, accounts = variables.get("verification_probe_account"), variables.get("jitsi_accounts")
        if probe and raw.vault_open and probe not in (accounts if isinstance(accounts, Mapping) else {}):
            message = f"verification_probe_account is {probe}, but there is no such account"
            yield Problem(message, where("verification_probe_account", host), f"ratssaal users add {probe}")
    yield from _site_wide(raw)


def _site_wide(raw: RawSite) -> Iterator[Problem]:
    """Site-wide settings must not differ between hosts: derivations, checks and the report read them once."""
    reported = {setting.partition(".")[0] for setting in table()}
    for name in dict.fromkeys(name for variables in raw.hostvars.values() for name in variables):
        values = [variables.get(name) for variables in raw.hostvars.values()]
        whole = name in reported or name.startswith(("jitsi_", "verification_"))
        if whole and any(value != values[0] for value in values):
            for where in _narrower(raw, name):
                hint = "set it in group_vars/all/site.yml"
                yield Problem(f"{name} is one value for the whole site", where, hint)


def _narrower(raw: RawSite, name: str) -> list[str]:
    """Return "file:line" of each place that sets a variable for a part of the site; an encrypted file has no lines."""
    keys = [key for key in raw.files.keys if key.name == name and (key.host or key.group != "all")]
    encrypted = [show(file) for file in raw.files.encrypted if file != raw.path / VAULT]
    return [f"{show(key.file)}:{key.line}" for key in keys] or encrypted or [raw.files.where(name)]


def _movable(value: Any) -> Any:
    return formats.without_inventory_dir(value, "") if isinstance(value, str) else value


def _has_template(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(_has_template(item) for pair in value.items() for item in pair)
    return isinstance(value, list) and any(_has_template(item) for item in value)


def _is_inline_vault(value: Any) -> bool:
    return isinstance(value, Mapping) and "__ansible_vault" in value


def _nearest(name: str, candidates: tuple[str, ...]) -> str:
    found = difflib.get_close_matches(name, candidates, 1, 0.8)
    return f"did you mean {found[0]}?" if found else ""


def _words(names: tuple[str, ...]) -> str:
    return ", ".join(names)
