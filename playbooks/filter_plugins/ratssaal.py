# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that give the roles what the Python side has: derivations, arguments, crypto profiles, the reading of keys and certificates.

Ansible loads this file in every run: what takes long to import, or is needed by few sites, waits until it is.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Mapping
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
    """Load a module beside these playbooks that needs nothing else of the Python side.

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


def given_certificate(given: Mapping[str, Any], inventory_directory: str) -> list[dict[str, Any]]:
    """Return fullchain.pem, key.pem and ca.pem as files of managed_host.

    `given` has the source (pem with chain_file and key_file, pkcs12 with pkcs12_file and pkcs12_password), the names that the
    certificate must carry, dest (a directory), the group that may read the key and reloads (units that must read it anew).
    Raises AnsibleFilterError with everything that does not fit.
    """
    from cryptography.hazmat.primitives import serialization

    certificates = _loaded("inventory/certificates.py")
    chain, key = _read(given, Path(inventory_directory), certificates.ordered)
    found = [f"{message} ({hint})" for message, hint in certificates.misfits(chain, map(str, given["names"]))]
    if not certificates.belong_together(key, chain[0]):
        found.insert(0, "the private key does not belong to the certificate")
    if found:
        raise AnsibleFilterError("the given certificate does not fit: " + "; ".join(found))
    pem, folder, reloads = serialization.Encoding.PEM, given["dest"], {"reloads": given["reloads"]}
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    whole = b"".join(certificate.public_bytes(pem) for certificate in chain)
    protected = {"mode": "0640", "group": given["group"], "secret": True}
    return [
        {"dest": f"{folder}/key.pem", "content": private.decode(), **protected, **reloads},
        {"dest": f"{folder}/fullchain.pem", "content": whole.decode(), **reloads},
        {"dest": f"{folder}/ca.pem", "content": chain[-1].public_bytes(pem).decode()},
    ]


def _read(arguments: Mapping[str, Any], base: Path, ordered: Callable[..., Any]) -> tuple[Any, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs12

    def read(name: str, parse: Callable[[bytes], Any]) -> Any:
        path = base / os.path.expanduser(str(arguments[name]))
        if not arguments[name] or not path.is_file():
            raise AnsibleFilterError(f"certificates_{name}: no file {path} on the control node")
        try:
            return parse(path.read_bytes())
        # TypeError: a key that wants a password.
        except (OSError, ValueError, TypeError) as error:
            raise AnsibleFilterError(f"certificates_{name}: {path} cannot be read: {error}") from error

    if arguments["source"] == "pkcs12":
        password = str(arguments["pkcs12_password"]).encode() or None
        key, leaf, more = read("pkcs12_file", lambda content: pkcs12.load_key_and_certificates(content, password))
        if key is None or leaf is None:
            raise AnsibleFilterError("certificates_pkcs12_file holds no certificate with its key")
        return ordered(leaf, more), key
    chain = read("chain_file", x509.load_pem_x509_certificates)
    return chain, read("key_file", lambda content: serialization.load_pem_private_key(content, password=None))


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
            "ratssaal_pinned_key": pinned_key,
            "ratssaal_given_certificate": given_certificate,
        }
