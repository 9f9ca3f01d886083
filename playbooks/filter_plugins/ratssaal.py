# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that give the roles the same derivations as the Python side (orchestrator/inventory/derivations.py)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

_ROOT = Path(__file__).resolve().parents[2]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _of_the_tool(name: str) -> Path:
    """Return a file of the Python side: a checkout holds orchestrator/ at the root, a wheel our root in orchestrator/_content/."""
    return next(path for path in (_ROOT / "orchestrator" / name, _ROOT.parent / name) if path.is_file())


def _derivations() -> Any:
    """Load the derivations beside these playbooks.

    By path and not by import, so that a plain `ansible-playbook` that lives in another environment finds the same file.
    """
    path = _of_the_tool("inventory/derivations.py")
    specification = importlib.util.spec_from_file_location("ratssaal_derivations", path)
    if specification is None or specification.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


_D = _derivations()


def _turn_peers(topology: dict[str, Any], host: str) -> dict[str, list[str]]:
    return {"allowed": _D.turn_allowed_peers(topology, host), "denied": _D.turn_denied_peers(topology)}


def _control_path(value: str, inventory_directory: str) -> str:
    return str(_D.control_path(value, inventory_directory)) if value else ""


def _arguments(roles: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of several roles together, as `ansible.builtin.validate_argument_spec` takes them."""
    arguments: dict[str, Any] = {}
    for role in roles:
        specs = yaml.load((_ROOT / "roles" / role / "meta/argument_specs.yml").read_bytes(), Loader=_Loader)
        for entry_point in specs["argument_specs"].values():
            arguments |= entry_point["options"]
    return arguments


def _crypto_profile(name: str) -> Any:
    return yaml.load(_of_the_tool("verification/crypto_profiles.yml").read_bytes(), Loader=_Loader)[name]


class FilterModule:
    """Names of the filters as the roles use them."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "ratssaal_arguments": _arguments,
            "ratssaal_topology": _D.topology_from_hostvars,
            "ratssaal_flows": _D.flows,
            "ratssaal_listeners": _D.listeners,
            "ratssaal_certificate_names": _D.certificate_names,
            "ratssaal_bridge_private": _D.bridge_private,
            "ratssaal_bridge_addresses": _D.bridge_addresses,
            "ratssaal_turn_domain": _D.turn_domain,
            "ratssaal_xmpp_domains": _D.xmpp_domains,
            "ratssaal_ice_servers": _D.ice_servers,
            "ratssaal_csp": _D.content_security_policy,
            "ratssaal_turn_peers": _turn_peers,
            "ratssaal_security_contact": _D.security_contact,
            "ratssaal_without": _D.without_skipped,
            "ratssaal_steps_or_undo": _D.steps_or_undo,
            "ratssaal_control_path": _control_path,
            "ratssaal_crypto_profile": _crypto_profile,
        }
