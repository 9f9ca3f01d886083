"""Reads a site: values as Ansible resolves them, positions from the files, and every problem of reading."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidSite, Problem
from orchestrator.inventory import ansible_tools
from orchestrator.inventory.vault import VAULT, VaultAccess, closed, damaged, vault_problem
from orchestrator.inventory.yamlfiles import SiteFiles, plain_value, read_files, show


@dataclass(frozen=True, slots=True)
class RawSite:
    """What was read, before it is judged."""

    path: Path
    files: SiteFiles
    groups: Mapping[str, tuple[str, ...]]
    hostvars: Mapping[str, Mapping[str, Any]]
    vault_open: bool
    problems: tuple[Problem, ...]

    def in_vault(self, name: str) -> bool:
        """Say whether a resolved variable stands in no plain file, so came out of an encrypted one."""
        return not any(key.name == name for key in self.files.keys)


def read_site(path: Path, access: VaultAccess) -> RawSite:
    """Read the site at `path`; never raises for what the operator wrote, all of it becomes problems."""
    files = read_files(path)
    problems = list(files.problems)
    arguments = _vault_arguments(path, access, problems)
    hostvars: Mapping[str, Mapping[str, Any]] | None = None
    if not problems:
        try:
            listed = ansible_tools.inventory_list(files.hosts_file, arguments)
        except ansible_tools.ToolFailed as error:
            problems.append(_inventory_problem(path, files, access, str(error)))
        else:
            hostvars = listed.get("_meta", {}).get("hostvars", {})
    if misplaced := access.misplaced(path):
        problems.append(misplaced)
    groups = {name: tuple(h for h in files.hosts if h in members) for name, members in files.members.items()}
    groups["all"] = tuple(files.hosts)
    opened = hostvars is not None
    return RawSite(path, files, groups, _complete(files, hostvars), opened, tuple(problems))


def _complete(files: SiteFiles, hostvars: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Mapping[str, Any]]:
    """Return variables for every host: Ansible's, or as far as YAML alone can tell, so that all else is still judged."""
    if hostvars is not None:
        # Hosts without any variable do not appear in Ansible's list.
        return {host: hostvars.get(host, {}) for host in files.hosts}
    result: dict[str, Mapping[str, Any]] = {}
    names = {key.name for key in files.keys}
    for host in files.hosts:
        found = {name: files.find(name, host) for name in names}
        result[host] = {name: plain_value(key) for name, key in found.items() if key is not None}
    return result


def _vault_arguments(path: Path, access: VaultAccess, problems: list[Problem]) -> list[str]:
    vault = path / VAULT
    if not os.path.isdir(path):
        return []
    if problem := vault_problem(path, show(vault)):
        problems.append(problem)
        return []
    try:
        arguments = access.ansible_args()
    except InvalidSite as error:
        problems.extend(error.problems)
        return []
    if not arguments:
        hint = "give --vault-password-file FILE or --vault-password-command 'pass show ratssaal/SITE'"
        problems.append(Problem("there is no password for the vault", f"{show(vault)}:1", hint))
    return arguments


def _inventory_problem(path: Path, files: SiteFiles, access: VaultAccess, message: str) -> Problem:
    if damaged(message) or "ecrypt" in message:
        named = [file for file in files.encrypted if str(file.resolve()) in message]
        return closed(message, f"{show([*named, *files.encrypted, path / VAULT][0])}:1", access)
    hint = f"ansible-inventory -i {show(files.hosts_file)} --list"
    return Problem(f"Ansible cannot read the inventory: {message}", show(files.hosts_file), hint)
