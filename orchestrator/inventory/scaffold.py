"""Writes a new site: a plain Ansible inventory with everything generated that a person need not choose."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import string
import tempfile
import textwrap
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import InvalidSite, Problem, UsageError
from orchestrator.inventory import formats
from orchestrator.inventory.authority import new_authority
from orchestrator.inventory.specs import LAB_MARK, Option, first_sentence, load_options
from orchestrator.inventory.vault import (
    VaultAccess,
    default_password_file,
    one_source,
    within,
    write_private,
    write_vault,
)

TOPOLOGIES = ("jitsi-single",)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,40}[a-z0-9])?")
_ALPHABET = string.ascii_letters + string.digits
_COMMENT = textwrap.TextWrapper(
    118, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
)


@dataclass(frozen=True, slots=True)
class NewSite:
    """What `create_site` made. `password_file` is None where a command gives the vault's password."""

    path: Path
    password_file: Path | None
    password_generated: bool


@dataclass(frozen=True, slots=True)
class FirstHost:
    """How the site's host is reached; empty values are left for the operator to fill in or to SSH's defaults."""

    address: str = ""
    address6: str = ""
    name: str = "meet"
    user: str = "root"
    port: int = 22
    key_file: str = ""


def create_site(
    path: Path,
    *,
    topology: str = "jitsi-single",
    domain: str = "",
    host: FirstHost | None = None,
    settings: Mapping[str, Any] | None = None,
    accounts: Mapping[str, str] | None = None,
    password_file: Path | None = None,
    password_command: str = "",
) -> NewSite:
    """Write a complete site directory at `path`, which must not exist or be empty.

    `settings` are written into site.yml as values in place of the commented defaults. The vault is encrypted with
    `password_file` (made when it does not exist), the command's output, or a generated password in
    `~/.config/ratssaal/<site>.vault-password` (mode 0600). Nothing is left behind when it fails. Raises UsageError, or
    InvalidSite for what no site could be used with.
    """
    path = path.absolute()
    one_source(password_file, password_command)
    try:
        _refuse(path, topology)
    except OSError as error:
        raise _failed(path, error) from error
    if password_file is not None and (problem := within(path, password_file)):
        raise UsageError(problem.message, where=problem.where, hint=problem.hint)
    chosen = {"jitsi_domain": domain, **(settings or {})}
    texts = site_texts(host or FirstHost(), chosen)
    with ExitStack() as undo:
        try:
            draft = _new_draft(path, undo)
            password, generated = _password(path.name, password_file, password_command)
            if generated and password is not None:
                undo.callback(password.unlink, missing_ok=True)
            with VaultAccess(password, command=password_command) as access:
                write_vault(draft, new_secrets(path.name, accounts or {}), access)
            for name, text in texts.items():
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                (draft / name).write_text(text)
            _put_in_place(draft, path)
        except OSError as error:
            raise _failed(path, error) from error
        undo.pop_all()
    return NewSite(path, password, generated)


def _failed(path: Path, error: OSError) -> InvalidSite:
    place = Path(error.filename or path)
    if place.name.startswith(f".{path.name}."):  # the draft, which nobody knows
        place = place.parent
    return InvalidSite([Problem(f"the site cannot be written: {error.strerror}", str(path), f"ls -ld {place}")])


def _new_draft(path: Path, undo: ExitStack) -> Path:
    """Return a directory to write a site into: in the site's own where that is there already, else beside it."""
    for parent in reversed([parent for parent in path.parents if not parent.is_dir()]):
        parent.mkdir(exist_ok=True)
        undo.callback(_remove_empty, parent)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path if path.is_dir() else path.parent))
    undo.callback(shutil.rmtree, draft, ignore_errors=True)
    return draft


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # somebody else put something there meanwhile
        folder.rmdir()


def _put_in_place(draft: Path, path: Path) -> None:
    """Make a draft the site; an empty directory stays the same one, since somebody may be at work in it."""
    if draft.parent != path:
        draft.chmod(0o755)
        os.replace(draft, path)
        return
    moved: list[Path] = []
    try:
        for entry in sorted(draft.iterdir()):
            moved.append(path / entry.name)
            os.replace(entry, moved[-1])
        draft.rmdir()
    except BaseException:
        for entry in moved:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
        raise


def new_secrets(site_name: str, accounts: Mapping[str, str]) -> dict[str, Any]:
    """Return freshly generated values for the vault."""
    certificate, key = new_authority(site_name)
    return {
        "jitsi_accounts": dict(accounts),
        "jicofo_password": generated_password(),
        "videobridge_password": generated_password(),
        "coturn_secret": generated_password(),
        "certificates_ca_certificate": certificate,
        "certificates_ca_key": key,
    }


def generated_password(length: int = 32) -> str:
    """Return a random password of letters and digits: safe in every configuration file's syntax."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def site_texts(host: FirstHost, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return relative path -> text of every file of a site but the vault; pure."""
    return {
        "hosts.yml": _hosts_text(host),
        "group_vars/all/site.yml": _settings_text(settings, load_options()),
        "group_vars/all/versions.yml": _VERSIONS,
        "known_hosts": "",
        "compliance/declarations.yml": _DECLARATIONS,
        "compliance/waivers.yml": _WAIVERS,
        ".gitignore": _IGNORE,
    }


def _refuse(path: Path, topology: str) -> None:
    if topology not in TOPOLOGIES:
        raise UsageError(f"unknown topology {topology}", hint=f"known: {', '.join(TOPOLOGIES)}")
    if not _NAME.fullmatch(path.name):
        hint = "lower-case letters, digits and dashes, at most 42 characters, such as town-hall"
        raise UsageError(f"{path.name!r} is no name for a site", hint=hint)
    if fault := formats.ssh_path(str(path.resolve())):
        raise InvalidSite([Problem(fault[0], str(path), fault[1])])
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        hint = "choose another name, or move the directory away; nothing was changed"
        raise UsageError("the site exists already", where=str(path), hint=hint)


