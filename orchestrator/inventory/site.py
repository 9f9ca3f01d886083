"""The typed, frozen site: what every verb works on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from orchestrator.errors import InvalidSite, UsageError
from orchestrator.inventory.derivations import GROUPS, SIGNALLING, control_path, topology_from_hostvars
from orchestrator.inventory.formats import without_inventory_dir
from orchestrator.inventory.reader import RawSite, read_site
from orchestrator.inventory.rules import IN_VAULT, Options, judge
from orchestrator.inventory.secret import Secret
from orchestrator.inventory.specs import load_options
from orchestrator.inventory.undecided import undecided
from orchestrator.inventory.vault import VaultAccess
from orchestrator.inventory.yamlfiles import SiteFiles


@dataclass(frozen=True, slots=True)
class Host:
    """One host of a site; `user` and `key_file` are "" where SSH's own defaults hold, `ssh_arguments` are OpenSSH's further ones."""

    name: str
    address: str
    address6: str
    port: int
    user: str
    key_file: str
    groups: tuple[str, ...]
    ssh_arguments: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """One operator's site. `settings` are the roles' variables with defaults; `secrets` never show themselves."""

    name: str
    path: Path
    hosts: tuple[Host, ...]
    groups: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, Any]
    secrets: Mapping[str, Any]
    lab: bool
    undecided: tuple[str, ...]
    topology: dict[str, Any]
    files: SiteFiles = field(repr=False, compare=False)

    @property
    def hosts_file(self) -> Path:
        """Return the inventory file for Ansible."""
        return self.path / "hosts.yml"

    @property
    def known_hosts(self) -> Path:
        """Return the file of pinned host keys."""
        return self.path / "known_hosts"

    def chosen(self, names: Collection[str]) -> tuple[Host, ...]:
        """Return the named hosts, all when none is named; raises UsageError for an unknown one."""
        known = {host.name: host for host in self.hosts}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(f"the site has no host {', '.join(unknown)}", hint=f"it has: {', '.join(known)}")
        return tuple(known[name] for name in dict.fromkeys(names or known))

    def where(self, name: str, host: str = "") -> str:
        """Return "file:line" of what decides a host's variable; without a host, of what `settings` has."""
        return self.files.where(name, host or _reference(self.groups))


def load_site(path: Path, vault: VaultAccess, *, options: Options | None = None) -> Site:
    """Read, judge and return the site at `path`; raises InvalidSite with all problems at once.

    `vault` stays open as long as the caller's context; `options` are the roles' options, read from the roles when
    left out.
    """
    known = options if options is not None else load_options()
    raw = read_site(path, vault)
    problems = judge(raw, known)
    if problems:
        raise InvalidSite(problems)
    return _build(raw, known)


def _build(raw: RawSite, options: Options) -> Site:
    variables = raw.hostvars[_reference(raw.groups)]
    settings = {name: option.default for name, option in options.items() if not option.secret}
    secrets: dict[str, Any] = {}
    for name, value in variables.items():
        option = options.get(name)
        if name.startswith("ansible_"):
            continue
        if option.secret if option is not None else raw.in_vault(name):
            secrets[name] = _wrap(value)
        else:
            # A setting stays one wherever it is written: the report tells of it, too, when it stands in the vault.
            settings[name] = value
    for name in IN_VAULT:
        if (value := settings.pop(name, None)) is not None:
            secrets[name] = _wrap(value)
    return Site(
        name=raw.path.resolve().name,
        path=raw.path.resolve(),
        hosts=tuple(_host(raw, name) for name in raw.groups["all"]),
        groups=MappingProxyType(dict(raw.groups)),
        settings=MappingProxyType(settings),
        secrets=MappingProxyType(secrets),
        lab=bool(settings.get("ratssaal_lab")),
        undecided=undecided(settings, secrets, path=raw.path),
        topology=topology_from_hostvars(raw.hostvars, raw.groups, settings),
        files=raw.files,
    )


def _reference(groups: Mapping[str, tuple[str, ...]]) -> str:
    """Return the host whose variables are the site's settings."""
    return (groups.get(SIGNALLING) or groups["all"])[0]


def _host(raw: RawSite, name: str) -> Host:
    variables = raw.hostvars[name]
    return Host(
        name=name,
        address=str(variables["ansible_host"]),
        address6=str(variables.get("base_address6") or ""),
        port=int(variables.get("ansible_port") or 22),
        user=str(variables.get("ansible_user") or ""),
        key_file=_key_file(raw.path, str(variables.get("ansible_ssh_private_key_file") or "")),
        groups=tuple(group for group in GROUPS if name in raw.groups.get(group, ())),
        ssh_arguments=_ssh_arguments(raw.path, variables),
    )


def _key_file(site: Path, text: str) -> str:
    """Return the key's absolute path."""
    return str(control_path(without_inventory_dir(text, str(site.resolve())), site)) if text else ""


def _ssh_arguments(site: Path, variables: Mapping[str, Any]) -> str:
    """Return what Ansible gives to OpenSSH, in its order (ansible:lib/ansible/plugins/connection/ssh.py, _build_command)."""
    texts = [str(variables.get(f"ansible_ssh_{name}_args") or "") for name in ("common", "extra")]
    return without_inventory_dir(" ".join(filter(None, texts)), str(site.resolve()))


def _wrap(value: Any) -> Any:
    """Wrap every text of a secret value; numbers and the like become text first."""
    if isinstance(value, Mapping):
        return MappingProxyType({str(key): _wrap(item) for key, item in value.items()})
    if isinstance(value, list):
        return tuple(_wrap(item) for item in value)
    return Secret("" if value is None else str(value))
