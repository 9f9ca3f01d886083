# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a certificate that the operator gave, on the control node; all mistakes at once, before anything is sent."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

# Ansible loads this file in every run, also where no certificate is given: what takes long to import waits until it is needed.
if TYPE_CHECKING:
    from cryptography import x509


def given_certificate(given: Mapping[str, Any], inventory_directory: str) -> list[dict[str, Any]]:
    """Return fullchain.pem, key.pem and ca.pem as files of managed_host.

    `given` has the source (pem with chain_file and key_file, pkcs12 with pkcs12_file and pkcs12_password), the names that the
    certificate must carry, dest (a directory), the group that may read the key and reloads (units that must read it anew).
    Raises AnsibleFilterError with everything that does not fit.
    """
    from cryptography.hazmat.primitives import serialization

    chain, key = _read(given, Path(inventory_directory))
    problems = _problems(chain, key, [str(name) for name in given["names"]])
    if problems:
        raise AnsibleFilterError("the given certificate does not fit: " + "; ".join(problems))
    pem, folder, reloads = serialization.Encoding.PEM, given["dest"], {"reloads": given["reloads"]}
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    whole = b"".join(certificate.public_bytes(pem) for certificate in chain)
    protected = {"mode": "0640", "group": given["group"], "secret": True}
    return [
        {"dest": f"{folder}/key.pem", "content": private.decode(), **protected, **reloads},
        {"dest": f"{folder}/fullchain.pem", "content": whole.decode(), **reloads},
        {"dest": f"{folder}/ca.pem", "content": chain[-1].public_bytes(pem).decode()},
    ]


def _read(arguments: Mapping[str, Any], base: Path) -> tuple[list[x509.Certificate], Any]:
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
        return _ordered(leaf, more), key
    chain = read("chain_file", x509.load_pem_x509_certificates)
    return chain, read("key_file", lambda content: serialization.load_pem_private_key(content, password=None))


def _ordered(leaf: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
    """Return the chain from the leaf upwards: PKCS#12 keeps no order, browsers and HAProxy want it."""
    chain, left = [leaf], list(others)
    while issuer := next((other for other in left if other.subject == chain[-1].issuer), None):
        chain.append(issuer)
        left.remove(issuer)
    return chain + left


def _problems(chain: list[x509.Certificate], key: Any, names: list[str]) -> list[str]:
    """Return everything that is wrong: key, names, what it is for, dates, order and signatures of the chain."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization

    leaf, found = chain[0], []
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        found.append("the key is not the certificate's")
    try:
        carried = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        carried = []
    known = {name.lower() for name in carried}
    missing = [name for name in names if not {name, f"*.{name.partition('.')[2]}"} & known]
    if missing:
        found.append(f"it does not name {', '.join(missing)} (it names {', '.join(carried) or 'nothing'})")
    found += _unfit(leaf)
    now = datetime.datetime.now(datetime.UTC)
    for certificate in chain:
        if certificate.not_valid_before_utc > now:
            found.append(f"{certificate.subject.rfc4514_string()} is not valid yet")
        elif certificate.not_valid_after_utc < now:
            found.append(f"{certificate.subject.rfc4514_string()} has expired")
    for certificate, issuer in itertools.pairwise(chain):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            found.append(f"the chain breaks after {certificate.subject.rfc4514_string()}")
    # A chain of one is no mistake: a root that everybody trusts may have signed it. `ratssaal preflight` warns of other ones.
    return found


def _unfit(leaf: x509.Certificate) -> list[str]:
    """Return why no browser takes a certificate from a server; `ratssaal preflight` says the same, with hints."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    label, found = leaf.subject.rfc4514_string(), []
    said = {type(extension.value): extension.value for extension in leaf.extensions}
    constraints, usages = said.get(x509.BasicConstraints), said.get(x509.ExtendedKeyUsage)
    if leaf.issuer == leaf.subject:
        found.append(f"{label} is self-signed (certificates_source: own_ca makes one of the site's own CA)")
    elif constraints is not None and constraints.ca:
        found.append(f"{label}, the first one, is an authority's and no server's")
    if usages is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        found.append(f"{label} is for no server: its extended key usages lack serverAuth")
    return found


class FilterModule:
    """Names of the filters as the roles use them."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"ratssaal_given_certificate": given_certificate}
