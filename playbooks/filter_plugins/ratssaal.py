# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that give the roles what the Python side has: derivations, arguments, crypto profiles, the reading of keys."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

_ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_ROOT = Path(__file__).resolve().parents[2]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _of_the_tool(name: str) -> Path:
    """Return a file of the Python side: a checkout holds orchestrator/ at the root, a wheel our root in orchestrator/_content/."""
    return next(path for path in (_ROOT / "orchestrator" / name, _ROOT.parent / name) if path.is_file())


def _loaded(name: str) -> Any:
    """Load a module beside these playbooks that needs the standard library only.

    By path and not by import, so that a plain `ansible-playbook` that lives in another environment finds the same file.
    """
    path = _of_the_tool(name)
    specification = importlib.util.spec_from_file_location(f"ratssaal_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module  # dataclasses look there
    specification.loader.exec_module(module)
    return module


_D = _loaded("inventory/derivations.py")


def _turn_peers(topology: dict[str, Any]) -> dict[str, list[str]]:
    return {"allowed": _D.turn_allowed_peers(topology), "denied": _D.turn_denied_peers(topology)}


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


def pinned_key(name: str, fingerprint: str, inventory_directory: str) -> dict[str, Any]:
    """Return `path` and `armoured` of the key file; raises AnsibleFilterError if it is missing, no key, or not the pinned one."""
    path = Path(inventory_directory) / os.path.expanduser(name)
    if not path.is_file():
        raise AnsibleFilterError(
            f"vendor_repository_key: no file {path} on the control node. Hint: fetch "
            "https://download.jitsi.org/jitsi-key.gpg.key on a machine that you trust, compare it with a second source, and "
            "put it there; `ratssaal preflight --accept-keys` does that"
        )
    content = path.read_bytes()
    armoured = _ARMOUR in content
    # An OpenPGP packet's first byte has its highest bit set (RFC 9580, section 4.2).
    if not armoured and not (content and content[0] & 0x80):
        raise AnsibleFilterError(f"vendor_repository_key: {path} is no OpenPGP public key")
    wanted = fingerprint.replace(" ", "").upper()
    # apt would trust each of several keys.
    if wanted and _fingerprints(content) != [wanted]:
        raise AnsibleFilterError(
            f"vendor_repository_key: {path} does not have the fingerprint {wanted}, or other keys too"
        )
    return {"path": str(path), "armoured": armoured}


def _fingerprints(content: bytes) -> list[str]:
    openpgp = _loaded("inventory/openpgp.py")
    try:
        return [key.fingerprint for key in openpgp.public_keys(content)]
    except openpgp.NotOpenPGP:
        return []


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
            "ratssaal_turn_domain": _D.turn_domain,
            "ratssaal_xmpp_domains": _D.xmpp_domains,
            "ratssaal_ice_servers": _D.ice_servers,
            "ratssaal_csp": _D.content_security_policy,
            "ratssaal_turn_peers": _turn_peers,
            "ratssaal_security_contact": _D.security_contact,
            "ratssaal_without": _D.without_skipped,
            "ratssaal_control_path": _control_path,
            "ratssaal_crypto_profile": _crypto_profile,
            "ratssaal_pinned_key": pinned_key,
        }