def _password(site_name: str, given: Path | None, command: str) -> tuple[Path | None, bool]:
    if command:
        return None, False
    file = given or default_password_file(site_name)
    if file.exists() and given is None:
        hint = f"choose another name, or share it with --vault-password-file {file}"
        raise UsageError("another site of this name has its vault's password there", where=str(file), hint=hint)
    if file.exists():
        return file, False
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(file, generated_password(48) + "\n")
    return file, True


def _hosts_text(host: FirstHost) -> str:
    lines = [_HOSTS_HEAD, f"        {host.name}:\n"]
    if not host.address:
        lines.append("          # Edit this: the host's own public IP address.\n")
    lines.append(f"          ansible_host: {_inline(host.address)}\n")
    if host.address6:
        lines.append(f"          base_address6: {_inline(host.address6)}\n")
    elif ":" not in host.address:
        lines.append(
            "          # The host's own public IPv6 address, if it has one: without it calls take IPv4 only.\n"
        )
        lines.append("          # base_address6: 2001:db8::10\n")
    lines.append(f"          ansible_user: {_inline(host.user)}\n")
    if host.port != 22:
        lines.append(f"          ansible_port: {host.port}\n")
    if host.key_file:
        lines.append(f"          ansible_ssh_private_key_file: {_inline(host.key_file)}\n")
    else:
        lines.append("          # Without this line SSH takes its own default keys and the agent's.\n")
        lines.append("          # ansible_ssh_private_key_file: ~/.ssh/id_ed25519\n")
    for group in ("jitsi_bridges", "turn_servers"):
        lines.append(f"    {group}:\n      hosts:\n        {host.name}:\n")
    return "".join(lines)


def _settings_text(settings: Mapping[str, Any], options: Mapping[str, Option]) -> str:
    text = [_SETTINGS_HEAD]
    if settings.get("jitsi_domain"):
        text.append("# The name under which people reach the conferences.\n")
    else:
        text.append("# Edit this: the name under which people reach the conferences, such as meet.example.org.\n")
    text.append(f"jitsi_domain: {_inline(settings.get('jitsi_domain', ''))}\n")
    left = {name: value for name, value in settings.items() if name != "jitsi_domain"}
    roles = dict.fromkeys(["jitsi", *(option.role for option in options.values() if option is not LAB_MARK)])
    for role in roles:
        block = [
            _option_text(option, left)
            for option in options.values()
            if option.role == role and not option.secret and option.name not in {"jitsi_domain", *_ELSEWHERE}
        ]
        if block:
            text.append(f"\n## {role}\n{''.join(block)}")
        left = {name: value for name, value in left.items() if name not in options or options[name].role != role}
    if left:
        text.append("\n" + "".join(_setting(name, value) for name, value in left.items()))
    return "".join(text)


_ELSEWHERE = ("base_address6", "vendor_repository_versions")
"""Variables that stand in hosts.yml and in versions.yml."""


def _option_text(option: Option, settings: Mapping[str, Any]) -> str:
    explanation = first_sentence(option.description)
    choices = f" One of: {', '.join(map(str, option.choices))}." if option.choices else ""
    comment = f"{_COMMENT.fill(f'{explanation}.{choices}')}\n" if explanation else ""
    if option.name in settings:
        return f"\n{comment}{_setting(option.name, settings[option.name])}"
    default = "" if option.default is None and option.type in {"str", "path"} else option.default
    commented = "".join(f"# {line}\n" for line in _setting(option.name, default).splitlines())
    return f"\n{comment}{commented}"


def _setting(name: str, value: Any) -> str:
    return f"{name}: {_inline(value)}\n"


def _inline(value: Any) -> str:
    """Return a value as YAML on one line; texts are quoted only where YAML needs it."""
    if value == "":
        return '""'
    dumped = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return dumped.removesuffix("\n").removesuffix("\n...")


_HOSTS_HEAD = """\
---
# The hosts of this site, as a plain Ansible inventory.
all:
  vars:
    # Host keys are pinned in this site: `ratssaal preflight --accept-keys` shows one and writes it there.
    ansible_ssh_common_args: -o UserKnownHostsFile="{{ inventory_dir }}/known_hosts" -o StrictHostKeyChecking=yes
  children:
    jitsi_signalling:
      hosts:
"""

_SETTINGS_HEAD = """\
---
# Settings of this site. A line that starts with `# name:` shows a default; take the `# ` away to change it.
# Paths are relative to the site's directory. Values are literal: no templates.

"""

_VERSIONS = """\
---
# Exact versions of upstream's packages, such as jitsi-videobridge2: "2.3-324-ga1b2c3d4-1". Empty: the first provision
# takes what the repository offers and holds it.
vendor_repository_versions: {}
"""

_DECLARATIONS = """\
---
# What no machine can find out, declared by a person: control id -> text, by whom, on which day. Not read yet: what the
# checks ask for stands in group_vars/all/site.yml (verification_declarations, verification_admins).
declarations: {}
"""

_WAIVERS = """\
---
# Failed controls that somebody accepts for a time, each as
#   - {control: OS-08, host: h1, who: A. Meier, why: ticket 17, until: 2027-03-31}    (host: "*" for all)
waivers: []
"""

_IGNORE = """\
# Never commit a password or a private key. The vault is encrypted and may be committed.
*.vault-password
*vault-password*
*vault_pass*
*.key
*key.pem
*.p12
*.pfx
id_*
!id_*.pub
/reports/
*.retry
"""
